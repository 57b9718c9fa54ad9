"""Ethernets of the host that machines take part in: a macvtap for each card, on an interface or on a VLAN of it.

A macvtap needs no bridge, so the host's own addresses stay where they are. What follows from it: machines on one
interface reach each other and everything behind the interface, but not the host itself by way of that interface.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from vmruntime.engines.common import Readiness
from vmruntime.engines.network import Segment
from vmruntime.engines.qemu import host_tools
from vmruntime.engines.qemu.host_tools import ToolError

LOOPBACK = "lo"
_NET = Path("/sys/class/net")


@dataclass(frozen=True, slots=True)
class Card:
    """A card on a segment. `addresses`: what it may send from; empty: any."""

    device: str
    mac: str
    addresses: tuple[str, ...] = ()
    any_mac: bool = False


def parent(segment: Segment) -> str:
    """The host's interface that the segment is reached by: `eth1`, or `eth1.100` for a VLAN of it."""
    return f"{segment.interface}.{segment.vlan}" if segment.vlan else segment.interface


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


def made_by(identity: str) -> list[str]:
    """The VLAN interfaces that the cluster has made."""
    found = []
    for path in _NET.glob("*/ifalias"):
        try:
            if path.read_text().strip() == alias(identity):
                found.append(path.parent.name)
        except OSError:
            continue  # it has just gone
    return sorted(found)


async def ensure(segment: Segment, identity: str) -> Readiness:
    """Make the VLAN's interface where that is ours to do. Raises ToolError."""
    if not host_tools.interface_exists(segment.interface):
        return Readiness(False, f"the node has no network interface {segment.interface}")
    name = parent(segment)
    if host_tools.interface_exists(name):
        return Readiness(True)
    if not segment.managed:
        return Readiness(False, f"the node has no network interface {name}, which is to be made by its administrator")
    await host_tools.ip(
        f"link add link {segment.interface} name {name} type vlan id {segment.vlan}",
        f"link set dev {name} alias {alias(identity)}",
        f"link set dev {name} addrgenmode none up",
    )
    return Readiness(True)


async def remove(segment: Segment, identity: str) -> None:
    """Remove the VLAN's interface if the cluster has made it."""
    if segment.vlan and parent(segment) in made_by(identity):
        await host_tools.ip(f"link delete {parent(segment)}", force=True)


async def attach(segment: Segment, card: Card, table: str, user: int) -> Path:
    """A new macvtap for the card, and the device through which `user` reaches it. Raises ToolError or OSError."""
    await detach(card.device, table)
    await host_tools.ip(
        f"link add link {parent(segment)} name {card.device} address {card.mac} type macvtap mode bridge",
        f"link set dev {card.device} addrgenmode none up",
    )
    await host_tools.nft(rules(card, table))
    device = Path("/dev", f"tap{(_NET / card.device / 'ifindex').read_text().strip()}")
    os.chown(device, user, user)
    os.chmod(device, 0o600)
    return device


def rules(card: Card, table: str) -> str:
    """An nftables script for what the card may send. Where everything is allowed there is still an empty chain."""
    checks = []
    if not card.any_mac or card.addresses:
        # Behind a tag of its own the guest would be in every VLAN of the interface, and no address would be looked at.
        checks.append("meta protocol { 8021q, 8021ad } drop")
    if not card.any_mac:
        checks.append(f"ether saddr != {card.mac} drop")
        checks.append(f"arp saddr ether != {card.mac} drop")
    if card.addresses:
        own = ", ".join(address.partition("/")[0] for address in card.addresses)
        checks += [f"ip saddr != {{ {own} }} drop", f"arp saddr ip != {{ {own}, 0.0.0.0 }} drop"]
    body = "".join(f"    {check}\n" for check in checks)
    hook = f'type filter hook egress device "{card.device}" priority filter; policy accept;'
    return f"table netdev {table} {{\n  chain {card.device} {{\n    {hook}\n{body}  }}\n}}\n"


async def detach(device: str, table: str) -> None:
    """Remove a card's macvtap and its rules, if they are there."""
    if not host_tools.interface_exists(device):
        return
    try:
        await host_tools.nft(f"flush chain netdev {table} {device}\ndelete chain netdev {table} {device}\n")
    except ToolError:
        pass  # it had none
    await host_tools.ip(f"link delete {device}", force=True)
