"""Machines of the engine: a pod that is QEMU, its instance directory, and one connection to its monitor."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vmruntime.api.meta import Obj, dig, is_deleting, name_of
from vmruntime.engines.common import ConfigurationError, Ref
from vmruntime.engines.machine import (
    Guest,
    MachineDisk,
    MachineObservation,
    MachinePhase,
    MachineRequest,
    MachineTrouble,
)
from vmruntime.engines.network import Interface
from vmruntime.engines.qemu import engine_config, kvm
from vmruntime.engines.qemu.config import STOPPED_WITH_CLUSTER, Accelerator
from vmruntime.engines.qemu.engine_config import memory_needed
from vmruntime.engines.qemu.engine_drives import IO_ERROR_STATE, Drives
from vmruntime.engines.qemu.engine_launch import Launch
from vmruntime.engines.qemu.engine_layout import Layout
from vmruntime.engines.qemu.engine_network import Network
from vmruntime.engines.qemu.engine_pods import (
    Pods,
    has_ended,
    is_machine,
    machine_pod,
    owner_ref,
    started_at,
    trouble,
)
from vmruntime.engines.qemu.guest_watch import GuestWatch
from vmruntime.engines.qemu.qmp import Monitor, Notice, Qmp, QmpError, is_served

_log = logging.getLogger(__name__)

_GUEST_OFF = "shutdown"
_ORDINARY = ("running", "prelaunch", "inmigrate", "paused", "suspended", "")


@dataclass(slots=True)
class _Watched:
    """A machine whose monitor is, or is to be, connected. `state`: QEMU's run state, empty until it is known.

    `guest`: None for a machine without a channel for a guest agent. `asked`: its agent was asked to shut it down, so
    that the power button is next.
    """

    pod: str
    monitor: Monitor
    drives: Drives
    guest: GuestWatch | None
    state: str = ""
    asked: bool = False

    async def close(self) -> None:
        if self.guest is not None:
            await self.guest.close()
        await self.monitor.close()


class Machines:
    """Starts, watches and ends QEMU."""

    def __init__(self, layout: Layout, pods: Pods, network: Network, changed: Callable[[Ref], None]) -> None:
        """`changed` is called when QEMU says something about a machine."""
        self._layout = layout
        self._pods = pods
        self._network = network
        self._changed = changed
        self._watched: dict[str, _Watched] = {}
        self._kvm: kvm.KvmResult | None = None

    async def close(self) -> None:
        """Disconnect from all monitors; the machines run on."""
        watched, self._watched = list(self._watched.values()), {}
        await asyncio.gather(*(entry.close() for entry in watched), return_exceptions=True)

    async def probe_kvm(self) -> kvm.KvmResult:
        """Whether KVM can be used, by trying. Starts of machines go by the newest answer."""
        self._kvm = await asyncio.to_thread(kvm.probe)
        return self._kvm

    async def observe(self, ref: Ref) -> MachineObservation:
        pods = await self._pods.of(ref)
        if not pods:
            await self._unwatch(ref)
            await self._network.detach(ref)
            return MachineObservation(MachinePhase.ABSENT)
        pod = pods[0]
        launch = Launch.of(pod)
        alive = not has_ended(pod) and not is_deleting(pod)
        disks, found = launch.disks if launch.accelerator else None, None
        if alive:
            watched = await self._watch(ref, pod)
            await watched.drives.look()
            phase, message = self._phase(ref, pod)
            found = _trouble(watched)
            disks = watched.drives.disks if watched.drives.disks is not None else disks
        else:
            await self._unwatch(ref)
            ended = has_ended(pod) and not is_deleting(pod)
            if ended:
                await self._network.detach(ref)
            phase, message = (MachinePhase.ENDED if ended else MachinePhase.ENDING), trouble(pod)
        return MachineObservation(
            phase=phase,
            pod_name=name_of(pod),
            node_name=str(dig(pod, "spec", "nodeName", default="")),
            message=message,
            accelerator=launch.accelerator,
            interfaces=launch.interfaces,
            token=launch.token,
            requested_at=launch.requested_at,
            started_at=started_at(pod),
            vcpus=launch.vcpus,
            memory=launch.memory,
            fingerprint=launch.fingerprint,
            disks=disks,
            trouble=found,
            stopped_with_cluster=phase is MachinePhase.ENDED and self._stopped_with_cluster(ref),
            guest_agent=launch.guest_agent,
            guest=self._guest(ref),
            session=self._session(ref),
        )

    def _guest(self, ref: Ref) -> Guest | None:
        watch = self.guest_watch(ref)
        return watch.guest if watch is not None else None

    def _session(self, ref: Ref) -> str:
        watch = self.guest_watch(ref)
        return f"{self._watched[ref.uid].pod}/{watch.session}" if watch is not None else ""

    def guest_watch(self, ref: Ref) -> GuestWatch | None:
        """What looks after the guest's agent; None for a machine that is not there, or has no channel for one."""
        watched = self._watched.get(ref.uid)
        return watched.guest if watched is not None else None

    def _stopped_with_cluster(self, ref: Ref) -> bool:
        return (self._layout.instance(ref) / STOPPED_WITH_CLUSTER).exists()

    def _phase(self, ref: Ref, pod: Obj) -> tuple[MachinePhase, str]:
        watched = self._watched.get(ref.uid)
        state = watched.state if watched else ""
        if not state:
            return MachinePhase.STARTING, trouble(pod)
        if state == _GUEST_OFF:
            return MachinePhase.GUEST_OFF, ""
        return MachinePhase.RUNNING, ""

    async def _watch(self, ref: Ref, pod: Obj) -> _Watched:
        watched = self._watched.get(ref.uid)
        if watched is not None and watched.pod == name_of(pod):
            return watched
        await self._unwatch(ref)
        directory = self._layout.instance(ref)
        monitor = Monitor(directory, lambda notice: self._heard(ref, notice))
        guest = None
        if Launch.of(pod).guest_agent:
            guest = GuestWatch(directory, lambda: monitor.qmp, lambda: self._changed(ref))
        entry = _Watched(name_of(pod), monitor, Drives(monitor), guest)
        self._watched[ref.uid] = entry
        monitor.start()
        if guest is not None:
            guest.start()
        return entry

    async def _unwatch(self, ref: Ref) -> None:
        watched = self._watched.pop(ref.uid, None)
        if watched is not None:
            await watched.close()

    def qmp(self, ref: Ref) -> Qmp | None:
        """The open connection to a running machine's monitor, None while there is none."""
        watched = self._watched.get(ref.uid)
        return watched.monitor.qmp if watched is not None and watched.monitor.connected else None

    def _heard(self, ref: Ref, notice: Notice) -> None:
        watched = self._watched.get(ref.uid)
        if watched is None:
            return
        before = watched.state
        about_drives = watched.drives.heard(notice)
        if watched.guest is not None and notice.kind in ("CONNECTED", "VSERPORT_CHANGE"):
            watched.guest.moved()
        if notice.kind == "CONNECTED":
            watched.state = str(notice.data.get("status", "running"))
        elif notice.kind == "DISCONNECTED":
            watched.state = ""
        elif notice.kind == "SHUTDOWN" and notice.data.get("guest") is True:
            watched.state = _GUEST_OFF
        elif notice.kind == "RESUME":
            watched.state = "running"
        elif notice.kind == "BLOCK_IO_ERROR" and notice.data.get("action") == "stop":
            watched.state = IO_ERROR_STATE
        elif notice.kind == "GUEST_PANICKED":
            watched.state = "guest-panicked"
        if watched.state != before or about_drives:
            self._changed(ref)

    def memory_in_use(self) -> dict[str, int]:
        """What each machine that is there was promised, by uid."""
        return {
            ref.uid: Launch.of(pod).memory_needed
            for pod in self._pods.all()
            if is_machine(pod) and not has_ended(pod) and (ref := owner_ref(pod)) is not None
        }

    async def start(self, request: MachineRequest) -> None:
        ref = request.ref
        if await self._pods.of(ref):
            return
        accelerator = await self._accelerator(request)
        interfaces = self._network.assign(request, self.running())
        argv, needed = engine_config.build(request, accelerator, interfaces, self._layout)
        directory = self._layout.instance(ref)
        if is_served(directory):
            # Its pod was removed by force. Another one now would be two of the same machine.
            raise BlockingIOError(errno.EBUSY, "the machine's former process is still ending", str(directory))
        self._layout.make_instance(ref)
        await asyncio.to_thread(needed.write, directory, self._layout.user(ref))
        self._let_open(ref, request.disks)
        (directory / STOPPED_WITH_CLUSTER).unlink(missing_ok=True)
        command = await self._network.attach(ref, interfaces, argv)
        launch = Launch(
            accelerator=accelerator,
            interfaces=interfaces,
            token=request.token,
            requested_at=request.requested_at,
            vcpus=request.vcpus,
            memory=request.memory,
            memory_needed=memory_needed(request.memory, request.settings),
            fingerprint=request.fingerprint,
            disks={disk.ref.name: disk.read_only or disk.cdrom for disk in request.disks},
            guest_agent=request.guest_agent,
        )
        groups = [group for group in [kvm.device_group()] if group] if accelerator == "kvm" else []
        pod = machine_pod(request, launch, command, self._layout, groups)
        await self._pods.create(ref, pod)
        await self._watch(ref, pod)

    async def _accelerator(self, request: MachineRequest) -> Accelerator:
        if request.settings.use_emulation:
            return "tcg"
        result = self._kvm or await self.probe_kvm()
        if not result.usable:
            raise ConfigurationError("KvmUnusable", result.reason)
        return "kvm"

    def running(self) -> dict[Ref, tuple[Interface, ...]]:
        """The machines that have a process, or are about to, and the interfaces that each was given."""
        return {
            ref: Launch.of(pod).interfaces
            for pod in self._pods.all()
            if is_machine(pod) and not has_ended(pod) and (ref := owner_ref(pod)) is not None
        }

    def _let_open(self, ref: Ref, disks: Sequence[MachineDisk]) -> None:
        for disk in disks:
            self._layout.let_open(ref, disk.ref, disk.read_only or disk.cdrom)

    async def change_media(self, ref: Ref, media: Sequence[MachineDisk]) -> None:
        self._let_open(ref, media)
        if (watched := self._watched.get(ref.uid)) is not None:
            await watched.drives.change_media([engine_config.disk_config(disk, self._layout) for disk in media])

    async def resume(self, ref: Ref) -> None:
        if (watched := self._watched.get(ref.uid)) is not None:
            await watched.drives.resume(self._layout.instance(ref))

    async def label(self, ref: Ref, labels: Mapping[str, str]) -> None:
        for pod in await self._pods.of(ref):
            await self._pods.label(pod, labels)

    async def ask_to_shut_down(self, ref: Ref) -> bool:
        watched = self._watched.get(ref.uid)
        if watched is None:
            return False
        watched.asked = not watched.asked and watched.guest is not None and await watched.guest.shut_down()
        if watched.asked:
            return True
        try:
            await watched.monitor.qmp.powerdown()
        except QmpError as exc:
            # Whoever waits for the guest presses again, and stops waiting at some point.
            _log.warning("the power button of %s could not be pressed: %s", ref, exc)
            return False
        return True

    async def end(self, ref: Ref) -> None:
        """The agent's SIGTERM ends QEMU as its monitor's `quit` would: in order, with everything flushed."""
        for pod in await self._pods.of(ref):
            await self._pods.delete(pod)

    async def forget(self, ref: Ref) -> bool:
        await self._unwatch(ref)
        pods = await self._pods.of(ref)
        for pod in pods:
            await self._pods.delete(pod)
        if any(not has_ended(pod) or is_deleting(pod) for pod in pods):
            return False
        self._layout.remove_instance(ref)
        await self._network.detach(ref)
        self._network.forget(ref)
        return True


def _trouble(watched: _Watched) -> MachineTrouble | None:
    """What keeps a running machine from being of use."""
    if watched.state not in (*_ORDINARY, _GUEST_OFF, IO_ERROR_STATE):
        return MachineTrouble("GuestPaused", f"the guest does not run: QEMU is in state {watched.state}")
    return watched.drives.trouble(watched.state)
