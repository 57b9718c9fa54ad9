"""PodDisruptionBudgets: how many pods may be evicted now (kube-controller-manager's `pkg/controller/disruption`)."""

from __future__ import annotations

from datetime import UTC, datetime

from kube.client.aio import AsyncClient
from kube.client.events import EventRecorder
from kube.client.queue import WorkQueue
from kube.machinery.durations import now_rfc3339, parse_rfc3339
from kube.machinery.errors import StatusError
from kube.machinery.resources import (
    DEPLOYMENTS,
    PODDISRUPTIONBUDGETS,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    STATEFULSETS,
    Resource,
)
from kube.machinery.selectors import label_selector_from_dict
from solo.controllers.ownership import Place, controller_of
from solo.controllers.pods import place_of, read, ready_seconds, update_status
from solo.controllers.rollout import scaled, wanted
from solo.controllers.watches import Obj, Watches

DISRUPTED_SECONDS = 120.0
RETRY_SECONDS = 30.0
"""After a failure: that what manages a pod has come, or serves its scale now, nothing tells of."""
_SIZED = {each.group_resource for each in (REPLICASETS, DEPLOYMENTS, STATEFULSETS, REPLICATIONCONTROLLERS)}
"""What says in `spec.replicas` how many pods it wants; of anything else the subresource `scale` tells."""


class SyncError(Exception):
    """It cannot be known how many pods there should be."""


class BudgetController:
    """Takes (namespace, name) of PodDisruptionBudgets."""

    def __init__(self, client: AsyncClient, watches: Watches, queue: WorkQueue[Place]) -> None:
        self._client = client
        self._watches = watches
        self._queue = queue
        self._known: set[Place] = set()
        self._told: dict[Place, tuple[str, str]] = {}
        self._events = EventRecorder(client, "controllermanager")
        watches.subscribe(PODDISRUPTIONBUDGETS, self._on_budget)
        watches.subscribe(PODS, self._on_pod)

    def _on_budget(self, kind: str, obj: Obj, old: Obj | None) -> None:
        (self._known.discard if kind == "DELETED" else self._known.add)(place_of(obj))
        if kind == "DELETED":
            self._told.pop(place_of(obj), None)
        self._queue.add(place_of(obj))

    def _on_pod(self, kind: str, pod: Obj, old: Obj | None) -> None:
        for place in self._known:
            if place[0] == pod["metadata"]["namespace"]:
                self._queue.add(place)

    async def reconcile(self, place: Place) -> float | None:
        """Count the healthy pods of one budget and write what that allows."""
        budget = await read(self._client, PODDISRUPTIONBUDGETS, place)
        if budget is None or budget["metadata"].get("deletionTimestamp"):
            return None
        selector = label_selector_from_dict(budget["spec"].get("selector"))
        pods = [
            pod
            for pod in (await self._client.list(PODS, place[0]))["items"]
            if selector.matches(pod["metadata"].get("labels"))
            and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
        ]
        now = datetime.now(UTC)
        disrupted = _disrupted(budget, pods, now)
        healthy = sum(
            not pod["metadata"].get("deletionTimestamp")
            and pod["metadata"]["name"] not in disrupted
            and ready_seconds(pod, now) is not None
            for pod in pods
        )
        try:
            expected, desired = await self._expected(budget, pods)
        except SyncError as exc:
            text = f"Failed to calculate the number of expected pods: {exc}"
            await self._warn(budget, "CalculateExpectedPodCountFailed", text)
            await self._forbid(budget, str(exc))
            return RETRY_SECONDS
        await self._report(budget, healthy, desired, expected, disrupted)
        return DISRUPTED_SECONDS if disrupted else None

    async def _warn(self, budget: Obj, reason: str, text: str) -> None:
        """Record an event, once as long as nothing else is to be said: every change of a pod leads here."""
        if self._told.get(place_of(budget)) != (reason, text):
            self._told[place_of(budget)] = reason, text
            await self._events.event(budget, "Warning", reason, text)

    async def _expected(self, budget: Obj, pods: list[Obj]) -> tuple[int, int]:
        """How many pods there should be, and how many of them healthy. Raises SyncError."""
        spec = budget["spec"]
        most, least = spec.get("maxUnavailable"), spec.get("minAvailable")
        if most is None and not isinstance(least, str):
            return len(pods), 1 if least is None else int(least)
        managed = [pod for pod in pods if controller_of(pod) is not None]
        expected = await self._scale(managed)
        if len(managed) < len(pods):
            await self._warn(budget, "UnmanagedPods", _unmanaged(spec.get("selector")))
        else:
            self._told.pop(place_of(budget), None)
        if most is not None:
            return expected, max(0, expected - scaled(most, expected, round_up=True))
        return expected, scaled(least, expected, round_up=True)

    async def _scale(self, pods: list[Obj]) -> int:
        """How many pods those that manage the given ones want. Raises SyncError where one of them does not say."""
        sizes: dict[str, int] = {}
        seen: set[str] = set()
        for pod in pods:
            reference = controller_of(pod)
            if reference is not None and reference["uid"] not in seen:
                seen.add(reference["uid"])
                uid, size = await self._size(reference, pod)
                sizes[uid] = size
        return sum(sizes.values())

    async def _size(self, reference: Obj, pod: Obj) -> tuple[str, int]:
        """What a pod's manager wants, or what manages that, and the uid of the one that says so."""
        resource = self._watches.find_kind(reference["apiVersion"], reference["kind"])
        if resource is None:
            raise SyncError(f'no matches for kind "{reference["kind"]}" in version "{reference["apiVersion"]}"')
        namespace, name = place_of(pod)
        owner = await read(self._client, resource, (namespace, reference["name"]))
        if owner is None or owner["metadata"]["uid"] != reference["uid"]:
            raise SyncError(f'found no controllers for pod "{name}"')
        if resource.group_resource == REPLICASETS.group_resource:
            above = controller_of(owner)
            if above is not None and above["kind"] == DEPLOYMENTS.kind:
                # A rollout has two sets with more pods than are wanted in the end.
                owner = await read(self._client, DEPLOYMENTS, (namespace, above["name"])) or owner
        uid = str(owner["metadata"]["uid"])
        return uid, wanted(owner) if resource.group_resource in _SIZED else await self._size_by_scale(resource, owner)

    async def _size_by_scale(self, resource: Resource, owner: Obj) -> int:
        namespace, name = place_of(owner)
        try:
            scale = await self._client.get(resource, name, namespace, subresource="scale")
        except StatusError as exc:
            if exc.code != 404:
                raise
            raise SyncError(f"{resource.group_resource} does not implement the scale subresource") from exc
        return int((scale.get("spec") or {}).get("replicas") or 0)

    async def _forbid(self, budget: Obj, why: str) -> None:
        """Allow nothing as long as it is not known what may be allowed; what was counted before stays to be seen."""
        before = budget.get("status") or {}
        status = {"currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0, **before, "disruptionsAllowed": 0}
        _set_allowed(status, "SyncFailed", why)
        if status != before:
            await update_status(self._client, budget, status, PODDISRUPTIONBUDGETS)

    async def _report(self, budget: Obj, healthy: int, desired: int, expected: int, disrupted: dict[str, str]) -> None:
        allowed = max(0, healthy - desired) if expected > 0 else 0
        before = budget.get("status") or {}
        status: Obj = {
            "currentHealthy": healthy,
            "desiredHealthy": desired,
            "disruptionsAllowed": allowed,
            "expectedPods": expected,
            "observedGeneration": budget["metadata"].get("generation", 0),
        }
        if disrupted:
            status["disruptedPods"] = disrupted
        status["conditions"] = before.get("conditions") or []
        _set_allowed(status, "SufficientPods" if allowed else "InsufficientPods", "")
        if status != before:
            await update_status(self._client, budget, status, PODDISRUPTIONBUDGETS)


def _disrupted(budget: Obj, pods: list[Obj], now: datetime) -> dict[str, str]:
    """Pods whose eviction was granted and that are not yet seen to go; after a while they do not count any more."""
    living = {pod["metadata"]["name"] for pod in pods if not pod["metadata"].get("deletionTimestamp")}
    granted: dict[str, str] = (budget.get("status") or {}).get("disruptedPods") or {}
    return {
        name: since
        for name, since in granted.items()
        if name in living and (now - parse_rfc3339(since)).total_seconds() < DISRUPTED_SECONDS
    }


def _set_allowed(status: Obj, reason: str, message: str) -> None:
    """Set the condition DisruptionAllowed by the other fields."""
    condition = {"type": "DisruptionAllowed", "reason": reason, "message": message}
    condition["status"] = "True" if status["disruptionsAllowed"] else "False"
    present = status.get("conditions") or []
    old: Obj = next((each for each in present if each.get("type") == condition["type"]), {})
    unchanged = old.get("status") == condition["status"] and "lastTransitionTime" in old
    condition["lastTransitionTime"] = old["lastTransitionTime"] if unchanged else now_rfc3339()
    observed = {"observedGeneration": status["observedGeneration"]} if "observedGeneration" in status else {}
    others = [each for each in present if each.get("type") != condition["type"]]
    status["conditions"] = [*others, {**condition, **observed}]


def _unmanaged(selector: Obj | None) -> str:
    return (
        f"Pods selected by this PodDisruptionBudget (selector: {_shown(selector)}) were found to be unmanaged. "
        "As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. "
        'To account for these pods please set ".spec.minAvailable" field of the PDB to an integer value.'
    )


def _shown(selector: Obj | None) -> str:
    """A selector as Go prints it."""
    if selector is None:
        return "nil"
    labels = "".join(f"{key}: {value}," for key, value in sorted((selector.get("matchLabels") or {}).items()))
    requirements = "".join(
        f"LabelSelectorRequirement{{Key:{each['key']},Operator:{each['operator']},"
        f"Values:[{' '.join(each.get('values') or [])}],}},"
        for each in selector.get("matchExpressions") or []
    )
    lists = f"MatchExpressions:[]LabelSelectorRequirement{{{requirements}}}"
    return f"&LabelSelector{{MatchLabels:map[string]string{{{labels}}},{lists},}}"
