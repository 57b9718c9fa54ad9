"""The pod network on the host: makes the bridge, its taps, its rules and its DHCP answers, and takes all away again.

What should be there is known (`pod_network`, and the ports of the machines that run); every call makes it so from
whatever is there, so that a reboot, a flushed firewall or a kill at any line needs no care of its own.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

from vmruntime.engines.qemu import dhcp, host_tools, network, network_removal, network_state, pod_network, tap
from vmruntime.engines.qemu.config import QEMU_UID
from vmruntime.engines.qemu.host_tools import ToolError
from vmruntime.engines.qemu.network_state import NetworkState
from vmruntime.engines.qemu.pod_network import Port

_log = logging.getLogger(__name__)


class PodBridge:
    """One cluster's pod network. Changes of the host take turns."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = asyncio.Lock()
        self._ports: dict[str, Port] = {}
        self._state: NetworkState | None = None
        self._server: dhcp.Server | None = None

    @property
    def state(self) -> NetworkState | None:
        """What the network is; None while it is not up."""
        return self._state

    async def up(self, wanted_subnet: str, ports: dict[str, Port]) -> None:
        """Make the network, with these ports of machines that run, by their taps' names.

        Raises ToolError, OSError or ValueError, each with a message for people.
        """
        async with self._lock, host_tools.host_lock():
            state = network_state.load_or_make(self._root)
            if not host_tools.interface_exists(state.bridge):
                state = await self._settle_subnet(state, wanted_subnet, in_use=bool(ports))
            elif state.subnet is None:
                raise ToolError(f"an interface {state.bridge} is there that is not ours")
            self._ports = {**self._ports, **ports}
            await self._make(state)
            self._state = state

    async def _settle_subnet(self, state: NetworkState, wanted: str, in_use: bool) -> NetworkState:
        """Before there is a bridge, and so a route of ours: the subnet of last time, unless it collides by now."""
        routes = await host_tools.routes()
        former = str(state.subnet) if state.subnet else ""
        if former and not in_use and wanted in ("", former):
            try:
                pod_network.choose_subnet(routes, former)
                return state
            except ValueError as error:
                _log.warning("the pod network moves: %s", error)
        if not in_use or not former:
            state = replace(state, subnet=pod_network.choose_subnet(routes, wanted))
            network_state.save(self._root, state)
        return state

    async def _make(self, state: NetworkState) -> None:
        assert state.subnet is not None
        host_tools.open_tun_to_qemu()
        # Rules first: there is no moment in which the bridge forwards without them.
        await host_tools.nft(pod_network.rules(state, self._ports.values()))
        if not host_tools.interface_exists(state.bridge):
            mac = network.mac_address(state.id)
            await host_tools.ip(f"link add name {state.bridge} address {mac} type bridge stp_state 0 forward_delay 0")
        host_tools.set_sysctl(f"net/ipv6/conf/{state.bridge}/disable_ipv6", "1")
        gateway = pod_network.gateway(state.subnet)
        await host_tools.ip(
            f"address replace {gateway}/{state.subnet.prefixlen} dev {state.bridge}", f"link set {state.bridge} up"
        )
        for name in host_tools.interfaces(state.tap_prefix):
            if name not in self._ports:
                await host_tools.ip(f"link delete {name}", force=True)
            else:
                await host_tools.ip(f"link set {name} master {state.bridge}", force=True)
        await self._forward(state)
        await self._serve(state)

    async def _forward(self, state: NetworkState) -> None:
        """Let the host forward; where it did not before, for machines only, which a table of its own guards."""
        boot = host_tools.boot_id()
        if host_tools.sysctl(host_tools.FORWARDING) != "1":
            network_state.save(self._root, replace(state, forwarding_since=boot))
        elif state.forwarding_since != boot or await host_tools.has_table("inet", pod_network.FORWARDING_TABLE):
            return
        await host_tools.nft(pod_network.forwarding_guard())
        host_tools.set_sysctl(host_tools.FORWARDING, "1")

    async def _serve(self, state: NetworkState) -> None:
        assert state.subnet is not None
        if self._server is not None and self._state is not None and state.subnet == self._state.subnet:
            return
        self.close()
        around = dhcp.Surroundings(state.subnet, pod_network.gateway(state.subnet), host_tools.nameservers())
        server = dhcp.Server(around, self._lease)
        await server.open(state.bridge)
        self._server = server

    def _lease(self, mac: str) -> dhcp.Lease | None:
        found = next((port for port in self._ports.values() if port.mac == mac), None)
        return dhcp.Lease(found.address, found.hostname) if found is not None else None

    async def keep(self) -> None:
        """Look whether the rules and the bridge are still there, as a restarted firewall forgets the former."""
        async with self._lock:
            if self._state is None:
                return
            state = network_state.load(self._root) or self._state
            present = host_tools.interface_exists(state.bridge)
            if not (present and await host_tools.has_table("bridge", state.table)
                    and await host_tools.has_table("inet", state.table)):  # fmt: skip
                _log.warning("the pod network was changed by somebody else and is made again")
                if not present:
                    self.close()
                await self._make(state)

    async def add(self, port: Port) -> None:
        """A tap for a machine that is about to start. Raises ToolError or OSError."""
        async with self._lock:
            state = self._state
            if state is None:
                raise ToolError("the pod network is not up yet")
            self._ports[port.tap] = port
            await asyncio.gather(
                asyncio.to_thread(tap.make, port.tap, QEMU_UID if port.user is None else port.user, state.bridge),
                host_tools.nft(pod_network.port_rules(state, port)),
            )

    async def drop(self, name: str) -> None:
        """Take away a tap, if there is one, and what was allowed to it."""
        async with self._lock:
            port = self._ports.pop(name, None)
            if self._state is None or port is None:
                return
            try:
                await host_tools.nft(pod_network.no_port_rules(self._state, port))
            except ToolError as error:
                _log.info("rules of %s: %s", name, error)
            try:
                await asyncio.to_thread(tap.remove, name)
            except OSError:
                await host_tools.ip(f"link delete {name}", force=True)

    def close(self) -> None:
        """Stop answering; bridge, taps and rules stay for the machines that run on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def down(self) -> None:
        """Take everything away. Raises ToolError."""
        async with self._lock:
            self.close()
            self._ports = {}
            self._state = None
            await network_removal.remove(self._root)
