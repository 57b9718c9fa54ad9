"""From a `MachineConfig` to QEMU's command line. Pure: the same value gives the same list, with no look at the host.

Choices that hold for every machine:

- `-nodefaults -no-user-config`: a machine has the devices that stand here and no other.
- `-sandbox on,...`: seccomp; no new privileges, no child processes, no scheduler calls.
- Serial first: with `graphics=off` the firmware and boot loader use the serial port, also where a VGA card is
  present, so that a boot problem shows in the log of the process. The serial port's log file is standard output.
- A guest that powers itself off leaves QEMU paused in run state `shutdown` (`-action shutdown=pause`): a controller
  that was away sees it later. A QEMU that vanished has crashed or was killed.
- Every PCI device has a fixed slot, so that adding a disk does not rename the guest's network cards. Slots 0x19 to
  0x1e stay free.
"""

from __future__ import annotations

import json

from vmruntime.engines.qemu.config import (
    AGENT_CHARDEV,
    AGENT_SOCKET,
    QMP_SOCKET,
    SERIAL_SOCKET,
    VNC_SOCKET,
    DiskConfig,
    MachineConfig,
    NicConfig,
    UefiConfig,
)

_FLASH_CODE = "flash-code"
_FLASH_VARIABLES = "flash-variables"

_SLOT_VGA = 0x1
_SLOT_FIRST_NIC = 0x2
_SLOT_SCSI = 0x6
_SLOT_SERIAL = 0x7
_SLOT_RNG = 0x8
_SLOT_FIRST_DISK = 0x9

# Guest memory up to (MiB) -> translation cache (MiB). QEMU's own default grows to 1 GiB a machine; a tiny guest was
# measured not to be faster with more than 32, a distribution with systemd not with more than 256.
_TB_SIZES = ((256, 32), (768, 64), (2048, 128))
_TB_SIZE_LARGEST = 256


def guest_address(card: int) -> str:
    """What DHCP hands to the guest's card of this number: each card is on a network of its own, 10.0.2.0/24 first."""
    return f"10.0.{2 + card}.15"


def translation_cache_mib(memory_mib: int) -> int:
    """The bound of TCG's translation cache for a guest of this size, MiB."""
    return next((size for limit, size in _TB_SIZES if memory_mib <= limit), _TB_SIZE_LARGEST)


def build_argv(config: MachineConfig) -> list[str]:
    """The whole command line, program first. QEMU's working directory has to be the instance directory."""
    argv = [config.binary, "-name", f"guest={_escape(config.name)},debug-threads=on"]
    argv += ["-nodefaults", "-no-user-config"]
    argv += ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    argv += _machine(config)
    argv += _monitor()
    argv += _serial()
    if config.guest_agent:
        argv += _guest_agent()
    for number, nic in enumerate(config.nics):
        argv += _nic(number, nic)
    argv += _disks(config.all_disks(), config.spare_tray)
    argv += ["-object", "rng-random,id=rng0,filename=/dev/urandom"]
    argv += ["-device", f"virtio-rng-pci,rng=rng0,bus=pcie.0,addr={_SLOT_RNG:#x}"]
    if config.video:
        argv += ["-device", f"VGA,id=video0,vgamem_mb=16,bus=pcie.0,addr={_SLOT_VGA:#x}"]
        argv += ["-vnc", f"unix:{VNC_SOCKET}"]
    else:
        argv += ["-display", "none"]
    return argv


def _escape(value: str) -> str:
    """A value inside a comma-separated option (QEMU manual, "-name": a comma is written twice)."""
    return value.replace(",", ",,")


def _machine(config: MachineConfig) -> list[str]:
    machine = "q35,graphics=off,usb=off,vmport=off,dump-guest-core=off"
    argv = []
    if config.uefi is not None:
        machine += f",pflash0={_FLASH_CODE},pflash1={_FLASH_VARIABLES}"
        argv += _flash(config.uefi)
        if config.uefi.secure_boot:
            # Only firmware in system management mode may write the variables (OVMF README, "Secure Boot").
            machine += ",smm=on"
            argv += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    argv += ["-machine", machine]
    if config.accelerator == "kvm":
        argv += ["-accel", "kvm", "-cpu", "host"]
    else:
        size = translation_cache_mib(config.memory_mib)
        argv += ["-accel", f"tcg,thread=multi,tb-size={size}", "-cpu", "max"]
    argv += ["-smp", f"cpus={config.vcpus},sockets=1,cores={config.vcpus},threads=1"]
    argv += ["-m", f"size={config.memory_mib}M"]
    argv += ["-uuid", config.uuid]
    serial = f",serial={_escape(config.serial)}" if config.serial else ""
    argv += ["-smbios", f"type=1,manufacturer=VM Runtime,product=Virtual Machine{serial}"]
    argv += ["-rtc", f"base={'localtime' if config.rtc_local_time else 'utc'},driftfix=slew"]
    # A guest that suspends to memory would look hung: nothing here wakes it.
    argv += ["-global", "ICH9-LPC.disable_s3=1", "-global", "ICH9-LPC.disable_s4=1"]
    argv += ["-boot", "menu=off,strict=on"]
    argv += ["-action", "shutdown=pause"]
    return argv


def _flash(uefi: UefiConfig) -> list[str]:
    """The two flash chips. What the guest writes to its variables goes to the file at once, as to real flash."""
    argv = []
    for node, path, read_only in ((_FLASH_CODE, uefi.code, True), (_FLASH_VARIABLES, uefi.variables, False)):
        file = {"driver": "file", "filename": path, "locking": "auto"}
        options = {"driver": "raw", "node-name": node, "read-only": read_only, "file": file}
        argv += ["-blockdev", json.dumps(options, separators=(",", ":"))]
    return argv


def _monitor() -> list[str]:
    return [
        "-chardev",
        f"socket,id=qmp0,path={QMP_SOCKET},server=on,wait=off",
        "-mon",
        "chardev=qmp0,mode=control",
    ]


def _serial() -> list[str]:
    return [
        "-chardev",
        f"socket,id=serial0,path={SERIAL_SOCKET},server=on,wait=off,logfile=/dev/stdout,logappend=on",
        "-serial",
        "chardev:serial0",
    ]


def _guest_agent() -> list[str]:
    return [
        "-device",
        f"virtio-serial-pci,id=channels,bus=pcie.0,addr={_SLOT_SERIAL:#x}",
        "-chardev",
        f"socket,id={AGENT_CHARDEV},path={AGENT_SOCKET},server=on,wait=off",
        "-device",
        f"virtserialport,bus=channels.0,chardev={AGENT_CHARDEV},name=org.qemu.guest_agent.0",
    ]


def _nic(number: int, nic: NicConfig) -> list[str]:
    """A card. No boot ROM: machines boot from disks, and it costs start-up time."""
    if nic.tap:
        netdev = f"tap,id={nic.id},ifname={nic.tap},script=no,downscript=no"
    elif nic.descriptor is not None:
        netdev = f"tap,id={nic.id},fd={nic.descriptor}"
    elif nic.group:
        netdev = f"socket,id={nic.id},mcast={nic.group},localaddr=127.0.0.1"
    else:
        netdev = _user_network(number, nic)
    slot = _SLOT_FIRST_NIC + number
    device = f"{_escape(nic.model)},id=nic-{nic.id},netdev={nic.id},mac={nic.mac},romfile=,bus=pcie.0,addr={slot:#x}"
    return ["-netdev", netdev, "-device", device]


def _user_network(number: int, nic: NicConfig) -> str:
    """A user-mode network of the card's own.

    The guest reaches whatever QEMU's user on the host can reach. That includes services on the host's 127.0.0.1, by
    way of 10.0.2.2: QEMU's user-mode network has no switch for this but `restrict`, which would cut off everything.
    """
    address = guest_address(number)
    netdev = f"user,id={nic.id},ipv6=off,net=10.0.{2 + number}.0/24,dhcpstart={address}"
    if nic.hostname:
        netdev += f",hostname={_escape(nic.hostname)}"
    for host_port, guest_port in nic.forwards:
        netdev += f",hostfwd=tcp:{nic.host_address}:{host_port}-{address}:{guest_port}"
    return netdev


def _disks(disks: tuple[DiskConfig, ...], spare_tray: bool) -> list[str]:
    argv: list[str] = []
    if any(disk.bus == "scsi" for disk in disks):
        argv += ["-device", f"virtio-scsi-pci,id=scsi0,bus=pcie.0,addr={_SLOT_SCSI:#x}"]
    sata_port = 0
    for number, disk in enumerate(disks):
        node = f"disk{number}"
        argv += ["-blockdev", json.dumps(blockdev(node, disk), separators=(",", ":"))]
        device = f"{_disk_device(number, sata_port, disk)},drive={node},id=dev-{node}"
        sata_port += disk.bus == "sata"
        if disk.serial:
            device += f",serial={_escape(disk.serial)}"
        if disk.boot_index is not None:
            device += f",bootindex={disk.boot_index}"
        argv += ["-device", device]
    if spare_tray:
        argv += ["-device", f"ide-cd,bus=ide.{sata_port},id=dev-tray"]
    return argv


def blockdev(node: str, disk: DiskConfig) -> dict[str, object]:
    """The options of a block node (QAPI type BlockdevOptions).

    Host page cache with the guest's flushes honoured (`no-flush` false: fdatasync): what a guest has flushed is
    durable, and tmpfs and any other file system will do. A guest's discard frees space in the file. The backing
    file of a qcow2 is switched off whatever its header says: a header is data somebody may have uploaded. QEMU's
    image locks stay on, so a second writer of the same file does not start.
    """
    read_only = disk.read_only or disk.cdrom
    options: dict[str, object] = {
        "driver": disk.format,
        "node-name": node,
        "read-only": read_only,
        "discard": "unmap",
        "file": {
            "driver": "file",
            "filename": disk.path,
            "aio": "threads",
            "cache": {"direct": False, "no-flush": False},
            "discard": "unmap",
            "locking": "auto",
        },
    }
    if disk.format == "qcow2":
        options["backing"] = None
    return options


def _disk_device(number: int, sata_port: int, disk: DiskConfig) -> str:
    if disk.bus == "scsi":
        return f"{'scsi-cd' if disk.cdrom else 'scsi-hd'},bus=scsi0.0,lun={number}"
    if disk.bus == "sata":
        return f"{'ide-cd' if disk.cdrom else 'ide-hd'},bus=ide.{sata_port}"
    return f"virtio-blk-pci,bus=pcie.0,addr={_SLOT_FIRST_DISK + number:#x}"
