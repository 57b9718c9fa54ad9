"""The engine's networking: which of three ways machines are on the pod network, and what each card is given.

With the rights for it the pod network is a bridge of the host (`host_bridge`). A cluster that does not run as root has
the bridge in a namespace of its own (`namespace_bridge`). Where that cannot be, each card is on QEMU's user-mode
network. In both of the latter a list of a machine's ports is forwarded from a loopback address of its own (`network`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from vmruntime.engines.common import ConfigurationError, Readiness, Ref
from vmruntime.engines.machine import MachineRequest
from vmruntime.engines.network import Interface, PodNetwork, Port, Segment
from vmruntime.engines.qemu import (
    guest_network,
    host_tools,
    machine_users,
    namespace,
    network,
    network_state,
    pod_network,
    segments,
)
from vmruntime.engines.qemu.host_bridge import HostBridge
from vmruntime.engines.qemu.host_tools import ToolError
from vmruntime.engines.qemu.namespace_bridge import GatewayPod, NamespaceBridge
from vmruntime.engines.qemu.network_state import NetworkState

_log = logging.getLogger(__name__)

_TRY_AGAIN_SECONDS = 60.0
# A shell opens them, and one digit is all that every shell understands.
_FIRST_DESCRIPTOR = 3

Running = Mapping[Ref, tuple[Interface, ...]]
"""The machines that have a process, and the interfaces that each was given."""


class Bridge(Protocol):
    """A pod network that is a bridge: `HostBridge` or `NamespaceBridge`, whose docstrings say more."""

    state: NetworkState | None

    def nameservers(self) -> tuple[str, ...]: ...
    async def up(self, wanted_subnet: str, ports: dict[str, pod_network.Port]) -> None: ...
    async def run(self) -> None: ...
    async def add(self, port: pod_network.Port) -> None: ...
    async def drop(self, name: str) -> None: ...
    async def command(self, argv: list[str]) -> list[str]: ...
    async def down(self) -> None: ...


class Network:
    """One cluster's networking on this host."""

    def __init__(self, root: Path, owner: int | None, gateway: GatewayPod) -> None:
        """`owner`: QEMU's user; None where it is our own. `gateway`: of the namespace, where there is to be one."""
        self._root = root
        self._owner = owner
        self._bridge: Bridge = HostBridge(root) if owner is not None else NamespaceBridge(root, gateway)
        self._keeping: asyncio.Task[None] | None = None
        self._restriction = ""
        self._held: dict[str, tuple[Interface, ...]] = {}
        self._reserved: dict[str, set[str]] = {}
        self._wanted: str | None = None
        self._next_try = 0.0

    async def close(self) -> None:
        """Look after it no more. Machines keep their network."""
        await self._keep_no_more()

    async def up(self, wanted_subnet: str, running: Running) -> Readiness:
        """Bring the pod network up as it can be here."""
        if self._bridge.state is not None and wanted_subnet == self._wanted:
            return Readiness(True)
        if asyncio.get_running_loop().time() < self._next_try:
            return Readiness(True)
        ports = {port.tap: port for ref, entries in running.items() for port in _ports(ref, entries)}
        self._restriction = await asyncio.to_thread(self._why_no_bridge, in_use=bool(ports))
        if self._restriction:
            return Readiness(True)
        self._held.update({ref.uid: interfaces for ref, interfaces in running.items()})
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._bridge.run())
        try:
            await self._bridge.up(wanted_subnet, ports)
            await self._sweep(running)
        except ValueError as error:
            return Readiness(False, f"pod-network: {error}")
        except (ToolError, OSError) as error:
            if ports:
                # It was there for machines that run: it will be again.
                return Readiness(False, f"pod-network: {error}")
            await self._give_up(str(error))
            return Readiness(True)
        self._wanted = wanted_subnet
        return Readiness(True)

    def _why_no_bridge(self, in_use: bool) -> str:
        problem = host_tools.why_no_rights()
        if not problem or self._owner is not None:
            return problem
        # Where machines are in a namespace there can be one.
        further = "" if in_use else namespace.why_not()
        return f"{problem}, and {further}" if further else ""

    async def _give_up(self, problem: str) -> None:
        self._restriction = problem
        self._next_try = asyncio.get_running_loop().time() + _TRY_AGAIN_SECONDS
        _log.warning("machines get user-mode networking: %s", problem)
        await self._keep_no_more()
        with contextlib.suppress(ToolError, OSError):
            await self._bridge.down()

    async def _keep_no_more(self) -> None:
        task, self._keeping = self._keeping, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _sweep(self, running: Running) -> None:
        """Remove cards on segments of machines that ended while nobody looked."""
        state = self._identity()
        known = {entry.device for entries in running.values() for entry in entries}
        for device in host_tools.interfaces(state.macvtap_prefix):
            if device not in known:
                await segments.detach(device, state.table)

    async def down(self) -> None:
        """Take all of it away from the host. Raises ToolError."""
        self._held.clear()
        self._next_try = 0.0
        await self._keep_no_more()
        await self._bridge.down()
        self._wanted = None

    def describe(self) -> PodNetwork:
        state = self._bridge.state
        if state is None or state.subnet is None:
            restriction = (
                f"only a list of ports of a machine can be reached, and machines not each other: {self._restriction}"
            )
            return PodNetwork(
                subnet="10.0.2.0/24", gateway="10.0.2.2", nameservers=("10.0.2.3",), restriction=restriction
            )
        gateway = pod_network.gateway(state.subnet)
        return PodNetwork(str(state.subnet), gateway, self._bridge.nameservers())

    def pod_cidrs(self) -> tuple[str, ...]:
        """Where the addresses are from at which the host reaches machines that are started now."""
        state = self._bridge.state
        bridged = self._owner is not None and state is not None and state.subnet is not None
        return (str(state.subnet if bridged and state is not None else network.ADDRESS_SPACE),)

    async def ensure_segment(self, segment: Segment) -> Readiness:
        if segments.is_private(segment):
            return Readiness(True)
        if problem := host_tools.why_no_rights():
            return Readiness(False, f"machines cannot take part in a network of the node: {problem}")
        try:
            return await segments.ensure(segment, self._identity().id)
        except (ToolError, OSError) as error:
            return Readiness(False, f"{segments.vlan_name(segment)} could not be made: {error}")

    async def remove_segment(self, segment: Segment) -> None:
        if not segments.is_private(segment) and not host_tools.why_no_rights():
            await segments.remove(segment, self._identity().id)

    def _identity(self) -> NetworkState:
        return network_state.load_or_make(self._root)

    def assign(self, request: MachineRequest, busy: Running) -> tuple[Interface, ...]:
        """The interfaces with MAC, address and device; what they were before is kept while it still fits.

        `busy` are the machines that run. ConfigurationError where there is no address.
        """
        ref, identity = request.ref, self._identity()
        used = self._used(request, busy)
        result: list[Interface] = []
        for index, wanted in enumerate(request.interfaces):
            seed = f"{ref.namespace}/{ref.name}/{wanted.name}"
            mac = wanted.mac or network.mac_address(f"{identity.id}/{seed}")
            entry = replace(wanted, mac=mac, ports=(), device="")
            if entry.segment is not None:
                result.append(replace(entry, device=_segment_device(entry.segment, identity, ref, index)))
                continue
            made = self._on_pod_network(entry, used, seed, request.forwarded_ports)
            state = self._bridge.state
            if state is not None:
                made = replace(made, device=pod_network.tap_name(state.tap_prefix, ref.uid, index))
            used.update(made.addresses)
            result.append(made)
        self._reserved[ref.uid] = {address for entry in result if entry.segment is None for address in entry.addresses}
        return tuple(result)

    def _used(self, request: MachineRequest, busy: Running) -> set[str]:
        """Addresses that other machines have, were given a moment ago, or had when they ran last."""
        uid = request.ref.uid
        reserved = [held for owner, held in self._reserved.items() if owner != uid]
        running = [entry.addresses for other, entries in busy.items() if other.uid != uid for entry in entries]
        return set(request.addresses_taken).union(*reserved, *running)

    def _on_pod_network(self, entry: Interface, used: set[str], seed: str, ports: tuple[int, ...]) -> Interface:
        state = self._bridge.state
        subnet = state.subnet if state is not None else None
        on_host = next(filter(_is_loopback, entry.addresses), "")
        former = next((address for address in entry.addresses if not _is_loopback(address)), "")
        made = replace(entry, addresses=())
        try:
            if self._owner is None or subnet is None:
                on_host = on_host or network.allocate_address(used, seed)
                made = replace(made, addresses=(on_host,), ports=self._forwards(on_host, ports))
            if subnet is not None:
                fits = former and former not in used and pod_network.contains(subnet, former)
                address = former if fits else pod_network.allocate(subnet, used, seed)
                made = replace(made, addresses=(*made.addresses, address), gateway=pod_network.gateway(subnet))
                made = replace(made, nameservers=self._bridge.nameservers())
        except ValueError as error:
            raise ConfigurationError("NoAddress", str(error)) from error
        return made

    def _forwards(self, address: str, further: tuple[int, ...]) -> tuple[Port, ...]:
        """The usual ports of the guest, and further ones, that are forwarded.

        One that another program has on every address gets a higher number.
        """
        bindable = network.first_bindable_port(net_bind_service=self._owner is not None)
        pairs = dict(network.forwards(bindable, (*network.FORWARDED_PORTS, *further)))
        for host in network.busy_ports(address, pairs):
            guest = pairs.pop(host)
            moved = guest + network.UNPRIVILEGED_OFFSET
            if moved < 65536 and moved not in pairs and not network.busy_ports(address, [moved]):
                pairs[moved] = guest
        return tuple(Port(guest, host) for host, guest in sorted(pairs.items(), key=lambda pair: pair[1]))

    async def attach(self, ref: Ref, interfaces: tuple[Interface, ...], argv: list[str]) -> list[str]:
        """Make the taps; the command that starts QEMU with them, by this command line of it.

        ConfigurationError if one cannot be made.
        """
        self._held[ref.uid] = interfaces
        devices: dict[int, Path] = {}
        try:
            user = machine_users.user_of(ref.uid) if self._owner is not None else None
            for port in _ports(ref, interfaces):
                await self._bridge.add(replace(port, user=user))
            for index, entry in enumerate(interfaces):
                if entry.segment is not None and not segments.is_private(entry.segment):
                    devices[descriptor(index)] = await self._attach_to_segment(ref, entry, entry.segment)
            starting = command(argv, devices)
            return starting if self._bridge.state is None else await self._bridge.command(starting)
        except (ToolError, OSError) as error:
            await self.detach(ref)
            raise ConfigurationError("NetworkFailed", f"its network cards could not be made: {error}") from error

    async def _attach_to_segment(self, ref: Ref, entry: Interface, segment: Segment) -> Path:
        readiness = await self.ensure_segment(segment)
        if not readiness.ready:
            raise ToolError(f'Network "{entry.network}": {readiness.message}')
        bound = entry.addresses if guest_network.is_static(entry) and not entry.any_address else ()
        card = segments.Card(entry.device, entry.mac, bound, entry.any_mac)
        return await segments.attach(segment, card, self._identity().table, machine_users.user_of(ref.uid))

    async def detach(self, ref: Ref) -> None:
        """Take the cards' devices away. Nothing happens where there are none."""
        for entry in self._held.pop(ref.uid, ()):
            if entry.segment is not None and not segments.is_private(entry.segment):
                await segments.detach(entry.device, self._identity().table)
            elif entry.segment is None and entry.device:
                await self._bridge.drop(entry.device)

    def forget(self, ref: Ref) -> None:
        """The machine is gone: its addresses are free."""
        self._reserved.pop(ref.uid, None)


def descriptor(index: int) -> int:
    """The number under which QEMU has the device of card `index` open."""
    return _FIRST_DESCRIPTOR + index


def command(argv: list[str], devices: Mapping[int, Path]) -> list[str]:
    """The command that opens the devices and then becomes QEMU."""
    if not devices:
        return argv
    opened = " ".join(f"{number}<>{device}" for number, device in sorted(devices.items()))
    return ["/bin/sh", "-c", f'exec {opened}; exec "$0" "$@"', *argv]


def _ports(ref: Ref, interfaces: Iterable[Interface]) -> list[pod_network.Port]:
    return [
        pod_network.Port(
            tap=entry.device,
            mac=entry.mac,
            address=entry.addresses[-1],
            hostname=ref.name,
            any_mac=entry.any_mac,
            any_address=entry.any_address,
            host_address=entry.addresses[0] if entry.ports else "",
            forwards=tuple((port.host, port.guest) for port in entry.ports),
        )
        for entry in interfaces
        if entry.segment is None and entry.device and entry.addresses
    ]


def _segment_device(segment: Segment, identity: NetworkState, ref: Ref, index: int) -> str:
    """The name of the card's macvtap; on a private segment the group that its frames are sent to."""
    if segments.is_private(segment):
        return segments.group(segment, identity.id)
    return pod_network.tap_name(identity.macvtap_prefix, ref.uid, index)


def _is_loopback(address: str) -> bool:
    return address.startswith("127.")
