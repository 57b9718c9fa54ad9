"""A user of its own for each machine, where the manager is root.

A QEMU that its guest has taken over reaches what belongs to its user: without this, the disks and sockets of every
other machine. The number follows from the machine's uid, so that nothing has to be kept and two clusters of a host
don't get in each other's way. It comes from a range that no distribution gives to anybody (systemd, "Users, Groups,
UIDs and GIDs": 1879048192 to 2147483647 are unused).

    disk that a machine writes to        its user, group QEMU_UID (qemu-img), 0660
    disk that machines only read         QEMU_UID, group READERS (all machines), 0640
    disk that no machine has had yet     QEMU_UID, 0600
    instance directory, tap              its user
"""

from __future__ import annotations

import hashlib
import os
import stat
from functools import cache
from pathlib import Path

from vmruntime.engines.qemu.config import QEMU_UID

READERS = 60801
"""The group that all machines are in besides that of their own."""

_FIRST, _COUNT = 0x70000000, (1 << 28) - 1
_MAPS = (Path("/proc/self/uid_map"), Path("/proc/self/gid_map"))


def user_of(uid: str) -> int:
    """The user and group id of the machine with this uid; where this process cannot give such ids away, QEMU_UID."""
    if not _may_give():
        return QEMU_UID
    return _FIRST + int.from_bytes(hashlib.sha256(uid.encode()).digest()[:8]) % _COUNT


@cache
def _may_give() -> bool:
    """Whether the range is in the user namespace that we are in: a container may have a few thousand ids only."""
    return all(any(_covers(line) for line in path.read_text().splitlines()) for path in _MAPS)


def _covers(line: str) -> bool:
    first, _, count = map(int, line.split())
    return first <= _FIRST and first + count >= _FIRST + _COUNT


def take_over(directory: Path, user: int) -> None:
    """Gives a directory, with the files in it, to a user; it may have belonged to QEMU_UID. Raises OSError.

    Only files with one name: a former QEMU could have given others a second name in here. Sockets it leaves.
    """
    if directory.stat().st_uid == user:
        return
    for path in directory.iterdir():
        if not stat.S_ISREG(path.lstat().st_mode):
            continue
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_nlink == 1:
                os.fchown(descriptor, user, user)
        finally:
            os.close(descriptor)
    os.chown(directory, user, user)


def let_write(disk: Path, user: int) -> None:
    """Gives a disk to the machine that is to write to it. Raises OSError."""
    _give(disk, user, QEMU_UID, 0o660)


def let_read(disk: Path) -> None:
    """Lets all machines read a disk that none writes to. Raises OSError."""
    _give(disk, QEMU_UID, READERS, 0o640)


def _give(disk: Path, user: int, group: int, mode: int) -> None:
    status = disk.stat()
    if (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (user, group, mode):
        return
    os.chmod(disk, 0o600)  # in between it is nobody's more than it was
    os.chown(disk, user, group)
    os.chmod(disk, mode)
