"""Subscriptions to the changes of a resource.

The queue of one is bounded in number and bytes: a consumer that does not keep up gets what was queued and then the end
of the stream, and can resume from the last revision that it saw, as a client of a Kubernetes watch does anyway.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from solo.store.model import Event

QUEUE_LIMIT = 8192
QUEUE_BYTES = 16 * 1024 * 1024


class Watch:
    """An async iterator of events. Close it (or use it as a context manager) when done."""

    def __init__(
        self,
        resource: str,
        backlog: Iterable[Event],
        revision: Callable[[], int],
        unsubscribe: Callable[[Watch], None],
    ) -> None:
        self.resource = resource
        self.lagged = False
        self._queue: deque[Event] = deque(backlog)
        self._limit = QUEUE_LIMIT + len(self._queue)
        self._bytes = 0  # of what came after the backlog, which the history bounds
        self._revision = revision
        self._unsubscribe = unsubscribe
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self._seen = 0

    def push(self, event: Event) -> None:
        """Queue an event (the store calls it)."""
        if len(self._queue) >= self._limit or self._bytes >= QUEUE_BYTES:
            self.lagged = True
            self.close()
            return
        self._queue.append(event)
        self._bytes += len(event.stored.raw)
        self._wake()

    def close(self) -> None:
        """End the stream; what is queued can still be read."""
        if not self._closed:
            self._closed = True
            self._unsubscribe(self)
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    @property
    def bookmark_rv(self) -> int:
        """The revision up to which everything has been handed out."""
        return self._queue[0].rv - 1 if self._queue else max(self._seen, 0 if self._closed else self._revision())

    async def batch(self, timeout: float | None = None) -> list[Event]:
        """Everything that is queued, at least one event; [] when `timeout` seconds pass without any.

        Raises:
            StopAsyncIteration: the watch is closed and read to its end.
        """
        if not self._queue and not self._closed:
            await self._wait(timeout)
        if not self._queue and self._closed:
            raise StopAsyncIteration
        events = list(self._queue)
        self._queue.clear()
        self._bytes = 0
        if events:
            self._seen = events[-1].rv
        return events

    async def _wait(self, timeout: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = None if timeout is None else loop.call_later(timeout, self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Event:
        while not self._queue:
            if self._closed:
                raise StopAsyncIteration
            await self._wait(None)
        event = self._queue.popleft()
        if not self._queue:
            self._bytes = 0
        self._seen = event.rv
        return event

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


Wants = Callable[[Event], bool]
"""What a subscriber wants of a resource's events. Equal ones are asked once for all their subscribers."""


class Watches:
    """The subscriptions of a store, kept by resource, namespace and what they want of that: an event meets only those
    that it may concern, and who does not want it is not woken."""

    def __init__(self, revision: Callable[[], int]) -> None:
        self._revision = revision
        self._open: dict[tuple[str, str | None], dict[Wants | None, set[Watch]]] = {}

    def open(
        self,
        resource: str,
        namespace: str | None,
        backlog: Iterable[Event],
        wants: Wants | None,
    ) -> Watch:
        """A new subscription, to a resource of one namespace or of all; it begins with `backlog`."""
        place = (resource, namespace)
        watch = Watch(resource, backlog, self._revision, lambda watch: self._forget(place, wants, watch))
        self._open.setdefault(place, {}).setdefault(wants, set()).add(watch)
        return watch

    def _forget(self, place: tuple[str, str | None], wants: Wants | None, watch: Watch) -> None:
        here = self._open[place]
        here[wants].discard(watch)
        if not here[wants]:
            del here[wants]
        if not here:
            del self._open[place]

    def publish(self, event: Event) -> None:
        """Queue an event for those who want it."""
        key = event.stored.key
        for namespace in (None, key.namespace):
            for wants, watches in tuple(self._open.get((key.resource, namespace), {}).items()):
                if wants is None or _wanted(wants, event):
                    for watch in tuple(watches):
                        watch.push(event)

    def close(self) -> None:
        """End all of them."""
        for watch in [watch for here in self._open.values() for watches in here.values() for watch in watches]:
            watch.close()


def _wanted(wants: Wants, event: Event) -> bool:
    """Who cannot tell is given the event: the reader meets the same error, and fails alone."""
    try:
        return wants(event)
    except Exception:
        return True
