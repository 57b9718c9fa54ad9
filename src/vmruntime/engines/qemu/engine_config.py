"""From what the engine is asked to what QEMU is given: the command line, and the files that have to be there first."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from kube.durable import sync_directory, write_private
from vmruntime.engines.common import ConfigurationError, Ref, Settings
from vmruntime.engines.machine import MachineDisk, MachineRequest, Seed
from vmruntime.engines.network import Interface
from vmruntime.engines.qemu import firmware, guest_network, hostcheck, seed
from vmruntime.engines.qemu.argv import build_argv, translation_cache_mib
from vmruntime.engines.qemu.config import (
    MAX_SATA_DISKS,
    SEED_IMAGE,
    VARIABLES,
    VARIABLES_SECURE,
    Accelerator,
    DiskBus,
    DiskConfig,
    MachineConfig,
    NicConfig,
    UefiConfig,
    disk_serials,
)
from vmruntime.engines.qemu.engine_layout import Layout
from vmruntime.engines.qemu.engine_network import descriptor
from vmruntime.engines.qemu.segments import is_private

_MIB = 1 << 20
# What QEMU itself needs, devices and screen included (measured: 40 MiB with a guest that does little).
_QEMU_MEMORY = 48 * _MIB
_PAGE_TABLES_PART = 512


@dataclass(frozen=True, slots=True)
class Files:
    """What an instance directory needs before QEMU starts there. `keep_seed`: the seed image that is there stays."""

    seed_image: bytes | None
    keep_seed: bool
    variables: tuple[str, Path] | None

    def write(self, directory: Path, owner: int | None) -> None:
        """Each is on stable storage then, and the UEFI variables also under their directory's name. Raises OSError.

        Blocks. A directory that a power cut takes away with no more than a seed in it is made again from the same spec:
        to wait for its name costs as much as all else of a start, where many machines start at once.
        """
        if self.seed_image is not None:
            write_private(directory / SEED_IMAGE, self.seed_image, owner)
        elif not self.keep_seed:
            (directory / SEED_IMAGE).unlink(missing_ok=True)
        if self.variables is not None:
            name, template = self.variables
            firmware.ensure_variables(directory / name, template, owner)
            sync_directory(directory.parent)  # the directory itself may be new


def build(
    request: MachineRequest, accelerator: Accelerator, interfaces: tuple[Interface, ...], layout: Layout
) -> tuple[list[str], Files]:
    """The command line and the files. ConfigurationError where the request cannot be fulfilled."""
    program = shutil.which(hostcheck.QEMU)
    if program is None:
        message = f"{hostcheck.QEMU} is not installed; install the packages {hostcheck.PACKAGES}"
        raise ConfigurationError("QemuMissing", message)
    found = _find_uefi(request)
    try:
        argv = build_argv(_config(request, accelerator, interfaces, layout, _uefi_config(request, found), program))
        data = _start_up_data(request, interfaces)
        image = _seed_image(request.ref, data) if data is not None else None
    except ValueError as exc:
        raise ConfigurationError("InvalidSpec", str(exc)) from exc
    return argv, Files(
        image, request.keep_seed, (_variables_name(request), found.variables) if found is not None else None
    )


def memory_needed(memory: int, settings: Settings) -> int:
    """Bytes that QEMU can come to use with a guest of this size."""
    cache = translation_cache_mib(-(-memory // _MIB)) * _MIB if settings.use_emulation else 0
    return memory + _QEMU_MEMORY + cache + memory // _PAGE_TABLES_PART


def _config(
    request: MachineRequest,
    accelerator: Accelerator,
    interfaces: tuple[Interface, ...],
    layout: Layout,
    uefi: UefiConfig | None,
    program: str,
) -> MachineConfig:
    windows = request.os_type.lower() == "windows"
    has_data = _start_up_data(request, interfaces) is not None or request.keep_seed
    seed_image = SEED_IMAGE if has_data else None
    disks = _disks(request.disks, layout)
    ports_used = sum(disk.bus == "sata" for disk in disks) + (windows and seed_image is not None)
    return MachineConfig(
        name=request.ref.name,
        uuid=request.firmware.uuid or request.ref.uid,
        vcpus=request.vcpus,
        memory_mib=-(-request.memory // _MIB),
        disks=disks,
        nics=tuple(_nic(index, entry, request.ref.name) for index, entry in enumerate(interfaces)),
        seed=seed_image,
        seed_bus="sata" if windows else "virtio",
        accelerator=accelerator,
        rtc_local_time=windows,
        guest_agent=request.guest_agent,
        uefi=uefi,
        serial=request.firmware.serial,
        # For a CD-ROM that is inserted while the machine runs; one that it has can be changed for another.
        spare_tray=not any(disk.cdrom for disk in disks) and ports_used < MAX_SATA_DISKS,
        binary=program,
    )


def _nic(index: int, entry: Interface, hostname: str) -> NicConfig:
    name = f"net{index}"
    if entry.segment is not None and is_private(entry.segment):
        return NicConfig(name, entry.mac, group=entry.device)
    if entry.segment is not None:
        return NicConfig(name, entry.mac, descriptor=descriptor(index))
    if entry.device:
        return NicConfig(name, entry.mac, tap=entry.device)
    forwards = tuple((port.host, port.guest) for port in entry.ports)
    return NicConfig(name, entry.mac, host_address=entry.addresses[0], forwards=forwards, hostname=hostname)


def _start_up_data(request: MachineRequest, interfaces: tuple[Interface, ...]) -> Seed | None:
    """What the guest is given: the machine's own data; and of its network cards what DHCP does not say."""
    network_data = guest_network.network_config(interfaces)
    if request.keep_seed or (request.seed is None and not any(map(guest_network.is_static, interfaces))):
        return request.seed
    given = request.seed or Seed()
    return Seed(given.user_data, given.network_data or network_data or b"")


def _find_uefi(request: MachineRequest) -> firmware.Uefi | None:
    if not request.firmware.uefi:
        return None
    found = firmware.find(request.firmware.secure_boot)
    if found is None:
        kind = "UEFI firmware with Secure Boot" if request.firmware.secure_boot else "UEFI firmware"
        message = f"there is no {kind} on the node; install the package {firmware.PACKAGE}"
        raise ConfigurationError("FirmwareMissing", message)
    return found


def _uefi_config(request: MachineRequest, found: firmware.Uefi | None) -> UefiConfig | None:
    if found is None:
        return None
    return UefiConfig(str(found.code), _variables_name(request), request.firmware.secure_boot)


def _variables_name(request: MachineRequest) -> str:
    """Variables made without Secure Boot's keys are of no use with it, and the other way round: each has its own."""
    return VARIABLES_SECURE if request.firmware.secure_boot else VARIABLES


def _disks(disks: tuple[MachineDisk, ...], layout: Layout) -> tuple[DiskConfig, ...]:
    """Boot order: the disk marked for it, then the others as they are listed."""
    order = sorted(range(len(disks)), key=lambda index: (not disks[index].boot, index))
    serials = disk_serials(tuple(disk.ref.name for disk in disks))
    return tuple(
        replace(disk_config(disk, layout), serial=serials[index], boot_index=order.index(index))
        for index, disk in enumerate(disks)
    )


def disk_config(disk: MachineDisk, layout: Layout) -> DiskConfig:
    """A disk as QEMU opens it. ConfigurationError where its data is gone."""
    stored = layout.stored(disk.ref)
    if stored is None:
        raise ConfigurationError("DiskMissing", f'the data of VirtualMachineDisk "{disk.ref.name}" is gone')
    return DiskConfig(
        path=layout.relative_disk(disk.ref, stored.format),
        format="qcow2" if stored.format == "qcow2" else "raw",
        read_only=disk.read_only or disk.cdrom,
        cdrom=disk.cdrom,
        bus=_bus(disk),
    )


def _bus(disk: MachineDisk) -> DiskBus:
    if disk.driver == "scsi":
        return "scsi"
    if disk.driver == "sata" or disk.cdrom:
        return "sata"
    return "virtio"


def _seed_image(ref: Ref, data: Seed) -> bytes:
    """The NoCloud image of a machine. Raises ValueError."""
    return seed.build_seed(
        instance_id=seed.instance_id(ref.uid, data.user_data, data.network_data),
        hostname=ref.name,
        user_data=data.user_data,
        network_config=data.network_data,
    )
