"""What becomes of a Job, decided from its spec, its status and its pods; no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from kube.machinery.durations import parse_rfc3339, rfc3339
from solo.controllers import job_indexes
from solo.controllers.job_indexes import Outcome, index_of, parse_indexes, phase, show_indexes

Obj = dict[str, Any]


def has_condition(conditions: Iterable[Obj], type_: str) -> bool:
    return any(each.get("type") == type_ and each.get("status") == "True" for each in conditions)


def set_condition(conditions: list[Obj], type_: str, status: str, reason: str, message: str, now: str) -> None:
    """Add or change a condition in place; one that says the same already keeps its times."""
    wanted = {"type": type_, "status": status, "reason": reason, "message": message}
    for index, condition in enumerate(conditions):
        if condition.get("type") == type_:
            if any(condition.get(key) != value for key, value in wanted.items()):
                conditions[index] = {**wanted, "lastProbeTime": now, "lastTransitionTime": now}
            return
    conditions.append({**wanted, "lastProbeTime": now, "lastTransitionTime": now})


def finished(job: Mapping[str, Any]) -> datetime | None:
    """When a Job ended, None while it has not."""
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition.get("type") in ("Complete", "Failed") and condition.get("status") == "True":
            return parse_rfc3339(condition["lastTransitionTime"])
    return None


def count(job: Obj, pods: Sequence[Obj], now: datetime) -> tuple[Obj, Outcome | None]:
    """The new status as far as it counts pods, and the Job's end if it is decided."""
    spec, before = job["spec"], job.get("status") or {}
    status: Obj = {key: before[key] for key in ("startTime", "completedIndexes") if key in before}
    status.setdefault("startTime", rfc3339(now))
    failures = [pod for pod in pods if phase(pod) == "Failed"]
    verdict, ignored = _judge(spec, failures)
    status["failed"] = max(len(failures) - ignored, int(before.get("failed") or 0))
    if spec["completionMode"] == "Indexed":
        done = parse_indexes(status.get("completedIndexes") or "")
        done |= {index for pod in pods if phase(pod) == "Succeeded" and (index := index_of(pod)) is not None}
        done = {index for index in done if index < spec["completions"]}
        if done:
            status["completedIndexes"] = show_indexes(done)
        status["succeeded"] = len(done)
        if spec.get("backoffLimitPerIndex") is not None:
            lost = job_indexes.given_up(spec, before, pods, lambda pod: action_of(spec, pod))
            status["failedIndexes"] = show_indexes(lost)
    else:
        succeeded = sum(phase(pod) == "Succeeded" for pod in pods)
        status["succeeded"] = max(succeeded, int(before.get("succeeded") or 0))
    return status, _decided(before) or verdict or _failure(spec, status, pods, now) or _success(spec, status, pods)


def _decided(before: Obj) -> Outcome | None:
    """The end that was decided in a pass before; it waits for the last pods to go."""
    for condition in before.get("conditions") or ():
        if condition.get("type") in ("SuccessCriteriaMet", "FailureTarget") and condition.get("status") == "True":
            success = condition["type"] == "SuccessCriteriaMet"
            return Outcome(success, condition.get("reason") or "", condition.get("message") or "")
    return None


def _failure(spec: Obj, status: Obj, pods: Sequence[Obj], now: datetime) -> Outcome | None:
    limit = int(spec["backoffLimit"])
    restarts = 0
    if spec["template"]["spec"].get("restartPolicy") == "OnFailure":
        restarts = sum(_restarts(pod) for pod in pods if phase(pod) in ("Running", "Pending"))
    if status["failed"] > limit or (restarts and restarts >= max(limit, 1)):
        return Outcome(False, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    left = deadline_left({"spec": spec}, status, now)
    if left is not None and left <= 0:
        return Outcome(False, "DeadlineExceeded", "Job was active longer than specified deadline")
    return job_indexes.outcome(spec, status)


def _success(spec: Obj, status: Obj, pods: Sequence[Obj]) -> Outcome | None:
    for number, rule in enumerate((spec.get("successPolicy") or {}).get("rules") or ()):
        chosen = parse_indexes(rule.get("succeededIndexes") or f"0-{spec['completions'] - 1}")
        done = parse_indexes(status.get("completedIndexes") or "") & chosen
        if len(done) >= int(rule.get("succeededCount") or len(chosen)):
            return Outcome(True, "SuccessPolicy", f"Matched rules at index {number}")
    wanted = spec.get("completions")
    if wanted is None:
        left = any(phase(pod) not in ("Succeeded", "Failed") for pod in pods)
        met = status["succeeded"] > 0 and not left
    else:
        met = status["succeeded"] >= wanted
    return Outcome(True, "CompletionsReached", "Reached expected number of succeeded pods") if met else None


def _judge(spec: Obj, failures: Iterable[Obj]) -> tuple[Outcome | None, int]:
    """What the pod failure policy says: the end of the Job, and how many failures do not count."""
    rules = (spec.get("podFailurePolicy") or {}).get("rules") or []
    ignored = 0
    for pod in failures:
        number, rule = next(((n, r) for n, r in enumerate(rules) if _matches(r, pod)), (0, None))
        if rule is None:
            continue
        if rule.get("action") == "FailJob":
            meta = pod["metadata"]
            text = f"Pod {meta['namespace']}/{meta['name']} matched FailJob rule at index {number}"
            return Outcome(False, "PodFailurePolicy", text), ignored
        if rule.get("action") == "Ignore":
            ignored += 1
    return None, ignored


def action_of(spec: Obj, pod: Obj) -> str:
    """What the pod failure policy does about a failed pod, "" where it has no rule for it."""
    rules = (spec.get("podFailurePolicy") or {}).get("rules") or []
    return next((str(rule.get("action")) for rule in rules if _matches(rule, pod)), "")


def _matches(rule: Obj, pod: Obj) -> bool:
    status = pod.get("status") or {}
    codes = rule.get("onExitCodes")
    if codes:
        for each in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
            ended = (each.get("state") or {}).get("terminated")
            if not ended or not ended.get("exitCode") or codes.get("containerName") not in (None, each.get("name")):
                continue
            if (ended["exitCode"] in codes["values"]) is (codes["operator"] == "In"):
                return True
        return False
    conditions = {(each.get("type"), each.get("status")) for each in status.get("conditions") or ()}
    patterns = rule.get("onPodConditions") or ()
    return any((pattern.get("type"), pattern.get("status") or "True") in conditions for pattern in patterns)


def _restarts(pod: Obj) -> int:
    status = pod.get("status") or {}
    listed = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    return sum(int(each.get("restartCount") or 0) for each in listed)


def deadline_left(job: Obj, status: Obj, now: datetime) -> float | None:
    """Seconds until `activeDeadlineSeconds` are over, None without."""
    seconds = job["spec"].get("activeDeadlineSeconds")
    if seconds is None or job["spec"].get("suspend"):
        return None
    return float(seconds) - (now - parse_rfc3339(status["startTime"])).total_seconds()


def wanted_active(job: Obj, status: Obj, active: int) -> int:
    """How many pods are to run now."""
    spec = job["spec"]
    wanted = spec.get("completions")
    if wanted is None:
        return active if status["succeeded"] else int(spec["parallelism"])
    lost = len(parse_indexes(status.get("failedIndexes") or ""))
    return max(0, min(int(spec["parallelism"]), int(wanted) - int(status["succeeded"]) - lost))


def free_indexes(job: Obj, status: Obj, active: Iterable[Obj]) -> list[int | None]:
    """The indexes that need a pod, lowest first."""
    taken = {index_of(pod) for pod in active}
    for key in ("completedIndexes", "failedIndexes"):
        taken |= parse_indexes(status.get(key) or "")
    return [index for index in range(job["spec"]["completions"]) if index not in taken]
