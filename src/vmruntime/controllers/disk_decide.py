"""What to do about a VirtualMachineDisk next: a pure function of the object, of its bytes, and of who uses it.

The one thing that must never happen is that bytes are lost, or made up, without anybody having asked: a disk that was
whole and whose bytes are gone is an error and not a new, empty disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from kube.client.backoff import doubled
from kube.machinery.durations import parse_rfc3339, rfc3339
from vmruntime.api import names
from vmruntime.api import virtualmachinedisk as api
from vmruntime.api.meta import Condition, Obj, dig, has_finalizer, is_deleting, merge_conditions, names_text
from vmruntime.engines.disk import DiskObservation, DiskPhase

# An import reports its progress in a file, for which there is no event.
PROGRESS_SECONDS = 2.0
# A disk that cannot be made as it is specified is tried again this often: what it needs may have come.
RETRY_SECONDS = 30.0
# An import that failed for what may pass, such as a server that is away, is tried again after so long, and twice as
# long each further time, up to the limit: as the kubelet does with images of containers.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 10.0, 300.0
# A disk to be copied, or a machine whose disk grows, is looked at again this often.
WAIT_SECONDS = 3.0
IMPORT_FAILED = "ImportFailed"
_NO_FAILURES: Obj = {"failures": None, "lastFailureTime": None, "rate": None}


class Step(StrEnum):
    NONE = "none"
    ADD_FINALIZER = "add finalizer"
    REMOVE_FINALIZER = "remove finalizer"
    ENSURE = "ensure"
    GROW = "grow"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Wait:
    """What a disk waits for, as a reason and in words."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Situation:
    """All that the decision depends on.

    `users` are the machines that list the disk, `running_users` those that have it open, `writers` those of them that
    write to it. `active`: the engine is up; if not, no disk is made and none keeps a finalizer. `origin`: why the disk
    that this one is to be a copy of cannot be copied now.
    """

    disk: Obj
    bytes: DiskObservation
    now: datetime
    users: Sequence[str] = ()
    running_users: Sequence[str] = ()
    active: bool = True
    writers: Sequence[str] = ()
    origin: Wait | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The step to take and what the status says; an empty phase means that the status stays as it is."""

    step: Step
    phase: str = ""
    reason: str = ""
    message: str = ""
    after: float | None = None
    changes: Obj = field(default_factory=dict)


def decide(situation: Situation) -> Plan:
    """The next step."""
    held = has_finalizer(situation.disk, names.DISK_FINALIZER)
    if is_deleting(situation.disk):
        return _delete(situation) if held else Plan(Step.NONE)
    if not situation.active:
        return _inactive(situation, held)
    if not held:
        return Plan(Step.ADD_FINALIZER)
    seen = situation.bytes
    if seen.phase is DiskPhase.READY:
        return _ready(situation)
    if seen.phase is DiskPhase.IMPORTING:
        return Plan(
            Step.NONE,
            api.IMPORTING,
            "Importing",
            seen.message or "bringing in the source",
            PROGRESS_SECONDS,
            _importing(seen),
        )
    if seen.phase is DiskPhase.FAILED and not _changed_since_failure(situation.disk):
        return _failed(situation)
    return _absent(situation)


def _failed(situation: Situation) -> Plan:
    """An import has failed. What may pass is counted once, when it is seen, and tried again after a while."""
    seen, told = situation.bytes, situation.disk.get("status", {})
    if not seen.temporary:
        return Plan(Step.NONE, api.FAILED, IMPORT_FAILED, seen.message, changes=_NO_FAILURES)
    if told.get("phase") == api.FAILED and api.is_tried_again(situation.disk):
        return _after_pause(situation)
    failures = int(told.get("failures", 0)) + 1
    pause = doubled(failures, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
    changes: Obj = {"failures": failures, "lastFailureTime": rfc3339(situation.now), "rate": None}
    return Plan(Step.NONE, api.FAILED, IMPORT_FAILED, f"{seen.message}; trying again in {pause:g} s", pause, changes)


def _after_pause(situation: Situation) -> Plan:
    """The next try of an import whose failure may have passed, when it is due."""
    told = situation.disk["status"]
    pause = doubled(int(told.get("failures", 1)), FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
    due = parse_rfc3339(str(told["lastFailureTime"])) + timedelta(seconds=pause)
    if situation.now < due:
        return Plan(Step.NONE, after=(due - situation.now).total_seconds())
    return _make(situation)


def _importing(seen: DiskObservation) -> Obj:
    progress = f"{seen.progress:.1f}%" if seen.progress is not None else None
    rate = f"{seen.rate:.1f} MB/s" if seen.rate is not None else None
    return {"progress": progress, "rate": rate, **_origin(seen)}


def _origin(seen: DiskObservation) -> Obj:
    """What is known of the source; what is not known stays as it is in the status."""
    origin = seen.origin
    known = {
        "sourceFormat": origin.format,
        "sourceSize": str(origin.size) if origin.size is not None else "",
        "sourceChecksum": f"sha256:{origin.sha256}" if origin.sha256 else "",
    }
    return {name: value for name, value in known.items() if value}


def _delete(situation: Situation) -> Plan:
    if situation.users:
        plural = "s" if len(situation.users) > 1 else ""
        message = f"to be deleted once no machine uses it any more; in use by VirtualMachine{plural} "
        phase = str(dig(situation.disk, "status", "phase", default=api.PENDING))
        return Plan(Step.NONE, phase, "DeletionWaits", message + names_text(situation.users))
    return Plan(Step.DELETE)


def _inactive(situation: Situation, held: bool) -> Plan:
    if held and not situation.users:
        return Plan(Step.REMOVE_FINALIZER)
    if dig(situation.disk, "status", "phase") in (api.SUCCEEDED, api.FAILED):
        return Plan(Step.NONE)
    return Plan(
        Step.NONE, api.PENDING, "RuntimeDisabled", "VM Runtime is disabled; the disk is made once it is enabled"
    )


def _ready(situation: Situation) -> Plan:
    seen = situation.bytes
    done: Obj = {**_NO_FAILURES, "progress": "100.0%", "format": seen.format, "virtualSize": str(seen.virtual_size)}
    done |= _origin(seen)
    size = api.size_bytes(situation.disk)
    if seen.virtual_size is not None and seen.virtual_size < size:
        if situation.writers or not situation.running_users:
            return Plan(Step.GROW, changes=done)
        message = f"grows to the size asked for once VirtualMachine {names_text(situation.running_users)}, which has "
        message += "it read-only, is stopped"
        return Plan(Step.NONE, api.SUCCEEDED, "GrowthWaits", message, changes=done)
    return Plan(Step.NONE, api.SUCCEEDED, "Ready", "", changes=done)


def growth_failed(plan: Plan, reason: str, message: str) -> Plan:
    """What follows from a growth that did not work: the disk is as whole as it was, and it is tried again."""
    return Plan(Step.NONE, api.SUCCEEDED, reason, message, WAIT_SECONDS, plan.changes)


def _absent(situation: Situation) -> Plan:
    phase = dig(situation.disk, "status", "phase")
    if phase == api.SUCCEEDED or dig(situation.disk, "status", "reason") == "DataMissing":
        message = "the disk was complete, but its data is gone from the node; restore it, or delete the disk"
        return Plan(Step.NONE, api.FAILED, "DataMissing", message)
    if phase == api.FAILED and not _changed_since_failure(situation.disk):
        return _after_pause(situation) if api.is_tried_again(situation.disk) else Plan(Step.NONE)
    return _make(situation)


def _make(situation: Situation) -> Plan:
    if (wait := situation.origin) is not None:
        return Plan(Step.NONE, api.PENDING, wait.reason, wait.message, WAIT_SECONDS)
    return Plan(Step.ENSURE)


def _changed_since_failure(disk: Obj) -> bool:
    """Whether a disk that failed has another spec since: its image may fit now."""
    failed_with = dig(disk, "status", "observedGeneration")
    return bool(dig(disk, "status", "phase") == api.FAILED and failed_with != dig(disk, "metadata", "generation"))


def origin_wait(name: str, origin: Obj | None, writers: Sequence[str]) -> Wait | None:
    """What a copy of the disk `name` waits for; `writers` are the machines that write to that disk now."""
    shown = f'VirtualMachineDisk "{name}", which is to be copied,'
    if origin is None:
        return Wait("SourceMissing", f"{shown} does not exist")
    if is_deleting(origin):
        return Wait("SourceMissing", f"{shown} is being deleted")
    if not api.is_ready(origin):
        return Wait("SourceNotReady", f"{shown} is not ready: {dig(origin, 'status', 'message', default='not begun')}")
    if writers:
        return Wait("SourceInUse", f"{shown} is written to by VirtualMachine {names_text(writers)}, which has to stop")
    return None


def storage_class_condition(disk: Obj, used: bool) -> list[Condition]:
    """Says so where a storage class is asked for and there is nothing that has any."""
    name = dig(disk, "spec", "storageClassName")
    if used or not name:
        return []
    message = f'storage class "{name}" has no effect: disks are files of the node here'
    return [Condition("StorageClassIgnored", True, "NoStorageClasses", message)]


def status(disk: Obj, plan: Plan, users: Sequence[str], now_text: str, more: Sequence[Condition] = ()) -> Obj:
    """The whole new status, with `more` conditions beside Ready."""
    old: Obj = dig(disk, "status", default={})
    new: Obj = {**old, **plan.changes, "attachedTo": list(users) or None}
    if plan.phase:
        new.update(phase=plan.phase, reason=plan.reason, message=plan.message or None)
        generation = int(dig(disk, "metadata", "generation", default=0))
        new["observedGeneration"] = generation
        ready = Condition("Ready", plan.phase == api.SUCCEEDED, plan.reason, plan.message)
        new["conditions"] = merge_conditions(old.get("conditions", []), [ready, *more], generation)
        if plan.phase == api.SUCCEEDED and "readyTime" not in old:
            new["readyTime"] = now_text
    return {key: value for key, value in new.items() if value is not None}


def event(old: Obj, new: Obj) -> tuple[str, str, str] | None:
    """What a change of the status is told as: type, reason and message of an event. None: it is told by the status."""
    before, after = dig(old, "status", default={}), dig(new, "status", default={})
    phase, reason = str(after.get("phase", "")), str(after.get("reason", ""))
    if phase in (api.FAILED, api.ERROR_CONFIGURATION) and (phase, reason) != (
        before.get("phase"),
        before.get("reason"),
    ):
        return "Warning", reason, str(after.get("message", "")) or reason
    if phase == api.SUCCEEDED and "readyTime" not in before:
        return "Normal", *_success(new)
    return None


def _success(disk: Obj) -> tuple[str, str]:
    """Reason and message for a disk that is whole now; the reasons are those of CDI where it has one."""
    status = disk["status"]
    made = f"{status.get('virtualSize')} bytes as {status.get('format')}"
    if original := api.clone_name(disk):
        return "CloneSucceeded", f'a copy of VirtualMachineDisk "{original}" is in place, {made}'
    if api.addressed_source(disk) is None:
        return "BlankDiskCreated", f"a blank disk is in place, {made}"
    source = f"{status.get('sourceFormat', 'unknown')} source of {status.get('sourceSize', 'unknown')} bytes"
    return "ImportSucceeded", f"the {source} is in place, {made}"
