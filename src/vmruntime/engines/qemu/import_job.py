"""One import: from a source to a disk that is whole, or to nothing at all.

What is in the target's format goes straight into place; anything else is brought beside it first, at most the size of
the source, and converted. Compressed sources are decompressed as they come in.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vmruntime.engines.qemu import files, formats, images
from vmruntime.engines.qemu.config import QEMU_UID
from vmruntime.engines.qemu.decompress import decompressed
from vmruntime.engines.qemu.image_cache import CachedImage, ImageCache
from vmruntime.engines.qemu.images import ImageError
from vmruntime.engines.qemu.progress import Progress
from vmruntime.engines.qemu.source_kinds import Origin, open_source
from vmruntime.engines.qemu.sources import Source

_DOWNLOAD_SHARE = 70.0
"""Percent of the whole that a download is where a conversion follows."""
_SLACK = 64 << 20
"""Bytes that an image of another format may have beyond the size of the disk in it: its tables."""


_AT_ONCE = 32 << 20
"""Bytes that come in before the disk is told to write them."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done. `size` in bytes; `owner` None leaves the file to the running user.

    `checksum`: what the source has to have, as `ALGORITHM:HEX` (hashing.ALGORITHMS); empty: not known.
    """

    origin: Origin
    format: str
    size: int
    dest: Path
    owner: int | None = None
    checksum: str = ""
    cache: ImageCache | None = None

    @property
    def algorithm(self) -> str:
        """Of the checksum, empty without one."""
        return self.checksum.partition(":")[0]


@dataclass(frozen=True, slots=True)
class _Incoming:
    """A source that has begun to come in: its first bytes, all of its bytes, and what they are."""

    source: Source
    header: bytes
    content: Iterator[bytes]
    format: str
    label: str
    compressed: bool

    @property
    def length(self) -> int | None:
        """Bytes of the image, where they are known."""
        return None if self.compressed else self.source.length


def run(job: Job, progress: Progress) -> None:
    """Does the job. Raises SourceError or ImageError, whose text is one line for the user; then nothing is left."""
    remove_leftovers(job.dest)
    progress.phase("Connecting", 0.0, 0.0)
    with space_errors(job.dest), closing(open_source(job.origin, job.algorithm)) as source:
        progress.total = source.length
        key = ImageCache.key(job.origin.url, source.validator, source.length, job.checksum)
        kept = job.cache.find(key) if job.cache is not None else None
        if kept is not None:
            with kept.file:
                _from_cache(job, kept, progress)
            return
        incoming = _begin(job, source, progress)
        if incoming.format == job.format:
            _stream(job, incoming, key, progress)
        else:
            _through_scratch(job, incoming, key, progress)


def remove_leftovers(dest: Path) -> None:
    """Deletes what a killed import left beside the target."""
    for leftover in dest.parent.glob(f".{dest.name}.*.part"):
        leftover.unlink(missing_ok=True)


def readable_size(size: int) -> str:
    """`10Gi`, or with decimals and the bytes where it is no round number."""
    for unit, shift in (("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)):
        if size >= 1 << shift:
            exact = size % (1 << shift) == 0
            return f"{size >> shift}{unit}" if exact else f"{size / (1 << shift):.2f}{unit} ({size} bytes)"
    return f"{size} bytes"


def _begin(job: Job, source: Source, progress: Progress) -> _Incoming:
    """Reads the first bytes, and refuses what can be refused by them, before time and space are spent."""
    header, content = _with_header(_counted(source.pieces(), progress))
    progress.total = source.length
    compression = formats.detect_format(header)
    promised = formats.promised_format(source.name)
    compressed = compression in formats.COMPRESSIONS
    if promised is not None and promised != compression:
        raise ImageError("NotAnImage", f"what the URL delivers is not the {promised} image that its name promises")
    if compressed:
        header, content = _with_header(decompressed(content, compression))
    format_ = formats.detect_format(header)
    if format_ not in formats.INPUT_FORMATS:
        raise ImageError("UnsupportedFormat", f"the source is compressed more than once ({compression}, {format_})")
    if format_ == "raw" and (problem := formats.why_no_disk(header)) is not None:
        raise ImageError("NotAnImage", f"what the URL delivers is not a disk image: {problem}")
    label = formats.shown_format(header, format_) + (f".{compression}" if compressed else "")
    incoming = _Incoming(source, header, content, format_, label, compressed)
    progress.source_format = label
    virtual = incoming.length if format_ == "raw" else formats.qcow2_virtual_size(header)
    # By one footer too large is what a VHD of fixed size may be; it turns out in the end.
    if virtual is not None and virtual != job.size + formats.VHD_FOOTER_BYTES:
        check_size(job.size, virtual)
    return incoming


def _with_header(pieces: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes, and all pieces with those among them."""
    header = b""
    for piece in pieces:
        header += piece
        if len(header) >= formats.HEADER_BYTES:
            break

    def content() -> Iterator[bytes]:
        if header:
            yield header
        yield from pieces

    return header, content()


def _counted(pieces: Iterator[bytes], progress: Progress) -> Iterator[bytes]:
    done = 0
    for piece in pieces:
        yield piece
        done += len(piece)
        progress.bytes(done)
    progress.total = done


def check_size(size: int, virtual: int) -> None:
    """Raises ImageError where a disk of `virtual` bytes is larger than the one asked for."""
    if virtual > size:
        holds = f"the image holds a disk of {readable_size(virtual)}"
        raise ImageError("TooLarge", f"{holds}, more than the requested size of {readable_size(size)}")


def _from_cache(job: Job, kept: CachedImage, progress: Progress) -> None:
    progress.source_format, progress.sha256, progress.from_cache = kept.label, kept.sha256, True
    format_ = formats.detect_format(os.pread(kept.file.fileno(), formats.HEADER_BYTES, 0))
    if format_ != job.format:
        _convert(job, kept.file, format_, 0.0, progress)
        return
    with images.new_file(job.dest, job.owner) as target:
        progress.phase("Copying", 0.0, 99.0)
        check_size(job.size, images.inspect(kept.file, format_).virtual_size)
        _need_space(job, os.fstat(kept.file.fileno()).st_blocks * 512)
        files.copy_sparsely(kept.file, target)
        finish(target, job.format, job.size, progress)


def _stream(job: Job, incoming: _Incoming, key: str, progress: Progress) -> None:
    """Straight into place: the source has the target's format."""
    with ExitStack() as stack:
        target = stack.enter_context(images.new_file(job.dest, job.owner))
        copy = None
        if key and job.cache is not None and job.cache.takes(incoming.source.length):
            copy = stack.enter_context(files.nameless_file(job.dest.parent))
        shared = copy is not None and files.reflink(target, copy)
        _need_space(job, incoming.length)
        limit = job.size + formats.VHD_FOOTER_BYTES if job.format == "raw" else 2 * job.size + _SLACK
        progress.phase("Downloading", 0.0, 99.0)
        _copy(job, _writing(incoming.content, target), [target] if copy is None or shared else [target, copy], limit)
        _verify(job, incoming.source, progress)
        if job.format == "raw":
            check_size(job.size, _without_footer(target, progress))
        else:
            check_size(job.size, images.inspect(target, job.format).virtual_size)
        if copy is not None and job.cache is not None:
            if shared:
                files.reflink(target, copy)
            else:
                copy.truncate(os.fstat(target.fileno()).st_size)
            job.cache.add(copy, key, progress.sha256, progress.source_format)
        finish(target, job.format, job.size, progress)


def _through_scratch(job: Job, incoming: _Incoming, key: str, progress: Progress) -> None:
    """A local file that the unprivileged tool may read is converted as it is, anything else is brought beside first."""
    local = incoming.source.file
    if local is not None and not incoming.compressed and _tool_may_read(local) and not _has_footer(local):
        _convert(job, local, incoming.format, 0.0, progress)
        return
    with files.nameless_file(job.dest.parent) as scratch:
        _need_space(job, incoming.length)
        progress.phase("Downloading", 0.0, _DOWNLOAD_SHARE)
        _copy(job, incoming.content, [scratch], 2 * job.size + _SLACK)
        _verify(job, incoming.source, progress)
        if incoming.format == "raw":
            _without_footer(scratch, progress)
        _convert(job, scratch, incoming.format, _DOWNLOAD_SHARE, progress)
        if job.cache is not None:
            job.cache.add(scratch, key, progress.sha256, progress.source_format)


def _convert(job: Job, image: BinaryIO, format_: str, share: float, progress: Progress) -> None:
    """From an image here into place; `share` is the percentage that was done before."""
    check_size(job.size, images.inspect(image, format_).virtual_size)
    with images.new_file(job.dest, job.owner) as target:
        progress.phase("Converting", share, 99.0)

        def written(percent: float) -> None:
            progress.fraction(percent)
            files.start_writing(target)

        images.convert(image, format_, target, job.format, written)
        finish(target, job.format, job.size, progress)


def finish(target: BinaryIO, format_: str, size: int, progress: Progress) -> None:
    """The last step before a disk is put into place: to the size that was asked for."""
    progress.phase("Finishing", 99.0, 100.0)
    images.grow(target, format_, size)


def _verify(job: Job, source: Source, progress: Progress) -> None:
    progress.sha256 = source.seen.hexdigest()
    if job.checksum:
        found = f"{job.algorithm}:{source.seen.hexdigest(job.algorithm)}"
        if found != job.checksum:
            raise ImageError("ChecksumMismatch", f"the source has the checksum {found}, not {job.checksum}")


def _copy(job: Job, content: Iterator[bytes], targets: list[BinaryIO], limit: int) -> None:
    """Writes the content with holes where it is zero. Raises ImageError beyond `limit` bytes."""
    done = 0
    for piece in content:
        if done + len(piece) > limit:
            wanted = readable_size(job.size)
            raise ImageError("TooLarge", f"the source has more than fits into the requested size of {wanted}")
        for target in targets:
            files.write_sparsely(target.fileno(), piece, done)
        done += len(piece)
    for target in targets:
        target.truncate(done)


def _writing(content: Iterator[bytes], target: BinaryIO) -> Iterator[bytes]:
    """The content; meanwhile what was written of it goes to the disk, where it has to be in the end."""
    pending = 0
    for piece in content:
        yield piece
        pending += len(piece)
        if pending >= _AT_ONCE:
            files.start_writing(target)
            pending = 0


def _without_footer(file: BinaryIO, progress: Progress) -> int:
    """Cuts off what a VHD of fixed size has behind the disk; the size of the disk."""
    length = os.fstat(file.fileno()).st_size
    size = formats.fixed_vhd_size(_tail(file, length), length)
    if size is None:
        return length
    progress.source_format = progress.source_format.replace("raw", "vhd", 1)
    file.truncate(size)
    return size


def _has_footer(file: BinaryIO) -> bool:
    length = os.fstat(file.fileno()).st_size
    return formats.fixed_vhd_size(_tail(file, length), length) is not None


def _tail(file: BinaryIO, length: int) -> bytes:
    return os.pread(file.fileno(), formats.VHD_FOOTER_BYTES, max(0, length - formats.VHD_FOOTER_BYTES))


def _tool_may_read(file: BinaryIO) -> bool:
    status = os.fstat(file.fileno())
    return os.geteuid() != 0 or bool(status.st_mode & 0o004) or status.st_uid == QEMU_UID


def _need_space(job: Job, length: int | None) -> None:
    """Raises ImageError where so many bytes more cannot fit, even without what the cache has."""
    if length is None:
        return
    if job.cache is not None:
        job.cache.make_room(length)
    free = files.free_bytes(job.dest.parent)
    if length > free:
        have = f"{readable_size(free)} are free in {job.dest.parent}"
        raise ImageError("NoSpace", f"the source has {readable_size(length)}, but only {have}")


@contextmanager
def space_errors(dest: Path) -> Iterator[None]:
    """Turns the system's refusals to write into an ImageError."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        problem = "no space is left" if full else f"cannot write: {error.strerror or error}"
        raise ImageError("NoSpace" if full else "WriteFailed", f"{problem} in {dest.parent}") from error
