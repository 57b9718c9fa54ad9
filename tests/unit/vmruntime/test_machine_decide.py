"""What is done about a machine: each case one line of a table; then whole stories, step by step."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kube.machinery.durations import rfc3339, rfc3339_micro
from vmruntime.api import names
from vmruntime.controllers import machine_status
from vmruntime.controllers.machine_decide import Plan, Problem, Situation, Step, backoff_seconds, decide
from vmruntime.engines.machine import Guest, GuestInterface, MachineObservation, MachinePhase, MachineTrouble

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
GATE = Problem("Pending", "RuntimeDisabled", "VM Runtime is disabled")
WAIT = Problem("Provisioning", "DiskNotReady", "waiting for disk")


def vm(
    status: dict[str, Any] | None = None,
    running_state: str = "Running",
    finalizer: bool = True,
    deleting: bool = False,
    token: str = "",
    restarts: bool = False,
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "m", "namespace": "default", "uid": "u", "generation": 1}
    metadata["finalizers"] = [names.VM_FINALIZER] if finalizer else []
    if deleting:
        metadata["deletionTimestamp"] = rfc3339(NOW)
    if token:
        metadata["annotations"] = {names.RESTARTED_AT_ANNOTATION: token}
    spec = {"runningState": running_state, "autoRestartOnConfigurationChange": restarts}
    return {"metadata": metadata, "spec": spec, "status": status or {}}


def seen(phase: MachinePhase, pod: str = "p1", **more: Any) -> MachineObservation:
    return MachineObservation(phase, pod_name="" if phase is MachinePhase.ABSENT else pod, **more)


def in_trouble(reason: str, paused: bool = True) -> MachineObservation:
    return seen(MachinePhase.RUNNING, trouble=MachineTrouble(reason, "a disk failed", paused))


ABSENT = seen(MachinePhase.ABSENT)
STARTING = seen(MachinePhase.STARTING)
UNHEARD = seen(MachinePhase.STARTING, started_at=rfc3339(NOW - timedelta(minutes=1)))
RUNNING = seen(MachinePhase.RUNNING)
OFF = seen(MachinePhase.GUEST_OFF)
ENDED = seen(MachinePhase.ENDED)
STOPPED_WITH_CLUSTER = seen(MachinePhase.ENDED, stopped_with_cluster=True)
ENDING = seen(MachinePhase.ENDING)
RAN = {"state": "Running", "reason": "Running", "podName": "p1", "launches": 1}
ASKED = {**RAN, "state": "Stopping", "reason": "StopRequested", "stopRequestedAt": rfc3339_micro(NOW)}
POWERED_OFF = {"state": "Stopping", "reason": "GuestPoweredOff", "podName": "p1", "launches": 1}
LATCHED = {"state": "Stopped", "reason": "GuestPoweredOff", "launches": 1}


@pytest.mark.parametrize(
    ("machine", "observed", "more", "step", "state", "reason"),
    [
        # New machines.
        (vm(finalizer=False), ABSENT, {}, Step.ADD_FINALIZER, "", ""),
        (vm(finalizer=False), ABSENT, {"gate": GATE}, Step.NONE, "Pending", "RuntimeDisabled"),
        (vm(), ABSENT, {"gate": GATE}, Step.NONE, "Pending", "RuntimeDisabled"),
        (vm(), ABSENT, {}, Step.START, "", ""),
        (vm(), ABSENT, {"waiting": WAIT}, Step.NONE, "Provisioning", "DiskNotReady"),
        (vm(running_state="Stopped"), ABSENT, {}, Step.NONE, "Stopped", "StopRequested"),
        (vm(), STARTING, {}, Step.NONE, "Starting", "Starting"),
        (vm(), RUNNING, {}, Step.NONE, "Running", "Running"),
        # A machine that ran before keeps going while the door is closed.
        (vm({"state": "Stopped", "launches": 1}), ABSENT, {"gate": GATE}, Step.START, "", ""),
        (vm(RAN), RUNNING, {"gate": GATE}, Step.NONE, "Running", "Running"),
        # Stopping.
        (vm(RAN, "Stopped"), RUNNING, {}, Step.POWER_BUTTON, "Stopping", "StopRequested"),
        (vm(RAN, "Stopped"), RUNNING, {"disposable": True}, Step.END, "Stopping", "StopRequested"),
        (vm({**RAN, "state": "Starting"}, "Stopped"), STARTING, {}, Step.END, "Stopping", "StopRequested"),
        # A controller that has just come back is not connected yet: no state is lost, and no guest is cut off for that.
        (vm(RAN), STARTING, {}, Step.NONE, "", ""),
        (vm(RAN, "Stopped"), STARTING, {}, Step.POWER_BUTTON, "Stopping", "StopRequested"),
        (vm(ASKED, "Stopped"), STARTING, {}, Step.POWER_BUTTON, "Stopping", "StopRequested"),
        (vm(RAN, deleting=True), STARTING, {}, Step.POWER_BUTTON, "Stopping", "Deleted"),
        (vm(RAN), seen(MachinePhase.STARTING, "p2"), {}, Step.NONE, "Starting", "Starting"),
        (vm({}, "Stopped"), UNHEARD, {}, Step.POWER_BUTTON, "Stopping", "StopRequested"),
        (vm(RAN, "Stopped"), OFF, {}, Step.END, "Stopping", "StopRequested"),
        (vm(RAN, "Stopped"), ENDED, {}, Step.END, "", ""),
        (vm({**RAN, "state": "Stopping"}), ENDED, {}, Step.END, "", ""),
        (vm({**RAN, "state": "Stopping"}, "Stopped"), ENDING, {}, Step.NONE, "", ""),
        (vm({**RAN, "state": "Stopping"}, "Stopped"), ABSENT, {}, Step.NONE, "Stopped", "StopRequested"),
        # Stopping was called off before the guest obeyed.
        (vm({**RAN, "state": "Stopping", "reason": "StopRequested"}), RUNNING, {}, Step.NONE, "Running", "Running"),
        # Restart by annotation: once for each value.
        (vm(RAN, token="t1"), RUNNING, {}, Step.POWER_BUTTON, "Stopping", "RestartRequested"),
        (vm({**RAN, "restartedAt": "t1"}, token="t1"), RUNNING, {}, Step.NONE, "Running", "Running"),
        (vm(RAN, token="t1"), seen(MachinePhase.RUNNING, token="t1"), {}, Step.NONE, "Running", "Running"),
        (vm({**RAN, "state": "Stopping"}, token="t1"), ABSENT, {}, Step.START, "", ""),
        # A changed spec waits for a restart, unless the machine is to be restarted for it.
        (vm(RAN), RUNNING, {"changed": ("disks",)}, Step.NONE, "Running", "Running"),
        (
            vm(RAN, restarts=True),
            RUNNING,
            {"changed": ("disks",)},
            Step.POWER_BUTTON,
            "Stopping",
            "ConfigurationChanged",
        ),
        (vm(RAN, restarts=True), RUNNING, {}, Step.NONE, "Running", "Running"),
        # It runs on as long as it could not start again; what has begun goes on.
        (vm(RAN, restarts=True), RUNNING, {"changed": ("disks",), "waiting": WAIT}, Step.NONE, "Running", "Running"),
        (
            vm({**ASKED, "reason": "ConfigurationChanged"}, restarts=True),
            RUNNING,
            {"changed": ("disks",), "waiting": WAIT},
            Step.POWER_BUTTON,
            "Stopping",
            "ConfigurationChanged",
        ),
        (
            vm({**RAN, "state": "Stopping", "reason": "ConfigurationChanged"}, restarts=True),
            *(ABSENT, {}, Step.START, "", ""),
        ),
        (vm({"state": "Stopped"}, "Stopped", restarts=True), ABSENT, {}, Step.NONE, "Stopped", "StopRequested"),
        # The guest powers itself off.
        (vm(RAN), OFF, {}, Step.END, "Stopping", "GuestPoweredOff"),
        (vm(RAN, "RerunOnFailure"), OFF, {}, Step.END, "Stopping", "GuestPoweredOff"),
        (vm(POWERED_OFF), ENDED, {}, Step.END, "", ""),
        (vm(POWERED_OFF), ABSENT, {}, Step.NONE, "Starting", "GuestPoweredOff"),
        (vm(POWERED_OFF, "RerunOnFailure"), ABSENT, {}, Step.NONE, "Stopped", "GuestPoweredOff"),
        (vm(LATCHED, "RerunOnFailure"), ABSENT, {}, Step.NONE, "Stopped", "GuestPoweredOff"),
        (vm(LATCHED, "RerunOnFailure", token="t1"), ABSENT, {}, Step.START, "", ""),
        (vm(LATCHED, "Running"), ABSENT, {}, Step.START, "", ""),
        (vm({**LATCHED, "reason": "StopRequested"}, "RerunOnFailure"), ABSENT, {}, Step.START, "", ""),
        # It vanishes, crashes, or its pod is deleted by hand.
        (vm(RAN), ABSENT, {}, Step.NONE, "CrashLoopBackOff", "MachineFailed"),
        (vm(RAN), ENDED, {}, Step.END, "CrashLoopBackOff", "MachineFailed"),
        (vm(RAN, "RerunOnFailure"), ENDED, {}, Step.END, "CrashLoopBackOff", "MachineFailed"),
        (vm(RAN), ENDING, {}, Step.NONE, "", ""),
        (vm({"launches": 0}), ENDED, {}, Step.END, "CrashLoopBackOff", "MachineFailed"),
        (vm({"state": "CrashLoopBackOff", "lastFailedPod": "p1", "launches": 1}), ENDED, {}, Step.END, "", ""),
        # It was stopped with the cluster, which is no failure, and is started with it.
        (vm(RAN), STOPPED_WITH_CLUSTER, {}, Step.END, "Stopping", "ClusterStopped"),
        (vm(RAN, "RerunOnFailure"), STOPPED_WITH_CLUSTER, {}, Step.END, "Stopping", "ClusterStopped"),
        (vm(RAN, "Stopped"), STOPPED_WITH_CLUSTER, {}, Step.END, "", ""),
        (vm({**RAN, "state": "Stopping", "reason": "ClusterStopped"}), ABSENT, {}, Step.START, "", ""),
        # What keeps it from being of use; only for space is there something to do.
        (vm(RAN), in_trouble("NoSpace"), {}, Step.RESUME, "Running", "NoSpace"),
        (vm(RAN), in_trouble("IOError"), {}, Step.NONE, "Running", "IOError"),
        (vm(RAN, "Stopped"), in_trouble("NoSpace"), {}, Step.POWER_BUTTON, "Stopping", "StopRequested"),
        # Deleting.
        (vm(RAN, deleting=True), RUNNING, {}, Step.POWER_BUTTON, "Stopping", "Deleted"),
        (vm(RAN, deleting=True), RUNNING, {"disposable": True}, Step.END, "Stopping", "Deleted"),
        (vm(RAN, deleting=True), OFF, {}, Step.END, "Stopping", "Deleted"),
        (vm(RAN, deleting=True), ENDED, {}, Step.END, "", ""),
        (vm(RAN, deleting=True), ENDING, {}, Step.NONE, "Stopping", "Deleted"),
        (vm(RAN, deleting=True), ABSENT, {}, Step.FORGET, "", ""),
        (vm(deleting=True), ABSENT, {"gate": GATE, "waiting": WAIT}, Step.FORGET, "", ""),
        (vm(deleting=True, finalizer=False), ABSENT, {}, Step.NONE, "", ""),
    ],
)
def test_table(
    machine: dict[str, Any], observed: MachineObservation, more: dict[str, Any], step: Step, state: str, reason: str
) -> None:
    plan = decide(Situation(machine, observed, NOW, **more))
    assert (plan.step, plan.state, plan.reason) == (step, state, reason)


def test_a_deaf_guest_is_cut_off_at_the_deadline() -> None:
    machine = vm(RAN, "Stopped")
    machine["spec"]["terminationGracePeriodSeconds"] = 20
    first = decide(Situation(machine, RUNNING, NOW))
    assert (first.step, first.after) == (Step.POWER_BUTTON, 10.0)
    assert "12:00:20" in first.message
    machine["status"] = machine_status.build(machine, first, RUNNING, NOW)
    late = decide(Situation(machine, RUNNING, NOW + timedelta(seconds=15)))
    assert (late.step, late.after) == (Step.POWER_BUTTON, 5.0)
    over = decide(Situation(machine, RUNNING, NOW + timedelta(seconds=20)))
    assert over.step is Step.END
    assert "cut off" in over.message


def test_no_grace_means_at_once() -> None:
    machine = vm(RAN, "Stopped")
    machine["spec"]["terminationGracePeriodSeconds"] = 0
    assert decide(Situation(machine, RUNNING, NOW)).step is Step.END


def follow(machine: dict[str, Any], observed: MachineObservation, now: datetime) -> Plan:
    """One pass, with its status written."""
    plan = decide(Situation(machine, observed, now))
    machine["status"] = machine_status.build(machine, plan, observed, now)
    return plan


def test_a_failure_is_counted_once_and_the_wait_doubles() -> None:
    machine, now = vm(RAN), NOW
    waits = []
    for number in range(1, 9):
        pod = f"p{number}"
        follow(machine, seen(MachinePhase.RUNNING, pod), now)
        plan = follow(machine, seen(MachinePhase.ENDED, pod), now)
        assert plan.step is Step.END
        # Killed here, before the pod was cleared away: the same pod is not counted again.
        assert follow(machine, seen(MachinePhase.ENDED, pod), now).state == ""
        assert machine["status"]["restarts"] == number
        waiting = follow(machine, ABSENT, now)
        assert waiting.step is Step.NONE
        waits.append(waiting.after)
        now += timedelta(seconds=waiting.after or 0)
        assert follow(machine, ABSENT, now).step is Step.START
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_machine_that_ran_for_long_starts_its_waits_anew() -> None:
    since = rfc3339(NOW - timedelta(minutes=6))
    ready = [{"type": "Ready", "status": "True", "lastTransitionTime": since}]
    machine = vm({**RAN, "failures": 6, "restarts": 6, "conditions": ready})
    follow(machine, ENDED, NOW)
    assert (machine["status"]["failures"], machine["status"]["restarts"]) == (1, 7)


def test_a_restart_that_somebody_asks_for_does_not_wait() -> None:
    failed = {"state": "CrashLoopBackOff", "failures": 7, "lastFailureTime": rfc3339_micro(NOW), "launches": 7}
    assert decide(Situation(vm(failed), ABSENT, NOW)).step is Step.NONE
    plan = decide(Situation(vm(failed, token="t1"), ABSENT, NOW))
    assert (plan.step, plan.changes) == (Step.START, {"failures": None})


def test_a_guest_that_powers_itself_off_at_once_is_slowed_down() -> None:
    machine = vm(RAN)
    assert follow(machine, OFF, NOW).step is Step.END
    restart = follow(machine, ABSENT, NOW)
    assert (restart.state, restart.after) == ("Starting", 1.0)
    assert machine["status"]["restarts"] == 1
    # The next pass does not take the missing pod for another failure.
    assert follow(machine, ABSENT, NOW).after == pytest.approx(1.0)
    assert machine["status"]["restarts"] == 1


def test_a_controller_that_was_killed_right_after_the_start_finds_its_pod() -> None:
    machine = vm()
    assert follow(machine, ABSENT, NOW).step is Step.START
    follow(machine, STARTING, NOW)
    assert machine["status"]["podName"] == "p1"
    assert machine["status"]["launches"] == 1
    before = copy.deepcopy(machine["status"])
    follow(machine, STARTING, NOW + timedelta(seconds=1))
    assert machine["status"] == before


def test_a_stopped_machine_keeps_its_address_but_no_pod() -> None:
    machine = vm({**RAN, "state": "Stopping", "interfaces": [{"name": "eth0"}], "accelerator": "tcg"}, "Stopped")
    follow(machine, ABSENT, NOW)
    status = machine["status"]
    assert status["interfaces"] == [{"name": "eth0"}]
    assert "podName" not in status
    assert "accelerator" not in status


def test_the_status_says_what_waits_for_a_restart() -> None:
    machine = vm(RAN)
    plan = decide(Situation(machine, RUNNING, NOW))
    for changed, waiting, status, words in (
        ((), None, "False", ""),
        (("cloudInit", "disks"), None, "True", "spec.cloudInit, spec.disks changed"),
        (("disks",), WAIT, "True", "it cannot be started with that now: waiting for disk"),
    ):
        machine["status"] = machine_status.build(machine, plan, RUNNING, NOW, changed, waiting)
        (condition,) = [entry for entry in machine["status"]["conditions"] if entry["type"] == "RestartRequired"]
        assert condition["status"] == status
        assert words in condition["message"]


@pytest.mark.parametrize(
    ("observed", "ready", "paused"),
    [
        (RUNNING, "True", "False"),
        (in_trouble("NoSpace"), "False", "True"),
        (in_trouble("IOError", paused=False), "False", "False"),
    ],
)
def test_a_machine_that_is_of_no_use_is_not_ready(observed: MachineObservation, ready: str, paused: str) -> None:
    machine = vm(RAN)
    follow(machine, observed, NOW)
    conditions = {entry["type"]: entry["status"] for entry in machine["status"]["conditions"]}
    assert (conditions["Ready"], conditions["Paused"]) == (ready, paused)
    assert machine["status"]["state"] == "Running"


def test_an_error_that_the_guest_was_told_of_holds_until_the_next_start() -> None:
    machine = vm(RAN)
    follow(machine, in_trouble("IOError", paused=False), NOW)
    later = machine_status.remembering(machine, RUNNING)
    assert later == in_trouble("IOError", paused=False)
    follow(machine, later, NOW)
    assert machine_status.remembering(machine, seen(MachinePhase.RUNNING, "p2")).trouble is None
    assert machine_status.remembering(machine, ABSENT).trouble is None
    follow(machine, in_trouble("IOError", paused=True), NOW)
    assert machine_status.remembering(machine, RUNNING).trouble is None


def test_what_the_machine_was_given_is_told_while_it_is_there() -> None:
    machine = vm(RAN)
    follow(machine, seen(MachinePhase.RUNNING, vcpus=2, memory=1 << 30, disks={"d": True}), NOW)
    assert machine["status"]["compute"] == {"vcpus": 2, "memory": "1Gi"}
    assert machine["status"]["disks"] == [{"name": "d", "readOnly": True}]
    follow(machine, ABSENT, NOW)
    assert not {"compute", "disks"} & machine["status"].keys()


def test_how_long_the_start_took() -> None:
    machine = vm()
    running = seen(MachinePhase.RUNNING, requested_at=rfc3339_micro(NOW))
    follow(machine, running, NOW + timedelta(milliseconds=250))
    assert machine["status"]["timings"] == {"qemuStartedSeconds": 0.25}
    follow(machine, running, NOW + timedelta(seconds=60))
    assert machine["status"]["timings"] == {"qemuStartedSeconds": 0.25}


@pytest.mark.parametrize(("failures", "seconds"), [(1, 1.0), (2, 2.0), (6, 32.0), (7, 60.0), (1000, 60.0)])
def test_backoff(failures: int, seconds: float) -> None:
    assert backoff_seconds(failures) == seconds


AGENT = {"osType": "Linux"}
SAID = Guest("web-1", "Debian", "6.1", (GuestInterface("eth0", "", ("10.0.2.15/24",)),))


@pytest.mark.parametrize(
    ("spec", "machine", "enabled", "synced"),
    [
        ({}, RUNNING, "False", None),
        ({"osType": "Linux", "guestEnvironment": {}}, RUNNING, "False", None),
        ({"osType": "Linux", "guestEnvironment": {"x": 1}}, ABSENT, "True", "MachineNotRunning"),
        (AGENT, seen(MachinePhase.RUNNING, guest_agent=True), "True", "GuestAgentNotAnswering"),
        (AGENT, seen(MachinePhase.RUNNING, guest_agent=False), "True", "RestartRequired"),
        (AGENT, seen(MachinePhase.RUNNING, guest_agent=True, guest=SAID), "True", "GuestEnvironmentDataSynced"),
    ],
)
def test_conditions_of_the_guest_agent(spec, machine, enabled, synced) -> None:
    obj = vm(RAN)
    obj["spec"] |= spec
    status = machine_status.build(obj, Plan(Step.NONE, "Running", "Running"), machine, NOW)
    found = {entry["type"]: entry for entry in status["conditions"]}
    assert (found["GuestEnvironmentEnabled"]["status"], found["GuestEnvironmentEnabled"]["reason"]) == (
        enabled,
        "UserConfiguration",
    )
    assert found.get("GuestEnvironmentSynced", {}).get("reason") == synced
    if synced:
        assert found["GuestEnvironmentSynced"]["status"] == str(synced == "GuestEnvironmentDataSynced")


def test_what_the_guest_says_is_there_while_it_says_it() -> None:
    plan = Plan(Step.NONE, "Running", "Running")
    obj = vm(RAN)
    status = machine_status.build(obj, plan, seen(MachinePhase.RUNNING, guest_agent=True, guest=SAID), NOW)
    assert status["guest"] == {
        "hostName": "web-1",
        "osName": "Debian",
        "kernelRelease": "6.1",
        "interfaces": [{"name": "eth0", "ipAddresses": ["10.0.2.15/24"]}],
    }
    obj["status"] = status
    assert "guest" not in machine_status.build(obj, plan, seen(MachinePhase.RUNNING, guest_agent=True), NOW)
