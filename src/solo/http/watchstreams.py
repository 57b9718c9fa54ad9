"""The way to one watcher: a chunked answer with a line for each event or, after an upgrade, a WebSocket with a message
for each. Every write has a deadline: a watcher that does not read must not keep memory for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable

from aiohttp import web

from solo.http import responses
from solo.http.negotiation import JSON
from solo.http.websockets import accept, is_websocket, until_closed

logger = logging.getLogger(__name__)

WRITE_SECONDS = 30.0
"""A watcher that takes nothing for so long is dropped."""


class WatchStream:
    """Lines of a chunked answer. A client that goes away ends the whole handler (see `connections.Runner`)."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._response = web.StreamResponse(headers={"Content-Type": JSON, "Cache-Control": "no-cache, private"})

    async def begin(self) -> None:
        self._response.enable_chunked_encoding()
        await self._response.prepare(self._request)

    def when_left(self, call: Callable[[], None]) -> None:
        """Have `call` called when the watcher says that it leaves."""

    async def write_all(self, lines: Iterable[bytes]) -> None:
        """Write lines together, but not more at a time than a slow watcher may keep in the buffers."""
        for piece in responses.pieces(lines):
            await self.write(piece)

    async def write(self, data: bytes) -> None:
        """Write one line or several. Raises ConnectionError when the watcher is gone, or has been dropped."""
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._send(data)
        except TimeoutError:
            logger.info("dropped a watcher of %s that does not read", self._request.path)
            if self._request.transport is not None:
                self._request.transport.abort()
            raise ConnectionResetError("the watcher does not read") from None

    async def _send(self, data: bytes) -> None:
        await self._response.write(data)

    async def end(self) -> web.StreamResponse:
        await self._response.write_eof()
        return self._response


class SocketStream(WatchStream):
    """Text messages of a WebSocket."""

    def __init__(self, request: web.Request) -> None:
        super().__init__(request)
        self._left: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        self._socket = await accept(self._request, ())

    def when_left(self, call: Callable[[], None]) -> None:
        self._left = asyncio.ensure_future(until_closed(self._socket))
        self._left.add_done_callback(lambda _: call())

    async def _send(self, data: bytes) -> None:
        for line in data.splitlines():
            await self._socket.send_str(line.decode())

    async def end(self) -> web.StreamResponse:
        if self._left is not None:
            self._left.cancel()
            await asyncio.gather(self._left, return_exceptions=True)
        with contextlib.suppress(ConnectionError, RuntimeError):
            await self._socket.close()
        return self._socket


def stream_for(request: web.Request) -> WatchStream:
    """What the client asks for, not begun."""
    return SocketStream(request) if is_websocket(request) else WatchStream(request)
