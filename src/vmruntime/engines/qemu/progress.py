"""How far an import is, for the controller (a small JSON file) and for people (lines on standard output).

The file's fields: `phase` (Connecting, Downloading, Converting, Copying, Cloning, Finishing, Succeeded, Failed),
`percent` of the whole, `bytesDone` and `bytesTotal` of the source, `megabytesPerSecond`, `sourceFormat`, `sha256` of
the source, `fromCache`, and after a failure `reason`, `message` and `temporary` (another attempt may help).
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_FILE_SECONDS = 0.25
_LINE_SECONDS = 2.0


class Progress:
    """Collects and writes it. Losing a report does no harm, so write errors are ignored."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._path = path
        self._say = say
        self._phase = "Connecting"
        self._percent = self._first = self._last = 0.0
        self._done = 0
        self._phase_started = time.monotonic()
        self._next_file = self._next_line = 0.0
        self.total: int | None = None
        self.source_format = ""
        self.sha256 = ""
        self.from_cache = False

    def phase(self, name: str, first: float, last: float) -> None:
        """The next phase, which goes from `first` to `last` percent of the whole."""
        self._phase, self._percent, self._first, self._last = name, first, first, last
        self._phase_started = time.monotonic()
        self._report(force=True)

    def bytes(self, done: int) -> None:
        """Bytes of the source that are there."""
        self._done = done
        if self.total:
            self.fraction(100.0 * done / self.total)
        else:
            self._report()

    def fraction(self, percent: float) -> None:
        """Percent of the phase."""
        self._percent = self._first + (self._last - self._first) * min(percent, 100.0) / 100.0
        self._report()

    def failed(self, reason: str, message: str, *, temporary: bool) -> None:
        """The end, without success. `message` becomes one line."""
        message = " ".join(message.split())
        self._phase = "Failed"
        self._write(self._fields() | {"reason": reason, "message": message, "temporary": temporary})
        self._say(f"error: {reason}: {message}")

    def succeeded(self, seconds: float) -> None:
        """The end, with success."""
        self._phase, self._percent = "Succeeded", 100.0
        self._write(self._fields())
        self._say(f"done in {seconds:.1f} s")

    def _fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"phase": self._phase, "percent": round(self._percent, 1), "bytesDone": self._done}
        if self.total is not None:
            fields["bytesTotal"] = self.total
        elapsed = time.monotonic() - self._phase_started
        if self._phase == "Downloading" and elapsed > 0:
            fields["megabytesPerSecond"] = round(self._done / elapsed / 1e6, 1)
        known = {"sourceFormat": self.source_format, "sha256": self.sha256, "fromCache": self.from_cache}
        return fields | {name: value for name, value in known.items() if value}

    def _report(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if force or now >= self._next_file:
            self._next_file = now + _FILE_SECONDS
            self._write(self._fields())
        if force or now >= self._next_line:
            self._next_line = now + _LINE_SECONDS
            total = f" of {self.total}" if self.total is not None else ""
            self._say(f"{self._phase.lower()}: {self._percent:.1f} %, {self._done}{total} bytes")

    def _write(self, fields: dict[str, Any]) -> None:
        temporary = self._path.with_name(f".{self._path.name}.part")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with contextlib.suppress(OSError):
            with os.fdopen(os.open(temporary, flags, 0o600), "w") as file:
                json.dump(fields, file)
            os.replace(temporary, self._path)
