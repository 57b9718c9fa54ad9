"""When what is in a log was written.

Nothing stands between a process and its log, so the agent looks on (`logkeeper`): whenever a log has grown it notes in
an index, `<log>.times`, how long the log is and when it was last written to (its mtime). So a line is given the time at
which the agent looked; what was written while no agent ran is given the time of the last such write.

An index is a file of records of 16 bytes: time in nanoseconds since the epoch, length of the log. Both only grow.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from pathlib import Path

_RECORD = struct.Struct("<QQ")
_BLOCK = 4096 * _RECORD.size
_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC


def times_path(log: Path) -> Path:
    """Where the index of a log is."""
    return log.with_name(log.name + ".times")


def stamp(log: Path) -> None:
    """Note in a log's index how far it has grown.

    A time that cannot be noted, for example because the disk is full, is that of the next that can.
    """
    with contextlib.suppress(OSError):
        fd = os.open(times_path(log), os.O_RDWR | os.O_CREAT | os.O_APPEND | _FLAGS, 0o600)
        try:
            _append(fd, os.stat(log, follow_symlinks=False))
        finally:
            os.close(fd)


def _append(fd: int, log: os.stat_result) -> None:
    length = os.fstat(fd).st_size // _RECORD.size * _RECORD.size
    moment, size = _RECORD.unpack(os.pread(fd, _RECORD.size, length - _RECORD.size)) if length else (0, 0)
    if log.st_size < size:
        os.ftruncate(fd, 0)  # The process has emptied its log.
    if log.st_size not in (0, size):
        os.write(fd, _RECORD.pack(max(moment, min(log.st_mtime_ns, time.time_ns())), log.st_size))


class LineTimes:
    """The index of a log that is read from its beginning to its end."""

    def __init__(self, log: Path, log_fd: int) -> None:
        self._log_fd = log_fd
        self._fd = -1
        self._records: list[tuple[int, int]] = []
        self._next = self._position = 0
        with contextlib.suppress(FileNotFoundError):
            self._fd = os.open(times_path(log), os.O_RDONLY | _FLAGS)

    def close(self) -> None:
        """Close the index."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def at(self, offset: int) -> int:
        """When the byte at `offset`, which must not be before that of the last call, was in the log (nanoseconds)."""
        while True:
            while self._next < len(self._records):
                moment, size = self._records[self._next]
                if size > offset:
                    return moment
                self._next += 1
            if not self._read():
                return os.fstat(self._log_fd).st_mtime_ns

    def _read(self) -> bool:
        block = os.pread(self._fd, _BLOCK, self._position) if self._fd >= 0 else b""
        block = block[: len(block) // _RECORD.size * _RECORD.size]
        self._position += len(block)
        self._records, self._next = list(_RECORD.iter_unpack(block)), 0
        return bool(block)

    def first_since(self, moment: int) -> int:
        """The offset up to which the log was written before `moment` (nanoseconds)."""
        if self._fd < 0:
            stat = os.fstat(self._log_fd)
            return 0 if stat.st_mtime_ns >= moment else stat.st_size
        low, high = 0, os.fstat(self._fd).st_size // _RECORD.size
        while low < high:
            middle = (low + high) // 2
            if self._record(middle)[0] < moment:
                low = middle + 1
            else:
                high = middle
        return self._record(low - 1)[1] if low else 0

    def _record(self, number: int) -> tuple[int, int]:
        moment, size = _RECORD.unpack(os.pread(self._fd, _RECORD.size, number * _RECORD.size))
        return moment, size


def formatted(moment: int) -> bytes:
    """A time as kubelets write it before a line: RFC 3339 with nine digits of a second."""
    seconds, nanoseconds = divmod(moment, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds:09d}Z ".encode()
