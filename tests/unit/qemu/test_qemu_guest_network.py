"""What guests are told of their cards, and how cards on Ethernets of the host are guarded."""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from vmruntime.engines.network import Interface, Segment
from vmruntime.engines.qemu import engine_network, host_tools, segments
from vmruntime.engines.qemu.guest_network import network_config

LAB = Segment("eth1", 100, managed=True)
POD = Interface("eth0", "pod-network", True, "52:54:00:00:00:01", ("10.144.0.9",), gateway="10.144.0.1")
STATIC = Interface(
    "eth1", "lab", False, "52:54:00:00:00:02", ("10.0.0.5/24",), segment=LAB, gateway="10.0.0.1",
    routes=("10.50.0.0/16",), nameservers=("10.0.0.2",), searches=("lab.example",),
)  # fmt: skip
DYNAMIC = Interface("eth2", "office", False, "52:54:00:00:00:03", segment=Segment("eth2"))


def told(*interfaces: Interface) -> dict:
    return yaml.safe_load(network_config(interfaces))["ethernets"]


def test_cards_that_ask_dhcp_need_not_be_told_anything():
    assert network_config((POD,)) is None
    assert network_config((DYNAMIC,)) is None


def test_a_static_card_asks_nobody_and_has_all_from_its_network():
    cards = told(POD, STATIC, DYNAMIC)
    assert cards["eth1"] == {
        "match": {"macaddress": "52:54:00:00:00:02"},
        "set-name": "eth1",
        "dhcp4": False,
        "addresses": ["10.0.0.5/24"],
        "routes": [{"to": "10.50.0.0/16", "via": "10.0.0.1"}],
        "nameservers": {"addresses": ["10.0.0.2"], "search": ["lab.example"]},
    }
    assert cards["eth0"]["dhcp4"] is True and "dhcp4-overrides" not in cards["eth0"]
    assert cards["eth2"]["dhcp4-overrides"] == {"use-routes": False, "use-dns": False}


def test_the_default_card_has_the_default_route():
    alone = Interface("eth0", "lab", True, "52:54:00:00:00:02", ("10.0.0.5",), segment=LAB, gateway="10.0.0.1")
    card = told(alone)["eth0"]
    assert card["addresses"] == ["10.0.0.5/32"]
    assert card["routes"] == [{"to": "0.0.0.0/0", "via": "10.0.0.1", "on-link": True}]


def test_names_that_mean_something_to_yaml_are_names():
    cards = told(POD, replace(STATIC, name="no", searches=("no", "1e3")))
    assert list(cards) == ["eth0", "no"]
    assert cards["no"]["set-name"] == "no"
    assert cards["no"]["nameservers"]["search"] == ["no", "1e3"]


def test_devices_are_open_before_qemu_runs_and_no_process_stays_between(tmp_path):
    file = tmp_path / "tap7"
    file.write_text("")
    assert engine_network.command(["qemu", "-x"], {}) == ["qemu", "-x"]
    words = engine_network.command(["/bin/sh", "-c", "echo $$; echo through >&4", "-x"], {4: file})
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        printed, _ = process.communicate(timeout=40)
    assert (int(printed), file.read_text()) == (process.pid, "through\n")


@pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed")
@pytest.mark.parametrize("addresses", [(), ("10.0.0.5/24", "10.0.0.6")])
def test_nft_understands_the_rules_of_a_card(addresses):
    text = segments.rules(segments.Card("lo", "52:54:00:00:00:02", addresses), "t")
    assert ("10.0.0.6" in text) is bool(addresses)
    assert "drop" in nft(text, "list ruleset\n")


@pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed")
async def test_the_rules_of_a_card_go_with_it_and_need_not_be_there(monkeypatch):
    scripts = []

    async def noted(script: str) -> None:
        scripts.append(script)

    monkeypatch.setattr(host_tools, "nft", noted)
    await segments.detach("vml0", "t")
    made = segments.rules(segments.Card("lo", "52:54:00:00:00:02"), "t").replace("chain lo", "chain vml0")
    assert "vml0_in" in made
    assert nft(*scripts, made, *scripts, "list ruleset\n").split() == ["table", "netdev", "t", "{", "}"]


def nft(*scripts: str) -> str:
    """What the last one prints, of scripts that are run one after the other in a namespace of their own."""
    words = "".join(f"nft -f - <<'END'\n{script}END\n" for script in scripts)
    done = subprocess.run(["unshare", "-Urn", "sh", "-ec", words], capture_output=True, text=True, timeout=40)
    if "unshare" in done.stderr:
        pytest.skip("user namespaces are not allowed here")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_private_segment_is_a_group_of_its_own():
    segment = Segment("lo")
    assert segments.is_private(segment) and not segments.is_private(LAB)
    groups = {segments.group(Segment("lo", vlan), identity) for vlan in (0, 7) for identity in ("aaaaa", "bbbbb")}
    assert len(groups) == 4
    for group in groups:
        address, _, port = group.partition(":")
        assert ipaddress.IPv4Address(address).is_multicast and 20000 <= int(port) < 40000


def test_an_untagged_segment_is_the_interface_itself_and_nobody_has_marked_loopback():
    assert segments.parent(Segment("eth2")) == "eth2"
    assert Path("/sys/class/net/lo").exists() and "lo" not in segments.made_by("ab123")
