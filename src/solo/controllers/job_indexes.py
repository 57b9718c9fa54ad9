"""Pods of Jobs by their index: reading and writing lists of indexes, waiting after failures, and Jobs that count
failures by index (`backoffLimitPerIndex`): which are given up, and when one is tried again.

A pod carries how often its index has failed before it, so that this is known when the pods before it are gone.
Source: kube-controller-manager's `pkg/controller/job` (backoff_utils.go, indexed_job_utils.go).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kube.machinery.durations import parse_rfc3339

Obj = dict[str, Any]

INDEX = "batch.kubernetes.io/job-completion-index"
FAILURES = "batch.kubernetes.io/job-index-failure-count"
FIRST_BACKOFF_SECONDS = 10.0
MAX_BACKOFF_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a Job ends."""

    success: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Ending:
    """When a pod ended and how."""

    moment: datetime
    success: bool


def phase(pod: Mapping[str, Any]) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


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


def backoff_left(pods: Iterable[Obj], now: datetime) -> float:
    """Seconds to wait after the failures since the last success, twice as long for each (`newBackoffRecord`)."""
    ended = [ending for pod in pods if (ending := ending_of(pod)) is not None]
    successes = [each.moment for each in ended if each.success]
    failures = [each.moment for each in ended if not each.success and all(each.moment > time for time in successes)]
    if not failures:
        return 0.0
    delay = min(FIRST_BACKOFF_SECONDS * 2.0 ** min(len(failures) - 1, 10), MAX_BACKOFF_SECONDS)
    return max(0.0, delay - (now - max(failures)).total_seconds())


def ending_of(pod: Obj) -> Ending | None:
    """When and how a pod ended, None while it has not."""
    if phase(pod) not in ("Succeeded", "Failed"):
        return None
    status = pod.get("status") or {}
    times = [
        ((each.get("state") or {}).get("terminated") or {}).get("finishedAt")
        for each in status.get("containerStatuses") or ()
    ]
    known = [time for time in times if time] or [pod["metadata"]["creationTimestamp"]]
    return Ending(max(parse_rfc3339(time) for time in known), phase(pod) == "Succeeded")


def failures(pods: Iterable[Obj], action_of: Callable[[Obj], str]) -> dict[int, int]:
    """How often each index has failed. `action_of` is the failure policy's word on a failed pod."""
    counts: dict[int, int] = {}
    for pod in pods:
        index = index_of(pod)
        if index is None:
            continue
        before = int((pod["metadata"].get("annotations") or {}).get(FAILURES) or 0)
        failed = phase(pod) == "Failed" and action_of(pod) != "Ignore"
        counts[index] = max(counts.get(index, 0), before + failed)
    return counts


def given_up(spec: Obj, before: Obj, pods: Sequence[Obj], action_of: Callable[[Obj], str]) -> set[int | None]:
    """The indexes that are not tried again, those of the status before among them."""
    limit = int(spec["backoffLimitPerIndex"])
    found = parse_indexes(before.get("failedIndexes") or "")
    found |= {index for index, count in failures(pods, action_of).items() if count > limit}
    ended = (pod for pod in pods if phase(pod) == "Failed" and action_of(pod) == "FailIndex")
    return found | {index_of(pod) for pod in ended}


def outcome(spec: Obj, status: Obj) -> Outcome | None:
    """The end of a Job by its indexes: too many have failed, or all have ended and some of them so."""
    failed = len(parse_indexes(status.get("failedIndexes") or ""))
    most = spec.get("maxFailedIndexes")
    if most is not None and failed > int(most):
        text = "Job has exceeded the specified maximal number of failed indexes"
        return Outcome(False, "MaxFailedIndexesExceeded", text)
    if failed and failed + int(status["succeeded"]) >= int(spec["completions"]):
        return Outcome(False, "FailedIndexes", "Job has failed indexes")
    return None


def due(indexes: Iterable[int | None], pods: Sequence[Obj], now: datetime) -> tuple[list[int | None], list[float]]:
    """Those that may be tried now, and the seconds that the others still have to wait."""
    ready: list[int | None] = []
    waits: list[float] = []
    for index in indexes:
        delay = backoff_left([pod for pod in pods if index_of(pod) == index], now)
        if delay > 0:
            waits.append(delay)
        else:
            ready.append(index)
    return ready, waits
