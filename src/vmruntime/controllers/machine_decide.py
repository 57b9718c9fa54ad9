"""What to do about a VirtualMachine next: a pure function of the object, of what runs, and of the clock.

Every pass looks at everything anew and takes one step, so that it doesn't matter where the last pass, or the last
controller, was killed. What must survive that is in the status and is written *before* the step it belongs to: that a
guest powered itself off, before what ran it is ended; that a machine failed, before its pod is cleared away.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from kube.client.backoff import doubled
from kube.machinery.durations import parse_rfc3339, rfc3339, rfc3339_micro
from vmruntime.api import names
from vmruntime.api import virtualmachine as api
from vmruntime.api.meta import Obj, annotation, condition_of, dig, has_finalizer, is_deleting
from vmruntime.engines.machine import NO_SPACE, MachineObservation, MachinePhase

BACKOFF_FIRST_SECONDS = 1.0
BACKOFF_LIMIT_SECONDS = 60.0
# A machine that ran this long before it failed starts its back-off anew.
BACKOFF_RESET_SECONDS = 300.0
# How often the power button is pressed while the guest doesn't react: one that is still booting misses the first.
PRESS_AGAIN_SECONDS = 10.0
# How often a machine that is paused for want of space is looked at.
SPACE_SECONDS = 3.0
# A machine whose process has run this long may have a guest with something to lose, whatever is known of it.
BEGIN_SECONDS = 5.0

GUEST_POWERED_OFF = "GuestPoweredOff"
STOP_REQUESTED = "StopRequested"
RESTART_REQUESTED = "RestartRequested"
CONFIGURATION_CHANGED = "ConfigurationChanged"
CLUSTER_STOPPED = "ClusterStopped"
DELETED = "Deleted"
FAILED = "MachineFailed"


class Step(StrEnum):
    NONE = "none"
    ADD_FINALIZER = "add finalizer"
    START = "start"
    POWER_BUTTON = "press the power button"
    RESUME = "resume"
    END = "end"
    FORGET = "forget"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a machine cannot start yet, and the state that this means."""

    state: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Situation:
    """All that the decision depends on.

    `gate`: why new machines may not start at all. `waiting`: what this one waits for before it can start (again).
    `disposable`: nothing on its disks will be kept, so that a guest need not shut down in order. `changed`: fields of
    the spec that the running machine was not started with.
    """

    vm: Obj
    machine: MachineObservation
    now: datetime
    gate: Problem | None = None
    waiting: Problem | None = None
    disposable: bool = False
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The step to take and what the status says about it; an empty state means that the status stays as it is.

    `after`: seconds after which to look again at the latest. `changes`: further status fields, None removes one.
    """

    step: Step
    state: str = ""
    reason: str = ""
    message: str = ""
    after: float | None = None
    changes: Obj = field(default_factory=dict)


def decide(situation: Situation) -> Plan:
    """The next step."""
    if is_deleting(situation.vm):
        return _delete(situation)
    machine = situation.machine
    never_ran = not _status(situation, "launches", 0) and machine.phase is MachinePhase.ABSENT
    if situation.gate and never_ran:
        return Plan(Step.NONE, situation.gate.state, situation.gate.reason, situation.gate.message)
    if not has_finalizer(situation.vm, names.VM_FINALIZER):
        return Plan(Step.ADD_FINALIZER)
    if machine.phase is MachinePhase.ENDING:
        return _ending(situation)
    if machine.phase is MachinePhase.ENDED:
        return _ended(situation)
    if machine.phase is MachinePhase.ABSENT:
        return _absent(situation)
    return _alive(situation)


def restart_requested(vm: Obj, machine: MachineObservation) -> bool:
    """Whether the newest request to start or restart is still to be carried out."""
    token = annotation(vm, names.RESTARTED_AT_ANNOTATION)
    return bool(token) and token not in (dig(vm, "status", "restartedAt", default=""), machine.token)


def _status(situation: Situation, key: str, default: object) -> object:
    return dig(situation.vm, "status", key, default=default)


def _count(situation: Situation, key: str) -> int:
    return int(dig(situation.vm, "status", key, default=0))


def _text(situation: Situation, key: str) -> str:
    return str(dig(situation.vm, "status", key, default=""))


def _noted(situation: Situation) -> Obj:
    """The status fields about the pod that is there now."""
    machine = situation.machine
    if not machine.pod_name:
        return {}
    changes: Obj = {"podName": machine.pod_name}
    if machine.node_name:
        changes["nodeName"] = machine.node_name
    if machine.accelerator:
        changes["accelerator"] = machine.accelerator
    if machine.token:
        changes["restartedAt"] = machine.token
    if machine.pod_name not in (_text(situation, "podName"), _text(situation, "lastFailedPod")):
        changes["launches"] = _count(situation, "launches") + 1
    return changes


def _delete(situation: Situation) -> Plan:
    machine = situation.machine
    if not has_finalizer(situation.vm, names.VM_FINALIZER):
        return Plan(Step.NONE)
    if machine.phase is MachinePhase.ABSENT:
        return Plan(Step.FORGET)
    if machine.phase is MachinePhase.ENDING:
        return Plan(Step.NONE, api.STOPPING, DELETED, "waiting for the machine to end")
    if machine.phase is MachinePhase.ENDED:
        return Plan(Step.END)
    return _stop(situation, DELETED)


def _stop(situation: Situation, reason: str) -> Plan:
    """Bring a machine that is there to its end: power button, deadline, end."""
    machine = situation.machine
    changes = _noted(situation)
    if machine.phase is MachinePhase.GUEST_OFF:
        return Plan(Step.END, api.STOPPING, reason, "the guest has shut down", changes=changes)
    if situation.disposable or _has_only_begun(situation):
        return Plan(Step.END, api.STOPPING, reason, "ending the machine", changes=changes)
    since = _text(situation, "stopRequestedAt")
    started = parse_rfc3339(since) if since else situation.now
    deadline = started + timedelta(seconds=api.grace_seconds(situation.vm))
    changes["stopRequestedAt"] = since or rfc3339_micro(situation.now)
    if situation.now >= deadline:
        message = f"the guest did not shut down in {api.grace_seconds(situation.vm)} s and is cut off"
        return Plan(Step.END, api.STOPPING, reason, message, changes=changes)
    remaining = (deadline - situation.now).total_seconds()
    message = f"waiting for the guest to shut down, until {rfc3339(deadline)} at the latest"
    after = min(PRESS_AGAIN_SECONDS, remaining)
    return Plan(Step.POWER_BUTTON, api.STOPPING, reason, message, after, changes)


def _ran_before(situation: Situation) -> bool:
    """Whether a machine that seems to be starting has run already, and is only not heard of: a controller that has just
    come back is not connected to it yet. Its guest has something to lose, and its state is what it was."""
    if situation.machine.pod_name != _text(situation, "podName"):
        return False
    state = _text(situation, "state")
    return state == api.RUNNING or (state == api.STOPPING and bool(_text(situation, "stopRequestedAt")))


def _has_only_begun(situation: Situation) -> bool:
    """Whether no guest can have anything to lose yet: not even the machine's monitor has answered."""
    machine = situation.machine
    if machine.phase is not MachinePhase.STARTING or _ran_before(situation):
        return False
    if not machine.started_at:
        return True
    return (situation.now - parse_rfc3339(machine.started_at)).total_seconds() < BEGIN_SECONDS


def _alive(situation: Situation) -> Plan:
    machine = situation.machine
    if api.running_state(situation.vm) == api.RUN_NEVER:
        return _stop(situation, STOP_REQUESTED)
    if restart_requested(situation.vm, machine):
        return _stop(situation, RESTART_REQUESTED)
    if _restarts_for_change(situation):
        return _stop(situation, CONFIGURATION_CHANGED)
    if machine.phase is MachinePhase.GUEST_OFF:
        return _stop(situation, GUEST_POWERED_OFF)
    if machine.phase is MachinePhase.STARTING and _ran_before(situation):
        return Plan(Step.NONE, changes=_noted(situation))
    changes = {**_noted(situation), "stopRequestedAt": None}
    if machine.phase is MachinePhase.STARTING:
        return Plan(Step.NONE, api.STARTING, "Starting", machine.message, changes=changes)
    trouble = machine.trouble
    if trouble is None:
        return Plan(Step.NONE, api.RUNNING, "Running", machine.message, changes=changes)
    if trouble.reason == NO_SPACE and trouble.paused:
        return Plan(Step.RESUME, api.RUNNING, trouble.reason, trouble.message, SPACE_SECONDS, changes)
    return Plan(Step.NONE, api.RUNNING, trouble.reason, trouble.message, changes=changes)


def _restarts_for_change(situation: Situation) -> bool:
    """Not while it could not start again, as a disk is still coming in. What has begun goes on."""
    if not situation.changed or not api.restarts_on_change(situation.vm):
        return False
    return situation.waiting is None or _text(situation, "reason") == CONFIGURATION_CHANGED


def _ending(situation: Situation) -> Plan:
    """Somebody is ending it. Unless it was us, the state stays, so that its end counts as a failure."""
    if _text(situation, "state") in (api.STOPPING, api.STOPPED):
        return Plan(Step.NONE)
    return Plan(Step.NONE, changes=_noted(situation))


def _ended(situation: Situation) -> Plan:
    """What ran it is gone but not cleared away."""
    asked = _text(situation, "state") == api.STOPPING or api.running_state(situation.vm) == api.RUN_NEVER
    if asked or situation.machine.pod_name == _text(situation, "lastFailedPod"):
        return Plan(Step.END)
    if situation.machine.stopped_with_cluster:
        message = "the machine was stopped with the whole cluster"
        return Plan(Step.END, api.STOPPING, CLUSTER_STOPPED, message, changes=_noted(situation))
    return _failure(situation, Step.END, FAILED, situation.machine.message or "the machine ended unexpectedly")


def _absent(situation: Situation) -> Plan:
    wanted = api.running_state(situation.vm)
    state, reason = _text(situation, "state"), _text(situation, "reason")
    gone: Obj = {"podName": None, "accelerator": None, "stopRequestedAt": None}
    if wanted == api.RUN_NEVER:
        changes = {**gone, "failures": None}
        return Plan(Step.NONE, api.STOPPED, STOP_REQUESTED, "", changes=changes)
    requested = restart_requested(situation.vm, situation.machine)
    powered_off = reason == GUEST_POWERED_OFF and state in (api.STOPPING, api.STOPPED)
    if powered_off and not requested:
        if wanted == api.RUN_ON_FAILURE:
            message = "the guest powered itself off; it stays so until it is started (kubectl virt start)"
            return Plan(Step.NONE, api.STOPPED, GUEST_POWERED_OFF, message, changes=gone)
        if state == api.STOPPING:
            return _failure(situation, Step.NONE, GUEST_POWERED_OFF, "the guest powered itself off")
    if _text(situation, "podName") and state in (api.STARTING, api.RUNNING):
        return _failure(situation, Step.NONE, FAILED, "the machine's pod is gone")
    if situation.waiting:
        waiting = situation.waiting
        return Plan(Step.NONE, waiting.state, waiting.reason, waiting.message, changes=gone)
    pause = 0.0 if requested else _pause(situation)
    if pause > 0:
        return Plan(Step.NONE, after=pause)
    return Plan(Step.START, changes={"failures": None} if requested else {})


def _failure(situation: Situation, step: Step, reason: str, message: str) -> Plan:
    """It ended unasked: count that once, and say when it is started again."""
    failures = 1 if _ran_long(situation) else _count(situation, "failures") + 1
    pod = situation.machine.pod_name or _text(situation, "podName")
    changes: Obj = {
        **_noted(situation),
        "podName": None,
        "accelerator": None,
        "stopRequestedAt": None,
        "failures": failures,
        "restarts": _count(situation, "restarts") + 1,
        "lastFailureTime": rfc3339_micro(situation.now),
        "lastFailedPod": pod or None,
    }
    pause = backoff_seconds(failures)
    state = api.STARTING if reason == GUEST_POWERED_OFF else api.CRASH_LOOP
    text = f"{message}; starting it again in {pause:g} s"
    return Plan(step, state, reason, text, pause, changes)


def backoff_seconds(failures: int) -> float:
    """How long to wait after the given number of failures in a row."""
    return doubled(failures, BACKOFF_FIRST_SECONDS, BACKOFF_LIMIT_SECONDS)


def _pause(situation: Situation) -> float:
    """Seconds that are left of the back-off."""
    failed_at = _text(situation, "lastFailureTime")
    failures = _count(situation, "failures")
    if not failures or not failed_at:
        return 0.0
    until = parse_rfc3339(failed_at) + timedelta(seconds=backoff_seconds(failures))
    return max(0.0, (until - situation.now).total_seconds())


def _ran_long(situation: Situation) -> bool:
    ready = condition_of(situation.vm, "Ready")
    if ready.get("status") != "True":
        return False
    since = parse_rfc3339(str(ready.get("lastTransitionTime")))
    return (situation.now - since).total_seconds() >= BACKOFF_RESET_SECONDS
