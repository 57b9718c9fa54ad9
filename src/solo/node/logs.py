"""The logs of containers: plain files that the processes themselves append to.

`<pod>/<container>/<restart>.log` is the process' standard output and error. It is bounded: beyond 10 MiB its content is
copied to `.log.1` and the file, which the process still holds, is emptied. An index beside each of them tells when
lines were written (`logtimes`). A process can do to its log what it likes, empty it or make it a terabyte of nothing:
whatever is read of one at once is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

from solo.http.streams import Excerpt
from solo.node.inotify import FileWatch
from solo.node.logtimes import LineTimes, formatted, stamp, times_path

MAX_BYTES = 10 * 1024 * 1024
_SEARCH_BYTES = 4 * MAX_BYTES
"""How far is looked for the begin of a line; more than the whole of a log, as a rule."""
_CHUNK = 64 * 1024
_COPY_CHUNK = 1024 * 1024
_SAFE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # A pipe in the place of a log must not hold us up.


def log_path(pod_directory: Path, container: str, restart: int) -> Path:
    """Where run number `restart` of a container writes."""
    return pod_directory / container / f"{restart}.log"


def rotated(path: Path) -> Path:
    """Where the older part of a log goes."""
    return path.with_name(path.name + ".1")


def open_for_process(path: Path, uid: int, gid: int) -> int:
    """Make a log for a process of `uid`, who owns it so that it may re-open /dev/stdout. Returns the descriptor."""
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
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


def outgrown(path: Path, limit: int = MAX_BYTES) -> bool:
    """Whether a log, or its index, is longer than `limit` bytes."""
    return _size(path) > limit or _size(times_path(path)) > limit


async def rotate(path: Path, limit: int = MAX_BYTES) -> bool:
    """Move the content of a log that has `outgrown` its limit aside. Returns whether it did; OSError if it cannot.

    Of a log that is far beyond the limit the end is kept, without the times of its lines.
    """
    if not outgrown(path, limit):
        return False
    fd = os.open(path, os.O_RDWR | _SAFE)
    try:
        size = os.fstat(fd).st_size
        skipped = size - limit if size > 2 * limit else 0
        os.lseek(fd, skipped, os.SEEK_SET)
        target = os.open(rotated(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            # One chunk at a time, so that the loop goes on; the last short read and the truncation are one step, so
            # that next to nothing can be written in between. From a process that writes as fast as this can copy, some
            # is lost: there would be no end to it.
            copied = 0
            while len(data := os.read(fd, _COPY_CHUNK)) == _COPY_CHUNK and copied < 2 * max(size - skipped, limit):
                copied += os.write(target, data)
                await asyncio.sleep(0)
            os.write(target, data)
            stamp(path)
            os.ftruncate(fd, 0)
            with contextlib.suppress(FileNotFoundError):
                os.replace(times_path(path), times_path(rotated(path)))
                if skipped:
                    times_path(rotated(path)).unlink()
        finally:
            os.close(target)
        return True
    finally:
        os.close(fd)


def _open(path: Path) -> int:
    """Open a log to read it. FileNotFoundError when there is none, or something else in its place."""
    fd = os.open(path, os.O_RDONLY | _SAFE)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, "not a file", str(path))
    return fd


def _size(path: Path) -> int:
    try:
        return path.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def _next_line(fd: int, offset: int) -> int:
    """Where the first line that begins at `offset` or later begins, at most the end of the file."""
    position = offset - 1
    while 0 <= position < offset + _SEARCH_BYTES:
        block = os.pread(fd, _CHUNK, position)
        newline = block.find(b"\n")
        if newline >= 0:
            return position + newline + 1
        position += len(block)
        if not block:
            break
    return max(position, 0)


def tail_offset(fd: int, lines: int, furthest: int = _SEARCH_BYTES) -> tuple[int, int]:
    """(offset where the last `lines` lines of a file begin, how many lines there are from it).

    At most `furthest` bytes from its end, where a file is that long.
    """
    end = os.fstat(fd).st_size
    if lines <= 0:
        return end, 0
    position, found = end, 0
    while position > max(0, end - furthest):
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
    return position, found + (1 if end else 0)


def tail_text(path: Path, max_lines: int, max_bytes: int) -> str:
    """The end of a log, for a termination message; empty when there is none."""
    try:
        fd = _open(path)
    except OSError:
        return ""
    try:
        size = os.fstat(fd).st_size
        start = max(tail_offset(fd, max_lines, max_bytes)[0], size - max_bytes)
        return os.pread(fd, max_bytes, start).decode(errors="replace")
    finally:
        os.close(fd)


class _Part:
    """One file of a log, open for reading."""

    def __init__(self, path: Path) -> None:
        """FileNotFoundError when there is no such file."""
        self.path = path
        self.fd = _open(path)
        self.position = 0
        self._times: LineTimes | None = None

    @property
    def times(self) -> LineTimes:
        """When its lines were written."""
        if self._times is None:
            self._times = LineTimes(self.path, self.fd)
        return self._times

    def skip_before(self, since: float) -> None:
        """Go on to the first line that was written since then."""
        offset = _next_line(self.fd, self.times.first_since(int(since * 1_000_000_000)))
        self.position = max(self.position, offset)

    def read(self) -> bytes:
        """The next bytes, which begin at `position` minus their number afterwards; empty at the end."""
        data = os.pread(self.fd, _CHUNK, self.position)
        self.position += len(data)
        return data

    def start_again(self) -> None:
        """The file was emptied since; what is in it now is new, and its index, too."""
        self.position = 0
        self._close_times()

    def _close_times(self) -> None:
        if self._times is not None:
            self._times.close()
            self._times = None

    def close(self) -> None:
        """Close the files. May be called again."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self._close_times()


class LogReader:
    """Reads one run's log from the files that were open when it began: the older part, then the present one."""

    def __init__(self, path: Path, excerpt: Excerpt) -> None:
        """FileNotFoundError when there is no such log."""
        self._path = path
        self._current = _Part(path)
        self._older: _Part | None = None
        self._left = excerpt.limit_bytes
        self._with_times = excerpt.timestamps
        self._line_begins = True
        with contextlib.suppress(FileNotFoundError):
            self._older = _Part(rotated(path))
        if excerpt.tail_lines is not None:
            self._seek_tail(excerpt.tail_lines)
        if excerpt.since is not None:
            stamp(path)
            for part in (self._older, self._current):
                if part is not None:
                    part.skip_before(excerpt.since)

    def _seek_tail(self, lines: int) -> None:
        self._current.position, found = tail_offset(self._current.fd, lines)
        if self._older is not None:
            self._older.position, _ = tail_offset(self._older.fd, lines - found)

    def close(self) -> None:
        """Close the files."""
        self._close_older()
        self._current.close()

    def _close_older(self) -> None:
        if self._older is not None:
            self._older.close()
            self._older = None

    @property
    def exhausted(self) -> bool:
        """Whether the limit of bytes is used up."""
        return self._left is not None and self._left <= 0

    def next_chunk(self) -> bytes:
        """The next bytes; empty at the present end of the log."""
        if self._older is not None:
            if data := self._older.read():
                return self._shown(self._older, data)
            self._close_older()
        if os.fstat(self._current.fd).st_size < self._current.position:
            self._current.start_again()
        data = self._current.read()
        if data and self._with_times:
            stamp(self._path)
        return self._shown(self._current, data)

    def _shown(self, part: _Part, data: bytes) -> bytes:
        if self._with_times:
            data = self._timed(part.times, part.position - len(data), data)
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        return data

    def _timed(self, times: LineTimes, offset: int, data: bytes) -> bytes:
        """`data`, which stands at `offset`, with the time of its first byte before each line that begins in it."""
        shown = []
        begin = 0
        while begin < len(data):
            end = data.find(b"\n", begin) + 1 or len(data)
            if self._line_begins:
                shown.append(formatted(times.at(offset + begin)))
            shown.append(data[begin:end])
            self._line_begins = data.endswith(b"\n", begin, end)
            begin = end
        return b"".join(shown)

    def stream(self, ended: Callable[[], Awaitable[object]] | None) -> LogStream:
        """The log from here; with `ended`, new content as well until that has come to pass. Closes the files."""
        return LogStream(self, ended)

    async def chunks(self, ended: Callable[[], Awaitable[object]] | None) -> AsyncGenerator[bytes, None]:
        """What `stream` gives."""
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


class LogStream:
    """An async iterator over a log. Unlike a generator it closes the files also if nobody has begun to read."""

    def __init__(self, reader: LogReader, ended: Callable[[], Awaitable[object]] | None) -> None:
        self._reader = reader
        self._chunks = reader.chunks(ended)

    def __aiter__(self) -> LogStream:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._chunks)

    async def aclose(self) -> None:
        """Stop reading."""
        await self._chunks.aclose()
        self._reader.close()
