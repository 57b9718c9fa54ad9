"""Networks, for real: guests, bridges and rules of the host, and namespaces that stand for the world around it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import Cluster, disk, eventually, vm
from e2e.services import endpoint, forwarded, service

TOOLS = ("ip", "nft", "dnsmasq", "curl", "setpriv")
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or any(shutil.which(tool) is None for tool in TOOLS),
    reason=f"needs root and the programs {', '.join(TOOLS)}",
)

WORLD = "10.99.71.2"
LAB = "10.98.71"
OFFICE = "10.97.71"
HIDDEN = "10.96.71"
# Once the guest is on its network it also tries to be somebody else there.
FALSE_NAME = """until ip route | grep -q '^default.*eth0'; do sleep 1; done
ip addr add 10.144.0.250/32 dev eth0
ping -c 5 -W 2 {0} && echo OWN-NAME-WORKS > /dev/ttyS0
ping -c 1 -W 2 -I 10.144.0.250 {0} && echo FALSE-NAME-WORKS > /dev/ttyS0
echo FALSE-NAME-TRIED > /dev/ttyS0"""


def run(*command: str, ok: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert not ok or done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def ip(words: str) -> str:
    return run("ip", *words.split())


class Around:
    """A namespace with two cables to the host: one Ethernet for machines (`lan`), and the world outside (`wan`)."""

    def __init__(self, directory: Path) -> None:
        self.name, self.lan, self.wan = f"vmtest{os.getpid()}", f"lan{os.getpid()}", f"wan{os.getpid()}"
        self.directory = directory
        self.processes: list[subprocess.Popen[bytes]] = []
        # A kernel without VLANs (CONFIG_VLAN_8021Q) still has the network, untagged.
        ip(f"link add {self.lan} type veth peer name {self.lan}p")
        self.vlan = subprocess.run(
            ["ip", "link", "add", "link", f"{self.lan}p", "name", "tagged", "type", "vlan", "id", "71"],
            capture_output=True,
        ).returncode == 0  # fmt: skip
        ip(f"netns add {self.name}")
        ip(f"link set {self.lan}p netns {self.name}")
        if self.vlan:
            ip(f"link set tagged netns {self.name}")
        ip(f"link add {self.wan} type veth peer name {self.wan}p netns {self.name}")
        lab = "tagged" if self.vlan else f"{self.lan}p"
        for words in (f"link set {self.lan}p up", f"link set {lab} up", f"link set {self.wan}p up",
                      f"addr add {LAB}.1/24 dev {lab}", f"addr add {OFFICE}.1/24 dev {self.lan}p",
                      f"addr add {WORLD}/24 dev {self.wan}p"):  # fmt: skip
            ip(f"-n {self.name} {words}")
        ip(f"addr add 10.99.71.1/24 dev {self.wan}")
        ip(f"link set {self.lan} up")
        ip(f"link set {self.wan} up")
        (directory / "index.html").write_text("the world\n")
        self.start("python3", "-m", "http.server", "8080", "--directory", str(directory))
        self.start(
            "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--bind-interfaces",
            f"--interface={self.lan}p", f"--dhcp-range={OFFICE}.50,{OFFICE}.59,1h", "--dhcp-option=3",
            f"--dhcp-leasefile={directory}/leases", f"--pid-file={directory}/pid",
        )  # fmt: skip

    def start(self, *command: str) -> None:
        inside = ["ip", "netns", "exec", self.name, *command]
        self.processes.append(subprocess.Popen(inside, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def curl(self, url: str) -> str:
        return run("ip", "netns", "exec", self.name, "curl", "-s", "--max-time", "3", url, ok=False)

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
            process.wait(10)
        run("ip", "netns", "delete", self.name, ok=False)
        for name in (self.lan, self.wan):
            run("ip", "link", "delete", name, ok=False)


@pytest.fixture
def around(tmp_path: Path) -> Iterator[Around]:
    made = Around(tmp_path)
    try:
        yield made
    finally:
        made.close()


def network(name: str, interface: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.gke.io/v1",
        "kind": "Network",
        "metadata": {"name": name},
        "spec": {"type": "L2", "nodeInterfaceMatcher": {"interfaceName": interface}, **spec},
    }


def lab(around: Around) -> dict[str, Any]:
    """A network without DHCP: guests are told their addresses. On a VLAN, where the kernel has any."""
    tagged = {"l2NetworkConfig": {"vlanID": 71}, "networkLifecycle": "AnthosManaged"} if around.vlan else {}
    return network(
        "lab", around.lan, gateway4=f"{LAB}.1", dnsConfig={"nameservers": [f"{LAB}.1"]},
        routes=[{"to": "10.50.0.0/16"}], **tagged,
    )  # fmt: skip


def guest_vm(cluster: Cluster, name: str, script: str, **spec: Any) -> list[dict[str, Any]]:
    text = base64.b64encode(f"#!/bin/sh\n{script}\n".encode()).decode()
    machine = vm(name, [f"{name}-disk"], cloudInit={"noCloud": {"userDataBase64": text}}, **spec)
    machine["spec"]["compute"]["memory"]["capacity"] = "128Mi"
    url = f"file://{cluster.directory}/images/tiny.qcow2"
    return [disk(f"{name}-disk", "64Mi", source={"file": {"url": url}}), machine]


def interface_of(cluster: Cluster, name: str, index: int = 0) -> dict[str, Any]:
    cluster.wait_for(".status.state", "Running", "gvm", name)
    return cluster.get("gvm", name)["status"]["interfaces"][index]


def console(cluster: Cluster, name: str) -> str:
    pod = cluster.get("gvm", name)["status"].get("podName", "")
    return cluster.kubectl("logs", pod, ok=False).stdout if pod else ""


def await_console(cluster: Cluster, name: str, text: str, timeout: float = 30) -> None:
    """Until a guest's console has `text`; a failure shows what it has instead."""
    try:
        eventually(lambda: text in console(cluster, name), timeout, f"{text} on the console of {name}")
    except AssertionError as failure:
        raise AssertionError(f"{failure}:\n{console(cluster, name)[-3000:]}") from None


def fetched(url: str) -> str:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=3) as response:
        return response.read().decode()
    return ""


def traces(cluster: Cluster) -> list[str]:
    """What the host has of the cluster's network."""
    identity = json.loads((cluster.directory / "vm" / "network.json").read_text())["id"]
    links = [link["ifname"] for link in json.loads(run("ip", "-json", "link"))]
    lines = [*links, *run("nft", "list", "tables").splitlines(), *run("ip", "link").splitlines()]
    return [line for line in lines if identity in line]


def test_guests_on_their_networks(runtime: Cluster, guest: Path, around: Around) -> None:
    """Two guests, as booting is what takes time: one serves, on two networks; the other asks around, on two as well."""
    shutil.copyfile(guest / "tiny.qcow2", runtime.directory / "images" / "tiny.qcow2")
    runtime.apply(lab(around), network("office", around.lan, externalDHCP4=True))
    runtime.apply(network("hidden", "lo", externalDHCP4=True))
    runtime.wait_for('.status.conditions[?(@.type=="Ready")].status', "True", "network", "lab")
    cards = [
        {"name": "eth0", "default": True},
        {"name": "eth1", "networkName": "lab", "ipAddresses": [f"{LAB}.7/24"]},
        {"name": "eth2", "networkName": "hidden", "ipAddresses": [f"{HIDDEN}.7/24"]},
    ]
    runtime.apply(*guest_vm(runtime, "web", "httpd -p 80 -h /www; httpd -p 4321 -h /www", interfaces=cards))
    address = interface_of(runtime, "web")["ipAddresses"][0]
    ask = "until wget -qO- {} > /dev/null; do sleep 1; done; echo GOT-{} > /dev/ttyS0"
    script = f"({ask.format(f'http://{address}:4321/', 'NEIGHBOUR')}) &\n"
    script += f"({ask.format(f'http://{WORLD}:8080/', 'WORLD')}) &\n"
    script += f"({ask.format(f'http://{HIDDEN}.7/', 'HIDDEN')}) &\n"
    script += f"({FALSE_NAME.format(address)}) &"
    cards[1:] = [
        {"name": "eth1", "networkName": "office"},
        {"name": "eth2", "networkName": "hidden", "ipAddresses": [f"{HIDDEN}.8/24"]},
    ]
    runtime.apply(*guest_vm(runtime, "asker", script, interfaces=cards))

    for port in (80, 4321):
        text = eventually(lambda port=port: fetched(f"http://{address}:{port}/"), 60, f"port {port} of the guest")
        assert "host=web" in text
    await_console(runtime, "asker", "GOT-NEIGHBOUR", 60)
    await_console(runtime, "asker", "GOT-WORLD")
    await_console(runtime, "asker", "GOT-HIDDEN")
    check_nobody_gets_in_from_outside(around, address)
    await_console(runtime, "asker", "FALSE-NAME-TRIED", 20)
    assert "OWN-NAME-WORKS" in console(runtime, "asker")
    assert "FALSE-NAME-WORKS" not in console(runtime, "asker")
    check_the_static_address(runtime, around)
    await_console(runtime, "asker", f"TINY-NET eth1 {OFFICE}.5")
    check_the_objects(runtime, address)
    check_a_service_leads_to_the_guest(runtime, address)
    check_what_is_refused(runtime)
    check_addresses_stay(runtime)
    runtime.bmctl("disable", "vmruntime", "--force=true", "--yes")
    assert traces(runtime) == []
    assert not [key for key in runtime.items("nodes")[0]["metadata"].get("annotations", {}) if "pod-cidrs" in key]
    runtime.bmctl("enable", "vmruntime")
    runtime.kubectl("delete", "network", "lab", "office", "hidden")


def check_nobody_gets_in_from_outside(around: Around, address: str) -> None:
    ip(f"-n {around.name} route add {address} via 10.99.71.1")
    assert around.curl(f"http://{address}/") == ""


def check_the_static_address(runtime: Cluster, around: Around) -> None:
    """The guest was told its address, and a neighbour on the same Ethernet sees it there."""
    await_console(runtime, "web", f"TINY-NET eth1 {LAB}.7/24 static")
    assert "host=web" in eventually(lambda: around.curl(f"http://{LAB}.7/"), 20, "an answer on the lab network")
    seen = json.loads(ip(f"-json -n {around.name} neigh show {LAB}.7"))[0]["lladdr"]
    assert seen == interface_of(runtime, "web", 1)["macAddress"]


def check_the_objects(runtime: Cluster, address: str) -> None:
    first, second, _ = runtime.get("gvm", "web")["status"]["interfaces"]
    assert first["gateway4"] and "ports" not in first
    assert (second["ipAddresses"], second["gateway4"]) == ([f"{LAB}.7"], f"{LAB}.1")
    assert second["routes"] == [{"to": "10.50.0.0/16"}]
    header, *rows = runtime.kubectl("get", "networkinterfaces").stdout.splitlines()
    assert header.split() == ["NAME", "AGE", "IP", "MAC", "NETWORK"]
    row = next(row.split() for row in rows if row.startswith("web-eth0-"))
    assert [row[0], *row[2:]] == [first["resourceName"], address, first["macAddress"], "pod-network"]
    kept = runtime.get("networkinterface", second["resourceName"])
    assert kept["spec"]["ipAddresses"] == [f"{LAB}.7/24"]
    assert kept["status"]["podName"].startswith("virt-launcher-web-")
    assert kept["metadata"]["ownerReferences"][0]["name"] == "web"


def check_a_service_leads_to_the_guest(runtime: Cluster, address: str) -> None:
    (pod,) = runtime.items("pods", "-l", "kubevirt/vm=web")
    assert pod["status"]["podIP"] == address
    runtime.apply(service("web", "web", 4321))
    assert endpoint(runtime, "web") == (address, 4321)
    for target in ("service/web", f"pod/{pod['metadata']['name']}"):
        with forwarded(runtime, target, 4321) as local:
            assert "host=web" in fetched(f"http://127.0.0.1:{local}/")
    runtime.kubectl("delete", "service", "web")


def check_what_is_refused(runtime: Cluster) -> None:
    in_use = runtime.kubectl("delete", "network", "lab", ok=False)
    assert in_use.returncode == 1 and "the network is in use" in in_use.stderr
    predefined = runtime.kubectl("delete", "network", "pod-network", ok=False)
    assert "pod-network is predefined and cannot be deleted" in predefined.stderr
    change = '{"spec":{"gateway4":"10.0.0.1"}}'
    changed = runtime.kubectl("patch", "network", "pod-network", "--type=merge", "-p", change, ok=False)
    assert "pod-network is predefined and cannot be changed" in changed.stderr
    taken = [{"name": "eth0", "networkName": "lab", "ipAddresses": [f"{LAB}.7/24"]}]
    bare = [{"name": "eth0", "networkName": "lab"}]
    nowhere = [{"name": "eth0", "networkName": "nowhere", "ipAddresses": ["10.0.0.5/24"]}]
    runtime.apply(network("nowhere", "nosuchcard", externalDHCP4=True))
    runtime.apply(vm("taken", interfaces=taken), vm("bare", interfaces=bare), vm("lost", interfaces=nowhere))
    runtime.wait_for(".status.reason", "AddressInUse", "gvm", "taken")
    runtime.wait_for(".status.reason", "AddressRequired", "gvm", "bare")
    runtime.wait_for(".status.reason", "NetworkNotReady", "gvm", "lost")
    lost = runtime.get("gvm", "lost")["status"]
    assert (lost["state"], "the node has no network interface nosuchcard" in lost["message"]) == ("Pending", True)
    runtime.kubectl("delete", "gvm", "taken", "bare", "lost")
    eventually(lambda: runtime.kubectl("delete", "network", "nowhere", ok=False).returncode == 0, 10)


def check_addresses_stay(runtime: Cluster) -> None:
    before = runtime.get("gvm", "asker")["status"]
    runtime.virt("restart", "asker")
    eventually(lambda: runtime.get("gvm", "asker")["status"].get("launches") == before["launches"] + 1, 40)
    assert interface_of(runtime, "asker") == before["interfaces"][0]
    runtime.kubectl("delete", "gvm", "asker")
    runtime.apply(vm("asker"))
    assert interface_of(runtime, "asker") == before["interfaces"][0]
    assert len([line for line in traces(runtime) if line.startswith("vmt")]) == 2


def test_a_cluster_without_rights_says_what_it_cannot_do(tmp_path: Path, around: Around) -> None:
    """Root without NET_ADMIN stands for every user: machines run, ports are forwarded, and the node is left alone."""
    cluster = Cluster(tmp_path / "bmctl-workspace", "humble")
    done = cluster.run(
        "setpriv", "--bounding-set=-net_admin", "bmctl", "create", "cluster", "-c", "humble",
        "--workspace", str(cluster.workspace),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    try:
        cluster.kubectl("patch", "vmruntime", "vmruntime", "--type=merge", "-p", '{"spec":{"useEmulation":true}}')
        cluster.bmctl("enable", "vmruntime")
        office, hidden = network("office", around.lan, externalDHCP4=True), network("hidden", "lo", externalDHCP4=True)
        cards = [
            {"name": "eth0", "default": True},
            {"name": "eth1", "networkName": "hidden", "ipAddresses": [f"{HIDDEN}.7/24"]},
        ]
        outside = [{"name": "eth0", "networkName": "office"}]
        cluster.apply(office, hidden, vm("inside", interfaces=cards), vm("outside", interfaces=outside))
        first = interface_of(cluster, "inside")
        port = next(port["host"] for port in first["ports"] if port["guest"] == 8080)
        with socket.create_connection((first["ipAddresses"][0], port), timeout=5):
            pass
        cluster.apply(service("inside", "inside", 8080))
        assert endpoint(cluster, "inside") == (first["ipAddresses"][0], port)
        (pod,) = (entry for entry in cluster.items("networks") if entry["metadata"]["name"] == "pod-network")
        assert "root lacks the capability NET_ADMIN" in pod["status"]["conditions"][0]["message"]
        cluster.wait_for(".status.reason", "NetworkNotReady", "gvm", "outside")
        message = cluster.get("gvm", "outside")["status"]["message"]
        assert "machines cannot take part in a network of the node" in message
        assert traces(cluster) == []
    finally:
        cluster.bmctl("reset", "-c", "humble", "--yes")


def test_a_stopped_cluster_leaves_nothing_on_the_host(tmp_path: Path) -> None:
    """And when it starts again, its network is the one it was."""
    cluster = Cluster(tmp_path / "bmctl-workspace", "brief")
    cluster.bmctl("create", "cluster", "-c", "brief")
    try:
        cluster.kubectl("patch", "vmruntime", "vmruntime", "--type=merge", "-p", '{"spec":{"useEmulation":true}}')
        cluster.bmctl("enable", "vmruntime")
        cluster.apply(vm("idle"))
        before = interface_of(cluster, "idle")
        assert len([line for line in traces(cluster) if line.startswith("table")]) == 2
        cluster.bmctl("stop", "cluster", "-c", "brief", "--timeout", "1s")
        assert traces(cluster) == []
        cluster.bmctl("start", "cluster", "-c", "brief")
        eventually(lambda: cluster.get("gvm", "idle")["status"].get("launches") == 2, 30, "it runs again")
        assert interface_of(cluster, "idle") == before
        assert traces(cluster) != []
        identity = json.loads((cluster.directory / "vm" / "network.json").read_text())["id"]
    finally:
        cluster.bmctl("reset", "-c", "brief", "--yes")
    assert identity not in run("ip", "link") + run("nft", "list", "tables")
