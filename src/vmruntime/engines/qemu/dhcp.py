"""A DHCP answerer for one bridge: every guest has one address, for ever (RFC 2131, RFC 2132).

It keeps no leases: what a card's address is was decided when its machine started. So there is nothing to write down, to
expire or to lose. Every answer is a broadcast, which needs no raw socket to reach a guest without an address.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

_log = logging.getLogger(__name__)

SERVER_PORT, CLIENT_PORT = 67, 68
_HEADER = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
_COOKIE = b"\x63\x82\x53\x63"
_FOREVER = 0xFFFFFFFF
_PAD, _END = 0, 255
_MASK, _ROUTER, _DNS, _HOST_NAME = 1, 3, 6, 12
_REQUESTED, _LEASE, _TYPE, _SERVER = 50, 51, 53, 54
DISCOVER, OFFER, REQUEST, ACK, NAK, INFORM = 1, 2, 3, 5, 6, 8


@dataclass(frozen=True, slots=True)
class Lease:
    """What a card is told."""

    address: str
    hostname: str = ""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all cards of a subnet are told."""

    subnet: ipaddress.IPv4Network
    gateway: str
    nameservers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """A client's message, as far as it matters."""

    kind: int
    transaction: int
    flags: int
    client: bytes
    relay: bytes
    hardware: bytes
    options: dict[int, bytes]

    @property
    def mac(self) -> str:
        return ":".join(f"{byte:02x}" for byte in self.hardware[:6])


def parse(message: bytes) -> Query | None:
    """A client's message; None for whatever is none. The bytes are a guest's and can be anything."""
    if len(message) < _HEADER.size:
        return None
    op, kind, length, _, transaction, _, flags, client, _, _, relay, hardware, _, _, cookie = _HEADER.unpack_from(
        message
    )
    if (op, kind, length, cookie) != (1, 1, 6, _COOKIE):
        return None
    options: dict[int, bytes] = {}
    place = _HEADER.size
    while place < len(message) and message[place] != _END:
        code = message[place]
        if code == _PAD:
            place += 1
            continue
        if place + 1 >= len(message):
            return None
        size = message[place + 1]
        options[code] = message[place + 2 : place + 2 + size]
        place += 2 + size
    wanted = options.get(_TYPE, b"")
    if len(wanted) != 1:
        return None
    return Query(wanted[0], transaction, flags, client, relay, hardware, options)


def answer(query: Query, lease: Lease, around: Surroundings) -> bytes | None:
    """The answer to a client whose address is `lease`; None if it gets none."""
    if query.kind == DISCOVER:
        return _message(query, OFFER, lease, around)
    if query.kind == INFORM:
        return _message(query, ACK, lease, around)
    if query.kind != REQUEST:
        return None
    server = query.options.get(_SERVER)
    if server is not None and server != _packed(around.gateway):
        return None  # it has taken another server's offer
    asked = query.options.get(_REQUESTED) or query.client
    return _message(query, ACK if asked == _packed(lease.address) else NAK, lease, around)


def _packed(address: str) -> bytes:
    return ipaddress.IPv4Address(address).packed


def _message(query: Query, kind: int, lease: Lease, around: Surroundings) -> bytes:
    mine = b"\0" * 4 if kind == NAK or query.kind == INFORM else _packed(lease.address)
    # The broadcast flag is set: that is how every answer travels.
    header = _HEADER.pack(
        2, 1, 6, 0, query.transaction, 0, 0x8000, query.client if kind == ACK else b"\0" * 4, mine,
        _packed(around.gateway), query.relay, query.hardware, b"", b"", _COOKIE,
    )  # fmt: skip
    options: list[tuple[int, bytes]] = [(_TYPE, bytes([kind])), (_SERVER, _packed(around.gateway))]
    if kind != NAK:
        if query.kind != INFORM:
            options.append((_LEASE, struct.pack("!I", _FOREVER)))
        options += [(_MASK, around.subnet.netmask.packed), (_ROUTER, _packed(around.gateway))]
        if around.nameservers:
            options.append((_DNS, b"".join(map(_packed, around.nameservers))))
        if lease.hostname:
            options.append((_HOST_NAME, lease.hostname.encode()[:255]))
    body = b"".join(bytes([code, len(value)]) + value for code, value in options)
    return (header + body + bytes([_END])).ljust(300, b"\0")


class Server(asyncio.DatagramProtocol):
    """Answers on one bridge. `lookup` says what the card of a MAC address has."""

    def __init__(self, around: Surroundings, lookup: Callable[[str], Lease | None]) -> None:
        self._around = around
        self._lookup = lookup
        self._transport: asyncio.DatagramTransport | None = None

    async def open(self, bridge: str) -> None:
        """Listen on the bridge only. Raises OSError."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, bridge.encode())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            listener.bind(("", SERVER_PORT))
            loop = asyncio.get_running_loop()
            self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=listener)
        except BaseException:
            listener.close()
            raise

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def datagram_received(self, data: bytes, addr: object) -> None:
        query = parse(data)
        lease = self._lookup(query.mac) if query is not None else None
        if query is None or lease is None or self._transport is None:
            return
        if reply := answer(query, lease, self._around):
            self._transport.sendto(reply, ("255.255.255.255", CLIENT_PORT))

    def error_received(self, exc: Exception) -> None:
        _log.warning("an answer to a DHCP client could not be sent: %s", exc)
