"""What is no HTTP at all: answered with a `Status` like every other error, and worth no more than a line in the log."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiohttp import web

from kube.machinery import errors
from solo.http import responses

logger = logging.getLogger(__name__)

_LINE_LIMIT = 64 * 1024
IDLE_SECONDS = 60.0
"""A connection without a whole request for so long is closed, be it idle or slow with its headers."""


class _Connection(web.RequestHandler):
    """One connection. aiohttp answers what it cannot parse itself, in plain text, with a traceback in the log."""

    __slots__ = ()

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


class Runner(web.AppRunner):
    """Serves an application on connections of the kind above."""

    def __init__(self, app: web.Application, shutdown_timeout: float) -> None:
        """`shutdown_timeout` is how many seconds requests have to end when the server stops."""
        # A client that goes away ends its watch; without handler_cancellation the handlers pile up.
        super().__init__(app, shutdown_timeout=shutdown_timeout, handler_cancellation=True)

    @property
    def server(self) -> Any:
        """What makes a handler for each connection."""
        server = super().server
        if server is None:
            return None
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {
            "max_line_size": _LINE_LIMIT,
            "max_field_size": _LINE_LIMIT,
            "keepalive_timeout": IDLE_SECONDS,
            "access_log": None,
        }
        return lambda: _Connection(server, loop=loop, **options)
