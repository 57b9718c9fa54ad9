"""Addresses, MAC addresses and ports of machines on one host. Pure, but for the two questions to the kernel at the end.

Each machine has a loopback address of its own, and its forwarded ports listen there under their own numbers: port 22
of the guest is port 22 of its address. Linux answers on all of 127.0.0.0/8 with no configuration, so no rights are
needed but for ports below `net.ipv4.ip_unprivileged_port_start`.
"""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import socket
from collections.abc import Iterable, Set
from pathlib import Path

ADDRESS_SPACE = ipaddress.IPv4Network("127.64.0.0/10")
"""Machines' addresses: 127.64.0.0 to 127.127.255.255, far from what else lives on loopback (127.0.0.1, 127.0.0.53,
127.0.1.1)."""

FORWARDED_PORTS = (22, 80, 443, 2222, 3000, 3389, 5000, 5900, 5985, 5986, 8000, 8080, 8443, 9090, 9100)
"""The guest ports that are reachable on the machine's address: SSH, web servers and their usual alternatives, remote
desktop, VNC, Windows remote management, Prometheus and its node exporter."""

UNPRIVILEGED_OFFSET = 10000
"""Where a port below 1024 may not be bound it listens this much higher instead: guest port 22 on 10022."""

_MAC_PREFIX = "52:54:00"


def mac_address(uid: str, index: int = 0) -> str:
    """The MAC address of a machine's card number `index`: stable, derived from the machine's unique id."""
    digest = hashlib.sha256(f"{uid}/{index}".encode()).digest()
    return f"{_MAC_PREFIX}:{digest[0]:02x}:{digest[1]:02x}:{digest[2]:02x}"


def allocate_address(taken: Set[str], seed: str) -> str:
    """A loopback address that is not in `taken`. The same seed gives the same address while it is free.

    Addresses whose last byte is 0 or 255 are left out: programs take them for networks and broadcasts.
    Raises ValueError when all four million are taken.
    """
    size = ADDRESS_SPACE.num_addresses
    start = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big") % size
    for step in range(size):
        number = (start + step) % size
        if number & 0xFF in (0, 0xFF):
            continue
        address = str(ADDRESS_SPACE[number])
        if address not in taken:
            return address
    raise ValueError(f"no address of {ADDRESS_SPACE} is free")


def forwards(first_bindable: int, guest_ports: Iterable[int] = FORWARDED_PORTS) -> tuple[tuple[int, int], ...]:
    """Pairs (host port, guest port) for ports of a guest, in order of the guest's ports.

    `first_bindable` is the lowest port number that QEMU may bind (see `first_bindable_port`). A port below it gets the
    number `UNPRIVILEGED_OFFSET` higher where no other forward uses that, and is left out otherwise.
    """
    wanted = sorted(set(guest_ports))
    direct = {port for port in wanted if port >= first_bindable}
    pairs: dict[int, int] = {port: port for port in direct}
    for port in wanted:
        moved = port + UNPRIVILEGED_OFFSET
        if port not in direct and moved not in pairs and moved >= first_bindable:
            pairs[moved] = port
    return tuple(sorted(pairs.items(), key=lambda pair: pair[1]))


def first_bindable_port(*, net_bind_service: bool) -> int:
    """The lowest TCP port that a process may bind: 1 with NET_BIND_SERVICE, else what the kernel is set to."""
    if net_bind_service:
        return 1
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        return 1024


def busy_ports(address: str, ports: Iterable[int]) -> list[int]:
    """Those of the ports that QEMU could not listen on because somebody else does (also on 0.0.0.0).

    A port that this process has no right to bind is not reported: it may be free.
    """
    busy = []
    for port in ports:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
                probe.listen(1)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    busy.append(port)
    return busy
