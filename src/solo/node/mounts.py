"""Mounts that only the processes of one container see: a mount namespace, made on the way from fork to exec.

What is mounted on the host later is seen there, too; what is mounted there is not seen on the host. A process beside
the container joins its namespace.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from solo.node.libc import check, libc
from solo.node.procfs import is_same_process

_CLONE_NEWNS = 0x00020000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_SLAVE = 0x1, 0x20, 0x1000, 0x4000, 0x80000
_KEPT_FLAGS = os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC  # Of the same value as the MS_ flags (statvfs(3)).
_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_BENEATH = 0x02, 0x08


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory or file of the host, `source`, and in it `sub_path`, that appears at `target`."""

    source: str
    target: str
    read_only: bool = False
    sub_path: str = ""


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def make_namespace(mounts: Sequence[Mount]) -> None:
    """Give the calling process, which must have no other threads, a mount namespace of its own with `mounts` in it.

    Directories that are missing on the way to a target are made, on the host. OSError names the target that failed.
    """
    check(libc.unshare(_CLONE_NEWNS))
    _mount(None, "/", _MS_SLAVE | _MS_REC)
    opened = [_opened(mount) for mount in mounts]  # First: a mount may lie over the source of the next one.
    for mount, fd in sorted(zip(mounts, opened, strict=True), key=lambda pair: PurePosixPath(pair[0].target).parts):
        try:
            _bind(mount, fd)
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), mount.target) from error


def join_namespace(pid: int, start_ticks: int) -> None:
    """Enter the mount namespace of a process. ProcessLookupError when it runs no more."""
    fd = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    if not is_same_process(pid, start_ticks):
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    check(libc.setns(fd, _CLONE_NEWNS))
    os.close(fd)


def _mount(source: str | None, target: str, flags: int) -> None:
    check(libc.mount(source and os.fsencode(source), os.fsencode(target), None, flags, None))


def _bind(mount: Mount, fd: int) -> None:
    if os.path.isdir(f"/proc/self/fd/{fd}"):
        os.makedirs(mount.target, 0o755, exist_ok=True)
    _mount(f"/proc/self/fd/{fd}", mount.target, _MS_BIND | _MS_REC)
    if mount.read_only:
        kept = os.statvfs(mount.target).f_flag & _KEPT_FLAGS
        _mount(None, mount.target, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | kept)


def _opened(mount: Mount) -> int:
    root = os.open(mount.source, os.O_PATH | os.O_CLOEXEC)
    if not mount.sub_path:
        return root
    try:
        return open_beneath(root, mount.sub_path)
    except FileNotFoundError:
        if mount.read_only:
            raise
    return _make_beneath(root, mount.sub_path)


def open_beneath(root: int, path: str) -> int:
    """Open `path` (O_PATH) in the directory `root`; a link that leads out of it is an error (openat2(2)).

    A process could write such a link into its volume, to have what only root can reach mounted for it.
    """
    how = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
    size = ctypes.sizeof(how)
    return check(libc.syscall(_SYS_OPENAT2, root, os.fsencode(path), ctypes.byref(how), size))


def _make_beneath(root: int, path: str) -> int:
    """Make a directory, and those on the way to it, with the mode of `root`, as the kubelet does."""
    mode = os.stat(f"/proc/self/fd/{root}").st_mode & 0o7777
    parent = root
    for depth, name in enumerate(parts := PurePosixPath(path).parts, 1):
        try:
            below = open_beneath(root, "/".join(parts[:depth]))
        except FileNotFoundError:
            os.mkdir(name, mode, dir_fd=parent)
            below = open_beneath(root, "/".join(parts[:depth]))
            os.chmod(f"/proc/self/fd/{below}", mode)
        parent = below
    return parent
