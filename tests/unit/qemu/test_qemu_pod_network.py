"""The pod network's subnet, addresses and rules."""

import ipaddress
import shutil
import subprocess

import pytest

from vmruntime.engines.qemu import host_tools, network_state, pod_network
from vmruntime.engines.qemu.network_state import NetworkState
from vmruntime.engines.qemu.pod_network import Port

SUBNET = ipaddress.IPv4Network("10.144.0.0/22")
STATE = NetworkState("ab123", SUBNET)
PORT = Port("vmtab1230000001", "52:54:00:00:00:01", "10.144.0.7", "web")


def test_the_subnet_is_the_first_that_no_route_touches():
    assert pod_network.choose_subnet(["default", "0.0.0.0/0", "192.168.1.0/24"]) == SUBNET
    assert str(pod_network.choose_subnet(["10.144.0.0/22", "10.144.7.9"])) == "10.144.8.0/22"


def test_a_wanted_subnet_is_taken_or_refused_with_a_reason():
    assert str(pod_network.choose_subnet(["10.144.0.0/22"], "10.0.2.0/24")) == "10.0.2.0/24"
    for wanted, routes, words in [
        ("10.0.2.0/24", ["10.0.0.0/16"], "collides with the host's route to 10.0.0.0/16"),
        ("10.0.2.1/24", [], "no IPv4 subnet"),
        ("10.0.2.0/30", [], "too small"),
        ("8.8.8.0/24", [], "private"),
        ("127.0.0.0/8", [], "private"),
    ]:
        with pytest.raises(ValueError, match=words):
            pod_network.choose_subnet(routes, wanted)
    with pytest.raises(ValueError, match="say which"):
        pod_network.choose_subnet([str(pod_network.POOL)])


def test_an_address_follows_from_its_seed_and_is_never_given_twice():
    first = pod_network.allocate(SUBNET, set(), "default/web/eth0")
    assert first == pod_network.allocate(SUBNET, {"10.144.9.9"}, "default/web/eth0")
    tiny = ipaddress.IPv4Network("10.144.0.0/29")
    given: set[str] = set()
    for number in range(5):
        given.add(pod_network.allocate(tiny, given, str(number)))
    assert given == {f"10.144.0.{number}" for number in range(2, 7)}
    with pytest.raises(ValueError, match="free"):
        pod_network.allocate(tiny, given, "one more")


def test_only_addresses_of_guests_count_as_such():
    inside = [pod_network.contains(SUBNET, text) for text in ("10.144.0.2", "10.144.3.254")]
    outside = [pod_network.contains(SUBNET, text) for text in ("10.144.0.1", "10.144.3.255", "127.64.0.1", "")]
    assert inside == [True, True] and outside == [False] * 4


def test_names_of_taps_fit_the_kernel_and_differ():
    names = {pod_network.tap_name(STATE.tap_prefix, uid, index) for uid in "ab" for index in (0, 1)}
    assert len(names) == 4
    assert all(len(name) == 15 and name.startswith("vmtab123") for name in names)


@pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed")
def test_nft_understands_every_script():
    free = Port("vmtab1230000002", "52:54:00:00:00:02", "10.144.0.8", any_mac=True, any_address=True)
    scripts = pod_network.rules(STATE, [PORT, free]) + pod_network.port_rules(STATE, PORT)
    scripts += pod_network.no_port_rules(STATE, free) + pod_network.forwarding_guard() + pod_network.removal(STATE)
    command = ["unshare", "-Urn", "nft", "--check", "-f", "-"]
    done = subprocess.run(command, input=scripts, capture_output=True, text=True, timeout=40)
    if "unshare" in done.stderr:
        pytest.skip("user namespaces are not allowed here")
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_kept_survives_and_damage_does_not(tmp_path):
    assert network_state.load(tmp_path) is None
    made = network_state.load_or_make(tmp_path)
    assert network_state.load_or_make(tmp_path) == made
    assert len(made.bridge) < 16 and made.subnet is None
    network_state.save(tmp_path, STATE)
    assert network_state.load(tmp_path) == STATE
    assert (tmp_path / "network.json").stat().st_mode & 0o777 == 0o600
    for damage in ("", "[]", '{"id": "../x"}', '{"id": "ab123", "subnet": "x"}'):
        (tmp_path / "network.json").write_text(damage)
        assert network_state.load(tmp_path) is None


def test_name_servers_that_a_guest_could_not_ask_are_left_out(tmp_path):
    first, second = tmp_path / "resolv.conf", tmp_path / "real.conf"
    first.write_text("nameserver 127.0.0.53\nnameserver 0.0.0.0\nnameserver fe80::1%eth0\nnameserver\n")
    second.write_text("search x\nnameserver not-an-address\nnameserver 10.1.1.1\nnameserver ::1\nnameserver 10.1.1.2\n")
    assert host_tools.nameservers([str(first)]) == ()
    assert host_tools.nameservers([str(tmp_path / "none"), str(first), str(second)]) == ("10.1.1.1", "10.1.1.2")
