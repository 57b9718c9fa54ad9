"""The controller of VirtualMachineDisks: looks at object and bytes, asks `disk_decide`, and takes the one step."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from kube.client.queue import Controller, WorkQueue
from kube.machinery.durations import rfc3339
from vmruntime.api import names, virtualmachine, virtualmachinedisk
from vmruntime.api.meta import Obj, has_finalizer, name_of, namespace_of, uid_of
from vmruntime.controllers import bring_up, disk_decide
from vmruntime.controllers.cache import Key
from vmruntime.controllers.disk_decide import Plan, Situation, Step, Wait
from vmruntime.controllers.machine_request import ref_of
from vmruntime.controllers.objects import set_finalizer, write_status
from vmruntime.controllers.stack import SYNC_SECONDS, Stack
from vmruntime.engines.base import Subject
from vmruntime.engines.common import ConfigurationError, NotAdmitted, Ref
from vmruntime.engines.disk import DiskRequest, DiskSource

_log = logging.getLogger(__name__)

_WORKERS = 4
_DELETE_RETRY_SECONDS = 2.0
# A change of the bytes shows at once; more steps than this in one pass would mean that they don't.
_STEPS_A_PASS = 4


class DiskController:
    """Level-triggered: any number of passes over a disk, from any state, in which any other pass ended."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.queue: WorkQueue[Key] = WorkQueue()
        self.controller: Controller[Key] = Controller("disks", self.queue, self.reconcile, workers=_WORKERS)
        self._gone: dict[Key, list[Ref]] = {}
        self._deleted: set[str] = set()
        stack.disks.add_handler(self._disk_changed)
        stack.machines.add_handler(self._machine_changed)
        stack.on_switch(self.enqueue_all)
        stack.engine.subscribe(self._engine_changed)

    def enqueue_all(self) -> None:
        for disk in self._stack.disks.items():
            self.queue.add((namespace_of(disk), name_of(disk)))

    def _disk_changed(self, event: str, disk: Obj, old: Obj | None) -> None:
        key = (namespace_of(disk), name_of(disk))
        if event == "DELETED":
            if uid_of(disk) in self._deleted:
                self._deleted.discard(uid_of(disk))
            else:
                self._gone.setdefault(key, []).append(ref_of(disk))
        self.queue.add(key)

    def _machine_changed(self, event: str, vm: Obj, old: Obj | None) -> None:
        """Who uses a disk follows from the machines."""
        gone = event == "DELETED"
        before = _uses(old) if old else _uses(vm) if gone else {}
        after = {} if gone else _uses(vm)
        for name in before.keys() | after.keys():
            if before.get(name) != after.get(name):
                self.queue.add((namespace_of(vm), name))

    def _engine_changed(self, subject: Subject, namespace: str, name: str) -> None:
        if subject is Subject.DISK:
            self.queue.add((namespace, name))

    async def reconcile(self, key: Key) -> float | None:
        """One pass; the seconds after which another is due at the latest."""
        active = self._stack.active
        if active is None or (active and not await self._stack.machines.synced(SYNC_SECONDS)):
            return 1.0
        if key in self._gone:
            await self._delete_gone(key)
        for _ in range(_STEPS_A_PASS):
            disk = self._stack.disks.get(*key)
            if disk is None:
                return None
            plan = await self._plan(disk, active)
            if plan.step in (Step.NONE, Step.DELETE, Step.REMOVE_FINALIZER):
                return await self._finish(disk, plan)
            if failure := await self._advance(disk, plan):
                return await self._finish(disk, failure)
        return 1.0

    async def _plan(self, disk: Obj, active: bool) -> Plan:
        seen = await self._stack.engine.observe_disk(ref_of(disk))
        users = self._users(disk) if active else []
        running = [name_of(vm) for vm in users if name_of(disk) in virtualmachine.opened(vm)]
        writers = [name_of(vm) for vm in self._writers(disk)] if active else []
        origin = self._origin_wait(disk)
        return disk_decide.decide(
            Situation(disk, seen, datetime.now(UTC), [name_of(vm) for vm in users], running, active, writers, origin)
        )

    def _origin(self, disk: Obj) -> Obj | None:
        """The disk that this one is to be a copy of."""
        return self._stack.disks.get(namespace_of(disk), virtualmachinedisk.clone_name(disk))

    def _origin_wait(self, disk: Obj) -> Wait | None:
        name = virtualmachinedisk.clone_name(disk)
        if not name:
            return None
        origin = self._origin(disk)
        writers = [name_of(vm) for vm in self._writers(origin)] if origin is not None else []
        return disk_decide.origin_wait(name, origin, writers)

    def _writers(self, disk: Obj) -> list[Obj]:
        """The running machines that may write to a disk."""
        return [vm for vm in self._users(disk) if not virtualmachine.opened(vm).get(name_of(disk), True)]

    def _users(self, disk: Obj) -> list[Obj]:
        namespace = namespace_of(disk)
        near = (vm for vm in self._stack.machines.items() if namespace_of(vm) == namespace)
        return virtualmachine.users_of(name_of(disk), near)

    async def _advance(self, disk: Obj, plan: Plan) -> Plan | None:
        """A step after which the disk is looked at again at once; a plan if it failed."""
        if plan.step is Step.ADD_FINALIZER:
            await self._set_finalizer(disk, present=True)
            return None
        if plan.step is Step.GROW:
            return await self._grow(disk, plan)
        try:
            await self._stack.engine.ensure_disk(self._request(disk, self._source(disk)))
        except (ConfigurationError, ValueError) as exc:
            reason = exc.reason if isinstance(exc, ConfigurationError) else "InvalidSpec"
            waits = isinstance(exc, NotAdmitted)
            phase = virtualmachinedisk.PENDING if waits else virtualmachinedisk.ERROR_CONFIGURATION
            return Plan(Step.NONE, phase, reason, str(exc), disk_decide.RETRY_SECONDS)
        return None

    async def _grow(self, disk: Obj, plan: Plan) -> Plan | None:
        writers = self._writers(disk)
        try:
            # Without the source, which may be gone by now.
            request = self._request(disk, None)
            await self._stack.engine.grow_disk(request, ref_of(writers[0]) if writers else None)
        except ConfigurationError as exc:
            return disk_decide.growth_failed(plan, exc.reason, exc.message)
        return None

    def _request(self, disk: Obj, source: DiskSource | None) -> DiskRequest:
        return DiskRequest(
            ref=ref_of(disk),
            size=virtualmachinedisk.size_bytes(disk),
            format=self._stack.settings.image_format,
            source=source,
        )

    def _source(self, disk: Obj) -> DiskSource | None:
        if name := virtualmachinedisk.clone_name(disk):
            origin = self._origin(disk)
            if origin is None:  # gone since it was decided: by no means a blank disk
                raise ConfigurationError("SourceMissing", f'VirtualMachineDisk "{name}" does not exist any more')
            return DiskSource(clone_of=ref_of(origin))
        found = virtualmachinedisk.addressed_source(disk)
        if found is None:
            return None
        kind, source = found
        return DiskSource(
            url=str(source["url"]),
            kind=kind,
            checksum=str(source.get("checksum", "")).lower(),
            secret=str(source.get("secretRef", "")),
            certificates=str(source.get("certConfigMap", "")),
        )

    async def _finish(self, disk: Obj, plan: Plan) -> float | None:
        if plan.step is Step.DELETE:
            if not await self._stack.engine.delete_disk(ref_of(disk)):
                return _DELETE_RETRY_SECONDS
            self._deleted.add(uid_of(disk))
        if plan.step in (Step.DELETE, Step.REMOVE_FINALIZER):
            await self._set_finalizer(disk, present=False)
            return None
        users = [name_of(vm) for vm in self._users(disk)]
        more = disk_decide.storage_class_condition(disk, self._stack.engine.uses_storage_classes)
        status = disk_decide.status(disk, plan, users, rfc3339(datetime.now(UTC)), more)
        written = await write_status(self._stack.client, virtualmachinedisk.RESOURCE, disk, status)
        if written is not None:
            self._stack.disks.wrote(written)
            if event := disk_decide.event(disk, written):
                await self._stack.events.event(written, *event)
        return plan.after

    async def _set_finalizer(self, disk: Obj, present: bool) -> None:
        if has_finalizer(disk, names.DISK_FINALIZER) == present:
            return
        changed = await set_finalizer(
            self._stack.client, virtualmachinedisk.RESOURCE, disk, names.DISK_FINALIZER, present
        )
        if changed is not None:
            self._stack.disks.wrote(changed)

    async def _delete_gone(self, key: Key) -> None:
        """Objects that went without a finalizer, as they do while the runtime is disabled: their bytes go now.

        A watch also says "gone" when the whole kind isn't served for a moment. So bytes are deleted only when a list
        of the kind was answered and the object is not in it. If the kind itself was removed, they are left alone.
        """
        listed = await bring_up.list_live(self._stack, virtualmachinedisk.RESOURCE)
        if listed is None:
            for ref in self._gone.pop(key):
                _log.warning("disk %s (%s): its kind was removed; its data is left where it is", ref, ref.uid)
            return
        present = {uid_of(disk) for disk in listed}
        absent = [ref for ref in self._gone[key] if ref.uid not in present]
        left = [ref for ref in absent if not await self._stack.engine.delete_disk(ref)]
        if left:
            self._gone[key] = left
            self.queue.add_after(key, _DELETE_RETRY_SECONDS)
        else:
            del self._gone[key]


def _uses(vm: Obj) -> dict[str, tuple[bool, bool | None]]:
    """Of each disk that the machine wants or has: whether it only reads it, and the same of what it has open."""
    opened = virtualmachine.opened(vm)
    return {name: (read_only, opened.get(name)) for name, read_only in virtualmachine.held(vm).items()}
