"""What is done about a disk: each case one line of a table. Bytes are neither lost nor made up unasked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from vmruntime.api import names
from vmruntime.controllers.disk_decide import (
    Plan,
    Situation,
    Step,
    Wait,
    decide,
    event,
    growth_failed,
    origin_wait,
    status,
    storage_class_condition,
)
from vmruntime.engines.disk import DiskObservation, DiskOrigin, DiskPhase

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
ABSENT = DiskObservation(DiskPhase.ABSENT)
WHOLE = DiskObservation(DiskPhase.READY, 100.0, "raw", 1 << 30)
IMPORTING = DiskObservation(DiskPhase.IMPORTING, 45.34)
FAILED = DiskObservation(DiskPhase.FAILED, message="the server answered 404")
AWAY = DiskObservation(DiskPhase.FAILED, message="the server is away", temporary=True)


def disk(
    phase: str = "", held: bool = True, deleting: bool = False, size: str = "1Gi", reason: str = "", generation: int = 2
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "d", "namespace": "default", "uid": "u", "generation": generation}
    metadata["finalizers"] = [names.DISK_FINALIZER] if held else []
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    told = {"phase": phase, "reason": reason, "observedGeneration": 2} if phase else {}
    return {"metadata": metadata, "spec": {"size": size}, "status": told}


@pytest.mark.parametrize(
    ("obj", "seen", "more", "step", "phase", "reason"),
    [
        (disk(held=False), ABSENT, {}, Step.ADD_FINALIZER, "", ""),
        (disk(), ABSENT, {}, Step.ENSURE, "", ""),
        (disk("Pending"), ABSENT, {}, Step.ENSURE, "", ""),
        (disk("ImportInProgress"), ABSENT, {}, Step.ENSURE, "", ""),
        (disk("ErrorConfiguration"), ABSENT, {}, Step.ENSURE, "", ""),
        (disk(), IMPORTING, {}, Step.NONE, "ImportInProgress", "Importing"),
        (disk("ImportInProgress"), FAILED, {}, Step.NONE, "Failed", "ImportFailed"),
        (disk("Failed"), ABSENT, {}, Step.NONE, "", ""),
        (disk("Failed"), FAILED, {}, Step.NONE, "Failed", "ImportFailed"),
        # Another size: what failed is tried again.
        (disk("Failed", generation=3), FAILED, {}, Step.ENSURE, "", ""),
        (disk("Failed", generation=3), ABSENT, {}, Step.ENSURE, "", ""),
        (disk("ImportInProgress"), WHOLE, {}, Step.NONE, "Succeeded", "Ready"),
        # Data that was there and is gone is an error, and stays one.
        (disk("Succeeded"), ABSENT, {}, Step.NONE, "Failed", "DataMissing"),
        (disk("Failed", reason="DataMissing"), ABSENT, {}, Step.NONE, "Failed", "DataMissing"),
        (disk("Failed", reason="DataMissing", generation=3), ABSENT, {}, Step.NONE, "Failed", "DataMissing"),
        (disk("Failed", reason="DataMissing"), WHOLE, {}, Step.NONE, "Succeeded", "Ready"),
        (disk("Failed", reason="DataMissing", held=False), ABSENT, {"active": False}, Step.NONE, "", ""),
        # Growing, while nobody has it open.
        (disk("Succeeded", size="2Gi"), WHOLE, {}, Step.GROW, "", ""),
        (disk("Succeeded", size="2Gi"), WHOLE, {"users": ["m"]}, Step.GROW, "", ""),
        (
            disk("Succeeded", size="2Gi"),
            WHOLE,
            {"users": ["m"], "running_users": ["m"]},
            Step.NONE,
            "Succeeded",
            "GrowthWaits",
        ),
        (
            disk("Succeeded", size="2Gi"),
            WHOLE,
            {"users": ["m"], "running_users": ["m"], "writers": ["m"]},
            Step.GROW,
            "",
            "",
        ),
        # A copy waits for the disk that it is made of, and only until it is made.
        (disk(), ABSENT, {"origin": Wait("SourceInUse", "")}, Step.NONE, "Pending", "SourceInUse"),
        (disk("Pending"), ABSENT, {"origin": None}, Step.ENSURE, "", ""),
        (disk(), IMPORTING, {"origin": Wait("SourceMissing", "")}, Step.NONE, "ImportInProgress", "Importing"),
        (disk("Succeeded"), WHOLE, {"origin": Wait("SourceMissing", "")}, Step.NONE, "Succeeded", "Ready"),
        # Deletion waits for the machines that list it.
        (disk("Succeeded", deleting=True), WHOLE, {"users": ["m"]}, Step.NONE, "Succeeded", "DeletionWaits"),
        (disk("Succeeded", deleting=True), WHOLE, {}, Step.DELETE, "", ""),
        (disk(deleting=True), IMPORTING, {}, Step.DELETE, "", ""),
        (disk("Succeeded", deleting=True, held=False), WHOLE, {}, Step.NONE, "", ""),
        # While the runtime is off nothing is made and nothing holds a disk, but its data stays.
        (disk("Succeeded"), WHOLE, {"active": False}, Step.REMOVE_FINALIZER, "", ""),
        (disk("Succeeded", held=False), WHOLE, {"active": False}, Step.NONE, "", ""),
        (disk(held=False), ABSENT, {"active": False}, Step.NONE, "Pending", "RuntimeDisabled"),
        (disk("ImportInProgress", held=False), ABSENT, {"active": False}, Step.NONE, "Pending", "RuntimeDisabled"),
        (disk("Succeeded", deleting=True), WHOLE, {"active": False}, Step.DELETE, "", ""),
    ],
)
def test_table(
    obj: dict[str, Any], seen: DiskObservation, more: dict[str, Any], step: Step, phase: str, reason: str
) -> None:
    plan = decide(Situation(obj, seen, NOW, **more))
    assert (plan.step, plan.phase, plan.reason) == (step, phase, reason)


def test_who_holds_a_disk_is_named() -> None:
    plan = decide(Situation(disk("Succeeded", deleting=True), WHOLE, NOW, users=["a", "b"]))
    assert plan.message.endswith("in use by VirtualMachines a, b")


def test_progress_is_looked_at_again_and_has_one_decimal() -> None:
    plan = decide(Situation(disk(), IMPORTING, NOW))
    assert plan.after is not None
    assert plan.changes["progress"] == "45.3%"


def test_what_is_known_of_the_source_comes_and_stays() -> None:
    origin = DiskOrigin("qcow2.xz", 1000, "ab")
    seen = DiskObservation(DiskPhase.IMPORTING, 10.0, rate=93.12, origin=origin)
    obj = disk()
    written = status(obj, decide(Situation(obj, seen, NOW)), [], "")
    assert (written["rate"], written["sourceFormat"], written["sourceSize"]) == ("93.1 MB/s", "qcow2.xz", "1000")
    assert written["sourceChecksum"] == "sha256:ab"
    obj = {**obj, "status": written}
    done = status(obj, decide(Situation(obj, WHOLE, NOW)), [], "")
    assert "rate" not in done
    assert done["sourceFormat"] == "qcow2.xz"


def test_a_growth_that_fails_leaves_the_disk_as_usable_as_it_was() -> None:
    obj = disk("Succeeded", size="2Gi")
    plan = growth_failed(decide(Situation(obj, WHOLE, NOW)), "GrowthWaits", "not now")
    written = status(obj, plan, [], "")
    assert (written["phase"], written["reason"], written["virtualSize"]) == ("Succeeded", "GrowthWaits", str(1 << 30))
    assert plan.after is not None


@pytest.mark.parametrize(
    ("origin", "writers", "reason"),
    [
        (None, [], "SourceMissing"),
        (disk("Succeeded", deleting=True), [], "SourceMissing"),
        (disk("ImportInProgress"), [], "SourceNotReady"),
        (disk("Succeeded"), ["m"], "SourceInUse"),
        (disk("Succeeded"), [], None),
    ],
)
def test_what_a_copy_waits_for(origin: dict | None, writers: list[str], reason: str | None) -> None:
    wait = origin_wait("base", origin, writers)
    assert (wait.reason if wait else None) == reason
    assert wait is None or '"base"' in wait.message


def test_a_storage_class_that_means_nothing_is_told() -> None:
    obj = disk("Succeeded")
    assert storage_class_condition(obj, False) == []
    obj["spec"]["storageClassName"] = "fast"
    assert storage_class_condition(obj, True) == []
    (condition,) = storage_class_condition(obj, False)
    written = status(obj, decide(Situation(obj, WHOLE, NOW)), [], "", [condition])
    assert [entry["type"] for entry in written["conditions"]] == ["Ready", "StorageClassIgnored"]
    assert '"fast"' in written["conditions"][1]["message"]


def test_status_of_a_whole_disk() -> None:
    obj = disk("ImportInProgress")
    written = status(obj, decide(Situation(obj, WHOLE, NOW)), ["m"], "2026-01-01T00:00:00Z")
    assert (written["phase"], written["progress"], written["format"]) == ("Succeeded", "100.0%", "raw")
    assert written["virtualSize"] == str(1 << 30)
    assert written["attachedTo"] == ["m"]
    assert written["readyTime"] == "2026-01-01T00:00:00Z"
    assert written["conditions"][0]["status"] == "True"
    again = status({**obj, "status": written}, decide(Situation(obj, WHOLE, NOW)), ["m"], "2027-01-01T00:00:00Z")
    assert again == written


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"http": {"url": "http://h.example/i"}}, ("ImportSucceeded", "the qcow2.xz source of 99 bytes is in place")),
        ({"virtualMachineDisk": {"name": "o"}}, ("CloneSucceeded", 'a copy of VirtualMachineDisk "o" is in place')),
        (None, ("BlankDiskCreated", "a blank disk is in place")),
    ],
)
def test_a_disk_that_became_whole_is_told_once(source: dict | None, expected: tuple[str, str]) -> None:
    obj = disk("ImportInProgress")
    obj["spec"] |= {"source": source} if source else {}
    seen = DiskObservation(DiskPhase.READY, 100.0, "raw", 1 << 30, origin=DiskOrigin("qcow2.xz", 99, "ab"))
    new = {**obj, "status": status(obj, decide(Situation(obj, seen, NOW)), [], "2026-01-01T00:00:00Z")}
    assert event(obj, new) == ("Normal", expected[0], f"{expected[1]}, 1073741824 bytes as raw")
    assert event(new, new) is None
    lost = {**new, "status": status(new, decide(Situation(new, ABSENT, NOW)), [], "")}
    found = {**lost, "status": status(lost, decide(Situation(lost, seen, NOW)), [], "")}
    assert found["status"]["phase"] == "Succeeded" and event(lost, found) is None


def test_a_failure_is_told_again_only_where_it_is_another() -> None:
    obj = disk("ImportInProgress")
    new = {**obj, "status": status(obj, decide(Situation(obj, FAILED, NOW)), [], "")}
    assert event(obj, new) == ("Warning", "ImportFailed", "the server answered 404")
    assert event(new, new) is None
    lost = {**new, "status": {**new["status"], "reason": "DataMissing", "message": ""}}
    assert event(new, lost) == ("Warning", "DataMissing", "DataMissing")


def test_a_plan_without_a_phase_leaves_the_phase_alone() -> None:
    written = status(disk("Failed"), Plan(Step.NONE), [], "")
    assert written == {"phase": "Failed", "reason": "", "observedGeneration": 2}


def test_what_may_pass_is_tried_again_after_longer_and_longer_pauses() -> None:
    obj, now = disk("ImportInProgress"), NOW

    def pass_over(seen: DiskObservation) -> Plan:
        plan = decide(Situation(obj, seen, now))
        obj["status"] = status(obj, plan, [], "")
        return plan

    for pause in (10, 20, 40, 80, 160, 300, 300):
        plan = pass_over(AWAY)
        assert (plan.step, plan.phase, plan.after) == (Step.NONE, "Failed", pause)
        assert obj["status"]["message"] == f"the server is away; trying again in {pause} s"
        now += timedelta(seconds=pause - 1)
        # The same failure, also where a process that was killed has cleared it away by now.
        for seen in (AWAY, ABSENT):
            assert (pass_over(seen).step, pass_over(seen).after) == (Step.NONE, 1)
        now += timedelta(seconds=1)
        for seen in (AWAY, ABSENT):
            assert pass_over(seen).step is Step.ENSURE
        pass_over(IMPORTING)
    pass_over(WHOLE)
    assert not obj["status"].keys() & {"failures", "lastFailureTime"}


def test_what_does_not_pass_is_not_tried_again() -> None:
    obj = disk("ImportInProgress")
    for seen in (AWAY, IMPORTING, FAILED, ABSENT):
        plan = decide(Situation(obj, seen, NOW))
        obj["status"] = status(obj, plan, [], "")
    assert (plan.step, plan.after) == (Step.NONE, None)
    assert obj["status"]["message"] == "the server answered 404"
    assert "failures" not in obj["status"]
