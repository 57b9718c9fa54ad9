"""The garbage collector: what has lost its owners is deleted, in the background, in the foreground, or set free.

Follows kube-controller-manager's garbagecollector: the graph of the watches says where to look; before anything is
deleted, the object itself and every owner that the graph does not know are read from the API.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum

from kube.client.aio import AsyncClient
from kube.client.events import EventRecorder
from kube.client.queue import WorkQueue
from kube.machinery.errors import StatusError
from kube.machinery.resources import Resource
from solo.controllers.gc_graph import FOREGROUND, ORPHAN, Graph, Node, Owner, node_of
from solo.controllers.watches import Obj, Watches

logger = logging.getLogger(__name__)

ABSENT_LIMIT = 4096
UNKNOWN_KIND_RETRY_SECONDS = 5.0


class _State(Enum):
    SOLID = "solid"
    ABSENT = "absent"
    WAITING = "waiting"
    UNKNOWN = "unknown"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class _Coordinates:
    """Where something was looked for and is not. Its uid alone says nothing: it may be in another namespace."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        kind = f"{self.api_version}/{self.kind}"
        return f"[{kind}, namespace: {self.namespace}, name: {self.name}, uid: {self.uid}]"


class GarbageCollector:
    """Feeds on all watches; `reconcile` takes the uids of its queue."""

    def __init__(self, client: AsyncClient, watches: Watches, queue: WorkQueue[str]) -> None:
        self._client = client
        self._watches = watches
        self._queue = queue
        self._graph = Graph()
        self._absent: OrderedDict[_Coordinates, None] = OrderedDict()
        self._events = EventRecorder(client, "garbage-collector-controller")
        watches.observe_all(self._observe)

    def _observe(self, resource: Resource, kind: str, obj: Obj, old: Obj | None) -> None:
        if kind == "DELETED":
            meta = obj["metadata"]
            if obj is not old:
                # The server said so. Otherwise the object is only missing from a list (or the whole kind is, for a
                # moment), and whoever depends on it asks the API first.
                namespace = meta.get("namespace") or ""
                self._remember_absent(
                    _Coordinates(resource.api_version, resource.kind, namespace, meta["name"], meta["uid"])
                )
            visit = self._graph.forget(meta["uid"])
        else:
            visit = self._graph.observe(node_of(resource, obj))
        for uid in visit:
            self._queue.add(uid)

    def _remember_absent(self, coordinates: _Coordinates) -> None:
        self._absent[coordinates] = None
        if len(self._absent) > ABSENT_LIMIT:
            self._absent.popitem(last=False)

    async def reconcile(self, uid: str) -> float | None:
        """Do what is due for one object; returns seconds after which to look again."""
        node = self._graph.get(uid)
        if node is None:
            return None
        if node.orphans_dependents:
            await self._set_free(node)
        elif node.waits_for_dependents:
            await self._finish_foreground(node)
        elif node.owners and not node.deleting:
            return await self._collect(node)
        return None

    async def _collect(self, node: Node) -> float | None:
        obj = await self._read_object(node)
        live = node_of(node.resource, obj) if obj is not None else None
        if obj is None or live is None or live.deleting or not live.owners:
            return None
        states = [(owner, await self._owner_state(live, owner)) for owner in live.owners]
        gone = [owner for owner, state in states if state in (_State.ABSENT, _State.WAITING)]
        if any(state is _State.UNKNOWN for _, state in states):
            return UNKNOWN_KIND_RETRY_SECONDS
        await self._tell_of_other_namespaces(live, obj)
        if any(state is _State.INVALID for _, state in states):
            return None
        if len(gone) < len(states):
            if gone:
                await self._drop_owners(live, {owner.uid for owner in gone})
            return None
        waiting = any(state is _State.WAITING for _, state in states)
        await self._delete(live, self._propagation(live, waiting), obj["metadata"]["resourceVersion"])
        return None

    def _propagation(self, node: Node, waiting: bool) -> str:
        dependents = self._graph.dependents(node.uid)
        # Two objects that wait for each other would wait for ever: the circle is cut here.
        circle = any(dependent.waits_for_dependents for dependent in dependents)
        if waiting and dependents and not circle:
            return "Foreground"
        if ORPHAN in node.finalizers:
            return "Orphan"
        return "Foreground" if FOREGROUND in node.finalizers else "Background"

    async def _tell_of_other_namespaces(self, node: Node, obj: Obj) -> None:
        """Events for owners that are in another namespace than the reference, where they do not count."""
        for owner in node.owners:
            known = self._graph.get(owner.uid)
            if known is not None and known.namespace not in ("", node.namespace):
                text = f'ownerRef {_coordinates(owner, node.namespace)} does not exist in namespace "{node.namespace}"'
                await self._events.event(obj, "Warning", "OwnerRefInvalidNamespace", text)

    async def _owner_state(self, node: Node, owner: Owner) -> _State:
        if any(_coordinates(owner, namespace) in self._absent for namespace in ("", node.namespace)):
            return _State.ABSENT
        known = self._graph.get(owner.uid)
        if known is not None and known.is_meant(owner, node.namespace):
            return _State.WAITING if known.waits_for_dependents else _State.SOLID
        resource = self._watches.find_kind(owner.api_version, owner.kind)
        if resource is None:
            self._watches.refresh()
            return _State.UNKNOWN
        if resource.namespaced and not node.namespace:
            logger.warning("%s %s is not namespaced, but its owner %s is", node.resource.kind, node.name, owner.kind)
            return _State.INVALID
        namespace = node.namespace if resource.namespaced else ""
        try:
            found = await self._read(Node(resource, namespace, owner.name, owner.uid))
        except StatusError as exc:
            if exc.code == 404:
                return _State.UNKNOWN
            raise
        if found is None:
            self._remember_absent(_coordinates(owner, namespace))
            return _State.ABSENT
        return _State.WAITING if found.waits_for_dependents else _State.SOLID

    async def _finish_foreground(self, node: Node) -> None:
        blocking = [dependent for dependent in self._graph.dependents(node.uid) if dependent.blocks(node.uid)]
        if not blocking:
            await self._drop_finalizer(node, FOREGROUND)
        for dependent in blocking:
            if not dependent.deleting:
                self._queue.add(dependent.uid)

    async def _set_free(self, node: Node) -> None:
        for dependent in self._graph.dependents(node.uid):
            await self._drop_owners(dependent, {node.uid})
        await self._drop_finalizer(node, ORPHAN)

    # ---- the API

    async def _read(self, node: Node) -> Node | None:
        """The object as it is now, None when that very object is gone."""
        obj = await self._read_object(node)
        return node_of(node.resource, obj) if obj is not None else None

    async def _read_object(self, node: Node) -> Obj | None:
        """As `_read`. Raises a 404 that says that the whole resource is not served: nothing follows from that."""
        try:
            obj = await self._client.get(node.resource, node.name, node.namespace or None)
        except StatusError as exc:
            if exc.code == 404 and (exc.details or {}).get("name") == node.name:
                return None
            raise
        return obj if obj["metadata"].get("uid") == node.uid else None

    async def _drop_owners(self, node: Node, uids: set[str]) -> None:
        obj = await self._read_object(node)
        if obj is None:
            return
        owners = obj["metadata"].get("ownerReferences") or []
        kept = [owner for owner in owners if owner.get("uid") not in uids]
        if len(kept) < len(owners):
            await self._patch_meta(node, obj, {"ownerReferences": kept})

    async def _drop_finalizer(self, node: Node, finalizer: str) -> None:
        obj = await self._read_object(node)
        finalizers = (obj["metadata"].get("finalizers") or []) if obj is not None else []
        if obj is not None and finalizer in finalizers:
            await self._patch_meta(node, obj, {"finalizers": [each for each in finalizers if each != finalizer]})

    async def _patch_meta(self, node: Node, obj: Obj, change: Obj) -> None:
        """Change metadata of exactly the version that was read (a conflict is an error, hence tried again)."""
        meta = {"uid": node.uid, "resourceVersion": obj["metadata"]["resourceVersion"], **change}
        try:
            await self._client.patch(node.resource, node.name, {"metadata": meta}, node.namespace or None)
        except StatusError as exc:
            if exc.code != 404:
                raise

    async def _delete(self, node: Node, propagation: str, version: str) -> None:
        """Delete what was judged: somebody may have set it free since, and a conflict is looked at again."""
        logger.debug("deleting %s %s/%s: its owners are gone", node.resource.kind, node.namespace, node.name)
        try:
            await self._client.delete(
                node.resource,
                node.name,
                node.namespace or None,
                propagation=propagation,
                uid=node.uid,
                version=version,
            )
        except StatusError as exc:
            if exc.code != 404:
                raise


def _coordinates(owner: Owner, namespace: str) -> _Coordinates:
    return _Coordinates(owner.api_version, owner.kind, namespace, owner.name, owner.uid)
