"""Renewal of certificates while the server runs: what is due is made anew, what a command has renewed is taken up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from solo.auth.pki import Pki, PkiError

logger = logging.getLogger(__name__)

CHECK_SECONDS = 10.0


class Rotation:
    """Looks at the certificate files now and then, and hands on what has changed."""

    def __init__(self, ensure: Callable[[], Pki], current: Pki, take_up: Callable[[Pki, Pki], None]) -> None:
        """`ensure` makes what is due and reads the rest; `take_up` is given the old and the new key material."""
        self._ensure = ensure
        self._current = current
        self._take_up = take_up
        self._problem = ""

    async def run(self) -> None:
        """Until cancelled. Trouble (a full disk, say) is told of once; the old certificates serve until it is over."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                found = await asyncio.to_thread(self._ensure)
                if found != self._current:
                    self._take_up(self._current, found)
                    self._current = found
            except (PkiError, OSError) as exc:
                if str(exc) != self._problem:
                    logger.error("certificates cannot be renewed: %s", exc)
                self._problem = str(exc)
            else:
                self._problem = ""
