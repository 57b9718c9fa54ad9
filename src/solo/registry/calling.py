"""Calls of webhooks, as those who need one see them; `solo.http.outgoing` makes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

Obj = dict[str, Any]


class CallError(Exception):
    """A webhook could not be called, or did not answer in time."""


Caller = Callable[[Obj, Obj, float], Awaitable[Any]]
"""Posts a review to a `clientConfig` within a number of seconds and returns the decoded answer. Raises CallError."""


async def no_calls(config: Obj, review: Obj, seconds: float) -> Any:
    """The caller of a server that can call nobody."""
    raise CallError("webhooks cannot be called")
