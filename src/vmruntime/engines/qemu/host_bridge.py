"""The pod network of a cluster that runs as root: a bridge of the host itself, beside whatever else the host has.

Every call makes it so from whatever is there, so that a reboot, a flushed firewall or a kill at any line needs no care
of its own.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

from vmruntime.engines.qemu import host_tools, network_removal, network_state, pod_network
from vmruntime.engines.qemu.config import QEMU_UID
from vmruntime.engines.qemu.host_tools import ToolError
from vmruntime.engines.qemu.network_state import NetworkState
from vmruntime.engines.qemu.pod_bridge import PodBridge
from vmruntime.engines.qemu.pod_network import Port

_log = logging.getLogger(__name__)

_KEEP_SECONDS = 30.0


class HostBridge:
    """One cluster's pod network on the host. Clusters of one host take turns where they change what they share."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._bridge = PodBridge(QEMU_UID, host_tools.nameservers, self._forward)
        self.state: NetworkState | None = None

    def nameservers(self) -> tuple[str, ...]:
        return host_tools.nameservers()

    async def up(self, wanted_subnet: str, ports: dict[str, Port]) -> None:
        """Make the network, with these ports of machines that run, by their taps' names.

        Raises ToolError, OSError or ValueError, each with a message for people.
        """
        async with host_tools.host_lock():
            state = network_state.load_or_make(self._root)
            if not host_tools.interface_exists(state.bridge):
                # No bridge, and so no route of ours.
                state = await settle_subnet(self._root, wanted_subnet, in_use=bool(ports))
            elif state.subnet is None:
                raise ToolError(f"an interface {state.bridge} is there that is not ours")
            host_tools.open_tun_to_qemu()
            await self._bridge.make(state, ports)
            self.state = state

    async def _forward(self, state: NetworkState) -> None:
        """Let the host forward; where it did not before, for machines only, which a table of its own guards."""
        boot = host_tools.boot_id()
        if host_tools.sysctl(host_tools.FORWARDING) != "1":
            network_state.save(self._root, replace(state, forwarding_since=boot))
        elif state.forwarding_since != boot or await host_tools.has_table("inet", pod_network.FORWARDING_TABLE):
            return
        await host_tools.nft(pod_network.forwarding_guard())
        host_tools.set_sysctl(host_tools.FORWARDING, "1")

    async def run(self) -> None:
        """Look from time to time whether all is still there, as a restarted firewall forgets rules.

        Until cancelled; then nobody answers any more, and bridge, taps and rules stay for the machines that run on.
        """
        try:
            while True:
                await asyncio.sleep(_KEEP_SECONDS)
                try:
                    await self._keep()
                except (ToolError, OSError) as error:
                    _log.warning("the pod network could not be made again: %s", error)
        finally:
            self._bridge.close()

    async def _keep(self) -> None:
        state = network_state.load(self._root) or self.state
        if self.state is None or state is None or await self._bridge.is_whole(state):
            return
        _log.warning("the pod network was changed by somebody else and is made again")
        async with host_tools.host_lock():
            await self._bridge.make(state, {})

    async def add(self, port: Port) -> None:
        """A tap for a machine that is about to start. Raises ToolError or OSError."""
        if self.state is None:
            raise ToolError("the pod network is not up yet")
        await self._bridge.add(self.state, port)

    async def drop(self, name: str) -> None:
        """Take away a tap, if there is one, and what was allowed to it."""
        if self.state is not None:
            await self._bridge.drop(self.state, name)

    async def command(self, argv: list[str]) -> list[str]:
        """What starts QEMU in this network: nothing special, as it is the host's own."""
        return argv

    async def down(self) -> None:
        """Take everything away. Raises ToolError."""
        self._bridge.forget()
        self.state = None
        await network_removal.remove(self._root)


async def settle_subnet(root: Path, wanted: str, in_use: bool) -> NetworkState:
    """What the network is to be: with the subnet of last time, unless that collides with a route of the host by now.

    `in_use`: machines run on it, so it stays. Raises ToolError, OSError or ValueError.
    """
    state = network_state.load_or_make(root)
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
        network_state.save(root, state)
    return state
