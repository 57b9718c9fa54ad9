"""When a container is to be started again: restart policies and the crash-loop back-off. Pure.

Numbers are the kubelet's: the first restart is at once, then 10 s doubling to 5 min, reset after 10 min of running.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from kube.machinery.durations import parse_rfc3339
from solo.node.records import ContainerRecord

BACKOFF_FIRST, BACKOFF_MAX, BACKOFF_RESET_AFTER = 10.0, 300.0, 600.0


class Step(Enum):
    """What a container needs next."""

    START = auto()
    WAIT = auto()
    RUN = auto()
    SUCCEEDED = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class Decision:
    """The step, and for WAIT the time (seconds since the epoch) when it ends."""

    step: Step
    at: float = 0.0


def should_restart(policy: str, exit_code: int, *, init: bool) -> bool:
    """Whether a container that ended is started again. An init container that succeeded never is."""
    if exit_code == 0:
        return policy == "Always" and not init
    return policy != "Never"


def decide(record: ContainerRecord, policy: str, now: float, *, init: bool) -> Decision:
    """The next step of a container by its record."""
    if record.pid:
        return Decision(Step.RUN)
    ended = record.terminated
    if ended is not None and not should_restart(policy, ended.exit_code, init=init):
        return Decision(Step.SUCCEEDED if ended.exit_code == 0 else Step.FAILED)
    # A start that is further away than any back-off is that of a clock which has been set back since.
    if now < record.retry_at <= now + BACKOFF_MAX:
        return Decision(Step.WAIT, record.retry_at)
    return Decision(Step.START)


def back_off(record: ContainerRecord, ran_for: float, now: float) -> None:
    """Note in `record` when the next start may be, after a run or an attempt of `ran_for` seconds."""
    if ran_for >= BACKOFF_RESET_AFTER:
        record.backoff = 0.0
    record.retry_at = now + record.backoff if record.backoff else 0.0
    record.backoff = min(max(record.backoff * 2, BACKOFF_FIRST), BACKOFF_MAX)


def seconds_between(start: str, end: str) -> float:
    """Seconds from one RFC 3339 time to another; 0 when one is not known."""
    return (parse_rfc3339(end) - parse_rfc3339(start)).total_seconds() if start and end else 0.0


def sooner(one: float | None, other: float | None) -> float | None:
    """The smaller of two waits, None being for ever."""
    return other if one is None else one if other is None else min(one, other)
