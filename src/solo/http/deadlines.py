"""How long a request may take: what `?timeout=` of its URL says (apiserver `endpoints/filters/request_deadline.go`).

Watches and streams have a time of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from kube.machinery import errors
from kube.machinery.durations import parse_duration
from kube.machinery.errors import StatusError
from solo.http.paths import STREAMING, RequestInfo, asks_to_watch

LONGEST = 60.0
"""Seconds that a request can ask for (kube-apiserver's `--request-timeout`); more counts as this."""


@asynccontextmanager
async def deadline(request: web.Request, info: RequestInfo | None) -> AsyncIterator[None]:
    """Raises 400 when the URL's timeout is none, 504 when the request has not been answered by then.

    As with a connection that breaks, a write may have been stored nevertheless.
    """
    seconds = None if _goes_on(request, info) else _asked(request.query.get("timeout"))
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        text = "Timeout: request did not complete within requested timeout - context deadline exceeded"
        raise StatusError(504, "Timeout", text, {}) from None


def _goes_on(request: web.Request, info: RequestInfo | None) -> bool:
    if info is None:
        return False
    if info.subresource in STREAMING or info.subresource == "log" or info.verb == "watch":
        return True
    return info.verb == "list" and asks_to_watch(request.query)


def _asked(text: str | None) -> float | None:
    """The seconds that a client wants to wait, None for no wish."""
    if not text:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError as problem:
        raise errors.bad_request(f"invalid timeout specified in the request URL - {problem}") from None
    return None if seconds == 0 else min(seconds, LONGEST)
