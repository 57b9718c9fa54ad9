"""From a VirtualMachine to what an engine is asked: disks looked up, numbers checked."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from vmruntime.api import names, virtualmachine, virtualmachinedisk, virtualmachinetype
from vmruntime.api.meta import Obj, annotation, dig, is_deleting, name_of, namespace_of, uid_of
from vmruntime.api.virtualmachine import Compute
from vmruntime.controllers import connections
from vmruntime.controllers.cache import Cache
from vmruntime.controllers.machine_changes import fingerprint
from vmruntime.controllers.machine_decide import Problem
from vmruntime.controllers.stack import Stack
from vmruntime.controllers.startup_data import StartupData
from vmruntime.engines.common import ConfigurationError, Ref
from vmruntime.engines.machine import Firmware, MachineDisk, MachineRequest

# All of them stand in one word of QEMU's command line, and each is tried before.
_MOST_FORWARDED_PORTS = 100


def ref_of(obj: Obj) -> Ref:
    return Ref(namespace_of(obj), name_of(obj), uid_of(obj))


def compute_of(vm: Obj, types: Cache) -> Compute:
    """Processors and memory that the machine's next start gets. ConfigurationError where that cannot be said."""
    type_name = virtualmachine.type_name(vm)
    machine_type = types.get("", type_name) if type_name else None
    if type_name and machine_type is None:
        message = f'{virtualmachinetype.RESOURCE.kind} "{type_name}" does not exist'
        raise ConfigurationError("MachineTypeMissing", message)
    try:
        return virtualmachine.compute(vm, machine_type)
    except ValueError as exc:
        raise ConfigurationError("InvalidSpec", str(exc)) from exc


def disks_problem(vm: Obj, disks: Cache, others: Iterable[Obj], holds: Iterable[str]) -> Problem | None:
    """What the machine's disks make it wait for.

    `others` are the other machines of its namespace that have, or are about to have, their disks open; `holds` are
    the names of these machines, for messages only in case of a conflict.
    """
    for attached in virtualmachine.disks(vm):
        problem = _disk_problem(attached.name, disks.get(namespace_of(vm), attached.name))
        if problem:
            return problem
    holding = set(holds)
    read_only = {
        attached.name
        for attached in virtualmachine.disks(vm)
        if virtualmachinedisk.is_cdrom(disks.get(namespace_of(vm), attached.name))
    }
    for other in others:
        if name_of(other) in holding and (disk := _conflict(vm, other, read_only)):
            message = f'VirtualMachineDisk "{disk}" is in use by VirtualMachine "{name_of(other)}"; '
            message += "a disk can be attached to several machines only if all attach it read-only"
            return Problem(virtualmachine.PENDING, "DiskInUse", message)
    return _copying_problem(vm, disks, read_only)


def _copying_problem(vm: Obj, disks: Cache, read_only: Collection[str]) -> Problem | None:
    """A disk that the machine would write to while it is copied: QEMU's locks would not let it start."""
    written = {disk.name for disk in virtualmachine.disks(vm) if not disk.read_only} - set(read_only)
    for copy in disks.items():
        origin = virtualmachinedisk.clone_name(copy)
        if origin not in written or namespace_of(copy) != namespace_of(vm) or is_deleting(copy):
            continue
        if dig(copy, "status", "phase") == virtualmachinedisk.IMPORTING:
            message = f'VirtualMachineDisk "{origin}" is being copied to VirtualMachineDisk "{name_of(copy)}"; '
            return Problem(virtualmachine.PENDING, "DiskInUse", message + "the machine starts once that is done")
    return None


def _disk_problem(name: str, disk: Obj | None) -> Problem | None:
    if disk is None:
        message = f'waiting for VirtualMachineDisk "{name}", which does not exist'
        return Problem(virtualmachine.PROVISIONING, "DiskMissing", message)
    if is_deleting(disk):
        message = f'VirtualMachineDisk "{name}" is being deleted'
        return Problem(virtualmachine.ERROR_CONFIGURATION, "DiskDeleted", message)
    if virtualmachinedisk.is_ready(disk):
        return None
    phase = str(dig(disk, "status", "phase", default=virtualmachinedisk.PENDING))
    if phase in (virtualmachinedisk.FAILED, virtualmachinedisk.ERROR_CONFIGURATION):
        message = f'VirtualMachineDisk "{name}" failed: {dig(disk, "status", "message", default="")}'
        if virtualmachinedisk.is_tried_again(disk):
            return Problem(virtualmachine.PROVISIONING, "DiskNotReady", message)
        return Problem(virtualmachine.ERROR_CONFIGURATION, "DiskFailed", message)
    message = f'waiting for VirtualMachineDisk "{name}" ({phase})'
    return Problem(virtualmachine.PROVISIONING, "DiskNotReady", message)


def _conflict(vm: Obj, other: Obj, read_only: Collection[str]) -> str:
    """Name of a disk that both want and at least one wants to write to; CD-ROMs (`read_only`) nobody writes to."""
    theirs = virtualmachine.held(other)
    for disk in virtualmachine.disks(vm):
        if disk.name in theirs and disk.name not in read_only and not (disk.read_only and theirs[disk.name]):
            return disk.name
    return ""


def cdroms(vm: Obj, disks: Cache) -> set[str]:
    """The CD-ROMs among the machine's disks."""
    listed = (attached.name for attached in virtualmachine.disks(vm))
    return {name for name in listed if virtualmachinedisk.is_cdrom(disks.get(namespace_of(vm), name))}


def media(vm: Obj, disks: Cache, present: Collection[str]) -> list[MachineDisk]:
    """The CD-ROMs that a running machine should have: those of `present` that are listed, others once ready."""
    namespace = namespace_of(vm)
    wanted = [
        name for name in cdroms(vm, disks) if name in present or _disk_problem(name, disks.get(namespace, name)) is None
    ]
    return list(_machine_disks(vm, disks, wanted))


def is_disposable(vm: Obj, disks: Cache) -> bool:
    """Whether nothing that the machine can write will outlive it, so that cutting it off loses nothing."""
    for attached in virtualmachine.disks(vm):
        disk = disks.get(namespace_of(vm), attached.name)
        if attached.read_only or virtualmachinedisk.is_cdrom(disk):
            continue
        if disk is not None and not is_deleting(disk) and not attached.auto_delete:
            return False
    return True


async def build(
    vm: Obj, stack: Stack, taken: frozenset[str], requested_at: str, startup: StartupData
) -> MachineRequest:
    """The request for the machine's next launch. ConfigurationError where the spec cannot be fulfilled as it is."""
    compute = compute_of(vm, stack.types)
    return MachineRequest(
        ref=ref_of(vm),
        launch=int(dig(vm, "status", "launches", default=0)) + 1,
        vcpus=compute.vcpus,
        memory=compute.memory,
        disks=tuple(_machine_disks(vm, stack.disks, [attached.name for attached in virtualmachine.disks(vm)])),
        interfaces=connections.interfaces(vm, stack.networks.get, stack.interfaces.get),
        settings=stack.settings,
        os_type=virtualmachine.os_type(vm) or "Linux",
        guest_agent=virtualmachine.uses_guest_agent(vm),
        firmware=_firmware(vm),
        seed=startup.seed,
        keep_seed=startup.keep,
        labels=dig(vm, "metadata", "labels", default={}),
        fingerprint=fingerprint(vm, compute, cdroms(vm, stack.disks)),
        token=annotation(vm, names.RESTARTED_AT_ANNOTATION),
        requested_at=requested_at,
        addresses_taken=taken,
        forwarded_ports=forwarded_ports(vm),
    )


def forwarded_ports(vm: Obj) -> tuple[int, ...]:
    """The ports that the machine's annotation names. ConfigurationError where one is none, or where they are many."""
    words = annotation(vm, names.FORWARD_PORTS_ANNOTATION).replace(",", " ").split()
    if len(words) > _MOST_FORWARDED_PORTS:
        message = f"annotation {names.FORWARD_PORTS_ANNOTATION}: {len(words)} ports, "
        raise ConfigurationError("InvalidPorts", message + f"more than the {_MOST_FORWARDED_PORTS} that are possible")
    if any(not word.isascii() or not word.isdigit() or not 0 < int(word) < 65536 for word in words):
        message = f"annotation {names.FORWARD_PORTS_ANNOTATION}: ports are numbers from 1 to 65535, with commas between"
        raise ConfigurationError("InvalidPorts", message)
    return tuple(map(int, words))


def _firmware(vm: Obj) -> Firmware:
    given = dig(vm, "spec", "firmware", default={})
    return Firmware(
        uefi=dig(given, "bootloader", "type") == "uefi",
        secure_boot=dig(given, "bootloader", "enableSecureBoot") is True,
        uuid=str(given.get("uuid", "")).lower(),
        serial=str(given.get("serial", "")),
    )


def _machine_disks(vm: Obj, disks: Cache, wanted: Collection[str]) -> Iterable[MachineDisk]:
    """Those of the machine's disks that are `wanted`. ConfigurationError where one does not exist."""
    for attached in virtualmachine.disks(vm):
        if attached.name not in wanted:
            continue
        disk = disks.get(namespace_of(vm), attached.name)
        if disk is None:
            raise ConfigurationError("DiskMissing", f'VirtualMachineDisk "{attached.name}" does not exist')
        yield MachineDisk(
            ref=ref_of(disk),
            format=str(dig(disk, "status", "format", default="raw")),
            boot=attached.boot,
            read_only=attached.read_only,
            cdrom=virtualmachinedisk.is_cdrom(disk),
            driver=attached.driver,
        )
