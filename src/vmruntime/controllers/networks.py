"""The controller of Networks: makes each usable on the node, says whether it is, lets it go when nobody is on it."""

from __future__ import annotations

from kube.client.queue import Controller, WorkQueue
from kube.machinery.errors import StatusError
from vmruntime.api import names, network, virtualmachine
from vmruntime.api.meta import (
    Condition,
    Obj,
    annotation,
    dig,
    has_finalizer,
    is_deleting,
    merge_conditions,
    name_of,
    uid_of,
)
from vmruntime.controllers.connections import segment
from vmruntime.controllers.objects import set_finalizer, write_status
from vmruntime.controllers.stack import SYNC_SECONDS, Stack
from vmruntime.engines.common import Readiness

# How often the node is looked at: a network interface can come and go, and there is no event of it in the API.
_LOOK_SECONDS = 15.0


class NetworkController:
    """Level-triggered; keys are names of Networks."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.queue: WorkQueue[str] = WorkQueue()
        self.controller: Controller[str] = Controller("networks", self.queue, self.reconcile)
        stack.networks.add_handler(lambda event, obj, old: self.queue.add(name_of(obj)))
        stack.machines.add_handler(self._machine_changed)
        stack.on_switch(self._enqueue_all)

    def _enqueue_all(self) -> None:
        for obj in self._stack.networks.items():
            self.queue.add(name_of(obj))

    def _machine_changed(self, event: str, vm: Obj, old: Obj | None) -> None:
        after = virtualmachine.network_names(vm)
        before = virtualmachine.network_names(old) if old is not None else set()
        for name in after if event != "MODIFIED" else after ^ before:
            self.queue.add(name)

    async def reconcile(self, key: str) -> float | None:
        """One pass; the seconds after which another is due at the latest."""
        stack = self._stack
        if not stack.active:
            return None
        for cache in (stack.networks, stack.machines):
            if not await cache.synced(SYNC_SECONDS):
                return 1.0
        obj = stack.networks.get("", key)
        if obj is None:
            return None
        in_use = any(key in virtualmachine.network_names(vm) for vm in stack.machines.items())
        obj = await self._mark(obj, in_use)
        if network.is_predefined(obj):
            restriction = stack.engine.pod_network().restriction
            await self._report(obj, Readiness(True, restriction))
            return None
        if is_deleting(obj):
            await self._let_go(obj, in_use)
            return None
        if not has_finalizer(obj, names.NETWORK_FINALIZER):
            held = await set_finalizer(stack.client, network.RESOURCE, obj, names.NETWORK_FINALIZER, present=True)
            if held is None:
                return None
            stack.networks.wrote(held)
            obj = held
        readiness = await stack.engine.ensure_segment(segment(obj))
        if not stack.active:
            return None  # switched off meanwhile, which says nothing of the network
        await self._report(obj, readiness)
        return _LOOK_SECONDS

    async def _mark(self, obj: Obj, in_use: bool) -> Obj:
        """Say on the object whether machines refer to it; admission refuses to delete it then."""
        wanted = "true" if in_use else ""
        if annotation(obj, names.IN_USE_ANNOTATION) == wanted:
            return obj
        metadata = {"uid": uid_of(obj), "annotations": {names.IN_USE_ANNOTATION: wanted or None}}
        try:
            marked = await self._stack.client.patch(network.RESOURCE, name_of(obj), {"metadata": metadata})
        except StatusError as exc:
            if exc.code != 404:
                raise
            return obj
        self._stack.networks.wrote(marked)
        return marked

    async def _let_go(self, obj: Obj, in_use: bool) -> None:
        if not has_finalizer(obj, names.NETWORK_FINALIZER):
            return
        if in_use:
            await self._report(obj, Readiness(False, "it is being deleted, and waits for the machines that are on it"))
            return
        # Another object may describe the same VLAN; its interface stays for that one then.
        if not any(_same_segment(obj, other) for other in self._stack.networks.items()):
            await self._stack.engine.remove_segment(segment(obj))
        await set_finalizer(self._stack.client, network.RESOURCE, obj, names.NETWORK_FINALIZER, present=False)

    async def _report(self, obj: Obj, readiness: Readiness) -> None:
        reason = "NetworkReady" if readiness.ready else "ParamsNotReady"
        parameters = "ParamsReady" if readiness.ready else "NodeNotReady"
        conditions = [
            Condition("Ready", readiness.ready, reason, readiness.message),
            Condition("ParamsReady", readiness.ready, parameters, "" if readiness.ready else readiness.message),
        ]
        generation = int(dig(obj, "metadata", "generation", default=0))
        before = dig(obj, "status", "conditions", default=[])
        status = {"conditions": merge_conditions(before, conditions, generation)}
        written = await write_status(self._stack.client, network.RESOURCE, obj, status)
        if written is not None:
            self._stack.networks.wrote(written)


def _same_segment(obj: Obj, other: Obj) -> bool:
    if name_of(obj) == name_of(other) or network.is_predefined(other) or is_deleting(other):
        return False
    mine, theirs = segment(obj), segment(other)
    return (mine.interface, mine.vlan) == (theirs.interface, theirs.vlan)
