"""DaemonSets: one pod on each node that suits (kube-controller-manager's `pkg/controller/daemon`)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kube.client.aio import AsyncClient
from kube.client.events import EventRecorder
from kube.client.queue import WorkQueue
from kube.machinery.errors import StatusError
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
        nodes = (await self._client.list(NODES))["items"]
        wanted = {node["metadata"]["name"] for node in nodes if suits(owner["spec"]["template"]["spec"], node)}
        history = await History.read(self._client, owner, DAEMONSETS)
        label = str((await history.current())["metadata"]["labels"][HASH_LABEL])
        now = datetime.now(UTC)
        failure = await self._place(owner, pods, wanted, label)
        await self._roll(owner, pods, label, len(wanted), now)
        await history.trim({_label(pod) for pod in pods})
        again = await self._report(owner, pods, wanted, label, now)
        if failure is not None:
            raise failure
        return again

    async def _place(self, owner: Obj, pods: list[Obj], wanted: set[str], label: str) -> StatusError | None:
        """Delete pods that ended, are too many or in the wrong place; create those that are missing."""
        seen: set[str] = set()
        for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"])):
            node = _node(pod)
            if pod["metadata"].get("deletionTimestamp"):
                seen.add(node)  # its place is free only when it is gone
            elif not is_active(pod) or node not in wanted or node in seen:
                await delete_pod(self._client, self._events, owner, pod)
                pods.remove(pod)
                seen.add(node)
            else:
                seen.add(node)
        for node in sorted(wanted - seen):
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

    async def _report(self, owner: Obj, pods: list[Obj], wanted: set[str], label: str, now: datetime) -> float | None:
        minimum = int(owner["spec"].get("minReadySeconds") or 0)
        placed = [pod for pod in pods if is_active(pod) and _node(pod) in wanted]
        ready = [age for age in (ready_seconds(pod, now) for pod in placed) if age is not None]
        available = sum(age >= minimum for age in ready)
        status: Obj = {
            "currentNumberScheduled": len({_node(pod) for pod in placed}),
            "numberMisscheduled": len({_node(pod) for pod in pods if is_active(pod)} - wanted),
            "desiredNumberScheduled": len(wanted),
            "numberReady": len(ready),
            "observedGeneration": owner["metadata"].get("generation", 0),
        }
        optional = {
            "updatedNumberScheduled": sum(_label(pod) == label for pod in placed),
            "numberAvailable": available,
            "numberUnavailable": len(wanted) - available,
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


def suits(spec: Obj, node: Obj) -> bool:
    """Whether a daemon's pod may run on a node: its name, its labels, and the taints that it tolerates."""
    meta = node["metadata"]
    if spec.get("nodeName") not in (None, "", meta["name"]):
        return False
    labels = meta.get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    tolerations = _tolerations(spec)
    taints = (node.get("spec") or {}).get("taints") or []
    return all(
        taint.get("effect") == "PreferNoSchedule" or any(_tolerates(each, taint) for each in tolerations)
        for taint in taints
    )


def _tolerates(toleration: Obj, taint: Obj) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if toleration.get("key") not in (None, "", taint.get("key")):
        return False
    exists = toleration.get("operator") == "Exists"
    return exists or (bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or ""))


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
