"""Wait for a file to change without looking at it again and again: inotify(7) on the event loop."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path

_EVENT = struct.Struct("iIII")
_EVENTS_BYTES = 64 * 1024
_IN_Q_OVERFLOW = 0x4000
_IN_MODIFY, _IN_ATTRIB, _IN_MOVE_SELF, _IN_DELETE_SELF = 0x2, 0x4, 0x800, 0x400
_libc = ctypes.CDLL(None, use_errno=True)


class FileWatch:
    """Tells of changes of one file. Close it when done."""

    def __init__(self, path: Path) -> None:
        """OSError when the file is not there or the kernel has no watch left."""
        self._fd = _instance()
        try:
            _add_watch(self._fd, path, _IN_MODIFY | _IN_ATTRIB | _IN_MOVE_SELF | _IN_DELETE_SELF)
        except OSError:
            os.close(self._fd)
            raise
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._on_readable)

    async def changed(self) -> None:
        """Wait until the file has changed since the last call."""
        await self._changed.wait()
        self._changed.clear()

    def close(self) -> None:
        """Stop watching."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _on_readable(self) -> None:
        try:
            os.read(self._fd, 4096)
        except BlockingIOError:
            return
        self._changed.set()


class FilesWatch:
    """Calls `changed` with the path of each file that was written to: at once, then not before `pause` seconds later.

    One instance serves any number of files: the kernel grants a user few instances, but many watches.
    """

    def __init__(self, pause: float, changed: Callable[[Path], None]) -> None:
        """OSError when the kernel has no instance left."""
        self._pause = pause
        self._changed = changed
        self._paths: dict[int, Path] = {}
        self._watches: dict[Path, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._fd = _instance()
        self._listen()

    def add(self, path: Path) -> None:
        """Watch a file, too. OSError when it is not there or the kernel has no watch left."""
        watch = _add_watch(self._fd, path, _IN_MODIFY)
        self._paths[watch], self._watches[path] = path, watch

    def remove(self, path: Path) -> None:
        """Watch a file no longer; it need not be watched, nor exist."""
        watch = self._watches.pop(path, None)
        if watch is not None:
            self._paths.pop(watch, None)
            _libc.inotify_rm_watch(self._fd, watch)

    def close(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _listen(self) -> None:
        self._timer = None
        self._loop.add_reader(self._fd, self._on_readable)

    def _on_readable(self) -> None:
        self._loop.remove_reader(self._fd)
        self._timer = self._loop.call_later(self._pause, self._listen)
        for path in self._written_to(os.read(self._fd, _EVENTS_BYTES)):
            self._changed(path)

    def _written_to(self, events: bytes) -> set[Path]:
        found, position = set(), 0
        while position < len(events):
            watch, mask, _, length = _EVENT.unpack_from(events, position)
            position += _EVENT.size + length
            if mask & _IN_Q_OVERFLOW:
                return set(self._watches)  # The kernel has lost some: any of them may have been written to.
            if watch in self._paths:
                found.add(self._paths[watch])
        return found


def _instance() -> int:
    fd: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    return fd


def _add_watch(fd: int, path: Path, mask: int) -> int:
    watch: int = _libc.inotify_add_watch(fd, os.fsencode(path), mask)
    if watch < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
    return watch
