"""Every format of image in, plain and compressed; and what is not believed of them."""

import gzip
import lzma
import os
import subprocess
import tempfile
import threading
from functools import cache, partial
from pathlib import Path

import pytest

from vmruntime.engines.qemu import formats, import_job
from vmruntime.engines.qemu.config import QEMU_UID
from vmruntime.engines.qemu.decompress import decompressed, zstd
from vmruntime.engines.qemu.images import ImageError, inspect
from vmruntime.engines.qemu.import_job import Job
from vmruntime.engines.qemu.progress import Progress
from vmruntime.engines.qemu.source_kinds import Origin

MIB = 1 << 20
OWNER = QEMU_UID if os.geteuid() == 0 else None
FILLED = 384 * 1024  # xz takes its time over what cannot be compressed
DISK = bytes([0xEB, 0x63, 0x90]) + os.urandom(FILLED - 3) + bytes(2 * MIB - FILLED)
# With a checksum, as the tool `zstd` does.
ZSTD = partial(zstd.compress, options={zstd.CompressionParameter.checksum_flag: 1})
PACKERS = {"": bytes, ".gz": gzip.compress, ".xz": partial(lzma.compress, preset=0), ".zst": ZSTD}


def bring_in(directory, url, format_="raw", size=8 * MIB, **more):
    dest = directory / f"disk.{format_}"
    progress = Progress(directory / "progress", lambda _line: None)
    import_job.run(Job(Origin(url, **more), format_, size, dest, OWNER), progress)
    return dest, progress


@cache
def image_of(format_, *options):
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "source.raw").write_bytes(DISK)
        words = ["qemu-img", "convert", "-f", "raw", "-O", format_, *options, "source.raw", "source.image"]
        subprocess.run(words, cwd=directory, check=True)
        return Path(directory, "source.image").read_bytes()


@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize(
    ("format_", "options", "label"),
    [
        ("raw", (), "raw"),
        ("qcow2", (), "qcow2"),
        ("vmdk", (), "vmdk"),
        ("vmdk", ("-o", "subformat=streamOptimized"), "vmdk"),
        ("vdi", (), "vdi"),
        ("vhdx", (), "vhdx"),
        ("vpc", ("-o", "force_size=on"), "vhd"),
        ("vpc", ("-o", "force_size=on,subformat=fixed"), "vhd"),
    ],
)
def test_formats_in_plain_and_compressed(server, tmp_path, format_, options, label, packed):
    server.files["/image"] = PACKERS[packed](image_of(format_, *options))
    disk, progress = bring_in(tmp_path, server.url + "/image")
    assert disk.read_bytes() == DISK + bytes(6 * MIB)
    assert progress.source_format == label + packed
    assert disk.stat().st_blocks * 512 <= FILLED + 2 * 65536


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_a_fixed_vhd_becomes_qcow2_without_its_footer(server, tmp_path, packed):
    server.files["/d.vhd" + packed] = PACKERS[packed](image_of("vpc", "-o", "force_size=on,subformat=fixed"))
    disk, progress = bring_in(tmp_path, f"{server.url}/d.vhd{packed}", "qcow2", 2 * MIB)
    assert inspect(disk, "qcow2").virtual_size == 2 * MIB
    assert progress.source_format == "vhd" + packed


def test_a_fixed_vhd_in_a_file_is_no_larger_than_its_disk(tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    image = store / "d.vhd"
    image.write_bytes(image_of("vpc", "-o", "force_size=on,subformat=fixed"))
    disk, _ = bring_in(tmp_path, f"file://{image}", "qcow2", 2 * MIB, allowed=(store,))
    assert inspect(disk, "qcow2").virtual_size == 2 * MIB


def test_a_raw_disk_one_footer_too_large_is_refused(server, tmp_path):
    server.files["/d"] = DISK + bytes(512)
    with pytest.raises(ImageError, match="more than the requested size of 2Mi"):
        bring_in(tmp_path, server.url + "/d", size=2 * MIB)


def test_an_iso_is_taken_as_it_is(server, tmp_path):
    content = bytearray(os.urandom(64 * 1024))
    content[:4] = b"\0\0\0\0"
    content[32769:32774] = b"CD001"
    server.files["/d.iso"] = bytes(content)
    disk, progress = bring_in(tmp_path, server.url + "/d.iso", size=64 * 1024)
    assert disk.read_bytes() == content
    assert progress.source_format == "iso"


@pytest.mark.parametrize("packed", [".gz", ".xz", ".zst"])
def test_a_bomb_stops_at_the_size_of_the_disk(server, tmp_path, packed):
    server.files["/bomb"] = PACKERS[packed](bytes(16 * MIB))
    assert len(server.files["/bomb"]) < 100_000
    with pytest.raises(ImageError, match="requested size of 8Mi") as caught:
        bring_in(tmp_path, server.url + "/bomb")
    assert caught.value.reason == "TooLarge"
    assert [path.name for path in tmp_path.iterdir()] == ["progress"]


@pytest.mark.parametrize("packed", [".gz", ".xz", ".zst"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[: len(data) // 2], "cut short"),
        (lambda data: data[:5000] + bytes(64) + data[5064:], "damaged"),
        (lambda data: data + b"more", "damaged|cut short"),
    ],
)
def test_damaged_compression_is_noticed(server, tmp_path, packed, damage, words):
    server.files["/d"] = damage(PACKERS[packed](DISK))
    with pytest.raises(ImageError, match=words) as caught:
        bring_in(tmp_path, server.url + "/d")
    assert caught.value.reason == "Corrupt"


@pytest.mark.parametrize("packed", [".gz", ".xz", ".zst"])
def test_several_members_and_padding_make_one_image(packed):
    pack, content = PACKERS[packed], DISK[: 64 * 1024] + bytes(64 * 1024)
    whole = pack(content[:1000]) + pack(content[1000:]) + bytes(512)
    compression = formats.detect_format(whole)
    for step in (1, 7, 1000, len(whole)):
        pieces = (whole[at : at + step] for at in range(0, len(whole), step))
        if step == 1:
            pieces = (whole[at : at + 1] for at in range(len(pack(content[:1000])) + 20))
            with pytest.raises(ImageError, match="cut short"):
                b"".join(decompressed(pieces, compression))
            continue
        assert b"".join(decompressed(pieces, compression)) == content


def test_a_decoder_that_would_need_much_memory_is_refused():
    greedy = lzma.compress(DISK[:1000], filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 160 * MIB}])
    with pytest.raises(ImageError, match=r"[Mm]emory"):
        b"".join(decompressed(iter([greedy]), "xz"))
    # A frame of no known size with a window of 256 MiB (RFC 8878, 3.1.1.1): descriptor, window, an empty last block.
    with pytest.raises(ImageError, match=r"[Mm]emory"):
        b"".join(decompressed(iter([b"\x28\xb5\x2f\xfd" + bytes([0, 18 << 3, 1, 0, 0])]), "zst"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(gzip.compress(DISK, mtime=0), mtime=0), "compressed more than once"),
        (bytes(257) + b"ustar" + bytes(1000), "tar archive"),
        (b"PK\x03\x04" + os.urandom(1000), "zip archive"),
        (gzip.compress(b"<html>", mtime=0), "web page"),
    ],
)
def test_what_is_no_image_is_named(server, tmp_path, content, words):
    server.files["/d"] = content
    with pytest.raises(ImageError, match=words):
        bring_in(tmp_path, server.url + "/d")


def with_parts(directory):
    (directory / "source.raw").write_bytes(DISK)
    words = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", "source.raw"]
    subprocess.run([*words, "parts.vmdk"], cwd=directory, check=True)
    return (directory / "parts.vmdk").read_bytes()


def with_parent(directory):
    (directory / "source.image").write_bytes(image_of("vmdk"))
    words = ["qemu-img", "create", "-q", "-f", "vmdk", "-b", "source.image", "-F", "vmdk", "child.vmdk"]
    subprocess.run(words, cwd=directory, check=True)
    return (directory / "child.vmdk").read_bytes()


def without_capacity(_directory):
    content = bytearray(image_of("vmdk"))
    content[12:20] = bytes(8)
    return bytes(content)


@pytest.mark.parametrize("make", [with_parts, with_parent, without_capacity])
def test_a_vmdk_has_to_be_whole(server, tmp_path, make):
    server.files["/d"] = make(tmp_path)
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(ImageError, match=r"one file|whole"):
        bring_in(target, server.url + "/d")


def test_a_text_vmdk_is_refused_before_anything_opens_its_parts(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o666)
    opened = threading.Event()

    def wait_for_reader():
        descriptor = os.open(pipe, os.O_WRONLY)
        opened.set()
        os.close(descriptor)

    threading.Thread(target=wait_for_reader, daemon=True).start()
    image = tmp_path / "d.vmdk"
    image.write_text(
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n"
        f'createType="monolithicFlat"\nRW 4 FLAT "{pipe}" 0\n'
    )
    with pytest.raises(ImageError, match="one file"):
        inspect(image)
    assert not opened.is_set()
    os.close(os.open(pipe, os.O_RDONLY))
