"""The way to one watcher: an answer with a line for each event or, after an upgrade, a WebSocket with a message for
each. Every write has a deadline: a watcher that does not read must not keep memory for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence

import msgspec
from aiohttp import web

from solo.http import responses
from solo.http.negotiation import JSON, PROTOBUF
from solo.http.websockets import accept, is_websocket, until_closed

logger = logging.getLogger(__name__)

WRITE_SECONDS = 30.0
"""A watcher that takes nothing for so long is dropped."""


class WatchStream:
    """Lines of an answer. A client that goes away ends the whole handler (see `connections.Runner`)."""

    content_type = JSON

    def __init__(self, request: web.BaseRequest, warnings: Sequence[str] = ()) -> None:
        self._request = request
        headers = {"Content-Type": self.content_type, "Cache-Control": "no-cache, private"}
        self._response = web.StreamResponse(headers=headers)
        responses.add_warnings(self._response, warnings)

    async def begin(self) -> None:
        await self._response.prepare(self._request)

    def when_left(self, call: Callable[[], None]) -> None:
        """Have `call` called when the watcher says that it leaves."""

    async def write_all(self, lines: Iterable[bytes]) -> None:
        """Write lines together, but not more at a time than a slow watcher may keep in the buffers."""
        for piece in responses.pieces(lines):
            await self.write(piece)

    async def write(self, data: bytes) -> None:
        """Write one line or several. Raises ConnectionError when the watcher is gone."""
        # A bare timer, as this is done for each watcher of an event: `asyncio.timeout` took a tenth of the time of all.
        deadline = asyncio.get_running_loop().call_later(WRITE_SECONDS, self._drop)
        try:
            await self._send(data)
        finally:
            deadline.cancel()

    def _drop(self) -> None:
        """End the connection, and with that the handler that waits to write."""
        logger.info("dropped a watcher of %s that does not read", self._request.path)
        if self._request.transport is not None:
            self._request.transport.abort()

    async def _send(self, data: bytes) -> None:
        await self._response.write(data)

    async def end(self) -> web.StreamResponse:
        await self._response.write_eof()
        return self._response


class ProtobufStream(WatchStream):
    """A frame of protobuf for each line."""

    content_type = f"{PROTOBUF};stream=watch"

    async def _send(self, data: bytes) -> None:
        from kube.machinery.protobuf import encode_watch_event

        await super()._send(b"".join(encode_watch_event(msgspec.json.decode(line)) for line in data.splitlines()))


class SocketStream(WatchStream):
    """Text messages of a WebSocket."""

    def __init__(self, request: web.BaseRequest) -> None:
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


def stream_for(request: web.BaseRequest, media_type: str, warnings: Sequence[str]) -> WatchStream:
    """What the client asks for, not begun."""
    if is_websocket(request):
        return SocketStream(request)
    return ProtobufStream(request, warnings) if media_type == PROTOBUF else WatchStream(request, warnings)
