"""VLAN interfaces of the node: made and removed where that is the cluster's to do, and left alone otherwise."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess

import pytest

from vmruntime.engines.network import Segment
from vmruntime.engines.qemu import host_tools, segments

MANAGED, OTHERS = Segment("eth1", 100, managed=True), Segment("eth1", 100)


class Host:
    """A host's interfaces, as far as these functions look at them, and the commands that it was given."""

    def __init__(self, tmp_path, *interfaces: str) -> None:
        self.net = tmp_path
        self.commands: list[str] = []
        for name in interfaces:
            self.add(name)

    def add(self, name: str, alias: str = "") -> None:
        (self.net / name).mkdir()
        (self.net / name / "ifalias").write_text(alias)

    async def ip(self, *lines: str, force: bool = False) -> None:
        self.commands += lines


@pytest.fixture
def host(tmp_path, monkeypatch):
    made = Host(tmp_path, "eth1")
    monkeypatch.setattr(segments, "_NET", tmp_path)
    monkeypatch.setattr(host_tools, "interface_exists", lambda name: (tmp_path / name).exists())
    monkeypatch.setattr(host_tools, "ip", made.ip)
    return made


async def test_a_managed_vlan_is_made_and_marked_as_ours(host):
    assert (await segments.ensure(MANAGED, "ab123")).ready
    assert host.commands == [
        "link add link eth1 name eth1.100 type vlan id 100",
        "link set dev eth1.100 alias vmruntime-ab123",
        "link set dev eth1.100 addrgenmode none up",
    ]


async def test_what_an_administrator_has_to_make_is_waited_for(host):
    refused = await segments.ensure(OTHERS, "ab123")
    assert not refused.ready and "no network interface eth1.100" in refused.message
    host.add("eth1.100")
    assert (await segments.ensure(OTHERS, "ab123")).ready
    missing = await segments.ensure(Segment("eth2"), "ab123")
    assert not missing.ready and "no network interface eth2" in missing.message
    assert host.commands == []


@pytest.mark.parametrize(("alias", "removed"), [("vmruntime-ab123", True), ("vmruntime-cd456", False), ("", False)])
async def test_only_what_the_cluster_made_is_removed(host, alias, removed):
    host.add("eth1.100", alias)
    await segments.remove(MANAGED, "ab123")
    await segments.remove(Segment("eth1"), "ab123")
    assert host.commands == (["link delete eth1.100"] if removed else [])


@pytest.fixture
def lan(tmp_path):
    """An Ethernet of this host: the end that a card is on, and a socket that hears what arrives at the other."""
    name = f"t{os.getpid() % 100_000}"
    made = subprocess.run(
        ["ip", "link", "add", f"{name}a", "up", "type", "veth", "peer", "name", f"{name}b"],
        capture_output=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip("no Ethernet can be made here")
    try:
        subprocess.run(["ip", "link", "set", f"{name}b", "up", "promisc", "on"], check=True)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as listener:  # ETH_P_ALL
            listener.bind((f"{name}b", 0))
            listener.settimeout(20)
            yield f"{name}a", listener
    finally:
        subprocess.run(["ip", "link", "delete", f"{name}a"], check=True)
        subprocess.run(["nft", f"table netdev {name}; delete table netdev {name}"], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_a_card_sends_no_tags_of_its_own(lan):
    """Behind one it would be in every VLAN of the interface, from any address."""
    interface, listener = lan
    card = segments.Card(f"{interface}c", "52:54:00:00:00:02", ("10.0.0.5/24",))
    device = await segments.attach(Segment(interface), card, interface[:-1], os.geteuid())
    mac, packet = bytes.fromhex("525400000002"), bytes.fromhex("4500001c00000000401100000a0000050a000001")
    tap = os.open(device, os.O_RDWR)
    try:
        fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", b"", 0x1002))  # TUNSETIFF: IFF_TAP, IFF_NO_PI
        for kind, text in (("8100 0064 0800", b"tagged.."), ("88a8 0064 0800", b"tagged.."), ("0800", b"untagged")):
            os.write(tap, b"\xff" * 6 + mac + bytes.fromhex(kind) + packet + text)
        while packet not in (heard := listener.recv(2048)):  # the host's own IPv6 is heard, too
            pass
    finally:
        os.close(tap)
    assert heard.endswith(b"untagged")
