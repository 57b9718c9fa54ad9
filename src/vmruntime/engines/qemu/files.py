"""Disk files below the level of image formats: sparse writing and copying, space, names. All blocks."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_libc = ctypes.CDLL(None, use_errno=True)

_BLOCK = 64 * 1024
_ZEROS = bytes(_BLOCK)
_COPY_BYTES = 1 << 20
_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
_WRITE = 2  # linux/fs.h: SYNC_FILE_RANGE_WRITE
_HERE = -100  # linux/fcntl.h: AT_FDCWD
_NO_REPLACE = 1  # linux/fs.h: RENAME_NOREPLACE
_NO_REFLINK = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS, errno.EPERM)


def write_sparsely(descriptor: int, piece: bytes, offset: int) -> None:
    """Writes what is not zero, in as few calls as that takes; the file has to be empty there."""
    view = memoryview(piece)
    at = begin = 0  # what lies between them is to be written
    while at < len(piece):
        end = min(at + _BLOCK - (offset + at) % _BLOCK, len(piece))
        # Looking at the first byte spares nearly every block of data the comparison.
        if piece[at] == 0 and piece.startswith(_ZEROS[: end - at], at):
            _write(descriptor, view[begin:at], offset + begin)
            begin = end
        at = end
    _write(descriptor, view[begin:], offset + begin)


def _write(descriptor: int, data: memoryview, offset: int) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], offset + written)


def start_writing(file: BinaryIO) -> None:
    """Has the system begin to bring to the disk what was written to a file, so that little is left for a later fsync.

    Losing an error does no harm: fsync reports it again.
    """
    _libc.sync_file_range(file.fileno(), ctypes.c_int64(0), ctypes.c_int64(0), ctypes.c_uint(_WRITE))


def reflink(source: BinaryIO, target: BinaryIO) -> bool:
    """Makes `target` share the content of `source`, where the file system can (XFS, btrfs, bcachefs)."""
    try:
        fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
    except OSError as error:
        if error.errno not in _NO_REFLINK:
            raise
        return False
    return True


def copy_sparsely(source: BinaryIO, target: BinaryIO) -> None:
    """Makes the empty `target` a copy of `source`: shared where that is possible, else with the same holes."""
    if reflink(source, target):
        return
    size = os.fstat(source.fileno()).st_size
    at = 0
    while at < size:
        try:
            start = os.lseek(source.fileno(), at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # nothing but a hole up to the end
        at = os.lseek(source.fileno(), start, os.SEEK_HOLE)
        _copy_range(source, target, start, at)
    target.truncate(size)


def _copy_range(source: BinaryIO, target: BinaryIO, start: int, end: int) -> None:
    # By hand: copy_file_range(), where it cannot share, was measured to take five times as long on ext4.
    buffer = memoryview(bytearray(_COPY_BYTES))
    while start < end:
        got = os.preadv(source.fileno(), [buffer[: min(end - start, _COPY_BYTES)]], start)
        if got == 0:
            raise OSError(errno.EIO, "the file became shorter while it was copied")
        _write(target.fileno(), buffer[:got], start)
        start += got


def allocated(path: Path) -> int:
    """Bytes that a file takes on disk; 0 for one that has gone."""
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0


def free_bytes(directory: Path) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


@contextmanager
def nameless_file(directory: Path) -> Iterator[BinaryIO]:
    """A file that is gone when it is closed, also by a kill, unless `give_name` was called.

    Everybody who is handed it may read it, but only its owner may write: the file has no path to be found by.
    """
    descriptor = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        os.fchmod(descriptor, 0o644)
        yield file


def rename_new(source: Path, target: Path) -> None:
    """Renames a file, and never in place of another one. Raises FileExistsError where there is one, OSError."""
    names = os.fsencode(source), os.fsencode(target)
    if _libc.renameat2(_HERE, names[0], _HERE, names[1], ctypes.c_uint(_NO_REPLACE)) == 0:
        return
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(code, os.strerror(code), str(target))
    # The file system cannot do it in one step (NFS).
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    os.rename(source, target)


def give_name(file: BinaryIO, path: Path) -> None:
    """A name for a file of `nameless_file`, in the same file system. Raises FileExistsError."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # A directory's descriptor makes Python call linkat(), the one of the two calls that follows /proc's link.
        os.link(f"/proc/self/fd/{file.fileno()}", path.name, src_dir_fd=directory, dst_dir_fd=directory)
    finally:
        os.close(directory)
