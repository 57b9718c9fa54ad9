"""The seam between controllers and engines: what an engine is asked, and what it answers.

Controllers know no QEMU flag and no KubeVirt field; an engine knows no VMRuntime, no annotation and no state machine.
Every call can be repeated: an engine that was asked twice for the same disk or machine has one. Nothing here waits
for a guest: calls start things, observations say how they stand, and events say when to look again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from vmruntime.engines.common import CheckResult, Readiness, Ref, Settings
from vmruntime.engines.disk import DiskObservation, DiskRequest
from vmruntime.engines.machine import GuestKey, MachineDisk, MachineObservation, MachineRequest
from vmruntime.engines.network import PodNetwork, Segment


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
