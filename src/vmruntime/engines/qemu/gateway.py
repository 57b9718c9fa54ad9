"""`python -m vmruntime.engines.qemu.gateway ROOT`: holds a cluster's network namespace and what leads in and out of it.

    host ── gateway (this process: watches over the two)
              ├── pasta ──────────────── uplink ─┐
              └── gateway, inside: ports ── bridge vmrtID ── tap ── guest
                                                      └───── tap ── guest

The namespace is found again by the machines in it, which go on without a gateway as far as they talk to each other. The
working directory is the engine's root.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from vmruntime.engines.qemu import gateway_inside, namespace, uplink

_log = logging.getLogger("gateway")

_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}
# A host without a route outwards has no way out now, and may have one any time.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 15.0
_LONG_ENOUGH = 5.0


class _Uplink:
    """pasta, started again when it has ended."""

    def __init__(self, inside: int) -> None:
        self._inside = inside
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._next = 0.0
        self._pause = _FIRST_PAUSE

    def look(self) -> float | None:
        """Start it where that is due; the seconds until it is, None while it runs."""
        now = time.monotonic()
        if self._process is not None and self._process.poll() is not None:
            self._has_ended(f"exit code {self._process.returncode}", now)
        if self._process is None and now >= self._next:
            self._started = now
            try:
                self._process = subprocess.Popen(
                    uplink.command(self._inside),
                    stdin=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL if self._is_old_news() else None,
                    preexec_fn=_end_with_this_process,
                )
            except OSError as error:
                self._has_ended(str(error), now)
        return max(0.0, self._next - now) if self._process is None else None

    def _has_ended(self, how: str, now: float) -> None:
        if not self._is_old_news():
            _log.warning("the way out of the namespace has ended (%s)", how)
        self._process = None
        self._pause = _FIRST_PAUSE if now - self._started > _LONG_ENOUGH else min(self._pause * 2, _LONGEST_PAUSE)
        self._next = now + self._pause

    def _is_old_news(self) -> bool:
        """Whether the log has said often enough that there is no way out."""
        return self._pause >= _LONGEST_PAUSE

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _end_with_this_process() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    namespace.end_with_parent(signal.SIGKILL)


def _start_inside(root: Path) -> int:
    """The process inside, once it is there. Raises RuntimeError where it does not get there."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.close(reading)
            _end_with_this_process()
            gateway_inside.run(root, lambda: _say_entered(writing))
        except BaseException:
            _log.exception("the namespace cannot be served")
        finally:
            os._exit(1)
    os.close(writing)
    entered = os.read(reading, 1)
    os.close(reading)
    if not entered:
        os.waitpid(process, 0)
        raise RuntimeError("the namespace could not be entered")
    return process


def _say_entered(pipe: int) -> None:
    os.write(pipe, b"!")
    os.close(pipe)


def run(root: Path) -> int:
    """Until it is told to end, which is success, or the process inside has ended."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    while True:
        began = time.monotonic()
        inside = _start_inside(root)
        way_out = _Uplink(inside)
        try:
            if _watch(inside, way_out):
                return 0
        finally:
            way_out.close()
        _log.warning("the process inside the namespace has ended")
        if time.monotonic() - began < _LONG_ENOUGH:
            return 1


def _watch(inside: int, way_out: _Uplink) -> bool:
    """True when told to end, False when the process inside has ended."""
    while os.waitpid(inside, os.WNOHANG) == (0, 0):
        pause = way_out.look()
        received = signal.sigtimedwait(_SIGNALS, _LONGEST_PAUSE if pause is None else pause)
        if received is not None and received.si_signo != signal.SIGCHLD:
            os.kill(inside, signal.SIGKILL)
            os.waitpid(inside, 0)
            return True
    return False


def main() -> int:
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO, stream=sys.stderr)
    return run(Path(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(main())
