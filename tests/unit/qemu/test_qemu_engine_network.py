"""What a machine's cards are given where the cluster has no rights on the host."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import replace

import pytest

from vmruntime.engines.common import Readiness, Ref, Settings
from vmruntime.engines.machine import MachineRequest
from vmruntime.engines.network import Interface, Segment
from vmruntime.engines.qemu import host_tools, namespace, segments
from vmruntime.engines.qemu.engine_network import Network
from vmruntime.engines.qemu.network_state import NetworkState


class NoGateway:
    """A gateway that is never needed."""

    async def ensure(self) -> None:
        raise AssertionError("a gateway is started")

    async def remove(self) -> None:
        pass


@pytest.fixture
def humble(tmp_path, monkeypatch):
    monkeypatch.setattr(host_tools, "why_no_rights", lambda: "the cluster does not run as root")
    monkeypatch.setattr(namespace, "why_not", lambda: "pasta is not installed (package passt)")
    return Network(tmp_path, None, NoGateway())


@pytest.fixture
def namespaced(humble):
    """As it is when the gateway is up."""
    humble._bridge.state = NetworkState("abcde", ipaddress.IPv4Network("10.144.0.0/29"))
    return humble


def request(name: str, *interfaces: Interface, **more) -> MachineRequest:
    cards = interfaces or (Interface("eth0", "pod-network", True),)
    return MachineRequest(Ref("default", name, f"uid-{name}"), 1, 1, 1 << 20, (), cards, Settings(True, "raw"), **more)


def test_addresses_differ_between_machines_and_stay_with_each(humble):
    (first,) = humble.assign(request("a"), {})
    assert first.addresses[0].startswith("127.") and not first.device
    (second,) = humble.assign(request("b", addresses_taken=frozenset(first.addresses)), {})
    assert second.addresses != first.addresses and second.mac != first.mac
    assert humble.assign(request("a", first), {})[0].addresses == first.addresses
    # Made anew, it has another uid and the same name.
    again = replace(request("a"), ref=Ref("default", "a", "another"))
    humble.forget(Ref("default", "a", "uid-a"))
    (anew,) = humble.assign(again, {})
    assert (anew.mac, anew.addresses) == (first.mac, first.addresses)


def test_an_address_of_a_bridge_that_is_gone_is_not_kept(humble):
    before = Interface("eth0", "pod-network", True, "52:54:00:00:00:01", ("10.144.0.9",))
    (entry,) = humble.assign(request("a", before), {})
    assert entry.addresses[0].startswith("127.") and entry.mac == before.mac


def test_further_ports_are_forwarded_too(humble):
    (entry,) = humble.assign(request("a", forwarded_ports=(8099, 65500)), {})
    assert {8080, 8099, 65500} <= {port.guest for port in entry.ports}


async def test_without_rights_only_private_segments_can_be_had(humble):
    assert (await humble.up("", {})).ready
    restriction = humble.describe().restriction
    assert "does not run as root, and pasta is not installed (package passt)" in restriction
    refused = await humble.ensure_segment(Segment("eth1"))
    assert not refused.ready and "does not run as root" in refused.message
    assert (await humble.ensure_segment(Segment("lo"))).ready
    (entry,) = humble.assign(request("a", Interface("eth0", "hidden", segment=Segment("lo"))), {})
    assert entry.device.startswith("239.") and entry.ports == ()
    assert await humble.attach(Ref("default", "a", "uid-a"), (entry,), ["qemu"]) == ["qemu"]
    await humble.detach(Ref("default", "a", "uid-a"))
    await humble.down()


async def test_nothing_is_made_after_or_while_all_of_it_is_taken_away(humble, monkeypatch):
    """A controller that began a pass before a disable may get to it after the disable."""
    begun, finish, done = asyncio.Event(), asyncio.Event(), []

    async def ensure(segment: Segment, identity: str) -> Readiness:
        begun.set()
        await finish.wait()
        done.append("made")
        return Readiness(True)

    async def down() -> None:
        done.append("removed")

    assert (await humble.up("", {})).ready
    monkeypatch.setattr(host_tools, "why_no_rights", lambda: "")
    monkeypatch.setattr(segments, "ensure", ensure)
    monkeypatch.setattr(humble._bridge, "down", down)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        making = group.create_task(humble.ensure_segment(Segment("eth1", 100, managed=True)))
        await begun.wait()
        group.create_task(humble.down())
        late = group.create_task(humble.ensure_segment(Segment("eth1", 100, managed=True)))
        await asyncio.sleep(0)
        finish.set()
    assert making.result().ready and not late.result().ready
    assert done == ["made", "removed"]


def test_in_a_namespace_a_machine_has_an_address_there_and_one_on_the_host(namespaced):
    (first,) = namespaced.assign(request("a"), {})
    on_host, own = first.addresses
    assert on_host.startswith("127.") and own.startswith("10.144.0.")
    assert first.device.startswith("vmtabcde") and first.gateway == "10.144.0.1"
    assert 22 in {port.guest for port in first.ports}
    assert namespaced.assign(request("a", first), {})[0].addresses == first.addresses
    others = {namespaced.assign(request(name), {})[0].addresses[1] for name in "bcd"}
    assert len({own, *others}) == 4


@pytest.mark.parametrize("former", [("127.64.0.9",), ("10.144.0.5",), ("127.64.0.9", "10.144.0.5")])
def test_of_the_addresses_of_another_form_what_fits_is_kept(namespaced, former):
    (entry,) = namespaced.assign(request("a", Interface("eth0", "pod-network", True, addresses=former)), {})
    assert len(entry.addresses) == 2 and set(former) <= set(entry.addresses)
    namespaced._bridge.state = None
    (fallen,) = namespaced.assign(request("a", entry), {})
    assert fallen.addresses == entry.addresses[:1] and not fallen.device


async def test_where_machines_are_in_a_namespace_nobody_asks_whether_there_can_be_one(humble, monkeypatch):
    """The answer may be no for a moment, and they would be without their gateway until somebody asked again."""
    asked = []

    async def up(wanted: str, ports: dict) -> None:
        asked.append(sorted(ports))

    monkeypatch.setattr(humble._bridge, "up", up)
    entry = Interface("eth0", "pod-network", addresses=("127.64.0.9", "10.144.0.5"), device="vmtabcde0000001")
    assert (await humble.up("", {})).ready and asked == []
    assert (await humble.up("", {Ref("default", "a", "uid-a"): (entry,)})).ready
    assert asked == [["vmtabcde0000001"]]
    await humble.close()
