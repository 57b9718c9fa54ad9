"""CronJobs: a Job at each time of the schedule (kube-controller-manager's `pkg/controller/cronjob`)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kube.client.aio import AsyncClient
from kube.client.events import EventRecorder
from kube.client.queue import WorkQueue
from kube.machinery.cron import CronError, Interval, Schedule, parse_cron
from kube.machinery.durations import parse_rfc3339, rfc3339
from kube.machinery.errors import StatusError
from kube.machinery.resources import CRONJOBS, JOBS
from solo.controllers.job_rules import finished, has_condition
from solo.controllers.ownership import Place, controller_of, controller_reference
from solo.controllers.pods import place_of, read, update_status
from solo.controllers.watches import Obj, Watches

SCHEDULED_AT = "batch.kubernetes.io/cronjob-scheduled-timestamp"
TOO_MANY_MISSED = 100


class CronJobController:
    """Takes (namespace, name) of CronJobs."""

    def __init__(self, client: AsyncClient, watches: Watches, queue: WorkQueue[Place]) -> None:
        self._client = client
        self._queue = queue
        self._events = EventRecorder(client, "cronjob-controller")
        watches.subscribe(CRONJOBS, lambda kind, obj, old: self._queue.add(place_of(obj)))
        watches.subscribe(JOBS, self._on_job)

    def _on_job(self, kind: str, job: Obj, old: Obj | None) -> None:
        reference = controller_of(job)
        if reference is not None and reference.get("kind") == CRONJOBS.kind:
            self._queue.add((job["metadata"]["namespace"], reference["name"]))

    async def reconcile(self, place: Place) -> float | None:
        """Start the Job that is due, if one is; returns the seconds until it has to look again."""
        cron = await read(self._client, CRONJOBS, place)
        if cron is None or cron["metadata"].get("deletionTimestamp"):
            return None
        jobs = [job for job in (await self._client.list(JOBS, place[0]))["items"] if _is_of(job, cron)]
        await self._tell(cron, jobs)
        await self._trim(cron, jobs)
        known = _known(cron)
        active = [job for job in jobs if finished(job) is None and _is_expected(job, known)]
        status = dict(cron.get("status") or {})
        again: float | None = None
        if not cron["spec"].get("suspend"):
            again = await self._schedule(cron, active, status)
        await self._report(cron, jobs, active, status)
        return again

    async def _tell(self, cron: Obj, jobs: list[Obj]) -> None:
        """Events for what became of the Jobs that are noted as active, and for Jobs that somebody else made."""
        known, present = _known(cron), {job["metadata"]["uid"]: job for job in jobs}
        for uid, name in known.items():
            if uid not in present:
                await self._events.event(cron, "Normal", "MissingJob", f"Active job went missing: {name}")
            elif finished(present[uid]) is not None:
                complete = has_condition(present[uid]["status"]["conditions"], "Complete")
                text = f"Saw completed job: {name}, condition: {'Complete' if complete else 'Failed'}"
                await self._events.event(cron, "Normal", "SawCompletedJob", text)
        for job in jobs:
            if finished(job) is None and not _is_expected(job, known):
                text = f"Saw a job that the controller did not create or forgot: {job['metadata']['name']}"
                await self._events.event(cron, "Warning", "UnexpectedJob", text)

    async def _schedule(self, cron: Obj, active: list[Obj], status: Obj) -> float | None:
        spec, now = cron["spec"], datetime.now(UTC)
        try:
            schedule = parse_cron(spec["schedule"], spec.get("timeZone"))
        except CronError as problem:
            await self._events.event(cron, "Warning", "UnparseableSchedule", f"unparseable schedule: {problem}")
            return None
        due, following = _times(schedule, cron, now)
        wait = (following - now).total_seconds() if following is not None else None
        if due is None:
            return wait
        late = spec.get("startingDeadlineSeconds")
        if late is not None and now - due > timedelta(seconds=late):
            text = f"Missed scheduled time to start a job: {due:%a, %d %b %Y %H:%M:%S %z}"
            await self._events.event(cron, "Warning", "MissSchedule", text)
            return wait
        if active and spec["concurrencyPolicy"] == "Forbid":
            text = "Not starting job because prior execution is running and concurrency policy is Forbid"
            await self._events.event(cron, "Normal", "JobAlreadyActive", text)
            return wait
        if spec["concurrencyPolicy"] == "Replace":
            for job in list(active):
                await self._delete(cron, job)
                active.remove(job)
        created = await self._create(cron, due)
        if created is not None:
            active.append(created)
        status["lastScheduleTime"] = rfc3339(due)
        return wait

    async def _create(self, cron: Obj, due: datetime) -> Obj | None:
        """The Job of a time; its name says which, so that it cannot be made twice."""
        template = cron["spec"]["jobTemplate"]
        meta = template.get("metadata") or {}
        name = f"{cron['metadata']['name']}-{int(due.timestamp() // 60)}"
        job: Obj = {
            "apiVersion": JOBS.api_version,
            "kind": JOBS.kind,
            "metadata": {
                "name": name,
                "namespace": cron["metadata"]["namespace"],
                "labels": dict(meta.get("labels") or {}),
                "annotations": {**(meta.get("annotations") or {}), SCHEDULED_AT: rfc3339(due)},
                "ownerReferences": [controller_reference(cron, CRONJOBS)],
            },
            "spec": template["spec"],
        }
        try:
            created = await self._client.create(JOBS, job)
        except StatusError as exc:
            if exc.reason == "AlreadyExists":
                return None
            await self._events.event(cron, "Warning", "FailedCreate", f"Error creating job: {exc.message}")
            raise
        await self._events.event(cron, "Normal", "SuccessfulCreate", f"Created job {name}")
        return created

    async def _delete(self, cron: Obj, job: Obj) -> None:
        meta = job["metadata"]
        try:
            await self._client.delete(JOBS, meta["name"], meta["namespace"], propagation="Background", uid=meta["uid"])
        except StatusError as exc:
            if exc.code not in (404, 409):
                raise
        await self._events.event(cron, "Normal", "SuccessfulDelete", f"Deleted job {meta['name']}")

    async def _trim(self, cron: Obj, jobs: list[Obj]) -> None:
        """Delete the oldest finished Jobs beyond the history limits."""
        for type_, limit in (("Complete", "successfulJobsHistoryLimit"), ("Failed", "failedJobsHistoryLimit")):
            ended = [job for job in jobs if has_condition((job.get("status") or {}).get("conditions") or (), type_)]
            ended.sort(key=lambda job: str((job.get("status") or {}).get("startTime") or ""))
            for job in ended[: max(0, len(ended) - int(cron["spec"][limit]))]:
                await self._delete(cron, job)
                jobs.remove(job)

    async def _report(self, cron: Obj, jobs: list[Obj], active: list[Obj], status: Obj) -> None:
        references = [_reference(job) for job in active]
        status.pop("active", None)
        if references:
            status["active"] = references
        times = [time for job in jobs if (time := (job.get("status") or {}).get("completionTime"))]
        if times:
            status["lastSuccessfulTime"] = max([*times, status.get("lastSuccessfulTime") or ""])
        if status != (cron.get("status") or {}):
            await update_status(self._client, cron, status, CRONJOBS)


def _is_of(job: Obj, cron: Obj) -> bool:
    reference = controller_of(job)
    return reference is not None and reference.get("uid") == cron["metadata"]["uid"]


def _known(cron: Obj) -> dict[str, str]:
    """The Jobs that are noted as active: name by uid."""
    return {job["uid"]: job["name"] for job in (cron.get("status") or {}).get("active") or ()}


def _is_expected(job: Obj, known: dict[str, str]) -> bool:
    """Whether a Job is noted, or was made for a time of the schedule and could not be noted any more."""
    return job["metadata"]["uid"] in known or SCHEDULED_AT in (job["metadata"].get("annotations") or {})


def _times(schedule: Schedule | Interval, cron: Obj, now: datetime) -> tuple[datetime | None, datetime | None]:
    """The latest time that has come and may still be made up for, and the next one."""
    last = parse_rfc3339((cron.get("status") or {}).get("lastScheduleTime") or cron["metadata"]["creationTimestamp"])
    late = cron["spec"].get("startingDeadlineSeconds")
    earliest = now - timedelta(seconds=late) if late is not None else last
    if isinstance(schedule, Interval):
        # Its times follow from the last one, however long ago that was.
        due = schedule.latest(last, now)
        return due if due is not None and due >= earliest else None, schedule.following(due or last)
    return _latest_due(schedule, max(last, earliest), now), schedule.following(now)


def _latest_due(schedule: Schedule, begin: datetime, now: datetime) -> datetime | None:
    """The latest time of the schedule after `begin` that has come; after a long pause only the last day counts."""
    due = None
    moment = schedule.following(begin)
    missed = 0
    while moment is not None and moment <= now:
        due = moment
        missed += 1
        if missed > TOO_MANY_MISSED:
            begin = max(begin, now - timedelta(days=1)) if now - moment > timedelta(days=1) else moment
            moment, missed = schedule.following(begin), 0
            continue
        moment = schedule.following(moment)
    return due


def _reference(job: Obj) -> Obj:
    meta = job["metadata"]
    return {
        "apiVersion": JOBS.api_version,
        "kind": JOBS.kind,
        "name": meta["name"],
        "namespace": meta["namespace"],
        "uid": meta["uid"],
        "resourceVersion": meta["resourceVersion"],
    }
