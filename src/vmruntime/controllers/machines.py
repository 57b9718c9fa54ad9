"""The controller of VirtualMachines: looks at object and machine, asks `machine_decide`, and takes the one step."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from kube.client.queue import Controller, WorkQueue
from kube.machinery.durations import parse_rfc3339, rfc3339_micro
from vmruntime.api import names, virtualmachine, virtualmachinedisk
from vmruntime.api.meta import Obj, condition_of, dig, has_finalizer, is_deleting, name_of, namespace_of, uid_of
from vmruntime.controllers import (
    machine_changes,
    machine_decide,
    machine_request,
    machine_status,
    placement,
    startup_data,
)
from vmruntime.controllers.cache import Key
from vmruntime.controllers.machine_decide import Plan, Situation, Step
from vmruntime.controllers.machine_needs import MachineNeeds
from vmruntime.controllers.objects import remove, set_finalizer, write_status
from vmruntime.controllers.stack import SYNC_SECONDS, Stack, gate
from vmruntime.controllers.startup_data import StartupData
from vmruntime.engines.base import Subject
from vmruntime.engines.common import ConfigurationError, NotAdmitted
from vmruntime.engines.machine import IO_ERROR, NO_SPACE, MachineObservation, MachinePhase

_log = logging.getLogger(__name__)

_WORKERS = 8
# Most machines run within this time after their start: one write says so, instead of two.
_START_QUIET_SECONDS = 1.0
# A spec that cannot be fulfilled is tried again this often: the Secret that it names may have come.
_CONFIGURATION_RETRY_SECONDS = 5.0
_FORGET_RETRY_SECONDS = 2.0
# An object whose creation was seen this soon after its timestamp (whole seconds) is dated by when it was seen.
_FRESH = timedelta(seconds=2)

_EVENTS = {
    virtualmachine.PENDING: "Warning",
    virtualmachine.CRASH_LOOP: "Warning",
    virtualmachine.ERROR_CONFIGURATION: "Warning",
    virtualmachine.STOPPED: "Normal",
}
# Why a machine may wait for what another one has, or for others that run; and what of these decides about it.
_WAITING_FOR_OTHERS = (placement.UNSCHEDULABLE, placement.NO_MEMORY, "DiskInUse", "AddressInUse")
_COUNTS_FOR_OTHERS = (("status", "podName"), ("metadata", "labels"), ("spec", "scheduling"))
_TROUBLES = (NO_SPACE, IO_ERROR)


class MachineController:
    """Level-triggered: any number of passes over a machine, from any state, in which any other pass ended."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._needs = MachineNeeds(stack)
        self.queue: WorkQueue[Key] = WorkQueue()
        self.controller: Controller[Key] = Controller("machines", self.queue, self.reconcile, workers=_WORKERS)
        self._first_seen: dict[str, datetime] = {}
        self._disks_ready: dict[str, float] = {}
        self._waited: set[str] = set()
        self._launched: dict[str, float] = {}
        self._pressed: dict[str, float] = {}
        self._gone: dict[Key, list[Obj]] = {}
        stack.machines.add_handler(self._machine_changed)
        stack.disks.add_handler(self._disk_changed)
        stack.types.add_handler(self._type_changed)
        stack.networks.add_handler(self._network_changed)
        stack.nodes.add_handler(self._node_changed)
        stack.runtimes.add_handler(self._runtime_changed)
        stack.on_switch(self.enqueue_all)
        stack.engine.subscribe(self._engine_changed)

    def enqueue_all(self) -> None:
        for vm in self._stack.machines.items():
            self.queue.add((namespace_of(vm), name_of(vm)))

    def _machine_changed(self, event: str, vm: Obj, old: Obj | None) -> None:
        key = (namespace_of(vm), name_of(vm))
        if event == "ADDED":
            now = datetime.now(UTC)
            created = parse_rfc3339(str(dig(vm, "metadata", "creationTimestamp")))
            self._first_seen[uid_of(vm)] = now if now - created < _FRESH else created
        if event == "DELETED":
            self._forget_memory(uid_of(vm))
            self._needs.release(key)
            self._gone.setdefault(key, []).append(vm)
        if event == "DELETED" or any(dig(old, *path) != dig(vm, *path) for path in _COUNTS_FOR_OTHERS):
            self._enqueue_waiting()
        self.queue.add(key)

    def _forget_memory(self, uid: str) -> None:
        for memory in (self._first_seen, self._disks_ready, self._launched, self._pressed):
            memory.pop(uid, None)
        self._waited.discard(uid)

    def _enqueue_users(self, namespace: str, disk: str) -> None:
        for user in virtualmachine.users_of(disk, self._of_namespace(namespace)):
            self.queue.add((namespace, name_of(user)))

    def _disk_changed(self, event: str, disk: Obj, old: Obj | None) -> None:
        before, after = dig(old, "status", "phase"), dig(disk, "status", "phase")
        if event == "MODIFIED" and before == after and is_deleting(disk) == is_deleting(old or {}):
            return
        for name in (name_of(disk), virtualmachinedisk.clone_name(disk)):
            self._enqueue_users(namespace_of(disk), name)

    def _type_changed(self, event: str, machine_type: Obj, old: Obj | None) -> None:
        for vm in self._stack.machines.items():
            if virtualmachine.type_name(vm) == name_of(machine_type):
                self.queue.add((namespace_of(vm), name_of(vm)))

    def _network_changed(self, event: str, obj: Obj, old: Obj | None) -> None:
        for vm in self._stack.machines.items():
            if name_of(obj) != names.POD_NETWORK and name_of(obj) in virtualmachine.network_names(vm):
                self.queue.add((namespace_of(vm), name_of(vm)))

    def _node_changed(self, event: str, node: Obj, old: Obj | None) -> None:
        if event != "MODIFIED" or placement.may_have_changed(node, old):
            self._enqueue_waiting()

    def _enqueue_waiting(self) -> None:
        for vm in self._stack.machines.items():
            to_restart = condition_of(vm, "RestartRequired").get("status") == "True"
            if to_restart or dig(vm, "status", "reason") in _WAITING_FOR_OTHERS:
                self.queue.add((namespace_of(vm), name_of(vm)))

    def _runtime_changed(self, event: str, runtime: Obj, old: Obj | None) -> None:
        if event != "MODIFIED" or gate(runtime) != gate(old):
            self.enqueue_all()

    def _engine_changed(self, subject: Subject, namespace: str, name: str) -> None:
        if subject is Subject.MACHINE:
            self.queue.add((namespace, name))

    def _of_namespace(self, namespace: str) -> Iterable[Obj]:
        return (vm for vm in self._stack.machines.items() if namespace_of(vm) == namespace)

    async def reconcile(self, key: Key) -> float | None:
        """One pass; the seconds after which another is due at the latest."""
        if self._stack.active is None:
            return 1.0
        for cache in (*self._stack.kinds, self._stack.nodes):
            if not await cache.synced(SYNC_SECONDS):
                return 1.0
        vm = self._stack.machines.get(*key)
        if vm is None:
            return await self._clear_away(key)
        machine = await self._stack.engine.observe_machine(machine_request.ref_of(vm))
        if machine.phase is MachinePhase.ABSENT:
            self._needs.release(key)
        if machine.alive:
            labels = dig(vm, "metadata", "labels", default={})
            await self._stack.engine.label_machine(machine_request.ref_of(vm), labels)
        waiting_media: tuple[str, ...] = ()
        if machine.phase is MachinePhase.RUNNING:
            machine, waiting_media = await self._change_media(vm, machine)
        situation = self._situation(vm, machine_status.remembering(vm, machine), waiting_media)
        plan = machine_decide.decide(situation)
        if plan.step is Step.ADD_FINALIZER:
            added = await set_finalizer(
                self._stack.client, virtualmachine.RESOURCE, vm, names.VM_FINALIZER, present=True
            )
            if added is None:
                return None
            self._stack.machines.wrote(added)
            return await self.reconcile(key)
        return await self._take(situation, plan)

    async def _change_media(self, vm: Obj, machine: MachineObservation) -> tuple[MachineObservation, tuple[str, ...]]:
        """Insert and eject CD-ROMs; the machine as it is then, and the parts of its spec that wait for a restart."""
        if is_deleting(vm) or machine.disks is None:
            return machine, ()
        media = machine_request.media(vm, self._stack.disks, machine.disks)
        ref = machine_request.ref_of(vm)
        try:
            await self._stack.engine.change_media(ref, media)
        except ConfigurationError as exc:
            _log.warning("the CD-ROMs of %s: %s", ref, exc)
        machine = await self._stack.engine.observe_machine(ref)
        present = machine.disks or {}
        without_drive = machine.disks is not None and any(medium.ref.name not in present for medium in media)
        return machine, ("disks",) if without_drive else ()

    def _situation(self, vm: Obj, machine: MachineObservation, waiting_media: tuple[str, ...]) -> Situation:
        waiting = None
        changed = tuple(sorted({*self._changed_parts(vm, machine), *waiting_media}))
        if changed:
            waiting = self._needs.disks_problem(vm)
        elif not is_deleting(vm) and machine.phase is MachinePhase.ABSENT:
            waiting = self._needs.disks_problem(vm)
            self._note_disks(vm, ready=waiting is None)
            waiting = waiting or self._needs.place_problem(vm)
        return Situation(
            vm=vm,
            machine=machine,
            now=datetime.now(UTC),
            gate=gate(self._stack.runtime),
            waiting=waiting,
            disposable=machine_request.is_disposable(vm, self._stack.disks),
            changed=changed,
        )

    def _changed_parts(self, vm: Obj, machine: MachineObservation) -> tuple[str, ...]:
        if not machine.alive:
            return ()
        try:
            compute = machine_request.compute_of(vm, self._stack.types)
        except ConfigurationError:
            compute = None
        left_out = machine_request.cdroms(vm, self._stack.disks)
        return machine_changes.changed(machine.fingerprint, machine_changes.fingerprint(vm, compute, left_out))

    def _note_disks(self, vm: Obj, ready: bool) -> None:
        """Remember, for the timings, whether and until when disks were waited for."""
        uid = uid_of(vm)
        if not ready:
            self._waited.add(uid)
        elif uid not in self._disks_ready and uid in self._first_seen:
            since = datetime.now(UTC) - self._first_seen[uid]
            self._disks_ready[uid] = round(max(0.0, since.total_seconds()), 3)

    async def _take(self, situation: Situation, plan: Plan) -> float | None:
        vm, uid = situation.vm, uid_of(situation.vm)
        loop = asyncio.get_running_loop()
        if plan.step is Step.NONE and plan.state == virtualmachine.STARTING and uid in self._launched:
            quiet = self._launched[uid] + _START_QUIET_SECONDS - loop.time()
            if quiet > 0:
                return quiet
        if plan.step is Step.START:
            # Before anything is awaited: another pass must not give the same disk or memory to another machine.
            self._needs.claim(vm)
        written = await self._write(situation, plan)
        if plan.step is Step.START:
            return await self._start(written, situation)
        if plan.step is Step.POWER_BUTTON:
            await self._press(written)
        elif plan.step is Step.RESUME:
            await self._stack.engine.resume_machine(machine_request.ref_of(vm))
        elif plan.step is Step.END:
            self._launched.pop(uid, None)
            self._pressed.pop(uid, None)
            await self._stack.engine.end_machine(machine_request.ref_of(vm))
        elif plan.step is Step.FORGET:
            return await self._forget(written)
        return plan.after

    async def _write(self, situation: Situation, plan: Plan) -> Obj:
        """Write the status if it changed, and tell of what people should know; the newest object."""
        vm = situation.vm
        status = machine_status.build(vm, plan, situation.machine, situation.now, situation.changed, situation.waiting)
        uid = uid_of(vm)
        if plan.state and uid in self._disks_ready and "disksReadySeconds" not in status.get("timings", {}):
            status["timings"] = {**status.get("timings", {}), "disksReadySeconds": self._disks_ready[uid]}
        if not status:
            return vm
        written = await write_status(self._stack.client, virtualmachine.RESOURCE, vm, status)
        if written is None:
            return vm
        self._stack.machines.wrote(written)
        await self._tell(vm, written)
        return written

    async def _tell(self, old: Obj, new: Obj) -> None:
        state, reason = dig(new, "status", "state"), str(dig(new, "status", "reason", default=""))
        told = ("state", "reason", "lastFailedPod")
        if all(dig(old, "status", field) == dig(new, "status", field) for field in told):
            return
        kind = "Warning" if reason in _TROUBLES else _EVENTS.get(str(state))
        if kind:
            message = str(dig(new, "status", "message", default="")) or f"the machine is {str(state).lower()}"
            await self._stack.events.event(new, kind, reason, message)

    async def _start(self, vm: Obj, situation: Situation) -> float | None:
        uid = uid_of(vm)
        first = not dig(vm, "status", "launches") and uid not in self._waited
        since = self._first_seen.get(uid, situation.now) if first else situation.now
        taken = frozenset(
            str(address)
            for other in self._stack.machines.items()
            if uid_of(other) != uid
            for interface in dig(other, "status", "interfaces", default=[])
            for address in interface.get("ipAddresses", [])
        )
        stack = self._stack
        try:
            startup = await self._startup_data(vm)
            request = await machine_request.build(vm, stack, taken, rfc3339_micro(since), startup)
            await stack.engine.start_machine(request)
        except ConfigurationError as exc:
            state = virtualmachine.PENDING if isinstance(exc, NotAdmitted) else virtualmachine.ERROR_CONFIGURATION
            plan = Plan(Step.NONE, state, exc.reason, exc.message)
            await self._write(Situation(vm, situation.machine, situation.now), plan)
            # It has nothing: what it would have had may be what others wait for.
            self._needs.release((namespace_of(vm), name_of(vm)))
            self._enqueue_waiting()
            return _CONFIGURATION_RETRY_SECONDS
        self._launched[uid] = asyncio.get_running_loop().time()
        return _START_QUIET_SECONDS

    async def _startup_data(self, vm: Obj) -> StartupData:
        """What the spec names; once a machine has had data, missing Secrets leave it those of its last start."""
        try:
            return StartupData(await startup_data.read(vm, self._stack.client))
        except startup_data.DataMissing as exc:
            if not dig(vm, "status", "launches") or not self._stack.engine.has_seed(machine_request.ref_of(vm)):
                raise
            message = f"{exc.message}; the machine starts with the data of its last start"
            await self._stack.events.event(vm, "Warning", exc.reason, message)
            return StartupData(keep=True)

    async def _press(self, vm: Obj) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._pressed.get(uid_of(vm), float("-inf")) >= machine_decide.PRESS_AGAIN_SECONDS - 1:
            self._pressed[uid_of(vm)] = now
            if not await self._stack.engine.ask_to_shut_down(machine_request.ref_of(vm)):
                # Not connected to it yet: that it is now will be an event, and the button is pressed then.
                del self._pressed[uid_of(vm)]

    async def _forget(self, vm: Obj) -> float | None:
        """The machine is gone: remove what is left of it, and let its object go."""
        for disk in virtualmachine.disks(vm):
            if disk.auto_delete and not self._is_needed(disk.name, vm):
                await remove(self._stack.client, virtualmachinedisk.RESOURCE, disk.name, namespace_of(vm))
        if not await self._stack.engine.forget_machine(machine_request.ref_of(vm)):
            return _FORGET_RETRY_SECONDS
        if has_finalizer(vm, names.VM_FINALIZER):
            await set_finalizer(self._stack.client, virtualmachine.RESOURCE, vm, names.VM_FINALIZER, present=False)
        return None

    def _is_needed(self, disk: str, vm: Obj) -> bool:
        """Whether another machine than `vm`, which stays, lists the disk: one machine does not take it from another."""
        users = virtualmachine.users_of(disk, self._of_namespace(namespace_of(vm)))
        return any(uid_of(user) != uid_of(vm) and not is_deleting(user) for user in users)

    async def _clear_away(self, key: Key) -> float | None:
        """Objects that are gone: files of theirs may be left where somebody removed the finalizer by hand.

        What still runs is left alone: its pod goes with its owner, and a watch that was wrong must cost no machine.
        """
        left = []
        for vm in self._gone.pop(key, []):
            ref = machine_request.ref_of(vm)
            machine = await self._stack.engine.observe_machine(ref)
            if machine.phase is not MachinePhase.ABSENT or not await self._stack.engine.forget_machine(ref):
                left.append(vm)
        if not left:
            return None
        self._gone[key] = left
        return 10.0
