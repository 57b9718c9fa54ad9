"""Jobs: pods that run to their end, so and so many at once, until enough have succeeded or too many failed.

Follows kube-controller-manager's `pkg/controller/job`. What is counted is kept in the status, where it never shrinks:
a finished pod that somebody deletes has been counted already.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kube.client.aio import AsyncClient
from kube.client.events import EventRecorder
from kube.client.queue import WorkQueue
from kube.machinery.durations import now_rfc3339
from kube.machinery.errors import StatusError
from kube.machinery.resources import JOBS, PODS
from solo.controllers import job_indexes, job_rules
from solo.controllers.job_indexes import FAILURES, INDEX, Outcome
from solo.controllers.ownership import Place, adding_owner, claim
from solo.controllers.pods import (
    create_pod,
    delete_pod,
    host_name,
    is_active,
    place_of,
    pod_of,
    read,
    ready_seconds,
    update_status,
)
from solo.controllers.watches import Obj, Watches

BURST = 50


@dataclass
class _View:
    """A Job and its pods in one pass."""

    job: Obj
    pods: list[Obj]
    now: datetime
    active: list[Obj] = field(init=False)
    ending: list[Obj] = field(init=False)

    def __post_init__(self) -> None:
        self.active = [pod for pod in self.pods if is_active(pod)]
        running = [pod for pod in self.pods if job_indexes.phase(pod) not in ("Succeeded", "Failed")]
        self.ending = [pod for pod in running if pod["metadata"].get("deletionTimestamp")]

    @property
    def spec(self) -> Obj:
        spec: Obj = self.job["spec"]
        return spec

    @property
    def before(self) -> Obj:
        return self.job.get("status") or {}


class JobController:
    """Takes (namespace, name) of Jobs."""

    def __init__(self, client: AsyncClient, watches: Watches, queue: WorkQueue[Place]) -> None:
        self._client = client
        self._queue = queue
        self._events = EventRecorder(client, "job-controller")
        watches.subscribe(JOBS, lambda kind, obj, old: self._queue.add(place_of(obj)))
        watches.subscribe(PODS, adding_owner(queue, JOBS))

    async def reconcile(self, place: Place) -> float | None:
        """Start, stop and count the pods of one Job; returns the seconds until time changes something."""
        job = await read(self._client, JOBS, place)
        if job is None or job["metadata"].get("deletionTimestamp") or job["spec"].get("managedBy"):
            return None
        ended = job_rules.finished(job)
        if ended is not None:
            return await self._expire(job, ended)
        view = _View(job, await claim(self._client, job, JOBS, PODS), datetime.now(UTC))
        status, outcome = job_rules.count(job, view.pods, view.now)
        again: list[float] = []
        if outcome is not None or view.spec.get("suspend"):
            await self._stop(view, view.active)
        else:
            again = await self._start(view, status)
        await self._report(view, status, outcome)
        return min(again) if again else None

    async def _expire(self, job: Obj, ended: datetime) -> float | None:
        """Delete a finished Job when its time to live is over."""
        seconds = job["spec"].get("ttlSecondsAfterFinished")
        if seconds is None:
            return None
        left = seconds - (datetime.now(UTC) - ended).total_seconds()
        if left > 0:
            return float(left)
        meta = job["metadata"]
        try:
            await self._client.delete(JOBS, meta["name"], meta["namespace"], propagation="Foreground", uid=meta["uid"])
        except StatusError as exc:
            if exc.code not in (404, 409):
                raise
        return None

    async def _stop(self, view: _View, pods: Iterable[Obj]) -> None:
        for pod in list(pods):
            view.active.remove(pod)
            view.ending.append(pod)
            await delete_pod(self._client, self._events, view.job, pod)

    async def _start(self, view: _View, status: Obj) -> list[float]:
        """Bring the number of active pods to what is wanted; returns what there is to wait for, in seconds."""
        waits = [left for left in (job_rules.deadline_left(view.job, status, view.now),) if left is not None]
        wanted = job_rules.wanted_active(view.job, status, len(view.active))
        if len(view.active) > wanted:
            spare = sorted(view.active, key=lambda pod: ready_seconds(pod, view.now) is not None)
            await self._stop(view, spare[: len(view.active) - wanted])
            return waits
        missing = wanted - len(view.active)
        if view.spec.get("podReplacementPolicy") == "Failed":
            missing -= len(view.ending)
        if missing <= 0:
            return waits
        indexes, delays = _due(view, status, missing)
        for index in indexes[:BURST]:
            created = await create_pod(self._client, self._events, view.job, _pod(view, index))
            if isinstance(created, StatusError):
                raise created
            view.active.append(created)
        return waits + delays

    async def _report(self, view: _View, status: Obj, outcome: Outcome | None) -> None:
        job, now = view.job, now_rfc3339()
        status["active"] = len(view.active)
        status["ready"] = sum(ready_seconds(pod, view.now) is not None for pod in view.active)
        status["terminating"] = len(view.ending)
        status["uncountedTerminatedPods"] = {}
        conditions = [dict(each) for each in view.before.get("conditions") or []]
        suspended = bool(view.spec.get("suspend")) and outcome is None
        if suspended:
            status.pop("startTime", None)
            job_rules.set_condition(conditions, "Suspended", "True", "JobSuspended", "Job suspended", now)
        elif job_rules.has_condition(conditions, "Suspended"):
            job_rules.set_condition(conditions, "Suspended", "False", "JobResumed", "Job resumed", now)
        if outcome is not None:
            early, last = ("SuccessCriteriaMet", "Complete") if outcome.success else ("FailureTarget", "Failed")
            job_rules.set_condition(conditions, early, "True", outcome.reason, outcome.message, now)
            if not view.active and not view.ending:
                job_rules.set_condition(conditions, last, "True", outcome.reason, outcome.message, now)
                if outcome.success:
                    status["completionTime"] = now
        if conditions:
            status["conditions"] = conditions
        status = {key: value for key, value in status.items() if value != 0 or key in ("ready", "terminating")}
        if status != view.before:
            await update_status(self._client, job, status, JOBS)
            if job_rules.finished({"status": status}) is not None and outcome is not None:
                kind, reason = ("Normal", "Completed") if outcome.success else ("Warning", outcome.reason)
                await self._events.event(job, kind, reason, "Job completed" if outcome.success else outcome.message)


def _due(view: _View, status: Obj, missing: int) -> tuple[list[int | None], list[float]]:
    """The indexes of the pods to start now (None for each where pods have none), and what is to be waited for."""
    spec = view.spec
    free: list[int | None] = [None] * missing
    if spec["completionMode"] == "Indexed":
        free = job_rules.free_indexes(view.job, status, view.active)
    if spec.get("backoffLimitPerIndex") is not None:
        ready, delays = job_indexes.due(free, view.pods, view.now)
        return ready[:missing], delays
    delay = job_indexes.backoff_left(view.pods, view.now)
    return ([], [delay]) if delay > 0 else (free[:missing], [])


def _pod(view: _View, index: int | None) -> Obj:
    """A pod of a Job, the one of an index where the Job counts by index."""
    job = view.job
    pod = pod_of(job, JOBS, job["spec"]["template"])
    if index is None:
        return pod
    meta, name = pod["metadata"], f"{job['metadata']['name']}-{index}"
    spec = {**pod["spec"], **host_name(name)}
    meta["generateName"] = f"{name}-"
    meta["labels"] = {**(meta.get("labels") or {}), INDEX: str(index)}
    meta["annotations"] = {**(meta.get("annotations") or {}), INDEX: str(index)}
    if view.spec.get("backoffLimitPerIndex") is not None:
        failed = job_indexes.failures(view.pods, lambda each: job_rules.action_of(view.spec, each))
        meta["annotations"][FAILURES] = str(failed.get(index, 0))
    variable: dict[str, Any] = {
        "name": "JOB_COMPLETION_INDEX",
        "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX}']"}},
    }
    for key in ("initContainers", "containers"):
        if spec.get(key):
            spec[key] = [{**each, "env": [*(each.get("env") or []), variable]} for each in spec[key]]
    return {**pod, "spec": spec}
