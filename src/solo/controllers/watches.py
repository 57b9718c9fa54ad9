"""One watch per resource, shared by all controllers, for everything that the API serves.

Custom resources join and leave as their definitions do. Events are left out: they have no owners, nobody reconciles
them, and they are most of the traffic.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from kube.client.aio import AsyncClient
from kube.client.errors import ConnectionFailed
from kube.client.informer import Informer
from kube.machinery.errors import StatusError
from kube.machinery.resources import CRDS, Resource
from solo.controllers.discovery import Served, discover

logger = logging.getLogger(__name__)

Obj = dict[str, Any]
Handler = Callable[[str, Obj, Obj | None], None]
Observer = Callable[[Resource, str, Obj, Obj | None], None]

REFRESH_SECONDS = 60.0
RETRY_SECONDS = 0.5
LEFT_OUT = frozenset({"events", "events.events.k8s.io"})
# Of the metadata, what handlers of `notice` and observers do not look at.
_UNREAD = frozenset({"annotations", "labels", "managedFields"})


class Watches:
    """Informers for all resources. Register handlers first, then await `run`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._handlers: dict[str, list[Handler]] = {}
        self._read_whole: set[str] = set()
        self._observers: list[Observer] = []
        self._informers: dict[Resource, tuple[Informer, asyncio.Task[None]]] = {}
        self._changed = asyncio.Event()
        self._first = asyncio.Event()
        self.served: dict[str, Served] = {}

    def subscribe(self, resource: Resource, handler: Handler) -> None:
        """Call `handler(kind, obj, old)` for every change of one resource."""
        self._read_whole.add(resource.group_resource)
        self.notice(resource, handler)

    def notice(self, resource: Resource, handler: Handler) -> None:
        """The same for a handler that reads no more than who an object is, whose it is and whether it is to end."""
        self._handlers.setdefault(resource.group_resource, []).append(handler)

    def observe_all(self, observer: Observer) -> None:
        """Call `observer(resource, kind, obj, old)` for every change of anything; it reads no more than in `notice`."""
        self._observers.append(observer)

    def find_kind(self, api_version: str, kind: str) -> Resource | None:
        """The resource that serves a kind (in any version of its group), None when there is none."""
        group = api_version.rpartition("/")[0]
        for served in self.served.values():
            if served.resource.kind == kind and served.resource.group == group:
                return served.resource
        return None

    def refresh(self) -> None:
        """Look soon again at what is served."""
        self._changed.set()

    async def wait_synced(self, timeout: float) -> None:
        """Until every resource has been listed once, at most `timeout` seconds (a resource may not answer at all)."""
        try:
            async with asyncio.timeout(timeout):
                await self._first.wait()
                await asyncio.gather(*(informer.wait_synced(timeout) for informer, _ in self._informers.values()))
        except TimeoutError:
            logger.warning("not every resource could be listed within %g seconds", timeout)

    async def run(self) -> None:
        """Keep the informers in step with what is served, until cancelled."""
        try:
            while True:
                self._changed.clear()
                try:
                    await self._update()
                    self._first.set()
                    wait = REFRESH_SECONDS
                except (ConnectionFailed, StatusError) as exc:
                    logger.info("the API's resources could not be discovered: %s", exc)
                    wait = RETRY_SECONDS
                try:
                    async with asyncio.timeout(wait):
                        await self._changed.wait()
                except TimeoutError:
                    pass
        finally:
            tasks = [task for _, task in self._informers.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _update(self) -> None:
        self.served = {served.resource.group_resource: served for served in await discover(self._client)}
        wanted = {served.resource for name, served in self.served.items() if served.watchable and name not in LEFT_OUT}
        for resource in set(self._informers) - wanted:
            self._drop(resource)
        for resource in wanted:
            running = self._informers.get(resource)
            if running is not None and running[1].done():
                logger.error("the watch of %s ended: %r", resource.group_resource, running[1])
                self._drop(resource)
                running = None
            if running is None:
                self._start(resource)

    def _drop(self, resource: Resource) -> None:
        """End a watch; nobody would say any more when its objects go, so they are as good as gone."""
        informer, task = self._informers.pop(resource)
        task.cancel()
        for obj in informer.items():
            self._deliver(resource, "DELETED", obj, obj)

    def _start(self, resource: Resource) -> None:
        # What no controller reads need not be in memory twice.
        keep = None if resource.group_resource in self._read_whole else _identity_of
        informer = Informer(self._client, resource, keep=keep)
        informer.add_handler(lambda kind, obj, old: self._deliver(resource, kind, obj, old))
        task = asyncio.create_task(informer.run(), name=f"watch-{resource.group_resource}")
        self._informers[resource] = (informer, task)

    def _deliver(self, resource: Resource, kind: str, obj: Obj, old: Obj | None) -> None:
        if resource.group_resource == CRDS.group_resource:
            self._changed.set()
        for observer in self._observers:
            observer(resource, kind, obj, old)
        for handler in self._handlers.get(resource.group_resource, ()):
            handler(kind, obj, old)


def _identity_of(obj: Obj) -> Obj:
    return {"metadata": {key: value for key, value in obj["metadata"].items() if key not in _UNREAD}}
