"""Learn of a process' end from the kernel: a pidfd on the event loop, for children and for adopted processes alike."""

from __future__ import annotations

import asyncio
import contextlib
import os

from solo.node.procfs import is_same_process


class ExitWatch:
    """Waits for one process to end.

    `status` is its wait status for a child of ours and None for a process that was adopted: only a parent is told.
    """

    def __init__(self, pid: int, start_ticks: int) -> None:
        """Raises ProcessLookupError when `pid` is no longer the process that started at `start_ticks`."""
        self.pid = pid
        self.status: int | None = None
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._fd = os.pidfd_open(pid)
        try:
            # The pidfd now pins the number; if it named another process before, this shows it.
            if not is_same_process(pid, start_ticks) and not self._is_unreaped_child():
                raise ProcessLookupError(pid)
            self._loop.add_reader(self._fd, self._on_exit)
        except BaseException:
            os.close(self._fd)
            raise

    def _is_unreaped_child(self) -> bool:
        try:
            return os.waitid(os.P_PIDFD, self._fd, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
        except ChildProcessError:
            return False

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._ended.done()

    async def wait(self) -> int | None:
        """Wait for the end; the wait status, or None when it is unknown."""
        await asyncio.shield(self._ended)
        return self.status

    def close(self) -> None:
        """Stop watching; the process goes on."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _on_exit(self) -> None:
        # By the pidfd: the number of an adopted process may be that of a child of ours by now.
        with contextlib.suppress(ChildProcessError):
            if (result := os.waitid(os.P_PIDFD, self._fd, os.WEXITED | os.WNOHANG)) is not None:
                self.status = _wait_status(result.si_code, result.si_status)
        self.close()
        if not self._ended.done():
            self._ended.set_result(None)


def _wait_status(code: int, value: int) -> int:
    """A wait status as waitpid(2) gives it, from what waitid(2) says; nobody here asks whether a core was written."""
    return value << 8 if code == os.CLD_EXITED else value


def exit_code(status: int) -> tuple[int, int]:
    """The exit code as containers have it (128 + N for signal N) and the signal's number or 0."""
    if os.WIFSIGNALED(status):
        return 128 + os.WTERMSIG(status), os.WTERMSIG(status)
    return os.WEXITSTATUS(status), 0
