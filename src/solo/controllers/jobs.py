"""Jobs: pods that run to their end, so and so many at once, until enough have succeeded or too many failed.

Follows kube-controller-manager's `pkg/controller/job`. What is counted is kept in the status: a finished pod that
somebody deletes has been counted already (`job_tracking`).
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
from solo.controllers.job_tracking import TRACKING, Ended, is_tracked
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
    ended: list[Obj] = field(default_factory=list)

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
        self._ended = Ended()
        watches.subscribe(JOBS, lambda kind, obj, old: self._queue.add(place_of(obj)))
        watches.subscribe(PODS, adding_owner(queue, JOBS))

    async def reconcile(self, place: Place) -> float | None:
        """Start, stop and count the pods of one Job; returns the seconds until time changes something."""
        job = await read(self._client, JOBS, place)
        if job is None or job["metadata"].get("deletionTimestamp") or job["spec"].get("managedBy"):
            self._ended.forget(place)
            return None
        ended = job_rules.finished(job)
        if ended is not None:
            self._ended.forget(place)
            return await self._expire(job, ended)
        if not job_rules.selects_its_pods(job):
            # Its pods would be let go of as soon as they are made, and made again without end.
            text = "Error creating: `selector` does not match template `labels`"
            await self._events.event(job, "Warning", "FailedCreate", text)
            return None
        view = _View(job, await claim(self._client, job, JOBS, PODS, {TRACKING: ""}), datetime.now(UTC))
        status, outcome = job_rules.count(job, view.pods, view.now)
        view.ended = self._ended.learn(place, job, view.pods)
        await self._note(view, status["uncountedTerminatedPods"])
        again: list[float] = []
        if outcome is not None or view.spec.get("suspend"):
            await self._stop(view, view.active)
        else:
            try:
                again = await self._start(view, status)
            except StatusError:
                # A quota may refuse pods for long; what there is to say of the others does not wait for that.
                await self._report(view, status, outcome)
                raise
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

    async def _note(self, view: _View, noted: Obj) -> None:
        """Write down which pods are to be counted, and take off their marks; the report has them in its counters."""
        if noted != (view.before.get("uncountedTerminatedPods") or {}):
            status = {**view.before, "uncountedTerminatedPods": noted}
            view.job = await update_status(self._client, view.job, status, JOBS)
        uids = {uid for listed in noted.values() for uid in listed}
        for pod in view.pods:
            if pod["metadata"]["uid"] in uids:
                await self._mark(pod, None)

    async def _mark(self, pod: Obj, mark: str | None) -> None:
        """Mark a pod as one to be counted, or take the mark off (None)."""
        meta = pod["metadata"]
        if is_tracked(pod) is (mark is not None):
            return
        patch = {"metadata": {"uid": meta["uid"], "annotations": {TRACKING: mark}}}
        try:
            pod["metadata"] = (await self._client.patch(PODS, meta["name"], patch, meta["namespace"]))["metadata"]
        except StatusError as exc:
            if exc.code != 404:
                raise

    async def _stop(self, view: _View, pods: Iterable[Obj]) -> None:
        for pod in list(pods):
            view.active.remove(pod)
            view.ending.append(pod)
            # Before it ends: what is stopped is no failure of the Job.
            await self._mark(pod, None)
            await delete_pod(self._client, self._events, view.job, pod)

    async def _start(self, view: _View, status: Obj) -> list[float]:
        """Bring the number of active pods to what is wanted; returns what there is to wait for, in seconds."""
        waits = [left for left in (job_rules.deadline_left(view.job, status, view.now),) if left is not None]
        wanted = job_rules.wanted_active(view.job, status, len(view.active))
        if spare := job_rules.spare(view.job, view.active, wanted, view.now):
            await self._stop(view, spare)
            return waits
        for pod in view.active:
            await self._mark(pod, "")
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
        if outcome is None and view.spec.get("suspend"):
            status.pop("startTime", None)
        if conditions := _conditions(view, outcome, now):
            status["conditions"] = conditions
        if job_rules.has_condition(conditions, "Complete"):
            status["completionTime"] = now
        status = {key: value for key, value in status.items() if value != 0 or key in ("ready", "terminating")}
        if status != view.before:
            await update_status(self._client, job, status, JOBS)
            for kind, reason, message in _news(view.before.get("conditions") or [], conditions, outcome):
                await self._events.event(job, kind, reason, message)


def _conditions(view: _View, outcome: Outcome | None, now: str) -> list[Obj]:
    """The conditions of a Job after a pass. A Job that has come to its end is not suspended nor resumed any more."""
    conditions = [dict(each) for each in view.before.get("conditions") or []]
    if outcome is not None:
        early, last = ("SuccessCriteriaMet", "Complete") if outcome.success else ("FailureTarget", "Failed")
        job_rules.set_condition(conditions, early, "True", outcome.reason, outcome.message, now)
        if not view.active and not view.ending:
            job_rules.set_condition(conditions, last, "True", outcome.reason, outcome.message, now)
    elif view.spec.get("suspend"):
        job_rules.set_condition(conditions, "Suspended", "True", "JobSuspended", "Job suspended", now)
    elif job_rules.has_condition(conditions, "Suspended"):
        job_rules.set_condition(conditions, "Suspended", "False", "JobResumed", "Job resumed", now)
    return conditions


def _news(before: list[Obj], after: list[Obj], outcome: Outcome | None) -> list[tuple[str, str, str]]:
    """The events (type, reason and message) that a change of conditions is worth."""
    was, suspended = (job_rules.has_condition(each, "Suspended") for each in (before, after))
    if was is not suspended:
        return [("Normal", "Suspended", "Job suspended") if suspended else ("Normal", "Resumed", "Job resumed")]
    if outcome is None or job_rules.finished({"status": {"conditions": after}}) is None:
        return []
    return [
        ("Normal", "Completed", "Job completed") if outcome.success else ("Warning", outcome.reason, outcome.message)
    ]


def _due(view: _View, status: Obj, missing: int) -> tuple[list[int | None], list[float]]:
    """The indexes of the pods to start now (None for each where pods have none), and what is to be waited for."""
    spec = view.spec
    free: list[int | None] = [None] * missing
    if spec["completionMode"] == "Indexed":
        free = job_rules.free_indexes(view.job, status, view.active)
    if spec.get("backoffLimitPerIndex") is not None:
        ready, delays = job_indexes.due(free, view.ended, view.now)
        return ready[:missing], delays
    delay = job_indexes.backoff_left(view.ended, view.now)
    return ([], [delay]) if delay > 0 else (free[:missing], [])


def _pod(view: _View, index: int | None) -> Obj:
    """A pod of a Job, the one of an index where the Job counts by index."""
    job = view.job
    pod = pod_of(job, JOBS, job["spec"]["template"])
    meta, name = pod["metadata"], f"{job['metadata']['name']}-{index}"
    meta["annotations"] = {**(meta.get("annotations") or {}), TRACKING: ""}
    if index is None:
        return pod
    spec = {**pod["spec"], **host_name(name)}
    meta["generateName"] = f"{name}-"
    meta["labels"] = {**(meta.get("labels") or {}), INDEX: str(index)}
    meta["annotations"][INDEX] = str(index)
    if view.spec.get("backoffLimitPerIndex") is not None:
        failed = job_indexes.failures(view.ended, lambda each: job_rules.action_of(view.spec, each))
        meta["annotations"][FAILURES] = str(failed.get(index, 0))
    variable: dict[str, Any] = {
        "name": "JOB_COMPLETION_INDEX",
        "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX}']"}},
    }
    for key in ("initContainers", "containers"):
        if spec.get(key):
            spec[key] = [{**each, "env": [*(each.get("env") or []), variable]} for each in spec[key]]
    return {**pod, "spec": spec}
