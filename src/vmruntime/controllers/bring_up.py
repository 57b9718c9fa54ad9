"""The objects that are there only while the runtime is on: kinds, roles, the door. Bringing them up, taking them away.

Both directions can be repeated from any half-way state. A kind is removed only when a list of it was answered and is
empty: removing a kind removes its objects.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from kube.machinery import resources
from kube.machinery.errors import StatusError
from kube.machinery.resources import Resource
from vmruntime.api import (
    admission,
    names,
    network,
    networkinterface,
    rbac,
    virtualmachine,
    virtualmachineaccessrequest,
    virtualmachinedisk,
    virtualmachinetype,
)
from vmruntime.api.meta import Obj, has_finalizer, is_deleting, name_of, names_text, namespace_of, uid_of
from vmruntime.controllers.objects import ensure, find, remove, set_finalizer
from vmruntime.controllers.stack import SYNC_SECONDS, Stack

_log = logging.getLogger(__name__)

_VALIDATING = (resources.VALIDATINGADMISSIONPOLICIES, resources.VALIDATINGADMISSIONPOLICYBINDINGS)
_MUTATING = (resources.MUTATINGADMISSIONPOLICIES, resources.MUTATINGADMISSIONPOLICYBINDINGS)
_POLICIES = (
    (_VALIDATING, admission.policy(), admission.binding()),
    (_MUTATING, admission.finalizer_policy(), admission.finalizer_binding()),
    (_VALIDATING, admission.network_policy(), admission.network_binding()),
)

_KINDS = (
    network,
    networkinterface,
    virtualmachinetype,
    virtualmachinedisk,
    virtualmachine,
    virtualmachineaccessrequest,
)

# Removals take effect a moment after they were asked for. Waiting that long here saves a pass and a status write.
_MOMENT_SECONDS = 2.0
_LOOK_AGAIN_SECONDS = 0.03


class NotServed(Exception):
    """A kind is defined but the API server doesn't answer for it yet: nothing can be concluded about its objects."""


def crd_name(resource: Resource) -> str:
    return f"{resource.plural}.{resource.group}"


async def is_defined(stack: Stack, resource: Resource) -> bool:
    """Whether the kind's definition exists."""
    return await find(stack.client, resources.CRDS, crd_name(resource)) is not None


async def list_live(stack: Stack, resource: Resource) -> list[Obj] | None:
    """All objects of a kind as the API server has them now; None if the kind doesn't exist.

    Raises NotServed where a missing answer could be taken for "there are none".
    """
    try:
        items: list[Obj] = (await stack.client.list(resource))["items"]
    except StatusError as exc:
        if exc.code != 404:
            raise
        if await is_defined(stack, resource):
            raise NotServed(f"{crd_name(resource)} is not served") from exc
        return None
    return items


async def bring_up(stack: Stack) -> str:
    """Make everything be there; what is still missing, in words, or nothing."""
    for definition in (kind.definition() for kind in _KINDS):
        found = await find(stack.client, resources.CRDS, name_of(definition))
        if found is not None and is_deleting(found):
            return f"waiting until the former {name_of(definition)} is gone"
        await ensure(stack.client, resources.CRDS, definition)
    for role in rbac.cluster_roles():
        await ensure(stack.client, resources.CLUSTERROLES, role)
    for (policies, bindings), policy, binding in _POLICIES:
        await ensure(stack.client, policies, policy)
        await ensure(stack.client, bindings, binding)
    for cache in stack.kinds:
        cache.start()
    readiness = await stack.engine.install(stack.settings)
    for cache in stack.kinds:
        if not await cache.synced(SYNC_SECONDS):
            return f"waiting for {crd_name(cache.resource)} to be served"
    if not readiness.ready:
        return readiness.message or "waiting for the engine"
    await ensure(stack.client, virtualmachinetype.RESOURCE, virtualmachinetype.predefined())
    await _ensure_pod_network(stack)
    await _tell_orphans(stack)
    return ""


async def _ensure_pod_network(stack: Stack) -> None:
    """The predefined network as it is on this node; as nobody may change it, another one takes its place."""
    pod = stack.engine.pod_network()
    wanted = network.pod_network(pod.subnet, pod.gateway, pod.nameservers)
    found = await find(stack.client, network.RESOURCE, names.POD_NETWORK)
    if found is not None and found.get("spec") != wanted["spec"]:
        await remove(stack.client, network.RESOURCE, names.POD_NETWORK)
    await ensure(stack.client, network.RESOURCE, wanted)


async def _tell_orphans(stack: Stack) -> None:
    """Say, once, where data of disks lies that have no object any more. Nobody deletes it but its owner."""
    known = frozenset(map(uid_of, stack.disks.items()))
    found = set(await stack.engine.orphaned_disks(known))
    new = sorted(found - stack.orphans_told)
    stack.orphans_told = found
    if not new:
        return
    message = f"data of disks without a VirtualMachineDisk; delete it if nobody needs it: {names_text(new, limit=3)}"
    _log.warning("%s", message)
    if stack.runtime is not None:
        await stack.events.event(stack.runtime, "Warning", "OrphanedDisks", message)


async def take_down(stack: Stack) -> str:
    """Remove everything but disks; what is still left, in words, or nothing. There must be no machine any more."""
    readiness = await stack.engine.uninstall()
    if not readiness.ready:
        return readiness.message or "waiting for the engine"
    # The door stays shut until there is nothing behind it that could be created.
    if left := await _remove_kind(stack, virtualmachine.RESOURCE):
        return left
    for (policies, bindings), policy, binding in _POLICIES:
        await remove(stack.client, bindings, name_of(binding))
        await remove(stack.client, policies, name_of(policy))
    if left := await _drop_accesses(stack):
        return left
    for role in rbac.cluster_roles():
        await remove(stack.client, resources.CLUSTERROLES, name_of(role))
    return await _settle_networks(stack) or await _settle_types(stack) or await _settle_disks(stack)


async def _remove_kind(stack: Stack, resource: Resource) -> str:
    """Remove a kind that has no objects."""
    listed = await list_live(stack, resource)
    if listed:
        first = listed[0]
        return f"{resource.kind} {namespace_of(first)}/{name_of(first)} has come"
    for cache in stack.kinds:
        if cache.resource == resource:
            await cache.stop()
    if not await remove(stack.client, resources.CRDS, crd_name(resource)):
        return ""

    async def remaining() -> str:
        return f"waiting until {crd_name(resource)} is gone" if await is_defined(stack, resource) else ""

    return await _after_a_moment(remaining)


async def _drop_accesses(stack: Stack) -> str:
    """Requests for access go: there is no machine any more that they could be about."""
    resource = virtualmachineaccessrequest.RESOURCE
    if requests := await list_live(stack, resource):
        stack.accesses.start()
        for request in requests:
            await remove(stack.client, resource, name_of(request), namespace_of(request))

    async def remaining() -> str:
        count = len(await list_live(stack, resource) or [])
        return f"waiting until {count} access request{'s are' if count > 1 else ' is'} gone" if count else ""

    return await _after_a_moment(remaining) or await _remove_kind(stack, resource)


async def _settle_networks(stack: Stack) -> str:
    """Interfaces went with their machines; networks that somebody made stay, but nothing of ours may hold them."""
    for interface in await list_live(stack, networkinterface.RESOURCE) or []:
        await remove(stack.client, networkinterface.RESOURCE, name_of(interface), namespace_of(interface))
    if left := await _remove_kind(stack, networkinterface.RESOURCE):
        return left
    await stack.networks.stop()
    for obj in await list_live(stack, network.RESOURCE) or []:
        if has_finalizer(obj, names.NETWORK_FINALIZER):
            await set_finalizer(stack.client, network.RESOURCE, obj, names.NETWORK_FINALIZER, present=False)
    await remove(stack.client, network.RESOURCE, names.POD_NETWORK)
    if await list_live(stack, network.RESOURCE):
        return ""
    return await _remove_kind(stack, network.RESOURCE)


async def _settle_types(stack: Stack) -> str:
    """Types that somebody made stay, and their kind with them; the predefined one goes."""
    for machine_type in await list_live(stack, virtualmachinetype.RESOURCE) or []:
        if not virtualmachinetype.is_predefined(machine_type):
            await stack.types.stop()
            return ""
    await remove(stack.client, virtualmachinetype.RESOURCE, name_of(virtualmachinetype.predefined()))
    return await _remove_kind(stack, virtualmachinetype.RESOURCE)


async def _settle_disks(stack: Stack) -> str:
    """Disks stay, but nothing of ours may hold them; without any, their kind goes as well."""
    if await list_live(stack, virtualmachinedisk.RESOURCE):
        stack.disks.start()

    async def remaining() -> str:
        listed = await list_live(stack, virtualmachinedisk.RESOURCE) or []
        held = [disk for disk in listed if has_finalizer(disk, names.DISK_FINALIZER)]
        if not held:
            return ""
        going = "deleted" if any(is_deleting(disk) for disk in held) else "released"
        return f"waiting until {len(held)} disk{'s are' if len(held) > 1 else ' is'} {going}"

    if left := await _after_a_moment(remaining):
        return left
    if await list_live(stack, virtualmachinedisk.RESOURCE):
        return ""
    return await _remove_kind(stack, virtualmachinedisk.RESOURCE)


async def _after_a_moment(remaining: Callable[[], Awaitable[str]]) -> str:
    """What `remaining` says once it says nothing, or when the moment is over."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _MOMENT_SECONDS
    while left := await remaining():
        if loop.time() >= until:
            return left
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
    return ""
