"""The pod network where this process is: makes the bridge, its taps, its rules and its DHCP answers.

That is on the host (`host_bridge`) or in a namespace of the cluster's own (`gateway_inside`). What should be there is
known (`pod_network`, and the ports of the machines that run); every call makes it so from whatever is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from vmruntime.engines.qemu import dhcp, host_tools, network, pod_network, tap
from vmruntime.engines.qemu.host_tools import ToolError
from vmruntime.engines.qemu.network_state import NetworkState
from vmruntime.engines.qemu.pod_network import Port

_log = logging.getLogger(__name__)


class PodBridge:
    """One cluster's bridge. Changes take turns."""

    def __init__(
        self,
        user: int,
        nameservers: Callable[[], tuple[str, ...]],
        forward: Callable[[NetworkState], Awaitable[None]],
    ) -> None:
        """`user` is QEMU's, who may open taps; `nameservers` guests are told; `forward` lets the kernel forward."""
        self._user = user
        self._nameservers = nameservers
        self._forward = forward
        self._lock = asyncio.Lock()
        self._ports: dict[str, Port] = {}
        self._server: dhcp.Server | None = None
        self._served: NetworkState | None = None

    async def make(self, state: NetworkState, ports: dict[str, Port]) -> None:
        """Make the network, with these ports, by their taps' names, beside those added before.

        Raises ToolError or OSError.
        """
        async with self._lock:
            self._ports = {**self._ports, **ports}
            await self._make(state)

    async def _make(self, state: NetworkState) -> None:
        assert state.subnet is not None
        # Rules first: there is no moment in which the bridge forwards without them.
        await host_tools.nft(pod_network.rules(state, self._ports.values()))
        if not host_tools.interface_exists(state.bridge):
            self.close()
            mac = network.mac_address(state.id)
            await host_tools.ip(f"link add name {state.bridge} address {mac} type bridge stp_state 0 forward_delay 0")
        host_tools.set_no_ipv6(state.bridge)
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

    async def _serve(self, state: NetworkState) -> None:
        assert state.subnet is not None
        if self._server is not None and self._served is not None and state.subnet == self._served.subnet:
            return
        self.close()
        around = dhcp.Surroundings(state.subnet, pod_network.gateway(state.subnet), self._nameservers())
        server = dhcp.Server(around, self._lease)
        await server.open(state.bridge)
        self._server, self._served = server, state

    def _lease(self, mac: str) -> dhcp.Lease | None:
        found = next((port for port in self._ports.values() if port.mac == mac), None)
        return dhcp.Lease(found.address, found.hostname) if found is not None else None

    async def is_whole(self, state: NetworkState) -> bool:
        """Whether the bridge and the rules are still there."""
        async with self._lock:
            return (
                host_tools.interface_exists(state.bridge)
                and await host_tools.has_table("bridge", state.table)
                and await host_tools.has_table("inet", state.table)
            )

    async def add(self, state: NetworkState, port: Port) -> None:
        """A tap for a machine that is about to start. Raises ToolError or OSError."""
        async with self._lock:
            self._ports[port.tap] = port
            await asyncio.gather(
                asyncio.to_thread(tap.make, port.tap, self._user if port.user is None else port.user, state.bridge),
                host_tools.nft(pod_network.port_rules(state, port)),
            )

    async def drop(self, state: NetworkState, name: str) -> None:
        """Take away a tap, if there is one, and what was allowed to it."""
        async with self._lock:
            port = self._ports.pop(name, None)
            if port is None:
                return
            try:
                await host_tools.nft(pod_network.no_port_rules(state, port))
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

    def taps(self) -> set[str]:
        """The taps that should be there."""
        return set(self._ports)

    def forget(self) -> None:
        """Stop answering; nothing is to be there any more."""
        self.close()
        self._ports = {}
