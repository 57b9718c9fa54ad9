"""The logs of containers: plain files that the processes themselves append to.

`<pod>/<container>/<restart>.log` is the process' standard output and error. It is bounded: beyond 10 MiB its content is
copied to `.log.1` and the file, which the process still holds, is emptied. Lines carry no time of their own, because
nothing stands between the process and its file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from solo.node.inotify import FileWatch

MAX_BYTES = 10 * 1024 * 1024
_CHUNK = 64 * 1024
_COPY_CHUNK = 1024 * 1024


def log_path(pod_directory: Path, container: str, restart: int) -> Path:
    """Where run number `restart` of a container writes."""
    return pod_directory / container / f"{restart}.log"


def rotated(path: Path) -> Path:
    """Where the older part of a log goes."""
    return path.with_name(path.name + ".1")


def open_for_process(path: Path, uid: int, gid: int) -> int:
    """Open a log for a process of `uid`, who owns it so that it may re-open /dev/stdout. Returns the descriptor."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if os.geteuid() == 0:
            os.fchown(fd, uid, gid)
    except OSError:
        os.close(fd)
        raise
    return fd


def remove_older(directory: Path, keep_from: int) -> None:
    """Remove the logs of runs before number `keep_from`."""
    for path in directory.glob("*.log*"):
        number = path.name.partition(".")[0]
        if number.isdigit() and int(number) < keep_from:
            path.unlink(missing_ok=True)


async def rotate(path: Path, limit: int = MAX_BYTES) -> bool:
    """Move the content of a log that has outgrown `limit` bytes aside. Returns whether it did."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        size = os.fstat(fd).st_size
        if size <= limit:
            return False
        target = os.open(rotated(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            # One chunk at a time, so that the loop goes on; the last short read and the truncation are one step, so
            # that next to nothing can be written in between. From a process that writes as fast as this can copy, some
            # is lost: there would be no end to it.
            copied = 0
            while len(data := os.read(fd, _COPY_CHUNK)) == _COPY_CHUNK and copied < 2 * size:
                copied += os.write(target, data)
                await asyncio.sleep(0)
            os.write(target, data)
            os.ftruncate(fd, 0)
        finally:
            os.close(target)
        return True
    finally:
        os.close(fd)


def tail_offset(fd: int, lines: int) -> tuple[int, int]:
    """(offset where the last `lines` lines of a file begin, how many lines there are from it)."""
    end = os.fstat(fd).st_size
    if lines <= 0:
        return end, 0
    position, found = end, 0
    while position > 0:
        start = max(0, position - _CHUNK)
        block = os.pread(fd, position - start, start)
        scan = len(block)
        if position == end and block.endswith(b"\n"):
            scan -= 1  # The last line's own end does not begin another one.
        while (newline := block.rfind(b"\n", 0, scan)) >= 0:
            found += 1
            if found == lines:
                return start + newline + 1, lines
            scan = newline
        position = start
    return 0, found + (1 if end else 0)


def tail_text(path: Path, max_lines: int, max_bytes: int) -> str:
    """The end of a log, for a termination message; empty when there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        size = os.fstat(fd).st_size
        start = max(tail_offset(fd, max_lines)[0], size - max_bytes)
        return os.pread(fd, max_bytes, start).decode(errors="replace")
    finally:
        os.close(fd)


class LogReader:
    """Reads one run's log from the descriptors that were open when it began: the older part, then the present one."""

    def __init__(self, path: Path, tail_lines: int | None, limit_bytes: int | None) -> None:
        """FileNotFoundError when there is no such log."""
        self._path = path
        self._current = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._older = -1
        self._left = limit_bytes
        self._position = self._older_position = 0
        with contextlib.suppress(FileNotFoundError):
            self._older = os.open(rotated(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        if tail_lines is not None:
            self._seek_tail(tail_lines)

    def _seek_tail(self, lines: int) -> None:
        self._position, found = tail_offset(self._current, lines)
        if self._older >= 0:
            self._older_position, _ = tail_offset(self._older, lines - found)

    def close(self) -> None:
        """Close the files."""
        for fd in (self._current, self._older):
            if fd >= 0:
                os.close(fd)
        self._current = self._older = -1

    def _limited(self, data: bytes) -> bytes:
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        return data

    @property
    def exhausted(self) -> bool:
        """Whether the limit of bytes is used up."""
        return self._left is not None and self._left <= 0

    def next_chunk(self) -> bytes:
        """The next bytes; empty at the present end of the log."""
        if self._older >= 0:
            if data := os.pread(self._older, _CHUNK, self._older_position):
                self._older_position += len(data)
                return self._limited(data)
            os.close(self._older)
            self._older = -1
        if os.fstat(self._current).st_size < self._position:
            self._position = 0  # It was emptied since; what is in it now is new.
        data = os.pread(self._current, _CHUNK, self._position)
        self._position += len(data)
        return self._limited(data)

    async def stream(self, ended: Callable[[], Awaitable[object]] | None) -> AsyncIterator[bytes]:
        """The log from here; with `ended`, new content as well until that has come to pass. Closes the files."""
        watch, end = None, None
        try:
            if ended is not None:
                watch = FileWatch(self._path)
                end = asyncio.ensure_future(ended())
            while not self.exhausted:
                finished = end is None or end.done()
                if data := self.next_chunk():
                    yield data
                elif finished:
                    return
                elif watch is not None and end is not None:
                    change = asyncio.ensure_future(watch.changed())
                    try:
                        await asyncio.wait({change, end}, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        change.cancel()
        finally:
            if end is not None:
                end.cancel()
            if watch is not None:
                watch.close()
            self.close()
