"""Processes beside a container: `kubectl exec`, exec probes and hooks, with pipes or with a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import pty
import signal
import struct
import termios
from collections.abc import Callable
from dataclasses import replace

from solo.http.streams import STDERR, STDOUT
from solo.node.launch import GatedProcess, Launch, fork_gated
from solo.node.procfs import is_same_process, send_signal, session_members
from solo.node.reaper import exit_code

_CHUNK = 32 * 1024
_END_OF_TRANSMISSION = b"\x04"


class ExecProcess:
    """A running command; implements `solo.http.streams.ExecSession`."""

    def __init__(self, process: GatedProcess, outputs: dict[int, int], stdin: int, *, terminal: bool) -> None:
        """`outputs`: descriptor -> channel. `stdin`: descriptor or -1; with a terminal it is the same one."""
        self._watch = process.watch
        self._pid = process.pid
        self._start_ticks = process.start_ticks
        self._outputs = outputs
        self._stdin = stdin
        self._terminal = terminal
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Event] = set()
        self._closed = False
        for fd in {*outputs, stdin} - {-1}:
            os.set_blocking(fd, False)

    async def read(self) -> tuple[int, bytes] | None:
        """The next output; None when there is no more or the command has ended and all it wrote was read."""
        while self._outputs:
            ended = self._watch.ended
            for fd, channel in list(self._outputs.items()):
                try:
                    data = os.read(fd, _CHUNK)
                except BlockingIOError:
                    continue
                except OSError as error:
                    if error.errno != errno.EIO:  # A terminal that nobody has open any more.
                        raise
                    data = b""
                if data:
                    return channel, data
                self._close_output(fd)
            if ended:
                return None  # What it left in the background may hold the pipes open for ever.
            if self._outputs:
                await self._readable()
        return None

    async def _readable(self) -> None:
        await self._until_ready(list(self._outputs), self._loop.add_reader, self._loop.remove_reader)

    async def _until_ready(self, fds: list[int], add: Callable[..., object], remove: Callable[[int], object]) -> None:
        """Wait until one of `fds` is ready, the command has ended or everything is closed."""
        wake = asyncio.Event()
        ready, end = asyncio.ensure_future(wake.wait()), asyncio.ensure_future(self._watch.wait())
        for fd in fds:
            add(fd, wake.set)
        self._waiting.add(wake)
        try:
            await asyncio.wait([ready, end], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting.discard(wake)
            for fd in fds:
                if not self._closed:  # A closed descriptor's number may be someone else's by now.
                    remove(fd)
            ready.cancel()
            end.cancel()

    async def write(self, data: bytes) -> None:
        """Give `data` to its input. What comes after its end is dropped."""
        view = memoryview(data)
        while view and self._stdin >= 0 and not self._watch.ended:
            try:
                view = view[os.write(self._stdin, view) :]
            except BlockingIOError:
                await self._writable()
            except OSError:
                return

    async def _writable(self) -> None:
        await self._until_ready([self._stdin], self._loop.add_writer, self._loop.remove_writer)

    async def close_stdin(self) -> None:
        """End of input."""
        if self._terminal:
            await self.write(_END_OF_TRANSMISSION)
        elif self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    async def resize(self, columns: int, rows: int) -> None:
        """Set the terminal's size."""
        if self._terminal and self._stdin >= 0:
            size = struct.pack("HHHH", min(rows, 0xFFFF), min(columns, 0xFFFF), 0, 0)
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._stdin, termios.TIOCSWINSZ, size)

    async def wait(self) -> int:
        """The exit code."""
        status = await self._watch.wait()
        return exit_code(status)[0] if status is not None else 137

    async def close(self) -> None:
        """Hang up."""
        self._signal(signal.SIGHUP)
        self._close_all()

    def kill(self) -> None:
        """End it and all of its session at once."""
        self._signal(signal.SIGKILL)
        self._close_all()

    def _signal(self, number: signal.Signals) -> None:
        if not self._watch.ended and is_same_process(self._pid, self._start_ticks):
            send_signal(session_members(self._pid), number)

    def _close_output(self, fd: int) -> None:
        del self._outputs[fd]
        # The terminal stays: to close it would hang up a process that is still about to exit.
        if fd != self._stdin:
            os.close(fd)

    def _close_all(self) -> None:
        for fd in {*self._outputs, self._stdin} - {-1}:
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)
            os.close(fd)
        self._closed = True
        for wake in self._waiting:
            wake.set()
        self._outputs.clear()
        self._stdin = -1


async def start(plan: Launch, *, terminal: bool, stdin: bool) -> ExecProcess:
    """Run `plan` with pipes, or with a terminal of its own. LaunchError or OSError when it cannot be started."""
    ours, theirs = _terminal() if terminal else _pipes(stdin=stdin)
    try:
        try:
            process = fork_gated(replace(plan, stdin=theirs[0], stdout=theirs[1], stderr=theirs[2], terminal=terminal))
        finally:
            for fd in {*theirs}:
                os.close(fd)
        await _release(process)
        outputs = {ours[1]: STDOUT} if terminal else {ours[1]: STDOUT, ours[2]: STDERR}
        return ExecProcess(process, outputs, ours[0], terminal=terminal)
    except BaseException:
        for fd in {*ours} - {-1}:
            os.close(fd)
        raise


async def _release(process: GatedProcess) -> None:
    """Let it run; whoever no longer waits for it, such as a probe whose container has ended, leaves nothing behind."""
    try:
        await process.release()
    except asyncio.CancelledError:
        process.kill()
        raise


def _terminal() -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    master, slave = pty.openpty()
    return (master, master, master), (slave, slave, slave)


def _pipes(*, stdin: bool) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    out_read, out_write = os.pipe()
    error_read, error_write = os.pipe()
    in_read, in_write = os.pipe() if stdin else (os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), -1)
    return (in_write, out_read, error_read), (in_read, out_write, error_write)


async def run(plan: Launch, timeout: float, limit: int = 10 * 1024) -> tuple[int, str]:
    """Run a command to its end: (exit code, the first `limit` bytes of its output).

    Raises TimeoutError after `timeout` seconds, when it has been killed; LaunchError or OSError when it cannot start.
    """
    process = await start(plan, terminal=False, stdin=False)
    output = b""
    try:
        async with asyncio.timeout(timeout):
            while (chunk := await process.read()) is not None:
                output = (output + chunk[1])[:limit]
            return await process.wait(), output.decode(errors="replace")
    finally:
        process.kill()
