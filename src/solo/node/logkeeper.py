"""Look on while processes write their logs: keep the indexes of times, and the logs within bounds.

A log that was quiet is looked at as soon as it changes, one that keeps changing every 0.1 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from solo.node import logs
from solo.node.inotify import FilesWatch
from solo.node.logtimes import stamp

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.1


class LogKeeper:
    """Keeps the logs that are being written. For one event loop."""

    def __init__(self) -> None:
        self._watch: FilesWatch | None = None
        self._rotations: dict[Path, asyncio.Task[None]] = {}

    def follow(self, path: Path) -> None:
        """Keep a log from now on. Without inotify that takes somebody who calls `look` now and then."""
        with contextlib.suppress(OSError):
            if self._watch is None:
                self._watch = FilesWatch(_LOOK_SECONDS, self.look)
            self._watch.add(path)
        self.look(path)  # what was written before anything told of it

    def look(self, path: Path) -> None:
        """Note how far a log has grown, and see to it that it does not grow beyond its bounds."""
        stamp(path)
        if path not in self._rotations and logs.outgrown(path):
            self._rotations[path] = asyncio.create_task(self._rotate(path), name=f"rotate {path}")

    async def _rotate(self, path: Path) -> None:
        try:
            if await logs.rotate(path):
                log.debug("rotated the log %s", path)
        except OSError as error:
            log.error("the log %s cannot be rotated: %s", path, error)
        finally:
            del self._rotations[path]

    async def finish(self, path: Path) -> None:
        """The log is complete."""
        self.leave(path)
        self.look(path)
        if rotation := self._rotations.get(path):
            await asyncio.wait([rotation])

    def leave(self, path: Path) -> None:
        """Look at a log no longer."""
        stamp(path)
        if self._watch is not None:
            self._watch.remove(path)

    async def close(self) -> None:
        """Stop looking, once what has been begun is done."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if self._rotations:
            await asyncio.wait(self._rotations.values())
