"""The seam between controllers and engines: what an engine is asked, and what it answers.

Controllers know no QEMU flag and no KubeVirt field; an engine knows no VMRuntime, no annotation and no state machine.
Every call can be repeated: an engine that was asked twice for the same disk or machine has one. Nothing here waits
for a guest: calls start things, observations say how they stand, and events say when to look again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class ConfigurationError(Exception):
    """What was asked cannot be done until somebody changes the spec, or something that it names."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class GuestUnavailable(Exception):
    """Nobody in the guest answers now; it may do so later."""


class GuestRefused(Exception):
    """The guest could not, or would not, do what it was asked. The text is short and printable."""


@dataclass(frozen=True, slots=True)
class Ref:
    """Which disk or machine: two of the same name that lived one after the other differ in their uid."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the VMRuntime that an engine needs."""

    use_emulation: bool
    image_format: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the engine's own parts are up; if not, what is missing."""

    ready: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One preflight check on one node. The message of a failure names the setting that helps."""

    name: str
    passed: bool
    message: str


class DiskPhase(StrEnum):
    ABSENT = "Absent"
    IMPORTING = "Importing"
    READY = "Ready"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class DiskSource:
    """Where a disk's first content comes from: a URL, or another disk, which nobody writes to meanwhile.

    `kind` is as under `spec.source`: http, s3, gcs, registry or file. `checksum` (`ALGORITHM:HEX`) is what the source
    has to have. `secret` and `certificates` name a Secret with credentials and a ConfigMap with certificates of
    authorities, in the disk's namespace; empty: none.
    """

    url: str = ""
    kind: str = "http"
    checksum: str = ""
    secret: str = ""
    certificates: str = ""
    clone_of: Ref | None = None


@dataclass(frozen=True, slots=True)
class DiskRequest:
    """A disk that should exist. `size` is in bytes; no `source` means blank."""

    ref: Ref
    size: int
    format: str
    source: DiskSource | None = None


@dataclass(frozen=True, slots=True)
class DiskOrigin:
    """What became known of a disk's source. `size` in bytes as it was transferred; `sha256` in hex."""

    format: str = ""
    size: int | None = None
    sha256: str = ""
    from_cache: bool = False


@dataclass(frozen=True, slots=True)
class DiskObservation:
    """A disk as it is. `progress` is in percent, `rate` in MB/s; `virtual_size` in bytes; `message`: why it failed."""

    phase: DiskPhase
    progress: float | None = None
    format: str = ""
    virtual_size: int | None = None
    message: str = ""
    rate: float | None = None
    origin: DiskOrigin = field(default_factory=DiskOrigin)


@dataclass(frozen=True, slots=True)
class Port:
    """A port of the guest that can be reached as `host` on the machine's address."""

    guest: int
    host: int


@dataclass(frozen=True, slots=True)
class Segment:
    """An Ethernet that machines take part in through an interface of the host.

    `vlan` 0: untagged. `managed`: the VLAN's own interface is the engine's to make and to remove.
    """

    interface: str
    vlan: int = 0
    managed: bool = False


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface. Address and MAC are empty until an engine has chosen them; given back, they are kept.

    `segment` None: it is on the pod network, whose addresses (and gateway and name servers) the engine hands out. On a
    segment `addresses` are static ones, with their masks, and none means that somebody else's DHCP is asked. The guest
    may send from its own MAC and static addresses only, unless `any_mac` and `any_address` say otherwise. `resource` is
    a name that the engine hands back. `ports` are those that can be reached; none: all. `device` is the engine's own.
    """

    name: str
    network: str
    default: bool = False
    mac: str = ""
    addresses: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()
    segment: Segment | None = None
    gateway: str = ""
    routes: tuple[str, ...] = ()
    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    any_mac: bool = False
    any_address: bool = False
    resource: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True)
class PodNetwork:
    """The network that every machine can be on. `restriction`: what is not possible on it here, and why."""

    subnet: str = ""
    gateway: str = ""
    nameservers: tuple[str, ...] = ()
    restriction: str = ""


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


class Subject(StrEnum):
    """What an engine's event is about."""

    MACHINE = "machine"
    DISK = "disk"
    ENGINE = "engine"


Listener = Callable[[Subject, str, str], None]
"""Called with subject, namespace and name (both empty for the engine itself) when something may have changed."""


class Engine(Protocol):
    """How VMs are made real. All methods are idempotent; StatusError and OSError mean: try again later."""

    uses_storage_classes: bool
    """Whether the storage class of a disk means anything here."""

    def subscribe(self, listener: Listener) -> None:
        """Tell `listener` whenever an observation may have changed."""

    async def run(self) -> None:
        """Watch the world until cancelled."""

    async def install(self, settings: Settings) -> Readiness:
        """Bring up what the engine needs in the cluster, and say whether it is up. Called again until it is."""

    async def uninstall(self) -> Readiness:
        """Remove it again; disks stay. `ready` is true when nothing is left. Called again until then."""

    async def preflight(self, node: str, settings: Settings) -> list[CheckResult]:
        """Check one node, by trying things out rather than by looking for them."""

    def pod_network(self) -> PodNetwork:
        """What the pod network is; after `install`."""

    async def ensure_segment(self, segment: Segment) -> Readiness:
        """Make that machines can take part in it, and say whether they can."""

    async def remove_segment(self, segment: Segment) -> None:
        """Remove what was made for it. No machine takes part in it any more."""

    async def observe_disk(self, ref: Ref) -> DiskObservation:
        """How a disk stands."""

    async def ensure_disk(self, request: DiskRequest) -> None:
        """Begin to make the disk, or to bring its source in. ConfigurationError if that can never work."""

    async def grow_disk(self, request: DiskRequest, machine: Ref | None) -> None:
        """Enlarge a disk to the size of the request; `machine` is the running one that writes to it.

        ConfigurationError if that does not work now; the disk is as it was.
        """

    async def orphaned_disks(self, known: frozenset[str]) -> list[str]:
        """Where data of disks lies whose uids are not among the `known` ones."""

    async def delete_disk(self, ref: Ref) -> bool:
        """Delete a disk with its data. True when nothing is left."""

    async def observe_machine(self, ref: Ref) -> MachineObservation:
        """How a machine stands."""

    def memory_needed(self, memory: int, settings: Settings) -> int:
        """All that a machine with so much guest memory can come to use, in bytes."""

    def memory_in_use(self) -> dict[str, int]:
        """The same for each machine that is there, by its uid. Only after an observation of a machine."""

    async def start_machine(self, request: MachineRequest) -> None:
        """Start it. ConfigurationError if that cannot work as it is specified."""

    def has_seed(self, ref: Ref) -> bool:
        """Whether the start-up data of the machine's last start are still there."""

    async def change_media(self, ref: Ref, media: Sequence[MachineDisk]) -> None:
        """Have these CD-ROMs in the drives of a running machine, and no others, as far as it lets go and has drives.

        What came of it is what is observed then.
        """

    async def resume_machine(self, ref: Ref) -> None:
        """Let a guest go on that was paused because the node had no space, if it has some now."""

    async def label_machine(self, ref: Ref, labels: Mapping[str, str]) -> None:
        """Make what runs the machine carry these labels, beside the engine's own, and no former ones."""

    async def ask_to_shut_down(self, ref: Ref) -> bool:
        """Ask the guest to shut down; False if it could not even be asked. That it does so is not certain.

        Its agent is asked where one answers, and the power button is pressed where not; asked again, it is pressed.
        """

    async def grant_access(self, ref: Ref, access: GuestKey) -> None:
        """Let the key in until it expires; the account is made if it is missing. GuestUnavailable, GuestRefused."""

    async def revoke_access(self, ref: Ref, access: GuestKey) -> None:
        """Let the key in no longer. GuestUnavailable, GuestRefused."""

    async def set_password(self, ref: Ref, user: str, password: str, *, may_create: bool) -> None:
        """Set an account's password, after making the account where it may. GuestUnavailable, GuestRefused."""

    async def end_machine(self, ref: Ref) -> None:
        """End what runs the machine, now, or clear away what has ended. Disks are flushed where it still can."""

    async def forget_machine(self, ref: Ref) -> bool:
        """Remove everything of the machine but its disks. True when nothing is left."""
