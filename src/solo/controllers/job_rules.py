"""What becomes of a Job, decided from its spec, its status and its pods; no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kube.machinery.durations import parse_rfc3339, rfc3339

Obj = dict[str, Any]

INDEX = "batch.kubernetes.io/job-completion-index"
FIRST_BACKOFF_SECONDS = 10.0
MAX_BACKOFF_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a Job ends."""

    success: bool
    reason: str
    message: str


def phase(pod: Mapping[str, Any]) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


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
    return None


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
    return max(0, min(int(spec["parallelism"]), int(wanted) - int(status["succeeded"])))


def backoff_left(pods: Iterable[Obj], now: datetime) -> float:
    """Seconds to wait after the failures since the last success, twice as long for each (`newBackoffRecord`)."""
    ended = [(moment, phase(pod)) for pod in pods if (moment := _ended(pod)) is not None]
    successes = [moment for moment, what in ended if what == "Succeeded"]
    failures = [moment for moment, what in ended if what == "Failed" and all(moment > each for each in successes)]
    if not failures:
        return 0.0
    delay = min(FIRST_BACKOFF_SECONDS * 2.0 ** min(len(failures) - 1, 10), MAX_BACKOFF_SECONDS)
    return max(0.0, delay - (now - max(failures)).total_seconds())


def _ended(pod: Obj) -> datetime | None:
    if phase(pod) not in ("Succeeded", "Failed"):
        return None
    status = pod.get("status") or {}
    times = [
        ((each.get("state") or {}).get("terminated") or {}).get("finishedAt")
        for each in status.get("containerStatuses") or ()
    ]
    known = [time for time in times if time] or [pod["metadata"]["creationTimestamp"]]
    return max(parse_rfc3339(time) for time in known)


def next_indexes(job: Obj, status: Obj, active: Iterable[Obj], number: int) -> list[int | None]:
    """The indexes of `number` new pods, lowest first; None for each where pods have no index."""
    spec = job["spec"]
    if spec["completionMode"] != "Indexed":
        return [None] * number
    taken = parse_indexes(status.get("completedIndexes") or "") | {index_of(pod) for pod in active}
    free: list[int | None] = [index for index in range(spec["completions"]) if index not in taken]
    return free[:number]


def index_of(pod: Obj) -> int | None:
    """The completion index that a pod works on."""
    text = (pod["metadata"].get("annotations") or {}).get(INDEX) or ""
    return int(text) if text.isdecimal() else None


def parse_indexes(text: str) -> set[int | None]:
    """`0-2,5` as numbers."""
    found: set[int | None] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first:
            found.update(range(int(first), int(last or first) + 1))
    return found


def show_indexes(indexes: Iterable[int | None]) -> str:
    """Numbers as `0-2,5`; two in a row are listed, three become a range."""
    spans: list[list[int]] = []
    for index in sorted(index for index in indexes if index is not None):
        if spans and spans[-1][1] == index - 1:
            spans[-1][1] = index
        else:
            spans.append([index, index])
    return ",".join(_span(first, last) for first, last in spans)


def _span(first: int, last: int) -> str:
    if first == last:
        return str(first)
    return f"{first},{last}" if last == first + 1 else f"{first}-{last}"
