"""A local, always current copy of the objects of one kind, with handlers that hear of every change.

List page by page, then watch from the list's resource version. The version moves forward with every event and
bookmark, so a watch that ends or breaks, also because the server was killed and started again, is resumed where it was;
nothing is missed and nothing is sent twice. Only when the server no longer has that version (410 Expired) is everything
listed again, and handlers hear the difference, deletions included. Source: client-go `tools/cache` (Reflector).

A kind that the server does not serve (404: its definition is not installed yet, or not any more) has no objects and is
not synced; the informer keeps asking, and `retry_now` makes it ask at once.

Objects are kept without their managedFields, which are often most of an object and of no use to a controller. An update
without them leaves the server's as they are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing

from kube.client.aio import AsyncClient
from kube.client.backoff import backoff
from kube.client.errors import ConnectionFailed
from kube.client.verbs import Obj
from kube.machinery.errors import StatusError
from kube.machinery.resources import Resource

log = logging.getLogger(__name__)

Handler = Callable[[str, Obj, Obj | None], None]
"""Called with ADDED, MODIFIED or DELETED, the object (for DELETED its last state) and the state before."""

_PAGE = 500
_FIRST_RETRY = 0.1
_LAST_RETRY = 5.0
_SHORT_WATCH = 1.0
"""Seconds. A watch that ends sooner counts as a failure, or a broken server would be polled hotly."""

_BUSY = (429, 503)
"""Codes with which a server asks for patience; the position in the history stays good."""


class Informer:
    """The cache of one resource. Objects in it are shared: treat them as immutable."""

    def __init__(
        self,
        client: AsyncClient,
        resource: Resource,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        keep: Callable[[Obj], Obj] | None = None,
    ) -> None:
        """`keep` gives what is to be kept of an object, its metadata at least; handlers can count on no more."""
        self.resource = resource
        self._keep = keep
        self._client = client
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._objects: dict[tuple[str, str], Obj] = {}
        self._handlers: list[Handler] = []
        self._version: str | None = None
        self._failures = 0
        self._synced = asyncio.Event()
        self._retry = asyncio.Event()

    @property
    def synced(self) -> bool:
        """Whether the cache has been complete once, and the server still serves the kind."""
        return self._synced.is_set()

    async def wait_synced(self, timeout: float) -> None:
        """Wait for the first complete list. Raises TimeoutError after `timeout` seconds."""
        try:
            await asyncio.wait_for(self._synced.wait(), timeout)
        except TimeoutError:
            raise TimeoutError(f"{self.resource.group_resource} could not be listed in {timeout:g} s") from None

    def get(self, namespace: str | None, name: str) -> Obj | None:
        """One object; cluster-scoped ones have no namespace (None or "")."""
        return self._objects.get((namespace or "", name))

    def items(self) -> list[Obj]:
        """All objects, in no particular order."""
        return list(self._objects.values())

    def add_handler(self, handler: Handler) -> None:
        """Have `handler` called after each change; for objects that are in the cache already, now.

        It is called in the event loop and must not block. What it raises is logged.
        """
        self._handlers.append(handler)
        for obj in self.items():
            _call(handler, "ADDED", obj, None)

    def retry_now(self) -> None:
        """End the wait after a failure, because the caller knows of a reason to hope."""
        self._retry.set()

    async def run(self) -> None:
        """Keep the cache current until cancelled."""
        while True:
            self._retry.clear()
            try:
                if self._version is None:
                    await self._relist()
                await self._follow()
            except ConnectionFailed as exc:
                self._failed("%s", exc)
            except StatusError as exc:
                self._refused(exc)
            except Exception:
                log.exception("informer of %s: unexpected failure, listing again", self.resource.group_resource)
                self._failures += 1
                self._version = None
            if self._failures:
                await self._pause()

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._retry.wait(), backoff(self._failures, _FIRST_RETRY, _LAST_RETRY))
        except TimeoutError:
            pass

    def _refused(self, exc: StatusError) -> None:
        if exc.code not in _BUSY:
            self._version = None
        if exc.code == 404:
            self._synced.clear()
            self._replace({})
        self._failed("%s", exc)

    def _failed(self, text: str, exc: Exception) -> None:
        # Once per outage is enough for the log of somebody who did not ask for more.
        level = logging.INFO if self._failures == 0 else logging.DEBUG
        self._failures += 1
        log.log(level, "informer of %s: " + text, self.resource.group_resource, exc)

    async def _relist(self) -> None:
        try:
            items, version = await self._list(_PAGE)
        except StatusError as exc:
            if exc.code != 410:
                raise
            # The history was cut between two pages; one long answer cannot be cut.
            items, version = await self._list(None)
        self._replace({_key(obj): obj for obj in items})
        self._version = version
        self._synced.set()

    async def _list(self, limit: int | None) -> tuple[list[Obj], str]:
        items: list[Obj] = []
        token: str | None = None
        while True:
            page = await self._client.list(
                self.resource,
                self._namespace,
                self._label_selector,
                self._field_selector,
                limit=limit,
                continue_token=token,
            )
            items += page.get("items") or []
            token = page["metadata"].get("continue")
            if not token:
                return items, str(page["metadata"]["resourceVersion"])

    async def _follow(self) -> None:
        """One watch, to its end."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        watch = self._client.watch(
            self.resource,
            self._namespace,
            self._version,
            self._label_selector,
            self._field_selector,
            bookmarks="true",
        )
        async with aclosing(watch) as events:
            async for event in events:
                self._failures = 0
                self._take(event["type"], event["object"])
        self._failures = self._failures + 1 if loop.time() - started < _SHORT_WATCH else 0

    def _take(self, kind: str, obj: Obj) -> None:
        version = str(obj["metadata"]["resourceVersion"])
        if kind == "DELETED":
            self._remove(_key(obj), obj)
        elif kind in ("ADDED", "MODIFIED"):
            self._put(_key(obj), obj)
        self._version = version

    def _replace(self, objects: dict[tuple[str, str], Obj]) -> None:
        for key in [key for key in self._objects if key not in objects]:
            self._remove(key, self._objects[key])
        for key, obj in objects.items():
            self._put(key, obj)

    def _put(self, key: tuple[str, str], obj: Obj) -> None:
        old = self._objects.get(key)
        if old is not None:
            before, after = old["metadata"], obj["metadata"]
            if before["resourceVersion"] == after["resourceVersion"]:
                return
            if before.get("uid") != after.get("uid"):
                # Deleted and created again while nobody looked: two objects, two stories.
                self._remove(key, old)
                old = None
        obj["metadata"].pop("managedFields", None)
        if self._keep is not None:
            obj = self._keep(obj)
        self._objects[key] = obj
        self._tell("ADDED" if old is None else "MODIFIED", obj, old)

    def _remove(self, key: tuple[str, str], last: Obj) -> None:
        old = self._objects.pop(key, None)
        if old is not None:
            self._tell("DELETED", last, old)

    def _tell(self, kind: str, obj: Obj, old: Obj | None) -> None:
        for handler in self._handlers:
            _call(handler, kind, obj, old)


def _call(handler: Handler, kind: str, obj: Obj, old: Obj | None) -> None:
    try:
        handler(kind, obj, old)
    except Exception:
        log.exception("handler %r failed on %s of %s", handler, kind, _key(obj))


def _key(obj: Obj) -> tuple[str, str]:
    meta = obj["metadata"]
    return meta.get("namespace") or "", meta["name"]
