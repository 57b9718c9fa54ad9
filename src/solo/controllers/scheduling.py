"""Pods that no node suited when they were made: they get one when a node does, and say meanwhile why they wait.

Most pods never come here: on one machine the server itself places a pod that fits. Source: kube-scheduler.
"""

from __future__ import annotations

from kube.client.aio import AsyncClient
from kube.client.events import EventRecorder
from kube.client.queue import WorkQueue
from kube.machinery.durations import now_rfc3339
from kube.machinery.errors import StatusError
from kube.machinery.placement import node_selected
from kube.machinery.resources import NODES, PODS
from solo.controllers.ownership import Place
from solo.controllers.pods import place_of, read
from solo.controllers.watches import Obj, Watches

SCHEDULER = "default-scheduler"


class SchedulingController:
    """Takes (namespace, name) of pods without a node."""

    def __init__(self, client: AsyncClient, watches: Watches, queue: WorkQueue[Place]) -> None:
        self._client = client
        self._queue = queue
        self._events = EventRecorder(client, SCHEDULER)
        self._waiting: set[Place] = set()
        watches.subscribe(PODS, self._on_pod)
        watches.subscribe(NODES, self._on_node)

    def _on_pod(self, kind: str, pod: Obj, old: Obj | None) -> None:
        place = place_of(pod)
        if kind == "DELETED" or not _waits(pod):
            self._waiting.discard(place)
        elif old is None or not _waits(old) or place not in self._waiting:
            self._waiting.add(place)
            self._queue.add(place)

    def _on_node(self, kind: str, node: Obj, old: Obj | None) -> None:
        if old is None or _facts(node) != _facts(old):
            for place in self._waiting:
                self._queue.add(place)

    async def reconcile(self, place: Place) -> float | None:
        """Bind one pod to a node that suits it, or note in its status that there is none."""
        pod = await read(self._client, PODS, place)
        if pod is None or not _waits(pod):
            return None
        nodes = (await self._client.list(NODES))["items"]
        for node in nodes:
            labels, closed = _facts(node)
            name = node["metadata"]["name"]
            if not closed and node_selected(pod["spec"], labels, name):
                await self._bind(pod, name)
                return None
        await self._report(pod, len(nodes))
        return None

    async def _bind(self, pod: Obj, node: str) -> None:
        namespace, name = place_of(pod)
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
        try:
            await self._client.create(PODS, binding, namespace, name=name, subresource="binding")
        except StatusError as exc:
            if exc.code not in (404, 409):
                raise
            return
        await self._events.event(pod, "Normal", "Scheduled", f"Successfully assigned {namespace}/{name} to {node}")

    async def _report(self, pod: Obj, nodes: int) -> None:
        count = f"{nodes} node(s) didn't match Pod's node affinity/selector."
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
        condition["message"] = f"0/{nodes} nodes are available: {count}"
        present = (pod.get("status") or {}).get("conditions") or []
        old: Obj = next((each for each in present if each.get("type") == "PodScheduled"), {})
        if all(old.get(key) == value for key, value in condition.items()):
            return
        others = [each for each in present if each is not old]
        status = {"conditions": [*others, {**condition, "lastTransitionTime": now_rfc3339()}]}
        body = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": status}
        namespace, name = place_of(pod)
        await self._client.patch(PODS, name, body, namespace, subresource="status")
        await self._events.event(pod, "Warning", "FailedScheduling", condition["message"])


def _facts(node: Obj) -> tuple[dict[str, str], bool]:
    """What decides about a node: its labels, and whether it is closed to new pods."""
    return node["metadata"].get("labels") or {}, bool((node.get("spec") or {}).get("unschedulable"))


def _waits(pod: Obj) -> bool:
    """Whether it is for us to find a node: none yet, nothing that holds the pod back, no scheduler of its own."""
    spec = pod["spec"]
    held = spec.get("nodeName") or spec.get("schedulingGates") or pod["metadata"].get("deletionTimestamp")
    return not held and spec.get("schedulerName") == SCHEDULER
