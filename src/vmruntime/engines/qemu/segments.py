"""Ethernets of the host that machines take part in: a macvtap for each card, on an interface or on a VLAN of it.

A macvtap needs no bridge, so the host's own addresses stay where they are. What follows from it: machines on one
interface reach each other and everything behind the interface, but not the host itself by way of that interface.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from vmruntime.engines.common import Readiness
from vmruntime.engines.network import Segment
from vmruntime.engines.qemu import host_tools
from vmruntime.engines.qemu.host_tools import ToolError

LOOPBACK = "lo"
_NET = Path("/sys/class/net")
# The VLAN interfaces of the namespace that this process is in: "NAME | ID | INTERFACE".
_VLANS = Path("/proc/net/vlan/config")
_UNFINISHED = re.compile(r"vmv[0-9a-f]{5}")
_NAME_LIMIT = 15
_IFF_UP = 0x1


@dataclass(frozen=True, slots=True)
class Card:
    """A card on a segment. `addresses`: what it may send from; empty: any."""

    device: str
    mac: str
    addresses: tuple[str, ...] = ()
    any_mac: bool = False


def parent(segment: Segment) -> str:
    """The host's interface that machines are attached to, a VLAN's whatever its name is; empty if the VLAN has none."""
    return _vlan_interface(segment) if segment.vlan else segment.interface


def _vlan_interface(segment: Segment) -> str:
    try:
        lines = _VLANS.read_text().splitlines()
    except OSError:
        return ""  # the kernel has made no VLAN since it started
    for name, *of in ([word.strip() for word in line.split("|")] for line in lines):
        if of == [str(segment.vlan), segment.interface] and not _UNFINISHED.fullmatch(name):
            return name
    return ""


def vlan_name(segment: Segment) -> str:
    """What the interface of the VLAN is called where it is ours to make: `eth1.100`.

    Where a name would be longer than the kernel has room for, the interface's own part is a short form of it.
    """
    name = f"{segment.interface}.{segment.vlan}"
    if len(name) <= _NAME_LIMIT:
        return name
    return f"vm{hashlib.sha256(segment.interface.encode()).hexdigest()[:6]}.{segment.vlan}"


def is_private(segment: Segment) -> bool:
    """Whether it is no Ethernet of the host but one among the machines of this node, which needs no rights."""
    return segment.interface == LOOPBACK


def group(segment: Segment, identity: str) -> str:
    """The multicast group on loopback, and its port, that a private segment is."""
    first, second, third, *port = hashlib.sha256(f"{identity}/{segment.vlan}".encode()).digest()[:5]
    return f"239.{first}.{second}.{third}:{20000 + int.from_bytes(port) % 20000}"


def alias(identity: str) -> str:
    """The mark of interfaces that a cluster has made, and so may remove."""
    return f"vmruntime-{identity}"


def _unfinished(identity: str) -> str:
    """The name of an interface that the cluster is about to make."""
    return f"vmv{identity}"


def made_by(identity: str) -> list[str]:
    """The VLAN interfaces that the cluster has made, and one that it has begun to make."""
    found = host_tools.interfaces(_unfinished(identity))
    for path in _NET.glob("*/ifalias"):
        try:
            if path.read_text().strip() == alias(identity):
                found.append(path.parent.name)
        except OSError:
            continue  # it has just gone
    return sorted(found)


async def ensure(segment: Segment, identity: str) -> Readiness:
    """Make the VLAN's interface where that is ours to do. Raises ToolError or OSError."""
    if not host_tools.interface_exists(segment.interface):
        return Readiness(False, f"the node has no network interface {segment.interface}")
    if not _is_up(segment.interface):
        return Readiness(False, f"the node's network interface {segment.interface} is down")
    name = parent(segment)
    if not name and segment.managed:
        await _make(segment, identity)
        return Readiness(True)
    if not name:
        what = f"no interface of VLAN {segment.vlan} on {segment.interface}"
        return Readiness(False, f"the node has {what}, which is to be made by its administrator")
    if not _is_up(name):
        if name not in made_by(identity):
            return Readiness(False, f"the node's network interface {name} is down")
        await host_tools.ip(f"link set dev {name} up")
    return Readiness(True)


def _is_up(interface: str) -> bool:
    """Whether it is switched on; false where it has just gone. A cable need not be in it."""
    try:
        return int((_NET / interface / "flags").read_text(), 16) & _IFF_UP != 0
    except OSError:
        return False


async def _make(segment: Segment, identity: str) -> None:
    """Make the VLAN's interface, unless somebody has by now.

    It gets its own name together with the mark: one that was left unmarked by a kill would never be removed.
    """
    name, unfinished = vlan_name(segment), _unfinished(identity)
    async with host_tools.host_lock():
        if parent(segment):
            return
        await host_tools.ip(f"link delete {unfinished}", force=True)  # of a start that was killed
        await host_tools.ip(f"link add link {segment.interface} name {unfinished} type vlan id {segment.vlan}")
        try:
            _keep_host_out(unfinished)
            await host_tools.ip(f"link set dev {unfinished} name {name} alias {alias(identity)} up")
        except (ToolError, OSError):
            await host_tools.ip(f"link delete {unfinished}", force=True)
            raise


def _keep_host_out(interface: str) -> None:
    """Let the host itself take no part in the VLAN: it would answer there for every address that it has anywhere.

    With this filter it accepts what it would answer by way of this interface, and no route leads there until an
    administrator makes one. Source: kernel documentation, "IP Sysctl", rp_filter. Raises OSError.
    """
    host_tools.set_sysctl(f"net/ipv4/conf/{interface}/rp_filter", "1")
    host_tools.set_no_ipv6(interface)


async def remove(segment: Segment, identity: str) -> None:
    """Remove the VLAN's interface if the cluster has made it. Raises ToolError."""
    name = parent(segment)
    if segment.vlan and name in made_by(identity):
        await host_tools.ip(f"link delete {name}")


async def attach(segment: Segment, card: Card, table: str, user: int) -> Path:
    """A new macvtap for the card, and the device through which `user` reaches it. Raises ToolError or OSError."""
    await detach(card.device, table)
    own = f"name {card.device} address {card.mac}"
    await host_tools.ip(f"link add link {parent(segment)} {own} type macvtap mode bridge")
    host_tools.set_no_ipv6(card.device)
    await host_tools.nft(rules(card, table))
    await host_tools.ip(f"link set dev {card.device} up")
    device = Path("/dev", f"tap{(_NET / card.device / 'ifindex').read_text().strip()}")
    os.chown(device, user, user)
    os.chmod(device, 0o600)
    return device


def rules(card: Card, table: str) -> str:
    """An nftables script for what the card may send and gets.

    Nothing with a tag of its own, with which a guest would get from a network without VLAN into every VLAN of the same
    interface, and around the checks of addresses. A tag that only has a priority (VLAN 0) may come in.
    """
    sends = ["ether type { 8021q, 8021ad } drop"]
    if not card.any_mac:
        sends.append(f"ether saddr != {card.mac} drop")
        sends.append(f"arp saddr ether != {card.mac} drop")
    if card.addresses:
        own = ", ".join(address.partition("/")[0] for address in card.addresses)
        sends += [f"ip saddr != {{ {own} }} drop", f"arp saddr ip != {{ {own}, 0.0.0.0 }} drop"]
    gets = ["ether type 8021ad drop", "vlan id != 0 drop"]
    sending, getting = _chains(card.device)
    chains = _chain(sending, "egress", card.device, sends) + _chain(getting, "ingress", card.device, gets)
    return f"table netdev {table} {{\n{chains}}}\n"


def _chain(name: str, hook: str, device: str, lines: list[str]) -> str:
    kind = f'type filter hook {hook} device "{device}" priority filter; policy accept;'
    body = "".join(f"    {line}\n" for line in [kind, *lines])
    return f"  chain {name} {{\n{body}  }}\n"


def _chains(device: str) -> tuple[str, str]:
    """The names of a card's chains, for what it sends and for what it gets."""
    return device, f"{device}_in"


def _no_rules(device: str, table: str) -> str:
    """A script that takes a card's chains away, whether they are there or not."""
    empty = "".join(f"  chain {chain} {{ }}\n" for chain in _chains(device))
    gone = "".join(f"flush chain netdev {table} {chain}\n" for chain in _chains(device))
    gone += "".join(f"delete chain netdev {table} {chain}\n" for chain in _chains(device))
    return f"table netdev {table} {{\n{empty}}}\n{gone}"


async def detach(device: str, table: str) -> None:
    """Remove a card's macvtap and its rules, if they are there. Raises ToolError.

    The rules can be left where the macvtap has gone together with the interface that it was on.
    """
    if host_tools.interface_exists(device):
        await host_tools.ip(f"link delete {device}", force=True)
    await host_tools.nft(_no_rules(device, table))
