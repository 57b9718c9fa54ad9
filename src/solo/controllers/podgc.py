"""Pods that no agent ends: those of a node that is gone, and deleted ones that were never on a node.

Source: kube-controller-manager's `pkg/controller/podgc`.
"""

from __future__ import annotations

import time

from kube.client.aio import AsyncClient
from kube.client.queue import WorkQueue
from kube.machinery.durations import now_rfc3339
from kube.machinery.errors import StatusError
from kube.machinery.resources import NODES, PODS
from solo.controllers.ownership import Place
from solo.controllers.pods import place_of, read
from solo.controllers.watches import Obj, Watches

QUARANTINE_SECONDS = 40.0
"""How long a node has to be gone until its pods are given up: it may be registered again."""


class PodCollector:
    """Takes (namespace, name) of pods."""

    def __init__(self, client: AsyncClient, watches: Watches, queue: WorkQueue[Place], own_node: str) -> None:
        """`own_node` is the one whose agent is part of this server: its pods run, whatever becomes of its object."""
        self._client = client
        self._queue = queue
        self._own_node = own_node
        self._nodes: set[str] = set()
        self._pods: dict[str, set[Place]] = {}
        self._missed: dict[str, float] = {}
        watches.subscribe(PODS, self._on_pod)
        watches.subscribe(NODES, self._on_node)

    def _on_pod(self, kind: str, pod: Obj, old: Obj | None) -> None:
        node, place = pod["spec"].get("nodeName"), place_of(pod)
        if node == self._own_node:
            return
        if not node:
            if pod["metadata"].get("deletionTimestamp"):
                self._queue.add(place)
        elif kind == "DELETED":
            self._forget(node, place)
        else:
            self._pods.setdefault(node, set()).add(place)
            if node not in self._nodes:
                self._queue.add(place)

    def _forget(self, node: str, place: Place) -> None:
        places = self._pods.get(node, set())
        places.discard(place)
        if not places:
            self._pods.pop(node, None)
            self._missed.pop(node, None)  # Pods that name it later wait as long as these did.

    def _on_node(self, kind: str, node: Obj, old: Obj | None) -> None:
        name = node["metadata"]["name"]
        if kind != "DELETED":
            self._nodes.add(name)
            self._missed.pop(name, None)
            return
        self._nodes.discard(name)
        for place in self._pods.get(name, ()):
            self._queue.add(place)

    async def reconcile(self, place: Place) -> float | None:
        """End one pod if nobody else will; returns the seconds for which its node is waited for."""
        pod = await read(self._client, PODS, place)
        if pod is None:
            return None
        node = pod["spec"].get("nodeName")
        if not node:
            if pod["metadata"].get("deletionTimestamp"):
                await self._end(pod, [])
            return None
        if node == self._own_node or await self._exists(node):
            self._missed.pop(node, None)
            return None
        now = time.monotonic()
        left = self._missed.setdefault(node, now) + QUARANTINE_SECONDS - now
        if left > 0:
            return left
        await self._end(pod, [_orphaned()])
        return None

    async def _exists(self, node: str) -> bool:
        try:
            await self._client.get(NODES, node)
        except StatusError as exc:
            if exc.code == 404:
                return False
            raise
        return True

    async def _end(self, pod: Obj, conditions: list[Obj]) -> None:
        """Mark a pod as failed, unless it ended before, and delete it without waiting for anything."""
        meta, status = pod["metadata"], pod.get("status") or {}
        ended = status.get("phase") in ("Succeeded", "Failed")
        if ended and meta.get("deletionTimestamp") and not meta.get("deletionGracePeriodSeconds"):
            return  # It waits for a finalizer.
        namespace, name = place_of(pod)
        try:
            if not ended:
                new = {each["type"] for each in conditions}
                kept = [each for each in status.get("conditions") or [] if each.get("type") not in new]
                patch = {"phase": "Failed", "conditions": [*kept, *conditions]}
                body = {"metadata": {"uid": meta["uid"]}, "status": patch}
                await self._client.patch(PODS, name, body, namespace, subresource="status")
            await self._client.delete(PODS, name, namespace, grace=0, uid=meta["uid"])
        except StatusError as exc:
            if exc.code not in (404, 409):
                raise


def _orphaned() -> Obj:
    return {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "DeletionByPodGC",
        "message": "PodGC: node no longer exists",
        "lastProbeTime": None,
        "lastTransitionTime": now_rfc3339(),
    }
