import ipaddress
import socket

import pytest

from vmruntime.engines.qemu import network


def test_mac_addresses_are_stable_local_and_differ_by_card():
    first = network.mac_address("uid-1")
    assert first == network.mac_address("uid-1", 0)
    assert first.startswith("52:54:00:") and len(first) == 17
    assert len({first, network.mac_address("uid-1", 1), network.mac_address("uid-2")}) == 3


def test_addresses_are_stable_and_avoid_those_taken():
    first = network.allocate_address(set(), "uid-1")
    assert first == network.allocate_address({"127.64.0.9"}, "uid-1")
    second = network.allocate_address({first}, "uid-1")
    assert second != first
    for address in (first, second):
        assert ipaddress.ip_address(address) in network.ADDRESS_SPACE


def test_addresses_never_end_in_0_or_255():
    taken: set[str] = set()
    for _ in range(600):
        taken.add(network.allocate_address(taken, "one seed"))
    assert len(taken) == 600
    assert not {address.rsplit(".", 1)[1] for address in taken} & {"0", "255"}


def test_a_full_space_is_an_error(monkeypatch):
    monkeypatch.setattr(network, "ADDRESS_SPACE", ipaddress.IPv4Network("127.64.0.0/30"))
    taken = {"127.64.0.1", "127.64.0.2", "127.64.0.3"}
    with pytest.raises(ValueError, match="no address"):
        network.allocate_address(taken, "x")


def test_ports_keep_their_numbers_where_they_may_be_bound():
    assert network.forwards(1, (22, 80, 8080)) == ((22, 22), (80, 80), (8080, 8080))
    assert network.forwards(1024, (22, 80, 8080)) == ((10022, 22), (10080, 80), (8080, 8080))


def test_a_moved_port_never_takes_the_number_of_another():
    assert network.forwards(1024, (22, 10022)) == ((10022, 10022),)
    hosts = [host for host, _ in network.forwards(1024)]
    assert len(hosts) == len(set(hosts)) == len(network.FORWARDED_PORTS)


def test_busy_ports_are_found_on_the_address_and_on_all_addresses():
    with socket.create_server(("127.64.3.3", 0)) as one, socket.create_server(("0.0.0.0", 0)) as everywhere:
        ports = [one.getsockname()[1], everywhere.getsockname()[1]]
        assert network.busy_ports("127.64.3.3", ports) == ports
        assert network.busy_ports("127.64.3.4", ports) == ports[1:]
    assert network.busy_ports("127.64.3.3", ports) == []


def test_the_capability_makes_every_port_bindable():
    assert network.first_bindable_port(net_bind_service=True) == 1
    assert network.first_bindable_port(net_bind_service=False) >= 0
