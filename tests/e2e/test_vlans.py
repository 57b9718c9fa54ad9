"""Networks on VLANs of an interface, for real, as the other end of its cable sees them: where the kernel has VLANs.

Where the host's kernel has none (CONFIG_VLAN_8021Q), `make test-debian` runs this in a guest whose kernel has them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import PATIENCE, Cluster, eventually, kill, vm
from e2e.ethernet import Card, Wire, datagram, who_has
from e2e.test_networks import interface_of, ip, network, run

RED, BLUE, OTHER = 71, 72, 80
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.timeout(200 * PATIENCE),
]


class Trunk:
    """A cable: `near` is the node's interface, and whatever is sent to it is seen at `far`, with its tag."""

    def __init__(self) -> None:
        self.near, self.far = f"tr{os.getpid()}", f"tr{os.getpid()}p"
        ip(f"link add {self.near} type veth peer name {self.far}")
        for name in (self.near, self.far):
            Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
            Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").write_text("0")
            ip(f"link set {name} up")

    def vlan(self, number: int) -> str:
        return f"{self.near}.{number}"

    def make(self, number: int) -> bool:
        """An interface of the VLAN, as an administrator makes it. False where the kernel has none."""
        words = f"ip link add link {self.near} name {self.vlan(number)} type vlan id {number}"
        return subprocess.run(words.split(), capture_output=True, check=False).returncode == 0

    def details(self, number: int) -> dict[str, Any]:
        """What the kernel says of the VLAN's interface; nothing where there is none."""
        return next(iter(json.loads(run("ip", "-json", "-d", "link", "show", self.vlan(number), ok=False) or "[]")), {})

    def close(self) -> None:
        run("ip", "link", "delete", self.near, ok=False)  # and what is stacked on it


@pytest.fixture
def trunk() -> Iterator[Trunk]:
    made = Trunk()
    try:
        if not made.make(BLUE):
            pytest.skip("the kernel has no VLANs")
        ip(f"link delete {made.vlan(BLUE)}")
        yield made
    finally:
        made.close()


def on_vlan(trunk: Trunk, name: str, number: int, lifecycle: str) -> dict[str, Any]:
    tagged = {"l2NetworkConfig": {"vlanID": number}, "networkLifecycle": lifecycle}
    return network(name, trunk.near, externalDHCP4=True, **tagged)


def test_machines_on_vlans(runtime: Cluster, trunk: Trunk) -> None:
    """Machines without a guest: their cards are used from beside QEMU."""
    runtime.apply(on_vlan(trunk, "red", RED, "AnthosManaged"), on_vlan(trunk, "blue", BLUE, "UserManaged"))
    runtime.apply(network("plain", trunk.near, externalDHCP4=True))
    wait_until_ready(runtime, "red", "plain")
    check_the_interface_that_was_made(trunk)
    check_the_administrator_is_waited_for(runtime, trunk)
    for color in ("red", "blue", "plain"):
        runtime.apply(vm(color, interfaces=[{"name": "eth0", "networkName": color}]))
    macs = {color: interface_of(runtime, color)["macAddress"] for color in ("red", "blue", "plain")}
    with Wire(trunk.far) as wire:
        check_the_host_takes_no_part(runtime, wire, trunk)
        with Card.of(macs["red"]) as red, Card.of(macs["blue"]) as blue, Card.of(macs["plain"]) as plain:
            check_what_machines_send(wire, macs, {"red": red, "blue": blue, "plain": plain})
            check_what_machines_get(wire, red, blue, plain)
        check_a_machine_outlives_the_cluster(runtime, trunk, wire, macs["red"])
    check_what_goes_and_what_stays(runtime, trunk)


def wait_until_ready(runtime: Cluster, *names: str) -> None:
    for name in names:
        runtime.wait_for('.status.conditions[?(@.type=="Ready")].status', "True", "network", name)


def check_the_interface_that_was_made(trunk: Trunk) -> None:
    made = trunk.details(RED)
    assert (made["linkinfo"]["info_kind"], made["linkinfo"]["info_data"]["id"]) == ("vlan", RED)
    assert (made["link"], made["linkinfo"]["info_data"]["protocol"]) == (trunk.near, "802.1Q")
    assert "UP" in made["flags"]
    assert made["ifalias"].startswith("vmruntime-")
    assert trunk.details(BLUE) == {}


def check_the_administrator_is_waited_for(runtime: Cluster, trunk: Trunk) -> None:
    runtime.wait_for('.status.conditions[?(@.type=="Ready")].status', "False", "network", "blue")
    said = runtime.kubectl("get", "network", "blue", "-o", "wide").stdout
    assert f"no interface of VLAN {BLUE} on {trunk.near}, which is to be made by its administrator" in said
    assert trunk.make(BLUE)
    ip(f"link set {trunk.vlan(BLUE)} up")
    wait_until_ready(runtime, "blue")


def check_the_host_takes_no_part(runtime: Cluster, wire: Wire, trunk: Trunk) -> None:
    """For an address that it has elsewhere it answers on the cable, as Linux does, but not on the VLAN."""
    own = runtime.get("network", "pod-network")["spec"]["gateway4"]
    assert {vlan for vlan, _ in wire.answers(who_has(wire.mac, own))} == {0}
    assert wire.answers(who_has(wire.mac, own, vlan=RED)) == set()
    assert Path("/proc/sys/net/ipv6/conf", trunk.vlan(RED), "disable_ipv6").read_text() == "1\n"


def check_what_machines_send(wire: Wire, macs: dict[str, str], cards: dict[str, Card]) -> None:
    """Everything leaves with the tag of the machine's network, and with no tag of its own; no other machine gets it."""
    for color, card in cards.items():
        for port in range(32):
            for own_tag in (0, RED, BLUE, OTHER):
                card.send(datagram(macs[color], port, own_tag))
    sent = {(RED, macs["red"]), (BLUE, macs["blue"]), (0, macs["plain"])}
    assert {(vlan, mac) for vlan, mac in wire.seen() if mac in macs.values()} == sent
    for card in cards.values():
        assert not [mac for _, mac in card.seen() if mac in macs.values()]


def check_what_machines_get(wire: Wire, red: Card, blue: Card, plain: Card) -> None:
    """What is tagged for their network, without the tag, and nothing else."""
    senders = {vlan: f"02:00:00:00:00:{vlan:02x}" for vlan in (0, RED, BLUE, OTHER)}
    for vlan, mac in senders.items():
        for port in range(64):
            wire.send(datagram(mac, port, vlan))
    assert [red.seen(), blue.seen(), plain.seen()] == [{(0, senders[vlan])} for vlan in (RED, BLUE, 0)]


def check_a_machine_outlives_the_cluster(runtime: Cluster, trunk: Trunk, wire: Wire, mac: str) -> None:
    before, launches = trunk.details(RED)["ifindex"], runtime.get("gvm", "red")["status"]["launches"]
    for pid in (runtime.solo_pid(), runtime.manager_pid()):
        kill(pid)
    check_it_sends(wire, mac)
    runtime.bmctl("start", "cluster", "-c", runtime.name)
    runtime.kubectl("patch", "network", "red", "--type=merge", "-p", '{"spec":{"routes":[{"to":"10.50.0.0/16"}]}}')
    runtime.wait_for('.status.conditions[?(@.type=="Ready")].observedGeneration', "2", "network", "red")
    assert trunk.details(RED)["ifindex"] == before
    assert runtime.get("gvm", "red")["status"]["launches"] == launches
    check_it_sends(wire, mac)


def check_it_sends(wire: Wire, mac: str) -> None:
    with Card.of(mac) as card:
        card.send(datagram(mac, 0))
    assert (RED, mac) in wire.seen()


def check_what_goes_and_what_stays(runtime: Cluster, trunk: Trunk) -> None:
    runtime.bmctl("disable", "vmruntime", "--force=true", "--yes")
    assert trunk.details(RED) == {} and trunk.details(BLUE)
    runtime.bmctl("enable", "vmruntime")
    eventually(lambda: trunk.details(RED), 30, "it is made again")
    runtime.kubectl("delete", "network", "red", "blue", "plain")
    assert trunk.details(RED) == {} and trunk.details(BLUE)
