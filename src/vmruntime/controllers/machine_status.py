"""The status of a VirtualMachine, from a plan and an observation: pure, and equal input gives equal output.

Equal output means that no write goes to the API, which is what keeps a machine at a handful of writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from kube.machinery.durations import parse_rfc3339
from vmruntime.api import virtualmachine as api
from vmruntime.api.meta import Condition, Obj, condition_of, dig, merge_conditions, quantity_text
from vmruntime.controllers import connections
from vmruntime.controllers.machine_decide import Plan, Problem
from vmruntime.engines.machine import IO_ERROR, Guest, MachineObservation, MachinePhase, MachineTrouble


def build(
    vm: Obj,
    plan: Plan,
    machine: MachineObservation,
    now: datetime,
    changed: Sequence[str] = (),
    waiting: Problem | None = None,
) -> Obj:
    """The whole new status. `changed`: fields of the spec that the running machine was not started with, and `waiting`,
    why it could not be started with them now."""
    old: Obj = dig(vm, "status", default={})
    status: Obj = {**old, **plan.changes}
    if plan.state:
        status.update(state=plan.state, reason=plan.reason, message=plan.message)
    if machine.interfaces:
        status["interfaces"] = [connections.to_status(entry) for entry in machine.interfaces]
    if machine.vcpus:
        status["compute"] = {"vcpus": machine.vcpus, "memory": quantity_text(machine.memory)}
    if machine.disks is not None:
        status["disks"] = [{"name": name, "readOnly": read_only} for name, read_only in machine.disks.items()]
    status["guest"] = _guest(machine.guest) if machine.guest is not None else None
    if machine.phase is MachinePhase.ABSENT:
        for field in ("compute", "disks"):
            status.pop(field, None)
    if _just_started(old, machine):
        _time_start(status, machine, now)
    generation = int(dig(vm, "metadata", "generation", default=0))
    if plan.state:
        status["observedGeneration"] = generation
        ready = Condition(
            "Ready",
            plan.state == api.RUNNING and machine.trouble is None,
            str(status.get("reason") or plan.state),
            str(status.get("message") or ""),
        )
        conditions = [ready, _restart_required(changed, waiting), _paused(machine), *_guest_environment(vm, machine)]
        status["conditions"] = merge_conditions(old.get("conditions", []), conditions, generation)
    return {key: value for key, value in status.items() if value is not None}


def remembering(vm: Obj, machine: MachineObservation) -> MachineObservation:
    """The observation, with the error of a disk that this machine's status tells of.

    A guest that was told of it was told once: it holds until the next start, also for a controller that came later.
    """
    told: Obj = dig(vm, "status", default={})
    running = machine.phase is MachinePhase.RUNNING and machine.pod_name == told.get("podName")
    if machine.trouble or not running or told.get("reason") != IO_ERROR:
        return machine
    if condition_of(vm, "Paused").get("status") == "True":
        return machine
    return replace(machine, trouble=MachineTrouble(IO_ERROR, str(told.get("message", "")), paused=False))


def _restart_required(changed: Sequence[str], waiting: Problem | None) -> Condition:
    if not changed:
        return Condition("RestartRequired", False, "UpToDate")
    fields = ", ".join(f"spec.{field}" for field in changed)
    message = f"{fields} changed since the machine was started"
    if waiting is not None:
        message += f"; it cannot be started with that now: {waiting.message}"
    return Condition("RestartRequired", True, "SpecChanged", message)


def _paused(machine: MachineObservation) -> Condition:
    if machine.trouble is None or not machine.trouble.paused:
        return Condition("Paused", False, "GuestNotPaused")
    return Condition("Paused", True, machine.trouble.reason, machine.trouble.message)


def _guest_environment(vm: Obj, machine: MachineObservation) -> list[Condition]:
    """The documented conditions of the guest agent: whether it is wanted, and whether it answers."""
    if not api.uses_guest_agent(vm):
        why = "spec.guestEnvironment is {}" if api.os_type(vm) else "spec.osType is not set"
        return [Condition("GuestEnvironmentEnabled", False, "UserConfiguration", why)]
    enabled = Condition("GuestEnvironmentEnabled", True, "UserConfiguration")
    if machine.guest is not None:
        return [enabled, Condition("GuestEnvironmentSynced", True, "GuestEnvironmentDataSynced")]
    if not machine.alive:
        return [enabled, Condition("GuestEnvironmentSynced", False, "MachineNotRunning")]
    if not machine.guest_agent:
        message = "the machine was started without a channel for the guest agent; restart it"
        return [enabled, Condition("GuestEnvironmentSynced", False, "RestartRequired", message)]
    message = "no guest agent answers; the guest needs the package qemu-guest-agent, running"
    return [enabled, Condition("GuestEnvironmentSynced", False, "GuestAgentNotAnswering", message)]


def _guest(guest: Guest) -> Obj:
    written: Obj = {"hostName": guest.host_name, "osName": guest.os_name, "kernelRelease": guest.kernel}
    cards = [
        {"name": card.name, "macAddress": card.mac, "ipAddresses": list(card.addresses)} for card in guest.interfaces
    ]
    written["interfaces"] = [{key: value for key, value in card.items() if value} for card in cards]
    return {key: value for key, value in written.items() if value}


def _just_started(old: Obj, machine: MachineObservation) -> bool:
    known = old.get("podName") == machine.pod_name and old.get("state") != api.STARTING
    return machine.phase is MachinePhase.RUNNING and not known


def _time_start(status: Obj, machine: MachineObservation, now: datetime) -> None:
    if machine.requested_at:
        seconds = (now - parse_rfc3339(machine.requested_at)).total_seconds()
        status["timings"] = {**status.get("timings", {}), "qemuStartedSeconds": round(max(0.0, seconds), 3)}
