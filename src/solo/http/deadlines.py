"""How long a request may take: what `?timeout=` of its URL says (apiserver `endpoints/filters/request_deadline.go`).

Watches and streams have a time of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from aiohttp import web

from kube.machinery import errors
from kube.machinery.durations import parse_duration
from kube.machinery.errors import StatusError
from solo.http.paths import STREAMING, RequestInfo, asks_to_watch

_Answer = TypeVar("_Answer")

LONGEST = 60.0
"""Seconds that a request can ask for (kube-apiserver's `--request-timeout`); more counts as this."""


def wanted_seconds(request: web.BaseRequest, info: RequestInfo | None) -> float | None:
    """How long the client is willing to wait, None for as long as it takes. Raises 400 for what is no time."""
    return None if _goes_on(request, info) else _asked(request.query.get("timeout"))


async def within(seconds: float, answer: Awaitable[_Answer]) -> _Answer:
    """The answer. Raises 504 when it is not there in time; as with a connection that breaks, a write may have been
    stored nevertheless."""
    try:
        async with asyncio.timeout(seconds) as limit:
            return await answer
    except TimeoutError:
        if not limit.expired():
            raise
        text = "Timeout: request did not complete within requested timeout - context deadline exceeded"
        raise StatusError(504, "Timeout", text, {}) from None


def _goes_on(request: web.BaseRequest, info: RequestInfo | None) -> bool:
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
