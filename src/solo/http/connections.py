"""What is no HTTP at all: answered with a `Status` like every other error, and worth no more than a line in the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import HttpVersion11, StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage

from kube.machinery import errors
from solo.auth.user import User
from solo.http import bodies, responses

logger = logging.getLogger(__name__)

_LINE_LIMIT = 64 * 1024
IDLE_SECONDS = 60.0
"""A connection without a whole request for so long is closed, be it idle or slow with its headers."""


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    if message.version < HttpVersion11:
        # An answer of a length that is not known beforehand cannot be in chunks: it ends with the connection.
        message = message._replace(should_close=True)
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=bodies.MAX_BODY)


class Connection(web.RequestHandler):
    """One connection. aiohttp answers what it cannot parse itself, in plain text, with a traceback in the log."""

    __slots__ = ("user",)

    def __init__(self, server: web.Server, user: User | None, **options: Any) -> None:
        """`user` is at the other end, where the requests need not say so: on a connection inside this process."""
        super().__init__(server, **options)
        self.user = user

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if isinstance(exc, ConnectionError) and (self.transport is None or self.transport.is_closing()):
            raise exc  # The client is gone, in the middle of an answer: aiohttp ends the connection without a word.
        if status >= 500 or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        first = (message or str(exc)).strip().partition("\n")[0].rstrip(":")
        logger.info("a request from %s is no HTTP: %s", request.remote, first)
        response = responses.status_error(errors.bad_request(f"the request is malformed: {first}"))
        response.force_close()
        return response


class Runner(web.ServerRunner):
    """Hands every request to one handler, on connections of the kind above: there are no routes to be looked up."""

    def __init__(self, handle: Handler, shutdown_timeout: float) -> None:
        """`shutdown_timeout` is how many seconds requests have to end when the server stops."""
        # A client that goes away ends its watch; without handler_cancellation the handlers pile up.
        server = web.Server(handle, request_factory=_request, handler_cancellation=True)
        super().__init__(server, shutdown_timeout=shutdown_timeout)

    @property
    def server(self) -> Any:
        """What makes a handler for each connection from elsewhere."""
        return None if super().server is None else self.accept

    def accept(self, user: User | None = None) -> Connection:
        """The handler of a new connection, which comes from `user` if that is known."""
        server = super().server
        assert server is not None
        return Connection(
            server,
            user,
            loop=asyncio.get_running_loop(),
            max_line_size=_LINE_LIMIT,
            max_field_size=_LINE_LIMIT,
            keepalive_timeout=IDLE_SECONDS,
            access_log=None,
        )
