"""ReplicaSets: as many pods of a template as are wanted (kube-controller-manager's `pkg/controller/replicaset`)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kube.client.aio import AsyncClient
from kube.client.events import EventRecorder
from kube.client.queue import WorkQueue
from kube.machinery.durations import now_rfc3339
from kube.machinery.errors import StatusError
from kube.machinery.resources import PODS, Resource
from solo.controllers.ownership import Place, adding_owner, claim
from solo.controllers.pods import create_pod, delete_pod, is_active, place_of, pod_of, ready_seconds, update_status
from solo.controllers.rollout import wanted
from solo.controllers.watches import Obj, Watches

logger = logging.getLogger(__name__)

BURST = 50


class ReplicaSetController:
    """Takes (namespace, name) of ReplicaSets, or of ReplicationControllers, their elder kind."""

    def __init__(self, client: AsyncClient, watches: Watches, queue: WorkQueue[Place], resource: Resource) -> None:
        self._client = client
        self._queue = queue
        self._resource = resource
        self._events = EventRecorder(client, f"{resource.kind.lower()}-controller")
        watches.subscribe(resource, lambda kind, obj, old: self._queue.add(place_of(obj)))
        watches.subscribe(PODS, adding_owner(queue, resource))

    async def reconcile(self, place: Place) -> float | None:
        """Create or delete pods of one ReplicaSet and report what there is."""
        namespace, name = place
        try:
            replica_set = await self._client.get(self._resource, name, namespace)
        except StatusError as exc:
            if exc.code == 404:
                return None
            raise
        pods = [pod for pod in await claim(self._client, replica_set, self._resource, PODS) if is_active(pod)]
        failure: StatusError | None = None
        if not replica_set["metadata"].get("deletionTimestamp"):
            surplus = len(pods) - wanted(replica_set)
            if surplus > 0:
                await self._shrink(replica_set, pods, surplus)
            elif surplus < 0:
                failure = await self._grow(replica_set, pods, min(-surplus, BURST))
        again = await self._report(replica_set, pods, failure)
        if failure is not None:
            raise failure
        return again

    async def _grow(self, replica_set: Obj, pods: list[Obj], number: int) -> StatusError | None:
        pod = pod_of(replica_set, self._resource, replica_set["spec"]["template"])
        for _ in range(number):
            created = await create_pod(self._client, self._events, replica_set, pod)
            if isinstance(created, StatusError):
                return created
            pods.append(created)
        return None

    async def _shrink(self, replica_set: Obj, pods: list[Obj], number: int) -> None:
        for pod in sorted(pods, key=_worth)[:number]:
            pods.remove(pod)
            await delete_pod(self._client, self._events, replica_set, pod)

    async def _report(self, replica_set: Obj, pods: list[Obj], failure: StatusError | None) -> float | None:
        """Write the status if it changed; returns the seconds until the next pod counts as available."""
        minimum = int(replica_set["spec"].get("minReadySeconds") or 0)
        now = datetime.now(UTC)
        ready = [age for age in (ready_seconds(pod, now) for pod in pods) if age is not None]
        labels = ((replica_set["spec"]["template"].get("metadata") or {}).get("labels") or {}).items()
        labelled = [pod for pod in pods if labels <= (pod["metadata"].get("labels") or {}).items()]
        status: Obj = {
            "replicas": len(pods),
            "fullyLabeledReplicas": len(labelled),
            "readyReplicas": len(ready),
            "availableReplicas": sum(age >= minimum for age in ready),
            "observedGeneration": replica_set["metadata"].get("generation", 0),
        }
        before = replica_set.get("status") or {}
        conditions = [each for each in before.get("conditions") or () if each.get("type") != "ReplicaFailure"]
        if failure is not None:
            conditions.append(_failed(before, failure))
        if conditions:
            status["conditions"] = conditions
        # Zeros are not spelled out in the API, so that an absent number is one.
        if any(before.get(key, 0) != value for key, value in status.items()) or (
            before.get("conditions") and not conditions
        ):
            await update_status(self._client, replica_set, status, self._resource)
        waiting = [minimum - age for age in ready if age < minimum]
        return min(waiting) if waiting else None


def _failed(before: Mapping[str, Any], failure: StatusError) -> Obj:
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": failure.message}
    for old in before.get("conditions") or ():
        # Of the same failure only the first message is kept: it names a pod, and no two have the same name.
        if all(old.get(key) == condition[key] for key in ("type", "status", "reason")):
            return dict(old)
    return {**condition, "lastTransitionTime": now_rfc3339()}


def _worth(pod: Mapping[str, Any]) -> tuple[bool, int, bool, str]:
    """The order in which pods are given up: unassigned, pending, not ready, youngest first."""
    status = pod.get("status") or {}
    phases = {"Pending": 0, "Unknown": 1, "Running": 2}
    ready = ready_seconds(pod, datetime.now(UTC)) is not None
    created = pod["metadata"].get("creationTimestamp", "")
    # Timestamps sort as text; the youngest has the largest, so its digits are turned round.
    youngest_first = "".join(chr(0x7F - ord(char)) if char.isascii() else char for char in created)
    return bool((pod.get("spec") or {}).get("nodeName")), phases.get(status.get("phase", ""), 0), ready, youngest_first
