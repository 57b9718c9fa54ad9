"""Machines and their guests as an engine is asked for them, and as it sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from vmruntime.engines.common import Ref, Settings
from vmruntime.engines.network import Interface


@dataclass(frozen=True, slots=True)
class MachineDisk:
    """A disk of a machine, in the order in which the guest sees them."""

    ref: Ref
    format: str
    boot: bool = False
    read_only: bool = False
    cdrom: bool = False
    driver: str = "virtio"


@dataclass(frozen=True, slots=True)
class Seed:
    """Start-up configuration for cloud-init's NoCloud source; it can hold secrets and must not be logged."""

    user_data: bytes = b""
    network_data: bytes = b""


@dataclass(frozen=True, slots=True)
class Firmware:
    """What starts the machine, and what it says of itself. Empty `uuid` and `serial`: as the engine likes."""

    uefi: bool = False
    secure_boot: bool = False
    uuid: str = ""
    serial: str = ""


@dataclass(frozen=True, slots=True)
class MachineRequest:
    """A machine that should run.

    `launch` counts its starts; the same launch asked for twice gives one machine. `token`, `fingerprint` and
    `requested_at` (RFC 3339 with microseconds) are kept with the running machine and come back in observations.
    `keep_seed`: it gets the start-up data of its last start, in place of `seed`. `addresses_taken` are other
    machines' addresses. `guest_agent`: give it a channel for one. `forwarded_ports`: ports of
    the guest to be reachable where not all of them are.
    """

    ref: Ref
    launch: int
    vcpus: int
    memory: int
    disks: tuple[MachineDisk, ...]
    interfaces: tuple[Interface, ...]
    settings: Settings
    os_type: str = "Linux"
    firmware: Firmware = Firmware()
    seed: Seed | None = None
    keep_seed: bool = False
    guest_agent: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    token: str = ""
    requested_at: str = ""
    addresses_taken: frozenset[str] = field(default_factory=frozenset)
    forwarded_ports: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class GuestInterface:
    """A network card as the guest sees it; addresses with their prefix lengths."""

    name: str
    mac: str = ""
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Guest:
    """What a guest says of itself: checked for its form, and as true as the guest is honest. Empty: it doesn't say."""

    host_name: str = ""
    os_name: str = ""
    kernel: str = ""
    interfaces: tuple[GuestInterface, ...] = ()


@dataclass(frozen=True, slots=True)
class GuestKey:
    """A public SSH key that lets somebody into an account of a guest until `expires` (seconds since 1970).

    `key` is type and base64, without a comment; `mark`, which nothing else there contains, is how it is found again.
    """

    user: str
    key: str
    mark: str
    expires: int


class MachinePhase(StrEnum):
    ABSENT = "Absent"
    STARTING = "Starting"
    RUNNING = "Running"
    # The guest has powered itself off; what ran it is still there.
    GUEST_OFF = "GuestOff"
    # What ran it has ended.
    ENDED = "Ended"
    # It was told to go and is not gone yet.
    ENDING = "Ending"


@dataclass(frozen=True, slots=True)
class MachineTrouble:
    """Something that keeps a machine that runs from being of use. `reason` is one of those below, or the engine's own.

    `paused`: the guest does not run.
    """

    reason: str
    message: str
    paused: bool = True


NO_SPACE = "NoSpace"
IO_ERROR = "IOError"


@dataclass(frozen=True, slots=True)
class MachineObservation:
    """A machine as it is. `started_at` and `requested_at` are RFC 3339 times, empty where they are not known.

    `vcpus` and `memory` (bytes) are what it was started with, `disks` (names, and whether read-only) what it has now;
    0 and None where that is not known. `stopped_with_cluster`: it ended because all of the cluster was stopped.
    `guest_agent`: whether it has a channel for an agent; `guest` is None while no agent answers. Where `session` has
    changed, the guest may have started anew.
    """

    phase: MachinePhase
    pod_name: str = ""
    node_name: str = ""
    message: str = ""
    accelerator: str = ""
    interfaces: tuple[Interface, ...] = ()
    token: str = ""
    requested_at: str = ""
    started_at: str = ""
    vcpus: int = 0
    memory: int = 0
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    disks: Mapping[str, bool] | None = None
    trouble: MachineTrouble | None = None
    stopped_with_cluster: bool = False
    guest_agent: bool = False
    guest: Guest | None = None
    session: str = ""

    @property
    def alive(self) -> bool:
        return self.phase in (MachinePhase.STARTING, MachinePhase.RUNNING, MachinePhase.GUEST_OFF)
