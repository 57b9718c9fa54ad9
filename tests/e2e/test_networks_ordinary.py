"""The pod network of a user who is not root, for real: a namespace, guests, and kills of what leads in and out."""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import eventually, kill
from e2e.conftest import quiet_port
from e2e.ordinary import OrdinaryCluster
from e2e.services import endpoint, forwarded, service
from e2e.test_networks import HIDDEN, console, fetched, guest_vm, interface_of, network


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"of the host\n")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def ordinary(guest: Path) -> Iterator[OrdinaryCluster]:
    """A running cluster with the runtime enabled; afterwards its user has no process any more."""
    # Where pytest's own directory is, nobody else may pass.
    room = Path(tempfile.mkdtemp(prefix="vmruntime-", dir="/var/tmp"))
    made = OrdinaryCluster(room / "bmctl-workspace", "ordinary")
    shutil.chown(room, made.user, made.user)
    room.chmod(0o711)
    ask = "from vmruntime.engines.qemu import namespace; print(namespace.why_not())"
    try:
        problem = made.run(sys.executable, "-c", ask).stdout.strip()
        if problem:
            pytest.skip(f"a namespace cannot be had here: {problem}")
        made.bmctl("create", "cluster", "-c", made.name, "--port", str(quiet_port()))
        made.kubectl("patch", "vmruntime", "vmruntime", "--type=merge", "-p", '{"spec":{"useEmulation":true}}')
        made.bmctl("enable", "vmruntime")
        image = made.directory / "images" / "tiny.qcow2"
        shutil.copyfile(guest / "tiny.qcow2", image)
        image.chmod(0o644)
        yield made
    finally:
        made.bmctl("reset", "-c", made.name, "--yes", ok=False)
        shutil.rmtree(room)
    if os.geteuid() == 0:
        eventually(lambda: made.all_processes() == [], 5, "no process is left")


@pytest.fixture
def host_servers() -> Iterator[tuple[str, int, int]]:
    """An address of the host, the port of a web server there, and the port of one on the host's loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.77", 9))  # nothing is sent
        except OSError:
            pytest.skip("the host has no address")
        address = probe.getsockname()[0]
    servers = [http.server.ThreadingHTTPServer((place, 0), Page) for place in (address, "127.0.0.1")]
    for server in servers:
        threading.Thread(target=server.serve_forever).start()
    yield address, servers[0].server_port, servers[1].server_port
    for server in servers:
        server.shutdown()
        server.server_close()


def ticks(cluster: OrdinaryCluster) -> int:
    """How often the asking guest has reached its neighbour, by its serial log, which is there without a server too."""
    return sum(log.read_text().count("TICK") for log in (cluster.directory / "solo" / "pods").glob("*/compute/*.log"))


def gateway(cluster: OrdinaryCluster) -> list[int]:
    """The processes of the gateway, the one inside the namespace last."""
    found = {pid for pid, words in cluster.processes().items() if "vmruntime.engines.qemu.gateway" in words}
    parents = {pid: int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in found}
    return sorted(found, key=lambda pid: parents[pid] in found)


def cards(hidden_address: str) -> list[dict[str, Any]]:
    hidden = {"name": "eth1", "networkName": "hidden", "ipAddresses": [hidden_address]}
    return [{"name": "eth0", "default": True}, hidden]


def test_guests_of_an_ordinary_user(ordinary: OrdinaryCluster, host_servers: tuple[str, int, int]) -> None:
    cluster, (outside, port, loopback_port) = ordinary, host_servers
    (pod_network,) = cluster.items("networks")
    assert not pod_network["status"]["conditions"][0].get("message")
    cluster.apply(network("hidden", "lo", externalDHCP4=True))
    serve = "httpd -p 80 -h /www; httpd -p 8080 -h /www; httpd -p 4321 -h /www"
    cluster.apply(*guest_vm(cluster, "web", serve, interfaces=cards(f"{HIDDEN}.7/24")))
    web = interface_of(cluster, "web")
    on_host, own = web["ipAddresses"]
    script = f"""
    (while :; do wget -qO- http://{own}:4321/ > /dev/null && echo TICK > /dev/ttyS0; sleep 1; done) &
    (until wget -qO- http://{HIDDEN}.7:4321/ > /dev/null; do sleep 1; done; echo GOT-HIDDEN > /dev/ttyS0) &
    (until wget -qO- http://{outside}:{port}/ | grep host; do sleep 1; done; echo GOT-OUTSIDE > /dev/ttyS0
     for address in {web["gateway4"]} {outside} 10.0.2.2 10.159.255.1; do
       (wget -qO- http://$address:{loopback_port}/ | grep host && echo GOT-LOOPBACK > /dev/ttyS0) &
     done; sleep 3; echo LOOPBACK-TRIED > /dev/ttyS0) &"""
    cluster.apply(*guest_vm(cluster, "asker", script, interfaces=cards(f"{HIDDEN}.8/24")))
    asker = interface_of(cluster, "asker")

    def is_reached() -> bool:
        return "host=web" in fetched(f"http://{on_host}:8080/")

    eventually(is_reached, 60, "a listed port of the guest")
    assert on_host.startswith("127.") and fetched(f"http://{on_host}:4321/") == ""
    eventually(lambda: "TICK" in console(cluster, "asker"), 60, "a guest reaches another, at a port of no list")
    eventually(lambda: "GOT-HIDDEN" in console(cluster, "asker"), 30, "a network among machines only")
    eventually(lambda: "LOOPBACK-TRIED" in console(cluster, "asker"), 40, "a guest reaches outwards")
    assert "GOT-OUTSIDE" in console(cluster, "asker") and "GOT-LOOPBACK" not in console(cluster, "asker")
    check_a_service_leads_to_the_guest(cluster, web)
    rows = cluster.kubectl("get", "networkinterfaces").stdout.splitlines()
    assert any(row.startswith("web-eth0-") and on_host in row for row in rows)

    kill(gateway(cluster)[1])  # the process inside
    eventually(is_reached, 15, "the gateway came back")
    kill(cluster.manager_pid())
    assert is_reached()
    check_machines_talk_while_everything_else_is_dead(cluster)
    eventually(is_reached, 30, "everything came back")
    check_addresses_stay(cluster, asker)
    check_nothing_is_left_of_a_disable(cluster)


def check_a_service_leads_to_the_guest(cluster: OrdinaryCluster, web: dict[str, Any]) -> None:
    """At the address that the host reaches, and under the number that the port has there."""
    on_host = web["ipAddresses"][0]
    (number,) = (port["host"] for port in web["ports"] if port["guest"] == 80)
    cluster.apply(service("web", "web", 80))
    assert endpoint(cluster, "web") == (on_host, number)
    assert "host=web" in fetched(f"http://{on_host}:{number}/")
    with forwarded(cluster, "service/web", 80) as local:
        assert "host=web" in fetched(f"http://127.0.0.1:{local}/")


def check_machines_talk_while_everything_else_is_dead(cluster: OrdinaryCluster) -> None:
    others = [pid for pid, words in cluster.processes().items() if "qemu-system" not in words[0]]
    for pid in [cluster.solo_pid(), *others]:  # the server first, which would start the others again
        kill(pid)
    eventually(lambda: gateway(cluster) == [], 5, "the gateway is dead")
    before = ticks(cluster)
    eventually(lambda: ticks(cluster) >= before + 2, 20, "a guest reaches another")
    assert gateway(cluster) == []
    cluster.bmctl("start", "cluster", "-c", cluster.name)


def check_addresses_stay(cluster: OrdinaryCluster, before: dict[str, Any]) -> None:
    launches = cluster.get("gvm", "asker")["status"]["launches"]
    cluster.virt("restart", "asker")
    eventually(lambda: cluster.get("gvm", "asker")["status"].get("launches") == launches + 1, 40)
    assert interface_of(cluster, "asker") == before


def check_nothing_is_left_of_a_disable(cluster: OrdinaryCluster) -> None:
    cluster.bmctl("disable", "vmruntime", "--force=true", "--yes")
    assert gateway(cluster) == [] and cluster.qemu() == {}
    assert not [words for words in cluster.all_processes() if words.startswith("pasta")]
    (pod,) = cluster.items("pods", "-A")
    assert pod["metadata"]["name"].startswith("vmruntime-controller-manager")
    assert not list((cluster.directory / "vm").glob("*.sock"))
