"""The pod network as a bridge: its subnet, its addresses and its rules. Pure.

    guest ── tap ──┐
    guest ── tap ──┤ bridge vmrtID, first address of the subnet ── host ── masquerade ── outwards
    guest ── tap ──┘

Where the cluster does not run as root, "host" is a namespace of its own (`gateway`).

A guest may send from its own MAC and IPv4 address only; IPv6 does not exist here. From outside the host nothing gets in
but answers: the host did not expose its machines before, and does not by being a router.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Set
from dataclasses import dataclass

from vmruntime.engines.qemu.network_state import NetworkState

POOL = ipaddress.IPv4Network("10.144.0.0/12")
"""Where subnets are taken from, the first one that no route of the host touches: away from what home routers,
Docker (172.17.0.0/16 and on) and Kubernetes' usual pod and service ranges use."""

SUBNET_PREFIX = 22
SMALLEST_PREFIX = 29

FORWARDING_TABLE = "vmruntime_forwarding"
"""Exists where we switched the host's forwarding on, and lets it forward for machines of clusters only."""

_OUR_BRIDGES = "vmrt*"


@dataclass(frozen=True, slots=True)
class Port:
    """A guest's place on the bridge, and what it may send from. `any_*`: that is not checked. The tap is `user`'s.

    In a namespace: `forwards` are pairs of a port of `host_address` on the host and the guest's port that it leads to.
    """

    tap: str
    mac: str
    address: str
    hostname: str = ""
    any_mac: bool = False
    any_address: bool = False
    user: int | None = None
    host_address: str = ""
    forwards: tuple[tuple[int, int], ...] = ()


def tap_name(prefix: str, uid: str, index: int) -> str:
    """A name of 15 characters, the kernel's limit, for card number `index` of a machine."""
    return prefix + hashlib.sha256(f"{uid}/{index}".encode()).hexdigest()[:7]


def choose_subnet(routes: Iterable[str], wanted: str = "") -> ipaddress.IPv4Network:
    """The subnet for a cluster: `wanted`, if somebody said which, or the first of the pool that is free.

    `routes` are the destinations of the host's routes; default routes do not count. Raises ValueError, with the
    remedy, for a wanted subnet that cannot be one or collides, and when the pool is full.
    """
    taken = [ipaddress.IPv4Network(route, strict=False) for route in routes if route not in ("default", "0.0.0.0/0")]
    if wanted:
        subnet = _parse(wanted)
        for network in taken:
            if network.overlaps(subnet):
                raise ValueError(f"{subnet} collides with the host's route to {network}; choose another")
        return subnet
    for subnet in POOL.subnets(new_prefix=SUBNET_PREFIX):
        if not any(network.overlaps(subnet) for network in taken):
            return subnet
    raise ValueError(f"every /{SUBNET_PREFIX} of {POOL} collides with a route of the host; say which subnet to use")


def _parse(text: str) -> ipaddress.IPv4Network:
    try:
        subnet = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no IPv4 subnet: {error}") from None
    if subnet.prefixlen > SMALLEST_PREFIX:
        raise ValueError(f"{subnet} is too small; /{SMALLEST_PREFIX} is the smallest subnet possible")
    if not subnet.is_private or subnet.is_loopback or subnet.is_link_local:
        raise ValueError(f"{subnet} is not a private subnet (RFC 1918)")
    return subnet


def gateway(subnet: ipaddress.IPv4Network) -> str:
    """The bridge's own address, the first one."""
    return str(subnet[1])


def allocate(subnet: ipaddress.IPv4Network, taken: Set[str], seed: str) -> str:
    """An address that is not in `taken`; the same seed gives the same one while it is free.

    Raises ValueError when none is free.
    """
    size = subnet.num_addresses - 3
    start = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big") % size
    for step in range(size):
        address = str(subnet[2 + (start + step) % size])
        if address not in taken:
            return address
    raise ValueError(f"no address of {subnet} is free")


def contains(subnet: ipaddress.IPv4Network, address: str) -> bool:
    """Whether a machine of the subnet can have this address."""
    try:
        return subnet[2] <= ipaddress.IPv4Address(address) <= subnet[-2]
    except ValueError:
        return False


def rules(state: NetworkState, ports: Iterable[Port]) -> str:
    """An nftables script that replaces whatever rules the cluster has, in one step."""
    if state.subnet is None:
        raise ValueError("there is no subnet")
    table, bridge, subnet = state.table, state.bridge, state.subnet
    lines = [
        f"table bridge {table}",
        f"delete table bridge {table}",
        f"table bridge {table} {{",
        "  set macs { type ifname . ether_addr; }",
        "  set addresses { type ifname . ipv4_addr; }",
        "  set any_mac { type ifname; }",
        "  set any_address { type ifname; }",
        "  chain guests {",
        "    type filter hook prerouting priority filter; policy accept;",
        f'    iifname "{state.tap_prefix}*" jump from_guest',
        "  }",
        "  chain from_guest {",
        "    iifname . ether saddr != @macs iifname != @any_mac drop",
        # Addresses are handed out by us: a guest that answers in our place would be every other guest's gateway.
        "    udp sport 67 drop",
        "    ether type { ip, arp } iifname @any_address accept",
        "    iifname . arp saddr ether @macs arp saddr ip 0.0.0.0 accept",
        "    iifname . arp saddr ether @macs iifname . arp saddr ip @addresses accept",
        "    iifname @any_mac iifname . arp saddr ip @addresses accept",
        "    iifname . ip saddr @addresses accept",
        "    ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept",
        "    drop",
        "  }",
        "}",
        f"table inet {table}",
        f"delete table inet {table}",
        f"table inet {table} {{",
        "  chain forward {",
        "    type filter hook forward priority filter; policy accept;",
        f'    iifname "{bridge}" oifname "{bridge}" accept',
        f'    iifname "{bridge}" ip saddr != {subnet} drop',
        f'    iifname "{bridge}" meta nfproto ipv6 drop',
        f'    oifname "{bridge}" ct state established,related accept',
        f'    oifname "{bridge}" drop',
        "  }",
        "  chain outward {",
        "    type nat hook postrouting priority srcnat; policy accept;",
        f'    ip saddr {subnet} oifname != "{bridge}" masquerade',
        "  }",
        "}",
        *(line for port in ports for line in _elements("add", state, port)),
    ]
    return "\n".join(lines) + "\n"


def port_rules(state: NetworkState, port: Port) -> str:
    """A script that lets a guest send."""
    return "\n".join(_elements("add", state, port)) + "\n"


def no_port_rules(state: NetworkState, port: Port) -> str:
    """A script that ends that; the elements are added first, as deleting what is not there would be an error."""
    return "\n".join([*_elements("add", state, port), *_elements("delete", state, port)]) + "\n"


def _elements(verb: str, state: NetworkState, port: Port) -> list[str]:
    table = f"{verb} element bridge {state.table}"
    lines = [
        f'{table} macs {{ "{port.tap}" . {port.mac} }}',
        f'{table} addresses {{ "{port.tap}" . {port.address} }}',
    ]
    if port.any_mac:
        lines.append(f'{table} any_mac {{ "{port.tap}" }}')
    if port.any_address:
        lines.append(f'{table} any_address {{ "{port.tap}" }}')
    return lines


def removal(state: NetworkState) -> str:
    """A script that takes all of the cluster's rules away, whether they are there or not."""
    tables = (f"bridge {state.table}", f"inet {state.table}", f"netdev {state.table}")
    return "".join(f"table {table}\ndelete table {table}\n" for table in tables)


def forwarding_guard() -> str:
    """A script: the host, which did not forward before, forwards for machines and for nobody else."""
    return "\n".join(
        [
            f"table inet {FORWARDING_TABLE}",
            f"delete table inet {FORWARDING_TABLE}",
            f"table inet {FORWARDING_TABLE} {{",
            "  chain forward {",
            "    type filter hook forward priority filter; policy drop;",
            f'    iifname "{_OUR_BRIDGES}" accept',
            f'    oifname "{_OUR_BRIDGES}" accept',
            "  }",
            "}",
            "",
        ]
    )
