"""Takes all that a cluster's networking made on the host away: for a disable, a stop, a deletion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vmruntime.engines.qemu import host_tools, network_state, pod_network, segments
from vmruntime.engines.qemu.network_state import NetworkState


async def remove(root: Path) -> None:
    """Remove every interface and rule of the cluster with this engine root, from any state. Its id and subnet are kept.

    Nothing happens where nothing was made, or without the rights for it. Raises ToolError.
    """
    state = network_state.load(root)
    if state is None or host_tools.why_no_rights():
        return
    async with host_tools.host_lock():
        await _remove(root, state)


async def _remove(root: Path, state: NetworkState) -> None:
    interfaces = segments.made_by(state.id)
    for prefix in (state.tap_prefix, state.macvtap_prefix, state.bridge):
        interfaces += host_tools.interfaces(prefix)
    if interfaces:
        await host_tools.ip(*(f"link delete {interface}" for interface in interfaces), force=True)
    await host_tools.nft(pod_network.removal(state))
    if not host_tools.interfaces("vmrt"):
        await _forward_no_more(state)
    if state.forwarding_since:
        network_state.save(root, replace(state, forwarding_since=""))


async def _forward_no_more(state: NetworkState) -> None:
    """The last cluster's network is gone: the host goes back to not forwarding, if a cluster has made it do so."""
    ours = state.forwarding_since == host_tools.boot_id()
    if ours or await host_tools.has_table("inet", pod_network.FORWARDING_TABLE):
        host_tools.set_sysctl(host_tools.FORWARDING, "0")
        table = f"inet {pod_network.FORWARDING_TABLE}"
        await host_tools.nft(f"table {table}\ndelete table {table}\n")
