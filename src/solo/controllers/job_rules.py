"""What becomes of a Job, decided from its spec, its status and its pods; no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from kube.machinery.durations import parse_rfc3339, rfc3339
from kube.machinery.selectors import label_selector_from_dict
from solo.controllers import job_indexes
from solo.controllers.job_indexes import Outcome, index_of, parse_indexes, phase, show_indexes
from solo.controllers.job_tracking import Tally, is_stopped
from solo.controllers.pods import ready_seconds

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
    """The new status as far as it counts pods, with the uids that are to be counted, and the Job's end if decided."""
    spec, before = job["spec"], job.get("status") or {}
    status: Obj = {key: before[key] for key in ("startTime", "completedIndexes") if key in before}
    status.setdefault("startTime", rfc3339(now))
    tally = Tally(before)
    tally.add("failed", (pod for pod in pods if phase(pod) == "Failed" and _counts(spec, pod)))
    status["failed"] = tally.total("failed")
    if spec["completionMode"] == "Indexed":
        done = parse_indexes(status.get("completedIndexes") or "")
        done |= {index for pod in pods if phase(pod) == "Succeeded" and (index := index_of(pod)) is not None}
        done = {index for index in done if index < spec["completions"]}
        if done:
            status["completedIndexes"] = show_indexes(done)
        status["succeeded"] = len(done)
        if spec.get("backoffLimitPerIndex") is not None:
            own = [pod for pod in pods if not is_stopped(pod)]
            lost = job_indexes.given_up(spec, before, own, lambda pod: action_of(spec, pod))
            status["failedIndexes"] = show_indexes(lost)
    else:
        tally.add("succeeded", (pod for pod in pods if phase(pod) == "Succeeded"))
        status["succeeded"] = tally.total("succeeded")
    outcome = _decided(before) or _verdict(spec, pods) or _failure(spec, status, pods, now)
    outcome = outcome or _success(spec, status, pods)
    if outcome is not None and not outcome.success:
        # What still runs is stopped because of that, and counts as failed.
        tally.add("failed", (pod for pod in pods if phase(pod) != "Succeeded" and _counts(spec, pod)))
        status["failed"] = tally.total("failed")
    status["uncountedTerminatedPods"] = tally.noted
    return status, outcome


def _counts(spec: Obj, pod: Obj) -> bool:
    """Whether a pod that fails is one of the Job's failures."""
    index = index_of(pod)
    if spec["completionMode"] == "Indexed" and (index is None or index >= spec["completions"]):
        return False
    return action_of(spec, pod) != "Ignore"


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


def _verdict(spec: Obj, pods: Iterable[Obj]) -> Outcome | None:
    """The end of the Job by its pod failure policy."""
    for pod in pods:
        if phase(pod) == "Failed" and (found := _matching(spec, pod)) is not None:
            number, action, what = found
            if action == "FailJob":
                text = f"{what} matching FailJob rule at index {number}"
                return Outcome(False, "PodFailurePolicy", text)
    return None


def action_of(spec: Obj, pod: Obj) -> str:
    """What the pod failure policy does about a failed pod, "" where it has no rule for it."""
    found = _matching(spec, pod)
    return found[1] if found is not None else ""


def _matching(spec: Obj, pod: Obj) -> tuple[int, str, str] | None:
    """The first rule of the pod failure policy for a pod: its number, its action, and the words for what it matches."""
    for number, rule in enumerate((spec.get("podFailurePolicy") or {}).get("rules") or ()):
        match = _exit_matching if rule.get("onExitCodes") else _condition_matching
        if what := match(rule, pod):
            return number, str(rule.get("action")), what
    return None


def _exit_matching(rule: Obj, pod: Obj) -> str:
    codes, status, meta = rule["onExitCodes"], pod.get("status") or {}, pod["metadata"]
    for each in [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]:
        code = ((each.get("state") or {}).get("terminated") or {}).get("exitCode")
        if not code or codes.get("containerName") not in (None, each.get("name")):
            continue
        if (code in codes["values"]) is (codes["operator"] == "In"):
            place = f"{meta['namespace']}/{meta['name']}"
            return f"Container {each.get('name')} for pod {place} failed with exit code {code}"
    return ""


def _condition_matching(rule: Obj, pod: Obj) -> str:
    meta = pod["metadata"]
    patterns = {(each.get("type"), each.get("status") or "True") for each in rule.get("onPodConditions") or ()}
    for each in (pod.get("status") or {}).get("conditions") or ():
        if (each.get("type"), each.get("status")) in patterns:
            return f"Pod {meta['namespace']}/{meta['name']} has condition {each['type']}"
    return ""


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


def spare(job: Obj, active: Sequence[Obj], wanted: int, now: datetime) -> list[Obj]:
    """The pods to stop so that `wanted` are left, those that have come least far (`activePodsForRemoval`).

    Where pods have indexes, that is all with none or one out of range, and all but one of each index besides.
    """
    ordered = sorted(active, key=lambda pod: pod["metadata"].get("creationTimestamp") or "", reverse=True)
    ordered.sort(key=lambda pod: _progress(pod, now))
    if job["spec"]["completionMode"] == "Indexed":
        # Of one index the last in this order stays, as it overwrites the others.
        last = {index: pod for pod in ordered if (index := index_of(pod)) is not None}
        kept = {id(pod) for index, pod in last.items() if index < job["spec"]["completions"]}
        ordered.sort(key=lambda pod: id(pod) in kept)
        return ordered[: max(len(active) - len(kept), len(active) - wanted)]
    return ordered[: max(0, len(active) - wanted)]


def _progress(pod: Obj, now: datetime) -> tuple[bool, bool, float, int]:
    """How far an active pod has come (`controller.ActivePods`)."""
    ready = ready_seconds(pod, now)
    is_placed = bool((pod.get("spec") or {}).get("nodeName"))
    return is_placed, phase(pod) == "Running", -1.0 if ready is None else ready, -_restarts(pod)


def selects_its_pods(job: Obj) -> bool:
    """Whether the pods of a Job's template are its own; with a selector of its own this may not be so."""
    labels = (job["spec"]["template"].get("metadata") or {}).get("labels")
    return label_selector_from_dict(job["spec"].get("selector")).matches(labels)


def free_indexes(job: Obj, status: Obj, active: Iterable[Obj]) -> list[int | None]:
    """The indexes that need a pod, lowest first."""
    taken = {index_of(pod) for pod in active}
    for key in ("completedIndexes", "failedIndexes"):
        taken |= parse_indexes(status.get(key) or "")
    return [index for index in range(job["spec"]["completions"]) if index not in taken]
