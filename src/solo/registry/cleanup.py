"""Work that follows deletions and time: the objects of a deleted definition, and events that nobody needs any more."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from kube.machinery.durations import parse_rfc3339
from kube.machinery.errors import StatusError
from kube.machinery.resources import CRDS, EVENTS
from solo.registry.bootstrap import SYSTEM
from solo.registry.bulk import TOGETHER, delete_all
from solo.registry.context import DeleteOptions, RequestContext
from solo.registry.crds import CLEANUP_FINALIZER, condition_is_true, set_condition
from solo.registry.objects import copy, dig
from solo.registry.registry import Registry
from solo.store import Event, Stored

logger = logging.getLogger(__name__)

EVENT_SECONDS = 3600.0
EVENT_SWEEP_SECONDS = 300.0
_RETRY_SECONDS = 5.0


class CrdCleaner:
    """Empties a definition that is being deleted and then lets it go (its finalizer is ours).

    It wakes when a definition changes and when an object of a dying definition goes; level-triggered, so a restart in
    the middle loses nothing.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._wake = asyncio.Event()
        self._watched: set[str] = set()
        registry.store.add_listener(CRDS.group_resource, self._changed)

    def _changed(self, _: Event) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled."""
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            definitions = self._registry.store.list(CRDS.group_resource)[0]
            for stored in definitions:
                if _ends(stored):
                    await self._finish(stored)
                elif not (_is_deleted(stored) or condition_is_true(stored.obj, "NamesAccepted")):
                    await self._judge_names(stored)
            for name in self._watched - {stored.key.name for stored in definitions if _ends(stored)}:
                self._watched.remove(name)
                self._registry.store.remove_listener(name, self._instance_changed)

    async def _judge_names(self, crd: Stored) -> None:
        """Look again whether the names are free now: every write of a definition decides that anew."""
        try:
            kind = self._registry.catalog.storage_kind(CRDS.group_resource)
            assert kind is not None
            await self._registry.update(kind, "", crd.key.name, copy, RequestContext(SYSTEM))
        except StatusError as problem:
            if problem.reason not in ("NotFound", "Conflict"):
                logger.warning("cannot decide about the names of %s: %s", crd.key.name, problem)

    async def _finish(self, crd: Stored) -> None:
        name = crd.key.name
        if name not in self._watched:
            self._watched.add(name)
            self._registry.store.add_listener(name, self._instance_changed)
        try:
            if await self._empty(name):
                await self._release(crd)
            else:
                await self._tell(crd, "InstanceDeletionInProgress", "CustomResource deletion is in progress")
        except StatusError as problem:
            if problem.reason not in ("NotFound", "Conflict"):
                logger.warning("cannot finish the deletion of %s yet: %s", name, problem)
                await self._tell(crd, "InstanceDeletionFailed", f"could not delete instances: {problem}")
            asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._wake.set)

    async def _tell(self, crd: Stored, reason: str, message: str) -> None:
        """Say in the definition's status how its deletion goes."""
        kind = self._registry.catalog.storage_kind(CRDS.group_resource)
        assert kind is not None
        conditions = dig(crd.obj, "status", "conditions") or []
        if any(item.get("reason") == reason and item.get("message") == message for item in conditions):
            return

        def change(obj: dict[str, Any]) -> dict[str, Any]:
            changed: dict[str, Any] = copy(obj)
            set_condition(changed["status"], "Terminating", "True", reason, message)
            return changed

        try:
            context = RequestContext(SYSTEM)
            await self._registry.update(kind, "", crd.key.name, change, context, subresource="status")
        except StatusError as problem:
            logger.debug("the status of %s stays as it is: %s", crd.key.name, problem)

    def _instance_changed(self, event: Event) -> None:
        if event.type != "MODIFIED":
            self._wake.set()

    async def _empty(self, group_resource: str) -> bool:
        """Delete every object that is not being deleted already; whether none is left."""
        store = self._registry.store
        kind = self._registry.catalog.storage_kind(group_resource)
        if kind is not None:
            left = [each for each in store.list(group_resource)[0] if not _is_deleted(each)]
            await delete_all(self._registry, kind, left, DeleteOptions(), RequestContext(SYSTEM))
        # What was let in just before the definition began to end may not be visible yet.
        coming = any(event.type == "ADDED" for event in store.on_the_way(group_resource))
        return store.count(group_resource) == 0 and not coming

    async def _release(self, crd: Stored) -> None:
        kind = self._registry.catalog.storage_kind(CRDS.group_resource)
        assert kind is not None

        def drop(obj: dict[str, object]) -> dict[str, object]:
            changed: dict[str, object] = copy(obj)
            metadata = changed["metadata"]
            assert isinstance(metadata, dict)
            metadata["finalizers"] = [item for item in metadata.get("finalizers") or [] if item != CLEANUP_FINALIZER]
            return changed

        await self._registry.update(kind, "", crd.key.name, drop, RequestContext(SYSTEM))


def _is_deleted(stored: Stored) -> bool:
    return bool(dig(stored.obj, "metadata", "deletionTimestamp"))


def _ends(crd: Stored) -> bool:
    """Whether a definition is being deleted and waits for its objects to go."""
    return _is_deleted(crd) and CLEANUP_FINALIZER in (dig(crd.obj, "metadata", "finalizers") or [])


async def expire_events(registry: Registry) -> None:
    """Delete events an hour after they last happened (kube-apiserver's --event-ttl), until cancelled."""
    while True:
        await delete_events(registry, time.time() - EVENT_SECONDS)
        await asyncio.sleep(EVENT_SWEEP_SECONDS)


async def delete_events(registry: Registry, horizon: float) -> None:
    """Delete the events that last happened before `horizon` (seconds since the epoch), many with one commit."""
    kind = registry.catalog.storage_kind(EVENTS.group_resource)
    assert kind is not None
    old = [stored for stored in registry.store.list(EVENTS.group_resource)[0] if _last_seen(stored) < horizon]
    for start in range(0, len(old), TOGETHER):
        try:
            await delete_all(registry, kind, old[start : start + TOGETHER], DeleteOptions(), RequestContext(SYSTEM))
        except StatusError as problem:
            logger.debug("some events stay for now: %s", problem)


def _last_seen(stored: Stored) -> float:
    obj = stored.look()
    times = [dig(obj, "series", "lastObservedTime"), obj.get("lastTimestamp"), obj.get("eventTime")]
    times.append(dig(obj, "metadata", "creationTimestamp"))
    for text in times:
        if isinstance(text, str):
            try:
                return parse_rfc3339(text).timestamp()
            except ValueError:
                continue
    return time.time()
