"""The work queue of level-triggered controllers, and the loop that works it off.

Watch events add keys, not events: a key that is waiting already is not added twice, so a burst of changes of one object
becomes one reconcile of its newest state. A key is never handed to two workers at once; one that is added while it is
being worked on comes back when that is done. Source of the semantics: client-go `util/workqueue`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from kube.client.backoff import backoff
from kube.client.errors import ConnectionFailed
from kube.machinery.errors import StatusError

log = logging.getLogger(__name__)

LONGEST_WAIT = 60.0
"""Seconds: timers stand still while the machine sleeps, and do not follow its clock when that is set."""

K = TypeVar("K", bound=Hashable)


class QueueShutDown(Exception):
    """The queue was shut down and nothing is left in it."""


class WorkQueue(Generic[K]):
    """De-duplicating queue for one event loop. Order is first in, first out."""

    def __init__(self, first_delay: float = 0.05, max_delay: float = 30.0) -> None:
        """Seconds that `add_rate_limited` waits after the first failure of a key, and at most."""
        self._first_delay = first_delay
        self._max_delay = max_delay
        self._ready: dict[K, None] = {}
        self._active: set[K] = set()
        self._again: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._wake = asyncio.Event()
        self._shut = False

    def __len__(self) -> int:
        """How many keys could be handed out now."""
        return len(self._ready)

    def add(self, key: K) -> None:
        """Have `key` worked on as soon as a worker is free."""
        if self._shut:
            return
        if key in self._active:
            self._again.add(key)
        else:
            self._ready[key] = None
            self._wake.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Add `key` later. Of several such wishes for a key the earliest holds."""
        if self._shut:
            return
        if seconds <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        planned = self._timers.get(key)
        if planned is not None:
            if planned.when() <= due:
                return
            planned.cancel()
        self._timers[key] = loop.call_at(due, self._on_time, key)

    def add_rate_limited(self, key: K) -> None:
        """Add `key` after a wait that doubles with each call until `forget`."""
        failures = self._failures.get(key, 0) + 1
        self._failures[key] = failures
        self.add_after(key, backoff(failures, self._first_delay, self._max_delay))

    def forget(self, key: K) -> None:
        """The key succeeded: its next failure waits briefly again."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """The next key, which is the caller's alone until `done`. Raises QueueShutDown."""
        while not self._ready:
            if self._shut:
                raise QueueShutDown
            self._wake.clear()
            await self._wake.wait()
        key = next(iter(self._ready))
        del self._ready[key]
        self._active.add(key)
        return key

    def done(self, key: K) -> None:
        """The caller of `get` has finished with `key`."""
        self._active.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def shutdown(self) -> None:
        """Take nothing more and drop what was planned for later; `get` still hands out what waits."""
        self._shut = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._wake.set()

    def _on_time(self, key: K) -> None:
        del self._timers[key]
        self.add(key)


class Controller(Generic[K]):
    """Calls `reconcile` for the keys of a queue until the queue is shut down.

    `reconcile` returns None, or the seconds after which it wants to see the key again, which it does after
    `LONGEST_WAIT` at the latest. When it raises, the failure is
    logged and the key comes back with growing delays.
    """

    def __init__(
        self, name: str, queue: WorkQueue[K], reconcile: Callable[[K], Awaitable[float | None]], workers: int = 1
    ) -> None:
        self.name = name
        self.queue = queue
        self._reconcile = reconcile
        self._workers = workers

    async def run(self) -> None:
        """Return when the queue was shut down and is empty; cancelling it cancels the reconciles in progress."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._work(), name=f"{self.name}-{number}")

    async def _work(self) -> None:
        while True:
            try:
                key = await self.queue.get()
            except QueueShutDown:
                return
            try:
                await self._process(key)
            finally:
                self.queue.done(key)

    async def _process(self, key: K) -> None:
        try:
            again = await self._reconcile(key)
        except Exception as exc:
            self._report(key, exc)
            self.queue.add_rate_limited(key)
            return
        self.queue.forget(key)
        if again is not None:
            self.queue.add_after(key, min(again, LONGEST_WAIT))

    def _report(self, key: K, exc: Exception) -> None:
        if isinstance(exc, StatusError) and exc.reason == "Conflict":
            # Somebody else wrote first; the next pass sees the newer object.
            log.debug("%s: %s: %s", self.name, key, exc)
        elif isinstance(exc, (StatusError, ConnectionFailed)):
            log.warning("%s: %s: %s", self.name, key, exc)
        else:
            log.error("%s: %s failed", self.name, key, exc_info=exc)
