"""A subscription to the changes of one resource.

Its queue is bounded in number and bytes: a consumer that does not keep up gets what was queued and then the end of the
stream, and can resume from the last revision that it saw, as a client of a Kubernetes watch does anyway.
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
        namespace: str | None,
        backlog: Iterable[Event],
        revision: Callable[[], int],
        unsubscribe: Callable[[Watch], None],
    ) -> None:
        self.resource = resource
        self.namespace = namespace
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
        """Queue an event of this resource (the store calls it)."""
        if self.namespace is not None and event.stored.key.namespace != self.namespace:
            return
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
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait_for(waiter, timeout)
        except TimeoutError:
            pass
        finally:
            self._waiter = None

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
