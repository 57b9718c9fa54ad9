"""The controller of NetworkInterfaces: one object for each interface that a machine has, gone with the machine."""

from __future__ import annotations

from kube.client.queue import Controller, WorkQueue
from kube.machinery.errors import StatusError
from vmruntime.api import networkinterface, virtualmachine
from vmruntime.api.meta import Obj, dig, is_deleting, merge_diff, name_of, namespace_of, owner_reference, uid_of
from vmruntime.controllers import connections
from vmruntime.controllers.cache import Key
from vmruntime.controllers.objects import remove
from vmruntime.controllers.stack import SYNC_SECONDS, Stack


class InterfaceController:
    """Level-triggered; keys are those of machines."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.queue: WorkQueue[Key] = WorkQueue()
        self.controller: Controller[Key] = Controller("interfaces", self.queue, self.reconcile)
        stack.machines.add_handler(self._machine_changed)
        stack.interfaces.add_handler(self._interface_changed)
        stack.on_switch(self._enqueue_all)

    def _enqueue_all(self) -> None:
        for vm in self._stack.machines.items():
            self.queue.add((namespace_of(vm), name_of(vm)))

    def _machine_changed(self, event: str, vm: Obj, old: Obj | None) -> None:
        if event == "MODIFIED" and connections.resources(vm) == connections.resources(old or {}):
            return
        self.queue.add((namespace_of(vm), name_of(vm)))

    def _interface_changed(self, event: str, obj: Obj, old: Obj | None) -> None:
        for reference in dig(obj, "metadata", "ownerReferences", default=[]):
            if reference.get("kind") == virtualmachine.RESOURCE.kind:
                self.queue.add((namespace_of(obj), str(reference.get("name"))))

    async def reconcile(self, key: Key) -> float | None:
        """One pass; the seconds after which another is due at the latest."""
        stack = self._stack
        if not stack.active:
            return None
        for cache in (stack.interfaces, stack.machines):
            if not await cache.synced(SYNC_SECONDS):
                return 1.0
        vm = stack.machines.get(*key)
        if vm is None or is_deleting(vm):
            return None  # they go with their owner
        wanted = {name_of(entry): entry for entry in connections.resources(vm)}
        for entry in wanted.values():
            await self._ensure(vm, entry)
        for obj in stack.interfaces.items():
            if namespace_of(obj) == key[0] and _belongs_to(obj, vm) and name_of(obj) not in wanted:
                await remove(stack.client, networkinterface.RESOURCE, name_of(obj), key[0])
        return None

    async def _ensure(self, vm: Obj, wanted: Obj) -> None:
        client, name, namespace = self._stack.client, name_of(wanted), namespace_of(wanted)
        found = self._stack.interfaces.get(namespace, name)
        owner = [owner_reference(virtualmachine.RESOURCE, name_of(vm), uid_of(vm))]
        if found is None:
            made = {**wanted, "metadata": {**wanted["metadata"], "ownerReferences": owner}}
            try:
                await client.create(networkinterface.RESOURCE, made, namespace)
                return
            except StatusError as exc:
                if exc.reason != "AlreadyExists":
                    raise
            found = await client.get(networkinterface.RESOURCE, name, namespace)
        patch: Obj = {
            part: changes for part in ("spec", "status") if (changes := merge_diff(found.get(part, {}), wanted[part]))
        }
        if not _belongs_to(found, vm):
            # Of a machine of the same name that has just gone.
            patch["metadata"] = {"ownerReferences": owner, "uid": uid_of(found)}
        if patch and not is_deleting(found):
            self._stack.interfaces.wrote(await client.patch(networkinterface.RESOURCE, name, patch, namespace))


def _belongs_to(obj: Obj, vm: Obj) -> bool:
    return any(entry.get("uid") == uid_of(vm) for entry in dig(obj, "metadata", "ownerReferences", default=[]))
