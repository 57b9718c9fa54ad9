"""The QEMU engine: machines as QEMU processes in pods of one node, disks as image files.

This is where the QEMU modules, which know no Kubernetes, meet it. The node's agent runs the pods; the manager runs on
the same node and reaches their monitors by files.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from kube.client.aio import AsyncClient
from kube.machinery.errors import StatusError
from kube.machinery.resources import CONFIGMAPS
from vmruntime.api import names
from vmruntime.api.meta import Obj, dig
from vmruntime.engines.base import Listener, Subject
from vmruntime.engines.common import (
    CheckResult,
    ConfigurationError,
    GuestRefused,
    GuestUnavailable,
    Readiness,
    Ref,
    Settings,
)
from vmruntime.engines.disk import DiskObservation, DiskRequest
from vmruntime.engines.machine import GuestKey, MachineDisk, MachineObservation, MachineRequest
from vmruntime.engines.network import PodNetwork, Segment
from vmruntime.engines.qemu import guest_access, hostcheck, live_disks
from vmruntime.engines.qemu.config import SEED_IMAGE
from vmruntime.engines.qemu.engine_config import memory_needed
from vmruntime.engines.qemu.engine_disks import Disks
from vmruntime.engines.qemu.engine_gateway import ClusterGateway
from vmruntime.engines.qemu.engine_layout import Layout
from vmruntime.engines.qemu.engine_machines import Machines
from vmruntime.engines.qemu.engine_network import Network
from vmruntime.engines.qemu.engine_nodes import Nodes
from vmruntime.engines.qemu.engine_pods import Pods, is_gateway, is_machine
from vmruntime.engines.qemu.guest_agent import Agent, AgentError, AgentRefused
from vmruntime.engines.qemu.host_tools import ToolError

# Programs in the guest: one that makes an account was measured to take seconds under software emulation.
_GUEST_SECONDS = 30.0


class QemuEngine:
    """The `Engine` of one machine. `root` holds disks and instances, `images` the files that disks may come from."""

    uses_storage_classes = False

    def __init__(self, client: AsyncClient, root: Path, images: Path) -> None:
        self._client = client
        self._layout = Layout.of(root.resolve())
        self._pods = Pods(client, self._pod_changed)
        self._nodes = Nodes(client, lambda: self._tell(Subject.ENGINE, "", ""))
        self._disks = Disks(client, self._layout, self._pods, images.resolve())
        self._network = Network(self._layout.root, self._layout.owner, ClusterGateway(client, self._layout.root))
        self._machines = Machines(self._layout, self._pods, self._network, self._machine_changed)
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def _tell(self, subject: Subject, namespace: str, name: str) -> None:
        for listener in self._listeners:
            listener(subject, namespace, name)

    def _machine_changed(self, ref: Ref) -> None:
        self._tell(Subject.MACHINE, ref.namespace, ref.name)

    def _pod_changed(self, pod: Obj, ref: Ref | None) -> None:
        if ref is not None:
            self._tell(Subject.MACHINE if is_machine(pod) else Subject.DISK, ref.namespace, ref.name)
        if all(map(is_gateway, self._pods.all())):
            self._tell(Subject.ENGINE, "", "")

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pods.run())
                group.create_task(self._nodes.run())
        finally:
            await asyncio.gather(self._network.close(), self._machines.close(), return_exceptions=True)

    async def install(self, settings: Settings) -> Readiness:
        for program in (hostcheck.QEMU, hostcheck.QEMU_IMG):
            if shutil.which(program) is None:
                return Readiness(False, f"{program} is not installed; install the packages {hostcheck.PACKAGES}")
        try:
            self._layout.prepare()
        except OSError as exc:
            return Readiness(False, f"{exc.filename}: {exc.strerror}")
        try:
            await self._pods.synced()
        except TimeoutError:
            return Readiness(False, "the engine's pods are not known yet")
        readiness = await self._network.up(await self._wanted_subnet(), self._machines.running())
        if readiness.ready:
            await self._nodes.tell(self._network.pod_cidrs())
        return readiness

    async def _wanted_subnet(self) -> str:
        """What the administrator says of the pod network; empty where nobody said anything."""
        try:
            found = await self._client.get(CONFIGMAPS, names.VIRT_SPEC, names.NAMESPACE)
        except StatusError as exc:
            if exc.code != 404:
                raise
            return ""
        return str(dig(found, "data", names.POD_NETWORK_CIDR, default="")).strip()

    def pod_network(self) -> PodNetwork:
        return self._network.describe()

    async def ensure_segment(self, segment: Segment) -> Readiness:
        return await self._network.ensure_segment(segment)

    async def remove_segment(self, segment: Segment) -> None:
        await self._network.remove_segment(segment)

    async def uninstall(self) -> Readiness:
        await self._pods.synced()
        pods = [pod for pod in self._pods.all() if not is_gateway(pod)]
        for pod in pods:
            await self._pods.delete(pod)
        if pods:
            return Readiness(False, f"waiting until {len(pods)} pod{'s are' if len(pods) > 1 else ' is'} gone")
        try:
            await self._network.down()
        except ToolError as error:
            return Readiness(False, f"the pod network could not be removed: {error}")
        await self._nodes.tell(())
        if self._pods.all():
            return Readiness(False, "waiting until the pod network's gateway is gone")
        await asyncio.to_thread(self._layout.remove_cache)
        return Readiness(True)

    async def preflight(self, node: str, settings: Settings) -> list[CheckResult]:
        """CPU and KVM of this host: the engine has one node."""
        cpu = await asyncio.to_thread(hostcheck.check_cpu)
        results = [CheckResult(cpu.name, cpu.passed, cpu.message)]
        if settings.use_emulation:
            message = "not needed: useEmulation is on, so that virtual machines run in software emulation"
            return [*results, CheckResult("KVM", True, message)]
        probed = await self._machines.probe_kvm()
        return [*results, CheckResult("KVM", probed.usable, probed.reason)]

    async def observe_disk(self, ref: Ref) -> DiskObservation:
        return await self._disks.observe(ref)

    async def ensure_disk(self, request: DiskRequest) -> None:
        await self._disks.ensure(request)

    async def grow_disk(self, request: DiskRequest, machine: Ref | None) -> None:
        if machine is None:
            await self._disks.grow(request)
            return
        qmp = self._machines.qmp(machine)
        if qmp is None:
            raise ConfigurationError("GrowthWaits", f"grows as soon as VirtualMachine {machine.name} answers")
        await live_disks.grow(qmp, self._disks.path_in_machine(request.ref), request.size)

    async def orphaned_disks(self, known: frozenset[str]) -> list[str]:
        return [str(path) for path in await asyncio.to_thread(self._layout.orphans, known)]

    async def delete_disk(self, ref: Ref) -> bool:
        return await self._disks.delete(ref)

    async def observe_machine(self, ref: Ref) -> MachineObservation:
        return await self._machines.observe(ref)

    def memory_needed(self, memory: int, settings: Settings) -> int:
        return memory_needed(memory, settings)

    def memory_in_use(self) -> dict[str, int]:
        return self._machines.memory_in_use()

    async def start_machine(self, request: MachineRequest) -> None:
        await self._machines.start(request)

    def has_seed(self, ref: Ref) -> bool:
        return (self._layout.instance(ref) / SEED_IMAGE).exists()

    async def change_media(self, ref: Ref, media: Sequence[MachineDisk]) -> None:
        await self._machines.change_media(ref, media)

    async def resume_machine(self, ref: Ref) -> None:
        await self._machines.resume(ref)

    async def label_machine(self, ref: Ref, labels: Mapping[str, str]) -> None:
        await self._machines.label(ref, labels)

    async def ask_to_shut_down(self, ref: Ref) -> bool:
        return await self._machines.ask_to_shut_down(ref)

    async def grant_access(self, ref: Ref, access: GuestKey) -> None:
        async with self._guest(ref) as agent:
            await guest_access.grant(agent, access)

    async def revoke_access(self, ref: Ref, access: GuestKey) -> None:
        async with self._guest(ref) as agent:
            await guest_access.revoke(agent, access)

    async def set_password(self, ref: Ref, user: str, password: str, *, may_create: bool) -> None:
        async with self._guest(ref) as agent:
            await guest_access.set_password(agent, user, password, may_create=may_create)

    @asynccontextmanager
    async def _guest(self, ref: Ref) -> AsyncIterator[Agent]:
        watch = self._machines.guest_watch(ref)
        if watch is None:
            raise GuestUnavailable("the machine does not run, or has no guest agent")
        try:
            async with watch.agent(_GUEST_SECONDS) as agent:
                yield agent
        except AgentRefused as exc:
            raise GuestRefused(str(exc)) from exc
        except AgentError as exc:
            raise GuestUnavailable(str(exc)) from exc

    async def end_machine(self, ref: Ref) -> None:
        await self._machines.end(ref)

    async def forget_machine(self, ref: Ref) -> bool:
        return await self._machines.forget(ref)
