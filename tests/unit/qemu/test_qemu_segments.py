"""VLAN interfaces of the node: made and removed where that is the cluster's to do, and left alone otherwise."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import subprocess

import pytest

from vmruntime.engines.network import Segment
from vmruntime.engines.qemu import host_tools, segments
from vmruntime.engines.qemu.host_tools import ToolError

MANAGED, OTHERS = Segment("eth1", 100, managed=True), Segment("eth1", 100)
UP, DOWN = "0x1003\n", "0x1002\n"
HEADER = "VLAN Dev name    | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\n"


class Host:
    """A host's interfaces, as far as these functions look at them, and what was done to them."""

    def __init__(self, tmp_path, monkeypatch) -> None:
        self.net, self.vlans = tmp_path / "net", tmp_path / "config"
        self.net.mkdir()
        self.commands: list[str] = []
        self.settings: dict[str, str] = {}
        self.refuses = ""
        monkeypatch.setattr(segments, "_NET", self.net)
        monkeypatch.setattr(segments, "_VLANS", self.vlans)
        monkeypatch.setattr(host_tools, "interfaces", self.interfaces)
        monkeypatch.setattr(host_tools, "ip", self.ip)
        monkeypatch.setattr(host_tools, "set_sysctl", self.settings.__setitem__)
        monkeypatch.setattr(host_tools, "host_lock", contextlib.nullcontext)
        self.add("eth1")

    def add(self, name: str, alias: str = "", flags: str = UP) -> None:
        (self.net / name).mkdir()
        (self.net / name / "ifalias").write_text(alias)
        (self.net / name / "flags").write_text(flags)

    def add_vlan(self, name: str, number: int, interface: str, alias: str = "", flags: str = UP) -> None:
        self.add(name, alias, flags)
        before = self.vlans.read_text() if self.vlans.exists() else HEADER
        self.vlans.write_text(f"{before}{name:<15}| {number}  | {interface}\n")

    def interfaces(self, prefix: str = "") -> list[str]:
        return sorted(path.name for path in self.net.iterdir() if path.name.startswith(prefix))

    async def ip(self, *lines: str, force: bool = False) -> None:
        self.commands += lines
        if self.refuses and any(self.refuses in line for line in lines) and not force:
            raise ToolError(f"no {self.refuses}")


@pytest.fixture
def host(tmp_path, monkeypatch):
    return Host(tmp_path, monkeypatch)


async def test_a_managed_vlan_gets_its_name_together_with_our_mark(host):
    assert (await segments.ensure(MANAGED, "ab123")).ready
    assert host.commands == [
        "link delete vmvab123",
        "link add link eth1 name vmvab123 type vlan id 100",
        "link set dev vmvab123 name eth1.100 alias vmruntime-ab123 up",
    ]
    assert host.settings == {
        "net/ipv4/conf/vmvab123/rp_filter": "1",
        "net/ipv6/conf/vmvab123/disable_ipv6": "1",
    }


async def test_what_a_kill_has_left_is_neither_used_nor_kept(host):
    host.add_vlan("vmvab123", 100, "eth1")
    host.add_vlan("vmvcd456", 100, "eth1")
    assert segments.parent(MANAGED) == ""
    assert segments.made_by("ab123") == ["vmvab123"]
    host.add_vlan("vmvlan100", 100, "eth1")
    assert segments.parent(MANAGED) == "vmvlan100"


async def test_a_vlan_that_could_not_be_finished_is_taken_away_at_once(host):
    host.refuses = "name eth1.100"
    with pytest.raises(ToolError):
        await segments.ensure(MANAGED, "ab123")
    assert host.commands[-1] == "link delete vmvab123"


@pytest.mark.parametrize(
    ("interface", "name"),
    [("eth1", "eth1.100"), ("enp0s31f6np", "enp0s31f6np.100"), ("enp129s0f0np0", "vm5c0f63.100")],
)
def test_a_name_fits_into_what_the_kernel_has_room_for(interface, name):
    assert segments.vlan_name(Segment(interface, 100, managed=True)) == name


async def test_what_an_administrator_has_to_make_is_waited_for(host):
    refused = await segments.ensure(OTHERS, "ab123")
    assert not refused.ready and "no interface of VLAN 100 on eth1" in refused.message
    host.add("eth1.100")
    assert not (await segments.ensure(OTHERS, "ab123")).ready, "something else of this name"
    host.add_vlan("elsewhere", 100, "eth2")
    host.add_vlan("another", 10, "eth1")
    assert not (await segments.ensure(OTHERS, "ab123")).ready
    host.add_vlan("lab", 100, "eth1")
    assert (await segments.ensure(OTHERS, "ab123")).ready
    assert segments.parent(OTHERS) == "lab"
    missing = await segments.ensure(Segment("eth2"), "ab123")
    assert not missing.ready and "no network interface eth2" in missing.message
    assert host.commands == []


@pytest.mark.parametrize(("alias", "commands"), [("", []), ("vmruntime-ab123", ["link set dev eth1.100 up"])])
async def test_an_interface_that_is_down_is_ready_where_we_may_change_that(host, alias, commands):
    host.add_vlan("eth1.100", 100, "eth1", alias, DOWN)
    readiness = await segments.ensure(MANAGED, "ab123")
    assert readiness.ready == bool(commands)
    assert host.commands == commands
    (host.net / "eth1" / "flags").write_text(DOWN)
    refused = await segments.ensure(MANAGED, "ab123")
    assert (refused.ready, refused.message) == (False, "the node's network interface eth1 is down")


@pytest.mark.parametrize(("alias", "removed"), [("vmruntime-ab123", True), ("vmruntime-cd456", False), ("", False)])
async def test_only_what_the_cluster_made_is_removed(host, alias, removed):
    host.add_vlan("eth1.100", 100, "eth1", alias)
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
