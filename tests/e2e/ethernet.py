"""Raw Ethernet frames with VLAN tags, sent and seen at the end of a cable or in the place of a machine.

Source: packet(7); IEEE 802.1Q; RFC 826 (ARP).
"""

from __future__ import annotations

import ipaddress
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

_ALL, _IP, _ARP, _VLAN = 0x0003, 0x0800, 0x0806, 0x8100
_SOL_PACKET, _AUXDATA, _IGNORE_OUTGOING, _VLAN_VALID = 263, 8, 23, 0x10
_AUXDATA_FORMAT = "IIIHHHH"
_VIRTIO_HEADER = bytes(10)
_EVERYBODY = b"\xff" * 6
_LISTEN_SECONDS = 3.0

Seen = set[tuple[int, str]]
"""VLAN (0: no tag) and MAC of whoever sent."""


def who_has(mac: str, address: str, vlan: int = 0) -> bytes:
    """An ARP request for an IPv4 address, from an address of its /24."""
    wanted = ipaddress.IPv4Address(address)
    sender = (int(wanted) & 0xFFFFFF00) + 250
    body = struct.pack("!HHBBH6sI6sI", 1, _IP, 6, 4, 1, _octets(mac), sender, bytes(6), int(wanted))
    return _frame(mac, vlan, _ARP, body)


def datagram(mac: str, port: int, vlan: int = 0) -> bytes:
    """An empty UDP datagram to everybody; by its port a kernel chooses among queues that share the work."""
    header = struct.pack("!BBHHHBBHII", 0x45, 0, 28, 0, 0, 64, socket.IPPROTO_UDP, 0, 0, 0xFFFFFFFF)
    return _frame(mac, vlan, _IP, header + struct.pack("!HHHH", 40000 + port, 9, 8, 0))


def _frame(mac: str, vlan: int, kind: int, body: bytes) -> bytes:
    tag = struct.pack("!HH", _VLAN, vlan) if vlan else b""
    return (_EVERYBODY + _octets(mac) + tag + struct.pack("!H", kind) + body).ljust(60 + len(tag), b"\0")


def _octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _source(frame: bytes) -> str:
    return frame[6:12].hex(":")


class Wire:
    """The end of a cable that `interface` is."""

    def __init__(self, interface: str) -> None:
        self.mac = Path("/sys/class/net", interface, "address").read_text().strip()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
        self._socket.setsockopt(_SOL_PACKET, _AUXDATA, 1)
        self._socket.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        self._socket.bind((interface, _ALL))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def answers(self, request: bytes) -> Seen:
        """Who answers an ARP request that is sent now."""
        self.send(request)
        to_us, reply = _octets(self.mac), struct.pack("!H", _ARP)
        return {(vlan, _source(frame)) for vlan, frame in self._frames() if (frame[:6], frame[12:14]) == (to_us, reply)}

    def seen(self) -> Seen:
        """Who has sent something, or sends it within seconds."""
        return {(vlan, _source(frame)) for vlan, frame in self._frames()}

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        deadline = time.monotonic() + _LISTEN_SECONDS
        while select.select([self._socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
            frame, extra, _, _ = self._socket.recvmsg(65536, 256)
            yield self._vlan(extra), frame

    @staticmethod
    def _vlan(extra: list[tuple[int, int, bytes]]) -> int:
        """The kernel takes the tag out of the frame and puts it beside it."""
        for level, kind, data in extra:
            if (level, kind) == (_SOL_PACKET, _AUXDATA):
                status, _, _, _, _, tag, _ = struct.unpack_from(_AUXDATA_FORMAT, data)
                return tag & 0xFFF if status & _VLAN_VALID else 0
        return 0


class Card:
    """The guest's side of a macvtap, beside QEMU: it sends as the guest, and gets some of the frames for it."""

    def __init__(self, index: str) -> None:
        self._descriptor = os.open(f"/dev/tap{index}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    @classmethod
    def of(cls, mac: str) -> Self:
        """That of the machine with this MAC."""
        found = next(
            path.parent for path in Path("/sys/class/net").glob("vml*/address") if path.read_text() == f"{mac}\n"
        )
        return cls((found / "ifindex").read_text().strip())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def send(self, frame: bytes) -> None:
        os.write(self._descriptor, _VIRTIO_HEADER + frame)

    def seen(self) -> Seen:
        """Who has sent something that came here, or sends it within seconds."""
        found = set()
        deadline = time.monotonic() + _LISTEN_SECONDS
        while select.select([self._descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            frame = os.read(self._descriptor, 65536)[len(_VIRTIO_HEADER) :]
            kind, tag = struct.unpack_from("!HH", frame, 12)
            found.add((tag & 0xFFF if kind == _VLAN else 0, _source(frame)))
        return found
