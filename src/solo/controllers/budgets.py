"""PodDisruptionBudgets: how many pods may be evicted now (kube-controller-manager's `pkg/controller/disruption`)."""

from __future__ import annotations

from datetime import UTC, datetime

from kube.client.aio import AsyncClient
from kube.client.queue import WorkQueue
from kube.machinery.durations import now_rfc3339, parse_rfc3339
from kube.machinery.resources import PODDISRUPTIONBUDGETS, PODS
from kube.machinery.selectors import label_selector_from_dict
from solo.controllers.ownership import Place, controller_of
from solo.controllers.pods import place_of, read, ready_seconds, update_status
from solo.controllers.rollout import scaled, wanted
from solo.controllers.watches import Obj, Watches

DISRUPTED_SECONDS = 120.0


class BudgetController:
    """Takes (namespace, name) of PodDisruptionBudgets."""

    def __init__(self, client: AsyncClient, watches: Watches, queue: WorkQueue[Place]) -> None:
        self._client = client
        self._watches = watches
        self._queue = queue
        self._known: set[Place] = set()
        watches.subscribe(PODDISRUPTIONBUDGETS, self._on_budget)
        watches.subscribe(PODS, self._on_pod)

    def _on_budget(self, kind: str, obj: Obj, old: Obj | None) -> None:
        (self._known.discard if kind == "DELETED" else self._known.add)(place_of(obj))
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
        expected, desired = await self._expected(budget, pods)
        await self._report(budget, healthy, desired, expected, disrupted)
        return DISRUPTED_SECONDS if disrupted else None

    async def _expected(self, budget: Obj, pods: list[Obj]) -> tuple[int, int]:
        """How many pods there should be, and how many of them healthy."""
        spec = budget["spec"]
        most = spec.get("maxUnavailable")
        if most is not None:
            expected = await self._scale(pods)
            return expected, max(0, expected - scaled(most, expected, round_up=True))
        least = spec.get("minAvailable")
        if isinstance(least, str):
            expected = await self._scale(pods)
            return expected, scaled(least, expected, round_up=True)
        return len(pods), 1 if least is None else int(least)

    async def _scale(self, pods: list[Obj]) -> int:
        """The replicas that the pods' controllers want; a pod without a known controller counts as itself."""
        total = 0
        seen: set[str] = set()
        for pod in pods:
            reference = controller_of(pod)
            if reference is None:
                total += 1
                continue
            if reference["uid"] in seen:
                continue
            seen.add(reference["uid"])
            resource = self._watches.find_kind(reference["apiVersion"], reference["kind"])
            place = (pod["metadata"]["namespace"], reference["name"])
            owner = await read(self._client, resource, place) if resource is not None else None
            if owner is not None and "replicas" in (owner.get("spec") or {}):
                total += wanted(owner)
            else:
                total += sum((controller_of(each) or {}).get("uid") == reference["uid"] for each in pods)
        return total

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
        state, reason = ("True", "SufficientPods") if allowed else ("False", "InsufficientPods")
        condition = {"type": "DisruptionAllowed", "status": state, "reason": reason, "message": ""}
        condition["observedGeneration"] = status["observedGeneration"]
        old: Obj = next((each for each in before.get("conditions") or () if each.get("type") == condition["type"]), {})
        unchanged = old.get("status") == state and "lastTransitionTime" in old
        condition["lastTransitionTime"] = old["lastTransitionTime"] if unchanged else now_rfc3339()
        others = [each for each in before.get("conditions") or () if each.get("type") != condition["type"]]
        status["conditions"] = [*others, condition]
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
