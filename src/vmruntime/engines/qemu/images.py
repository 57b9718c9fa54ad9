"""Disk image files: what is in them, making, converting and growing them.

Images come from strangers. `qemu-img` reads them as an unprivileged user where we are root, with bounded memory and
time; the format is stated and never guessed by QEMU (a raw image whose first bytes look like qcow2 would make it open
other files of the host); and what refers to other files is refused before anything else reads it.

Files are handed to `qemu-img` as open descriptors (`/proc/self/fd/N`), so that neither the directories above them nor
their names matter, and a file that has no name any more will do as well. All functions block.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import selectors
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

from kube.durable import sync_directory
from vmruntime.engines.qemu.config import QEMU_UID
from vmruntime.engines.qemu.formats import (
    HEADER_BYTES,
    INPUT_FORMATS,
    OUTPUT_FORMATS,
    SECTOR,
    detect_format,
    needs_other_files,
    qcow2_virtual_size,
)

MAX_VIRTUAL_SIZE = 64 << 40
"""Bytes. A disk that claims to be larger is taken for an attack: such an image can be a file of a few megabytes."""

_ADDRESS_SPACE = 1 << 30  # bytes, of a qemu-img process
_INFO_SECONDS = 30
_CONVERT_CPU_SECONDS = 4 * 3600
_STALL_SECONDS = 300.0  # without any progress of a conversion
_ERROR_BYTES = 2000
_PROGRESS = re.compile(rb"\(\s*(\d+(?:\.\d+)?)/100%\)")


class ImageError(Exception):
    """An image that cannot be used, or a tool that failed on it. `reason` is one CamelCase word for conditions."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What an image holds: its format, and the size of the disk in it in bytes."""

    format: str
    virtual_size: int


def inspect(path: str | Path | BinaryIO, declared_format: str | None = None) -> ImageInfo:
    """Looks into an image without trusting it. `declared_format` None: by its first bytes.

    Raises ImageError for a format that is not supported, a damaged or encrypted image, one that refers to other
    files, and a disk larger than MAX_VIRTUAL_SIZE.
    """
    with _opened(path) as file:
        header = os.pread(file.fileno(), HEADER_BYTES, 0)
        format_ = declared_format or detect_format(header)
        if format_ not in INPUT_FORMATS:
            raise ImageError("UnsupportedFormat", f"images of format {format_} are not supported")
        if needs_other_files(header, format_):
            raise ImageError("ExternalData", "the image has parts in other files; it has to be one file")
        location = f"/proc/self/fd/{file.fileno()}"
        image = _spec(format_, location)
        output = _qemu_img(["info", "--output=json", image], [file], "the image cannot be read")
        info = json.loads(output)
        _refuse_references(info, location)
        size = int(info["virtual-size"])
        if not 0 < size <= MAX_VIRTUAL_SIZE:
            limit = MAX_VIRTUAL_SIZE
            raise ImageError("TooLarge", f"the image holds a disk of {size} bytes; between 1 and {limit} are possible")
        if format_ == "qcow2":
            _check(image, file)
        return ImageInfo(format_, size)


def _refuse_references(info: Mapping[str, Any], location: str) -> None:
    """Raises ImageError where `qemu-img info` tells of other files, encryption or damage."""
    specific = info.get("format-specific", {}).get("data", {})
    if info.get("backing-filename") or info.get("full-backing-filename"):
        raise ImageError("BackingFile", "the image has a backing file; only images that are whole can be imported")
    if specific.get("data-file") or specific.get("data-file-raw"):
        raise ImageError("ExternalData", "the image keeps its data in another file; it has to be whole")
    if any(extent.get("filename") != location for extent in specific.get("extents", [])):
        raise ImageError("ExternalData", "the image has parts in other files; it has to be one file")
    if info.get("encrypted") or specific.get("encrypt"):
        raise ImageError("Encrypted", "the image is encrypted")
    if specific.get("corrupt"):
        raise ImageError("Corrupt", "the image is marked as corrupt")


def _check(image: str, file: BinaryIO) -> None:
    """Raises ImageError for a qcow2 that refers beyond its own end: one that was cut short would read as zeros."""
    code, output, errors = _run(["check", "--output=json", image], [file], _INFO_SECONDS)
    # 0 sound, 3 unused space only (harmless), 1 the check itself failed, 2 damage (qemu-img manual, "check").
    if code in (0, 3):
        return
    with contextlib.suppress(ValueError):
        if code == 2 and (errors_found := json.loads(output).get("corruptions")):
            raise ImageError("Corrupt", f"the image is damaged or cut short: {errors_found} bad references in it")
    raise ImageError("Corrupt", f"the image is damaged: {errors}")


def convert(
    source: BinaryIO,
    source_format: str,
    target: BinaryIO,
    target_format: str,
    progress: Callable[[float], None] = lambda _percent: None,
) -> None:
    """Copies the disk in the open file `source` into the new, empty file `target` (see `new_file`), sparsely.

    `source` should have been looked into with `inspect`. `progress` gets percents. Raises ImageError.
    """
    argv = ["convert", "-p", "-W", "-O", target_format, _spec(source_format, f"/proc/self/fd/{source.fileno()}")]
    argv.append(f"/proc/self/fd/{target.fileno()}")
    _convert(argv, [source, target], progress)


def create_blank(path: str | Path, format_: str, size: int, owner: int | None = None) -> None:
    """Makes a new empty disk of `size` bytes; takes nearly no space. Raises ImageError."""
    if format_ not in OUTPUT_FORMATS:
        raise ImageError("UnsupportedFormat", f"disks of format {format_} cannot be made")
    if not 0 < size <= MAX_VIRTUAL_SIZE:
        raise ImageError("TooLarge", f"a disk of {size} bytes cannot be made")
    with new_file(path, owner) as out:
        if format_ == "raw":
            out.truncate(size)
        else:
            argv = ["create", "-q", "-f", format_, f"/proc/self/fd/{out.fileno()}", str(size)]
            _qemu_img(argv, [out], "the disk cannot be made")


def grow(file: BinaryIO, format_: str, size: int) -> None:
    """Makes the disk in an open image `size` bytes large, rounded up to a sector; never smaller. Raises ImageError.

    The image is a disk already. Its QEMU may have been taken over by its guest, and then says of the image what it
    likes: where its data are, for example, which could be another machine's disk, that qemu-img can write to.
    """
    size = -(-size // SECTOR) * SECTOR
    if format_ == "raw":
        if os.fstat(file.fileno()).st_size < size:
            file.truncate(size)
        return
    image = _spec(format_, f"/proc/self/fd/{file.fileno()}")
    header = os.pread(file.fileno(), HEADER_BYTES, 0)
    if needs_other_files(header, format_):
        raise ImageError("ExternalData", "the disk says that its data are in another file")
    if (qcow2_virtual_size(header) or 0) < size:
        _qemu_img(["resize", "-q", image, str(size)], [file], "resizing failed")


def resize(path: str | Path, format_: str, size: int) -> None:
    """`grow` for a disk that no machine has open."""
    with open(path, "r+b") as file:
        grow(file, format_, size)
        os.fsync(file.fileno())


@contextmanager
def new_file(path: str | Path, owner: int | None) -> Iterator[BinaryIO]:
    """A new file, mode 0600, that takes the place of `path` when the block ends well and is on stable storage then.

    Otherwise nothing is left of it. While it is written it belongs to the user that qemu-img runs as.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "r+b") as file:
            if os.geteuid() == 0:
                os.fchown(file.fileno(), QEMU_UID, QEMU_UID)
            yield file
            file.flush()
            final = os.geteuid() if owner is None else owner
            if final != os.fstat(file.fileno()).st_uid:
                os.fchown(file.fileno(), final, final)
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_directory(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def _opened(source: str | Path | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(source, (str, Path)):
        with open(source, "rb") as file:
            yield file
    else:
        yield source


def _spec(format_: str, location: str) -> str:
    """An image as QEMU's block layer is to open it: this driver on this file, and no backing file."""
    spec: dict[str, Any] = {"driver": format_, "file": {"driver": "file", "filename": location}}
    if format_ in ("qcow2", "vmdk"):
        spec["backing"] = None
    return "json:" + json.dumps(spec, separators=(",", ":"))


def _command(argv: Sequence[str], cpu_seconds: int) -> list[str]:
    return ["prlimit", f"--as={_ADDRESS_SPACE}", f"--cpu={cpu_seconds}", "--core=0", "qemu-img", *argv]


def _identity() -> dict[str, Any]:
    """Where we are root, the tool is not."""
    return {"user": QEMU_UID, "group": QEMU_UID, "extra_groups": []} if os.geteuid() == 0 else {}


def _environment() -> dict[str, str]:
    # One heap for all threads: with one each, a conversion reserves so many addresses that it comes near its limit.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "MALLOC_ARENA_MAX": "1"}


def _run(argv: Sequence[str], files: Sequence[IO[bytes]], seconds: int) -> tuple[int, str, str]:
    """Exit code, output and the end of what it wrote to standard error, as one line."""
    try:
        done = subprocess.run(
            _command(argv, seconds),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=2 * seconds,
            pass_fds=[file.fileno() for file in files],
            env=_environment(),
            **_identity(),
        )
    except subprocess.TimeoutExpired as error:
        raise ImageError("Timeout", f"qemu-img {argv[0]} took more than {2 * seconds} s") from error
    except OSError as error:
        raise ImageError("ToolMissing", f"qemu-img cannot be run ({error}); install qemu-utils") from error
    if done.returncode < 0:
        return done.returncode, "", f"qemu-img {argv[0]} was stopped by signal {-done.returncode}"
    return done.returncode, done.stdout.decode(errors="replace"), error_line(done.stderr)


def _qemu_img(argv: Sequence[str], files: Sequence[IO[bytes]], problem: str) -> str:
    code, output, errors = _run(argv, files, _INFO_SECONDS)
    if code != 0:
        raise ImageError("ImageUnreadable", f"{problem}: {errors}")
    return output


def error_line(stderr: bytes) -> str:
    """The end of a tool's complaints as one line of printable text, without the names under which it knew the files."""
    text = stderr[-_ERROR_BYTES:].decode(errors="replace").strip()
    text = re.sub(r"^qemu-img: |Could not open '.*?(?<!\\)': |json:\{.*?\}+ ?", "", text, flags=re.MULTILINE)
    text = re.sub(r"/proc/self/fd/\d+", "the file", text)
    # What a tool complains of is often a part of the image, whose author is a stranger: no control sequences of theirs.
    text = "".join(
        char if char.isprintable() else " " if char in "\t " else "\n" if char in "\r\n" else "?" for char in text
    )
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())[:500] or "no reason was given"


def _convert(argv: Sequence[str], files: Sequence[IO[bytes]], progress: Callable[[float], None]) -> None:
    """Runs `qemu-img convert -p`; a conversion without any progress for five minutes is ended."""
    child = subprocess.Popen(
        _command(argv, _CONVERT_CPU_SECONDS),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[file.fileno() for file in files],
        env=_environment(),
        **_identity(),
    )
    try:
        errors = _follow(child, progress)
        code = child.wait(timeout=10)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()
    if code != 0:
        line = error_line(errors)
        reason = "NoSpace" if "No space left" in line else "ConversionFailed"
        raise ImageError(reason, f"the image cannot be converted: {line}")


def _follow(child: subprocess.Popen[bytes], progress: Callable[[float], None]) -> bytes:
    """Reads both pipes to their end; returns the end of standard error."""
    errors = b""
    pending = b""
    last_change = time.monotonic()
    with selectors.DefaultSelector() as selector:
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select(1.0):
                data = os.read(key.fd, 65536)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.fileobj is child.stderr:
                    errors = (errors + data)[-_ERROR_BYTES:]
                else:
                    pending = (pending + data)[-256:]
                    if found := _PROGRESS.findall(pending):
                        progress(float(found[-1]))
                        pending = pending[pending.rfind(b")") + 1 :]
                        last_change = time.monotonic()
            if time.monotonic() - last_change > _STALL_SECONDS:
                raise ImageError("Timeout", f"the conversion made no progress for {_STALL_SECONDS:.0f} s")
    return errors
