"""What to do about the VMRuntime next, and what its status says: pure functions.

The table of disabling, as contracted: "VMs exist" means any VirtualMachine object in any namespace, stopped or not,
because a stopped machine is somebody's data too.

| enabled | VMs exist | consent | step |
|---|---|---|---|
| true | any | any | RUN: bring the stack up and keep it up; a disable under way is cancelled |
| false | yes | no | BLOCKED: touch nothing, keep the stack up, say who is in the way |
| false | yes | yes | DELETE_MACHINES, then WAIT until the last is gone |
| false | no | any | SETTLE once, then TEAR_DOWN until nothing is left, then OFF |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from vmruntime.api import names
from vmruntime.api import vmruntime as api
from vmruntime.api.meta import Condition, Obj, dig, merge_conditions, names_text


class Step(StrEnum):
    RUN = "run"
    BLOCKED = "blocked"
    DELETE_MACHINES = "delete machines"
    WAIT = "wait for machines"
    SETTLE = "settle"
    TEAR_DOWN = "tear down"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Machine:
    """A VirtualMachine object, as far as disabling is concerned."""

    name: str
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class Situation:
    """All that the decision depends on.

    `settled`: the switch has been off for long enough that a machine which was admitted before would be seen.
    `clean`: nothing of the stack is left, as far as is known.
    """

    runtime: Obj
    machines: Sequence[Machine]
    settled: bool
    clean: bool


def decide(situation: Situation) -> Step:
    """The next step."""
    if api.is_enabled(situation.runtime):
        return Step.RUN
    if situation.machines:
        if all(machine.deleting for machine in situation.machines):
            return Step.WAIT
        return Step.DELETE_MACHINES if api.consents_to_loss(situation.runtime) else Step.BLOCKED
    if situation.clean:
        return Step.OFF
    return Step.TEAR_DOWN if situation.settled else Step.SETTLE


@dataclass(frozen=True, slots=True)
class Report:
    """What the status should say. `summary` is the preflight summary, None for none."""

    ready: bool
    ready_reason: str
    ready_message: str = ""
    progressing: bool = False
    progress_reason: str = "Idle"
    progress_message: str = ""
    blocked: str = ""
    summary: Obj | None = None


def running_report(missing: str, summary: Obj | None) -> Report:
    """Enabled. `missing` says what isn't up yet, empty when all is."""
    if missing:
        return Report(False, "Starting", missing, True, "Enabling", missing, summary=summary)
    if summary is None:
        text = "the preflight check is running"
        return Report(False, "PreflightRunning", text, True, "Enabling", text)
    return Report(True, "Running", summary=summary)


def blocked_report(machines: Sequence[Machine], running: Report) -> Report:
    """Wanted off, but nobody agreed to losing the machines: all goes on as before, and the status says why."""
    return Report(
        running.ready,
        running.ready_reason,
        running.ready_message,
        running.progressing,
        running.progress_reason,
        running.progress_message,
        blocked_message(machines),
        running.summary,
    )


def deleting_report(machines: Sequence[Machine], summary: Obj | None, missing: str) -> Report:
    """Wanted off, agreed to; machines are going. What runs them stays up until the last is gone."""
    text = f"waiting until {_count(machines)} gone: {names_text([machine.name for machine in machines])}"
    return Report(not missing, "Disabling", missing or text, True, "DeletingMachines", text, summary=summary)


def tearing_report(remaining: str) -> Report:
    text = remaining or "removing the stack"
    return Report(False, "Disabling", text, True, "Disabling", text)


def off_report() -> Report:
    return Report(False, "Disabled", "VM Runtime is disabled", progress_reason="Disabled")


def _count(machines: Sequence[Machine]) -> str:
    return "1 virtual machine is" if len(machines) == 1 else f"{len(machines)} virtual machines are"


def blocked_message(machines: Sequence[Machine]) -> str:
    """Who is in the way (at most 10 by name), and the ways out."""
    many = "1 virtual machine exists" if len(machines) == 1 else f"{len(machines)} virtual machines exist"
    listed = names_text([machine.name for machine in machines])
    return (
        f"spec.enabled is false but {many}: {listed}. Nothing was changed. Delete them and VM Runtime is disabled; or "
        f'agree to losing them and their disks with the annotation {names.FORCE_DISABLE_ANNOTATIONS[0]}: "true" or '
        "bmctl disable vmruntime --force=true; or set spec.enabled to true again"
    )


def status(runtime: Obj, report: Report) -> Obj:
    """The whole new status."""
    old: Obj = dig(runtime, "status", default={})
    generation = int(dig(runtime, "metadata", "generation", default=0))
    wanted = [
        Condition("Ready", report.ready, report.ready_reason, report.ready_message),
        Condition("Progressing", report.progressing, report.progress_reason, report.progress_message),
        Condition(
            "DisableBlocked", bool(report.blocked), "MachinesExist" if report.blocked else "NotBlocked", report.blocked
        ),
    ]
    if report.summary is not None:
        passed = report.summary.get("preflightCheckPassed") is True
        wanted.append(
            Condition(
                "PreflightPassed",
                passed,
                "Passed" if passed else "Failed",
                str(report.summary.get("message", "")),
            )
        )
    new: Obj = {
        "ready": report.ready,
        "vmImageFormat": api.image_format(runtime),
        "observedGeneration": generation,
        "conditions": merge_conditions(old.get("conditions", []), wanted, generation),
    }
    if report.summary is not None:
        new["preflightCheckSummary"] = report.summary
    return new
