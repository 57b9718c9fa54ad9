"""The end of a namespace: everything in it is deleted, and when nothing is left the namespace goes.

The finalizer `kubernetes` in `spec.finalizers` holds the namespace until then. Discovery and lists are read fresh for
each pass, since a namespace that goes while something is left in it would leave that for ever.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any

from kube.client.aio import AsyncClient
from kube.client.queue import WorkQueue
from kube.machinery.durations import now_rfc3339
from kube.machinery.errors import StatusError
from kube.machinery.resources import NAMESPACES, PODS, Resource
from solo.controllers.discovery import Served, discover
from solo.controllers.watches import Obj, Watches

logger = logging.getLogger(__name__)

FINALIZER = "kubernetes"
LOOK_AGAIN_SECONDS = 2.0
PARALLEL_LISTS = 8


class NamespaceController:
    """Takes the names of namespaces."""

    def __init__(self, client: AsyncClient, watches: Watches, queue: WorkQueue[str]) -> None:
        self._client = client
        self._queue = queue
        self._terminating: set[str] = set()
        watches.subscribe(NAMESPACES, self._on_namespace)
        watches.observe_all(self._on_any)

    def _on_namespace(self, kind: str, obj: Obj, old: Obj | None) -> None:
        name = obj["metadata"]["name"]
        if kind == "DELETED":
            self._terminating.discard(name)
        elif obj["metadata"].get("deletionTimestamp"):
            self._terminating.add(name)
            self._queue.add(name)

    def _on_any(self, resource: Resource, kind: str, obj: Obj, old: Obj | None) -> None:
        """Something in a namespace that is ending has gone: it may have been the last."""
        namespace = obj["metadata"].get("namespace")
        if kind == "DELETED" and namespace in self._terminating:
            self._queue.add(namespace)

    async def reconcile(self, name: str) -> float | None:
        """Delete what is left in a namespace that is ending; finalize it when that is nothing."""
        namespace = await self._read(name)
        if namespace is None or not namespace["metadata"].get("deletionTimestamp"):
            return None
        finalizers = (namespace.get("spec") or {}).get("finalizers") or []
        if FINALIZER not in finalizers:
            return None
        if not (namespace.get("status") or {}).get("conditions"):
            # Writes are seen in their order: after this one, no object that was let in before the end began is unseen.
            namespace = await self._report(namespace, {})
        remaining = await self._empty(name)
        if remaining or len(finalizers) > 1 or namespace["metadata"].get("finalizers"):
            namespace = await self._report(namespace, remaining)
        if remaining:
            return LOOK_AGAIN_SECONDS
        await self._finalize(namespace, [each for each in finalizers if each != FINALIZER])
        return None

    async def _read(self, name: str) -> Obj | None:
        try:
            return await self._client.get(NAMESPACES, name)
        except StatusError as exc:
            if exc.code == 404:
                return None
            raise

    async def _empty(self, namespace: str) -> dict[str, list[Obj]]:
        """Ask for the deletion of everything; returns what is still there, by resource."""
        gate = asyncio.Semaphore(PARALLEL_LISTS)

        async def one(served: Served) -> list[Obj]:
            async with gate:
                return await self._empty_resource(served, namespace)

        kinds = [
            served
            for served in await discover(self._client)
            if served.resource.namespaced and {"list", "delete"} <= served.verbs
        ]
        # Pods first: whatever they use has to be there until they have ended (KEP-5080).
        for served in kinds:
            if served.resource.group_resource == PODS.group_resource:
                pods = await self._empty_resource(served, namespace)
                if pods:
                    return {PODS.group_resource: pods}
        found = await asyncio.gather(*(one(served) for served in kinds))
        return {served.resource.group_resource: items for served, items in zip(kinds, found, strict=True) if items}

    async def _empty_resource(self, served: Served, namespace: str) -> list[Obj]:
        """Ask for the deletion of all objects of one resource; returns those that are still there then."""
        resource = served.resource
        try:
            items = await self._list(resource, namespace)
            if all(item["metadata"].get("deletionTimestamp") for item in items):
                return items
            if "deletecollection" in served.verbs:
                await self._client.delete_collection(resource, namespace, propagation="Background")
            else:
                for item in items:
                    await self._delete(resource, item)
            return await self._list(resource, namespace)
        except StatusError as exc:
            if exc.code == 404:
                return []  # its definition went meanwhile, and all of its objects before it
            raise

    async def _list(self, resource: Resource, namespace: str) -> list[Obj]:
        items: list[Obj] = (await self._client.list(resource, namespace))["items"]
        return items

    async def _delete(self, resource: Resource, item: Obj) -> None:
        meta = item["metadata"]
        try:
            await self._client.delete(
                resource, meta["name"], meta["namespace"], propagation="Background", uid=meta.get("uid")
            )
        except StatusError as exc:
            if exc.code not in (404, 409):
                raise

    async def _report(self, namespace: Obj, remaining: Mapping[str, list[Obj]]) -> Obj:
        """Say in the namespace's conditions what it waits for; returns the namespace as it is then."""
        counts = [f"{resource} has {len(items)} resource instances" for resource, items in sorted(remaining.items())]
        holders: dict[str, int] = {}
        for items in remaining.values():
            for item in items:
                for finalizer in item["metadata"].get("finalizers") or ():
                    holders[finalizer] = holders.get(finalizer, 0) + 1
        held = [f"{finalizer} in {count} resource instances" for finalizer, count in sorted(holders.items())]
        conditions = list((namespace.get("status") or {}).get("conditions") or [])
        wanted = {type_: ("False", reason, text) for type_, (reason, text) in _ALL_WELL.items()}
        if counts:
            text = "Some resources are remaining: " + ", ".join(counts)
            wanted["NamespaceContentRemaining"] = ("True", "SomeResourcesRemain", text)
        if held:
            text = "Some content in the namespace has finalizers remaining: " + ", ".join(held)
            wanted["NamespaceFinalizersRemaining"] = ("True", "SomeFinalizersRemain", text)
        for type_, (status, reason, text) in wanted.items():
            _set_condition(conditions, type_, status, reason, text)
        if _plain(conditions) == _plain((namespace.get("status") or {}).get("conditions") or []):
            return namespace
        patch = {"status": {"conditions": conditions}}
        return await self._client.patch(NAMESPACES, namespace["metadata"]["name"], patch, subresource="status")

    async def _finalize(self, namespace: Obj, finalizers: list[str]) -> None:
        body: dict[str, Any] = {**namespace, "spec": {**(namespace.get("spec") or {}), "finalizers": finalizers}}
        path = NAMESPACES.path(name=namespace["metadata"]["name"], subresource="finalize")
        try:
            await self._client.raw("PUT", path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        except StatusError as exc:
            if exc.code != 404:
                raise


# What the conditions of an ending namespace say while nothing is in the way (controller/namespace/deletion).
_ALL_WELL = {
    "NamespaceDeletionDiscoveryFailure": ("ResourcesDiscovered", "All resources successfully discovered"),
    "NamespaceDeletionGroupVersionParsingFailure": (
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    "NamespaceDeletionContentFailure": (
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    "NamespaceContentRemaining": ("ContentRemoved", "All content successfully removed"),
    "NamespaceFinalizersRemaining": ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
}


def _set_condition(conditions: list[Obj], type_: str, status: str, reason: str, message: str) -> None:
    """Add or replace a condition; its time moves with its status."""
    wanted = {"type": type_, "status": status, "reason": reason, "message": message}
    for index, condition in enumerate(conditions):
        if condition.get("type") == type_:
            same = condition.get("status") == status
            since = condition.get("lastTransitionTime") if same else None
            conditions[index] = {**wanted, "lastTransitionTime": since or now_rfc3339()}
            return
    conditions.append({**wanted, "lastTransitionTime": now_rfc3339()})


def _plain(conditions: list[Obj]) -> list[Obj]:
    return [{**condition, "lastTransitionTime": ""} for condition in conditions]
