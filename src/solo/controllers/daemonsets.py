"""DaemonSets: one pod on each node that suits (kube-controller-manager's `pkg/controller/daemon`)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kube.client.aio import AsyncClient
from kube.client.events import EventRecorder
from kube.client.queue import WorkQueue
from kube.machinery.errors import StatusError
from kube.machinery.placement import node_selected, tolerated
from kube.machinery.resources import DAEMONSETS, NODES, PODS
from solo.controllers.ownership import Place, adding_owner, claim
from solo.controllers.pods import (
    create_pod,
    delete_pod,
    is_active,
    place_of,
    pod_of,
    read,
    ready_seconds,
    update_status,
)
from solo.controllers.revisions import HASH_LABEL, History
from solo.controllers.rollout import scaled
from solo.controllers.watches import Obj, Watches

_TOLERATED = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)


@dataclass(frozen=True, slots=True)
class _Nodes:
    """The names of the nodes that there are, of those that want a daemon, and of those that may keep theirs."""

    present: set[str]
    wanted: set[str]
    keeping: set[str]


class DaemonSetController:
    """Takes (namespace, name) of DaemonSets."""

    def __init__(self, client: AsyncClient, watches: Watches, queue: WorkQueue[Place]) -> None:
        self._client = client
        self._queue = queue
        self._known: set[Place] = set()
        self._events = EventRecorder(client, "daemonset-controller")
        watches.subscribe(DAEMONSETS, self._on_set)
        watches.subscribe(PODS, adding_owner(queue, DAEMONSETS))
        watches.subscribe(NODES, self._on_node)

    def _on_set(self, kind: str, obj: Obj, old: Obj | None) -> None:
        (self._known.discard if kind == "DELETED" else self._known.add)(place_of(obj))
        self._queue.add(place_of(obj))

    def _on_node(self, kind: str, node: Obj, old: Obj | None) -> None:
        if kind != "MODIFIED" or old is None or _placing(node) != _placing(old):
            for place in self._known:
                self._queue.add(place)

    async def reconcile(self, place: Place) -> float | None:
        """Place, replace and remove the pods of one DaemonSet."""
        owner = await read(self._client, DAEMONSETS, place)
        if owner is None or owner["metadata"].get("deletionTimestamp"):
            return None
        pods = await claim(self._client, owner, DAEMONSETS, PODS)
        nodes = _sorted_out(owner["spec"]["template"]["spec"], (await self._client.list(NODES))["items"])
        history = await History.read(self._client, owner, DAEMONSETS)
        label = str((await history.current())["metadata"]["labels"][HASH_LABEL])
        now = datetime.now(UTC)
        failure = await self._place(owner, pods, nodes, label)
        await self._roll(owner, pods, label, len(nodes.wanted), now)
        await history.trim({_label(pod) for pod in pods})
        again = await self._report(owner, pods, nodes, label, now)
        if failure is not None:
            raise failure
        return again

    async def _place(self, owner: Obj, pods: list[Obj], nodes: _Nodes, label: str) -> StatusError | None:
        """Delete pods that ended, are too many or in the wrong place; create those that are missing.

        Pods of nodes that are gone are not for us: such a node may come back.
        """
        seen: set[str] = set()
        for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"])):
            node = _node(pod)
            if pod["metadata"].get("deletionTimestamp"):
                seen.add(node)  # its place is free only when it is gone
            elif node in nodes.present and (not is_active(pod) or node not in nodes.keeping or node in seen):
                await delete_pod(self._client, self._events, owner, pod)
                pods.remove(pod)
                seen.add(node)
            else:
                seen.add(node)
        for node in sorted(nodes.wanted - seen):
            pod = pod_of(owner, DAEMONSETS, owner["spec"]["template"])
            pod["metadata"]["labels"] = {**(pod["metadata"].get("labels") or {}), HASH_LABEL: label}
            pod["spec"] = {**pod["spec"], "nodeName": node, "tolerations": _tolerations(pod["spec"])}
            created = await create_pod(self._client, self._events, owner, pod)
            if isinstance(created, StatusError):
                return created
            pods.append(created)
        return None

    async def _roll(self, owner: Obj, pods: list[Obj], label: str, wanted: int, now: datetime) -> None:
        """Delete old pods, as many at once as may be missing; those that do not work go first and at once."""
        strategy = owner["spec"].get("updateStrategy") or {}
        if strategy.get("type") == "OnDelete":
            return
        allowed = max(1, scaled((strategy.get("rollingUpdate") or {}).get("maxUnavailable", 1), wanted, round_up=True))
        minimum = int(owner["spec"].get("minReadySeconds") or 0)
        available = sum(_available(pod, minimum, now) for pod in pods)
        for pod in [pod for pod in pods if _label(pod) != label and is_active(pod)]:
            works = _available(pod, minimum, now)
            if works and wanted - available >= allowed:
                continue
            await delete_pod(self._client, self._events, owner, pod)
            pods.remove(pod)
            available -= works

    async def _report(self, owner: Obj, pods: list[Obj], nodes: _Nodes, label: str, now: datetime) -> float | None:
        minimum = int(owner["spec"].get("minReadySeconds") or 0)
        placed = [pod for pod in pods if is_active(pod) and _node(pod) in nodes.wanted]
        ready = [age for age in (ready_seconds(pod, now) for pod in placed) if age is not None]
        available = sum(age >= minimum for age in ready)
        status: Obj = {
            "currentNumberScheduled": len({_node(pod) for pod in placed}),
            "numberMisscheduled": len({_node(pod) for pod in pods if is_active(pod)} & nodes.present - nodes.wanted),
            "desiredNumberScheduled": len(nodes.wanted),
            "numberReady": len(ready),
            "observedGeneration": owner["metadata"].get("generation", 0),
        }
        optional = {
            "updatedNumberScheduled": sum(_label(pod) == label for pod in placed),
            "numberAvailable": available,
            "numberUnavailable": len(nodes.wanted) - available,
        }
        status.update({key: value for key, value in optional.items() if value})
        before = owner.get("status") or {}
        for key in ("conditions", "collisionCount"):
            if key in before:
                status[key] = before[key]
        if status != before:
            await update_status(self._client, owner, status, DAEMONSETS)
        waiting = [minimum - age for age in ready if age < minimum]
        return min(waiting) if waiting else None


def _sorted_out(spec: Obj, nodes: list[Obj]) -> _Nodes:
    return _Nodes(
        {node["metadata"]["name"] for node in nodes},
        {node["metadata"]["name"] for node in nodes if suits(spec, node)},
        {node["metadata"]["name"] for node in nodes if may_keep(spec, node)},
    )


def suits(spec: Obj, node: Obj) -> bool:
    """Whether a daemon's pod is to run on a node: its name, its labels, and the taints that it tolerates."""
    return _selects(spec, node) and _bears(spec, node, ("NoSchedule", "NoExecute"))


def may_keep(spec: Obj, node: Obj) -> bool:
    """Whether a pod that is on the node already may stay there: taints against scheduling come too late for it."""
    return _selects(spec, node) and _bears(spec, node, ("NoExecute",))


def _selects(spec: Obj, node: Obj) -> bool:
    meta = node["metadata"]
    named = spec.get("nodeName") in (None, "", meta["name"])
    return named and node_selected(spec, meta.get("labels") or {}, meta["name"])


def _bears(spec: Obj, node: Obj, effects: Collection[str]) -> bool:
    tolerations = _tolerations(spec)
    taints = (node.get("spec") or {}).get("taints") or []
    return all(taint.get("effect") not in effects or tolerated(taint, tolerations) for taint in taints)


def _tolerations(spec: Obj) -> list[Obj]:
    """A pod's tolerations and those that every daemon has."""
    given: list[Obj] = list(spec.get("tolerations") or [])
    for key, effect in _TOLERATED:
        added = {"key": key, "operator": "Exists", "effect": effect}
        if added not in given:
            given.append(added)
    return given


def _node(pod: Obj) -> str:
    return str((pod.get("spec") or {}).get("nodeName") or "")


def _label(pod: Obj) -> str:
    return str((pod["metadata"].get("labels") or {}).get(HASH_LABEL) or "")


def _available(pod: Obj, minimum: int, now: datetime) -> bool:
    age = ready_seconds(pod, now) if is_active(pod) else None
    return age is not None and age >= minimum


def _placing(node: Obj) -> Any:
    """What of a node decides where daemons run."""
    return node["metadata"].get("labels"), (node.get("spec") or {}).get("taints")
