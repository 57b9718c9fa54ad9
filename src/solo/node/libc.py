"""System calls that Python has no functions for, by way of the C library."""

from __future__ import annotations

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)

_CAP_SYS_ADMIN = 21


def check(result: int) -> int:
    """The result of a call; OSError for a negative one."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def is_system_administrator() -> bool:
    """Whether this process may make namespaces for others: host names and mounts of their own (CAP_SYS_ADMIN)."""
    with open("/proc/self/status") as status:
        effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    return bool(effective >> _CAP_SYS_ADMIN & 1)
