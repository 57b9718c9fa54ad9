"""What commands print and ask: dated lines as bmctl writes them, progress that is not repeated, yes/no questions."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence

from vmruntime.cli.dispatch import CommandError


def say(message: str) -> None:
    """One dated line on stdout, in the form that bmctl's documentation shows: `[2022-08-31 18:21:35+0000] …`."""
    print(f"[{time.strftime('%Y-%m-%d %H:%M:%S+0000', time.gmtime())}] {message}", flush=True)


def warn(message: str) -> None:
    """One line on stderr about something that did not stop the command."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


class Progress:
    """Progress of one wait: a line whenever what is known changes, and a sign of life every ten seconds."""

    REPEAT_SECONDS = 10.0

    def __init__(self) -> None:
        self._last = ""
        self._said_at = 0.0

    def report(self, message: str) -> None:
        """Say where it stands; an empty message says nothing."""
        now = time.monotonic()
        if not message:
            return
        if message != self._last or now - self._said_at >= self.REPEAT_SECONDS:
            say(message)
            self._last, self._said_at = message, now


def confirm(question: str, *, assume_yes: bool, remedy: str) -> bool:
    """Ask for a yes. `--yes` answers it; without a terminal there is nobody to ask, which is an error and not a no.

    Only `y` and `yes` count as yes: an empty answer, the end of input and anything else is a no.
    """
    if assume_yes:
        return True
    if not sys.stdin.isatty():
        raise CommandError(f"there is no terminal to ask on; {remedy}")
    print(f"{question} (y/N) ", end="", flush=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        print()
    return answer.strip().lower() in ("y", "yes")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as kubectl lays them out: upper-case header, three spaces between columns."""
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join("   ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)
