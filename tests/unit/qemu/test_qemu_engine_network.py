"""What a machine's cards are given where the cluster has no rights on the host."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vmruntime.engines.common import Ref, Settings
from vmruntime.engines.machine import MachineRequest
from vmruntime.engines.network import Interface, Segment
from vmruntime.engines.qemu import host_tools
from vmruntime.engines.qemu.engine_network import Network


@pytest.fixture
def humble(tmp_path, monkeypatch):
    monkeypatch.setattr(host_tools, "why_no_rights", lambda: "the cluster does not run as root")
    return Network(tmp_path, None)


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
    assert "does not run as root" in humble.describe().restriction
    refused = await humble.ensure_segment(Segment("eth1"))
    assert not refused.ready and "does not run as root" in refused.message
    assert (await humble.ensure_segment(Segment("lo"))).ready
    (entry,) = humble.assign(request("a", Interface("eth0", "hidden", segment=Segment("lo"))), {})
    assert entry.device.startswith("239.") and entry.ports == ()
    assert await humble.attach(Ref("default", "a", "uid-a"), (entry,)) == {}
    await humble.detach(Ref("default", "a", "uid-a"))
    await humble.down()
