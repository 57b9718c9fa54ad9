"""What a machine is made of, as plain values: the input of `argv.build_argv`.

Paths are relative to the instance directory, QEMU's working directory. That keeps the 108-byte limit of socket
addresses away and works below directories that the QEMU user may not search.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

Accelerator = Literal["kvm", "tcg"]
DiskBus = Literal["virtio", "scsi", "sata"]
DiskFormat = Literal["raw", "qcow2"]

QEMU_UID = 60800
"""The user and group that qemu-img runs as where the agent is root. Not in /etc/passwd on purpose: it owns nothing but
the files of virtual machines. Each machine has a user of its own (machine_users)."""

# File names inside an instance directory.
QMP_SOCKET = "qmp.sock"
SERIAL_SOCKET = "serial.sock"
AGENT_SOCKET = "ga.sock"
VNC_SOCKET = "vnc.sock"
SEED_IMAGE = "seed.iso"
STOPPED_WITH_CLUSTER = "stopped-with-cluster"
"""There while a machine that ended did so because the whole cluster was stopped."""
VARIABLES = "nvram.fd"
VARIABLES_SECURE = "nvram-secure.fd"

AGENT_CHARDEV = "agent0"
"""What QEMU calls its end of the channel to the guest agent."""

SERIAL_LENGTH = 20
"""Bytes of a disk serial that virtio-blk passes on (virtio 1.1, section 5.2.6)."""

MIN_UEFI_MIB = 128
MAX_DISKS = 16
MAX_SATA_DISKS = 6
MAX_NICS = 4
MAX_VCPUS = 255  # Q35 without an interrupt-remapping IOMMU: APIC ids of 8 bits, the last one reserved.

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ID = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,31}")
_TAP = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_GROUP = re.compile(r"239(\.[0-9]{1,3}){3}:[0-9]{1,5}")
_SERIAL = re.compile(r"[ -~]{0,64}")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252})")


@dataclass(frozen=True, slots=True)
class DiskConfig:
    """One block device. `boot_index` None: never booted from. `serial` "": none."""

    path: str
    format: DiskFormat = "raw"
    read_only: bool = False
    cdrom: bool = False
    serial: str = ""
    boot_index: int | None = None
    bus: DiskBus = "virtio"

    def __post_init__(self) -> None:
        if not self.path or PurePosixPath(self.path).is_absolute() or "\0" in self.path:
            raise ValueError(f"disk path {self.path!r} must be relative to the instance directory")
        if self.format not in ("raw", "qcow2"):
            raise ValueError(f"disk format {self.format!r} is not raw or qcow2")
        if len(self.serial.encode()) > SERIAL_LENGTH:
            raise ValueError(f"disk serial {self.serial!r} is longer than {SERIAL_LENGTH} bytes")
        if self.cdrom and self.bus == "virtio":
            raise ValueError("a CD-ROM needs the bus scsi or sata: virtio-blk has no removable media")
        if self.read_only and self.bus == "sata" and not self.cdrom:
            raise ValueError("a read-only disk needs the bus virtio or scsi: SATA disks are always writable")


@dataclass(frozen=True, slots=True)
class NicConfig:
    """One network card: on a tap, by its name or an open descriptor; on a multicast group (address:port) of loopback,
    which is an Ethernet among machines; or else on QEMU's user-mode network.

    `forwards` are pairs (host port, guest port), TCP, listening on `host_address` only.
    """

    id: str
    mac: str
    model: str = "virtio-net-pci"
    host_address: str | None = None
    forwards: tuple[tuple[int, int], ...] = ()
    hostname: str = ""
    tap: str = ""
    descriptor: int | None = None
    group: str = ""

    def __post_init__(self) -> None:
        if self.tap and not _TAP.fullmatch(self.tap):
            raise ValueError(f"{self.tap!r} is no name of a network interface")
        if self.group and not _GROUP.fullmatch(self.group):
            raise ValueError(f"{self.group!r} is no multicast group and port")
        if (self.tap or self.group or self.descriptor is not None) and self.forwards:
            raise ValueError(
                "a card that is not on the user-mode network has no port forwards: all its ports can be reached"
            )
        if not _ID.fullmatch(self.id):
            raise ValueError(f"network card id {self.id!r} is not a QEMU identifier")
        if not _MAC.fullmatch(self.mac):
            raise ValueError(f"MAC address {self.mac!r} is not six lower-case hex pairs")
        if int(self.mac[:2], 16) & 1:
            raise ValueError(f"MAC address {self.mac!r} is a multicast address")
        if self.hostname and not _HOST_NAME.fullmatch(self.hostname):
            raise ValueError(f"host name {self.hostname!r} is not a DNS name")
        if self.forwards and not self.host_address:
            raise ValueError("port forwards need a host address to listen on")
        if any(not 0 < port < 65536 for pair in self.forwards for port in pair):
            raise ValueError(f"port forwards {self.forwards!r} hold a port outside 1-65535")


@dataclass(frozen=True, slots=True)
class UefiConfig:
    """UEFI in place of the BIOS: the host's code, and the machine's own variables in its instance directory."""

    code: str
    variables: str
    secure_boot: bool = False

    def __post_init__(self) -> None:
        if PurePosixPath(self.variables).is_absolute():
            raise ValueError(f"the variables' path {self.variables!r} must be relative to the instance directory")


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """A whole machine. `seed` is the path of a NoCloud image; `video` adds a VGA card and a VNC socket.

    `serial` is the serial number that the guest finds in its SMBIOS data. `spare_tray`: an empty CD-ROM drive.
    `guest_agent` adds a channel for one.

    `rtc_local_time` is what Windows expects of the clock. Raises ValueError for what QEMU could not run.
    """

    name: str
    uuid: str
    vcpus: int
    memory_mib: int
    disks: tuple[DiskConfig, ...] = ()
    nics: tuple[NicConfig, ...] = ()
    seed: str | None = None
    accelerator: Accelerator = "tcg"
    seed_bus: DiskBus = "virtio"
    guest_agent: bool = False
    video: bool = True
    rtc_local_time: bool = False
    uefi: UefiConfig | None = None
    serial: str = ""
    spare_tray: bool = False
    binary: str = "qemu-system-x86_64"

    def __post_init__(self) -> None:
        if not self.name or any(ord(char) < 32 for char in self.name):
            raise ValueError(f"machine name {self.name!r} is empty or holds control characters")
        if not _UUID.fullmatch(self.uuid):
            raise ValueError(f"machine uuid {self.uuid!r} is not a lower-case UUID")
        if not 1 <= self.vcpus <= MAX_VCPUS:
            raise ValueError(f"{self.vcpus} virtual CPUs: between 1 and {MAX_VCPUS} are possible")
        if self.memory_mib < 1:
            raise ValueError(f"{self.memory_mib} MiB of memory: at least 1 is needed")
        if self.accelerator not in ("kvm", "tcg"):
            raise ValueError(f"accelerator {self.accelerator!r} is not kvm or tcg")
        if not _SERIAL.fullmatch(self.serial):
            raise ValueError(f"serial number {self.serial!r} is longer than 64 characters or holds others than ASCII")
        if self.uefi and self.memory_mib < MIN_UEFI_MIB:
            raise ValueError(f"{self.memory_mib} MiB of memory: UEFI firmware needs at least {MIN_UEFI_MIB}")
        if len(self.nics) > MAX_NICS:
            raise ValueError(f"{len(self.nics)} network cards: at most {MAX_NICS} are possible")
        self._check_disks()

    def _check_disks(self) -> None:
        drives = self.all_disks()
        if len(drives) > MAX_DISKS:
            raise ValueError(f"{len(drives)} disks: at most {MAX_DISKS} are possible, start-up configuration included")
        if sum(disk.bus == "sata" for disk in drives) + self.spare_tray > MAX_SATA_DISKS:
            raise ValueError(f"more than {MAX_SATA_DISKS} SATA disks: the controller has {MAX_SATA_DISKS} ports")
        indexes = [disk.boot_index for disk in drives if disk.boot_index is not None]
        if len(indexes) != len(set(indexes)):
            raise ValueError("two disks have the same boot index")

    def all_disks(self) -> tuple[DiskConfig, ...]:
        """The disks and, last, the seed image.

        The seed is a read-only virtio disk unless told otherwise: cloud kernels (Debian's for one) have no driver
        for Q35's SATA controller, and cloud-init finds the file system by its label on any block device.
        """
        if self.seed is None:
            return self.disks
        seed = DiskConfig(self.seed, read_only=True, cdrom=self.seed_bus != "virtio", bus=self.seed_bus)
        return (*self.disks, seed)


def disk_serials(names: tuple[str, ...]) -> tuple[str, ...]:
    """The serials of disks of these names: the first 20 bytes; of several that share them only the first gets one.

    Source: VM Runtime documentation, "Create and manage virtual machine disks".
    """
    serials: list[str] = []
    for name in names:
        serial = name.encode()[:SERIAL_LENGTH].decode(errors="ignore")
        serials.append("" if serial in serials else serial)
    return tuple(serials)
