"""What a disk image is, by its bytes alone: its format, its compression, and what is no image at all.

QEMU is told the format and never guesses it, so this is where it is decided. Sources: QEMU, docs/interop/qcow2.txt
and block/{vmdk,vdi,vhdx,vpc}.c; "Virtual Hard Disk Image Format Specification" (Microsoft, 2006); RFC 1952 (gzip);
"The .xz File Format"; RFC 8878 (Zstandard); ECMA-119 (ISO 9660).
"""

from __future__ import annotations

import re

INPUT_FORMATS = ("raw", "qcow2", "vmdk", "vdi", "vhdx", "vpc")
OUTPUT_FORMATS = ("raw", "qcow2")
COMPRESSIONS = ("gz", "xz", "zst")
HEADER_BYTES = 40960
"""Enough of an image's begin for everything here; that of an ISO 9660 file system lies at 32 KiB."""
SECTOR = 512
VHD_FOOTER_BYTES = 512

_MAGICS = (
    (0, b"QFI\xfb", "qcow2"),
    (0, b"KDMV", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (64, b"\x7f\x10\xda\xbe", "vdi"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vpc"),
    (0, b"\x1f\x8b", "gz"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zst"),
)
_ARCHIVES = (
    (257, b"ustar", "a tar archive; give the address of the image in it"),
    (0, b"PK\x03\x04", "a zip archive; give the address of the image in it"),
    (0, b"BZh", "compressed with bzip2; only gz, xz and zst are supported"),
)
_NAMED = {f".{name}": name for name in ("qcow2", "vmdk", "vdi", "vhdx", *COMPRESSIONS)}
_ISO_MAGIC = slice(32769, 32774)
_VHD_FIXED = 2
_QCOW2_EXTERNAL_DATA = 1 << 2


def detect_format(header: bytes) -> str:
    """The format by the first bytes: one of INPUT_FORMATS or COMPRESSIONS. What nothing is known of is raw."""
    for offset, magic, name in _MAGICS:
        if header[offset : offset + len(magic)] == magic:
            return name
    return "raw"


def shown_format(header: bytes, format_: str) -> str:
    """The name for people: a raw image that is an optical disc's is called `iso`, and `vpc` is a VHD."""
    if format_ == "raw" and header[_ISO_MAGIC] == b"CD001":
        return "iso"
    return "vhd" if format_ == "vpc" else format_


def promised_format(name: str) -> str | None:
    """The format that the end of a file's name promises, None where it promises nothing that can be told apart."""
    return next((format_ for suffix, format_ in _NAMED.items() if name.lower().endswith(suffix)), None)


def qcow2_virtual_size(header: bytes) -> int | None:
    """The disk size that a qcow2 header states (bytes 24-31); None if cut short."""
    return int.from_bytes(header[24:32], "big") if len(header) >= 32 and header[:4] == b"QFI\xfb" else None


def needs_other_files(header: bytes, format_: str) -> bool:
    """Whether an image says that its data are in other files, which QEMU may open while it only looks into it.

    A VMDK of that kind is a text, or its sparse header has no capacity of its own (block/vmdk.c, vmdk_open_vmdk4). A
    qcow2 has an incompatible feature (bytes 72-79, from version 3 on); a QEMU from before the fix of CVE-2024-4467
    opens what it names, which need not be a file.
    """
    if format_ == "qcow2":
        version, features = (int.from_bytes(header[begin:end], "big") for begin, end in ((4, 8), (72, 80)))
        return version > 2 and bool(features & _QCOW2_EXTERNAL_DATA)
    return format_ == "vmdk" and (header[:4] != b"KDMV" or not any(header[12:20]))


def fixed_vhd_size(tail: bytes, length: int) -> int | None:
    """The size of the disk in a file of `length` bytes that ends with `tail`, if it is a VHD of the fixed type.

    Such a file is the raw disk with 512 bytes behind it, so that its first bytes say nothing. None if it is not.
    """
    footer = tail[-VHD_FOOTER_BYTES:]
    if len(footer) < VHD_FOOTER_BYTES or footer[:8] != b"conectix":
        return None
    sum_stated = int.from_bytes(footer[64:68], "big")
    summed = ~(sum(footer[:64]) + sum(footer[68:])) & 0xFFFFFFFF
    size = int.from_bytes(footer[48:56], "big")
    fixed = int.from_bytes(footer[60:64], "big") == _VHD_FIXED
    return size if fixed and summed == sum_stated and size == length - VHD_FOOTER_BYTES else None


def why_no_disk(header: bytes) -> str | None:
    """Why these first bytes of a supposed raw disk are none: a web page, an archive ... None where they may be one.

    A web server that answers with a friendly page instead of an error is the usual reason.
    """
    start = header[:SECTOR]
    if not start:
        return "it is empty"
    if re.match(rb"\s*<(!doctype|html|head|\?xml)", start, re.IGNORECASE):
        return "it is a web page"
    if all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in start):
        return "it is a text"
    return next((f"it is {name}" for offset, magic, name in _ARCHIVES if start[offset:].startswith(magic)), None)
