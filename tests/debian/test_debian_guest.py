"""What only a whole distribution shows: cloud-init, OpenSSH, accounts and the guest agent as people have them."""

from __future__ import annotations

import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from debian.guest import Guest
from e2e.cluster import eventually
from e2e.services import endpoint, forwarded, service

pytestmark = [pytest.mark.debian, pytest.mark.timeout(1800)]


def request(name: str, user: str, ttl: str, key: str) -> dict[str, Any]:
    return {
        "apiVersion": "vm.cluster.gke.io/v1",
        "kind": "VirtualMachineAccessRequest",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"vm": "deb", "user": user, "ssh": {"key": key, "ttl": ttl}},
    }


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def test_cloud_init_applied_user_and_network_data(guest: Guest) -> None:
    guest.wait_for_login(120)
    eventually(lambda: "done" in guest.erin("cloud-init status"), 120, "cloud-init is done")
    said = guest.erin("hostname; cat /etc/from-user-data; cat /etc/systemd/network/*; cloud-id; df -m / | tail -1")
    assert said.startswith("berry\n")
    assert "written once" in said
    assert "192.0.2.53" in said
    assert "nocloud" in said
    assert int(said.splitlines()[-1].split()[1]) > 2000, "the root file system grew to the disk's size"


def test_the_agent_says_who_and_where_the_guest_is(guest: Guest) -> None:
    eventually(lambda: guest.status().get("guest", {}).get("interfaces"), 90)
    found = guest.status()["guest"]
    assert found["osName"].startswith("Debian GNU/Linux")
    assert found["hostName"] == "berry"
    # Behind a user-mode network the guest has an address that only it knows.
    given = {"10.0.2.15", *guest.status()["interfaces"][0]["ipAddresses"]}
    seen = {address.partition("/")[0] for card in found["interfaces"] for address in card["ipAddresses"]}
    assert given & seen


def test_a_key_opens_an_account_that_was_not_there_and_only_for_its_time(guest: Guest, key: Path) -> None:
    public = key.with_suffix(".pub").read_text().strip()
    assert guest.ssh("frank", key, "true").returncode != 0
    guest.cluster.apply(request("short", "frank", "90s", public))
    guest.cluster.wait_for(".status.state", "configured", "vmar", "short")
    said = guest.ssh("frank", key, "id -un; stat -c '%a %U' ~/.ssh ~/.ssh/authorized_keys; cat ~/.ssh/authorized_keys")
    assert said.stdout.splitlines()[:3] == ["frank", "700 frank", "600 frank"], said.stderr
    # The guest itself knows when it ends: with nobody there to remove it, it is let in no longer.
    with_agent_off = guest.cluster.kubectl(
        "scale", "deployment", "-n", "vm-system", "vmruntime-controller-manager", "--replicas=0"
    )
    assert with_agent_off.returncode == 0
    try:
        eventually(lambda: guest.ssh("frank", key, "true").returncode != 0, 120, "the key has ended")
    finally:
        guest.cluster.kubectl("scale", "deployment", "-n", "vm-system", "vmruntime-controller-manager", "--replicas=1")
    guest.cluster.wait_for(".status.reason", "Expired", "vmar", "short")


def test_a_deleted_request_shuts_the_door(guest: Guest, key: Path) -> None:
    guest.cluster.apply(request("long", "frank", "1d", key.with_suffix(".pub").read_text().strip()))
    guest.cluster.wait_for(".status.state", "configured", "vmar", "long")
    assert guest.ssh("frank", key, "true").returncode == 0
    guest.cluster.kubectl("delete", "vmar", "long", "--timeout=60s")
    assert guest.ssh("frank", key, "true").returncode != 0


def test_port_forward_to_the_pod_and_to_a_service_reaches_the_guest(guest: Guest) -> None:
    """Port 22, which has another number on the host where not all ports can be reached."""
    guest.cluster.apply(service("deb", "deb", 22))
    address, port = endpoint(guest.cluster, "deb")
    interface = guest.status()["interfaces"][0]
    numbers = [port["host"] for port in interface.get("ports", []) if port["guest"] == 22] or [22]
    assert (address, [port]) == (interface["ipAddresses"][0], numbers)
    for target in (f"pod/{guest.status()['podName']}", "service/deb"):
        with (
            forwarded(guest.cluster, target, 22) as local,
            socket.create_connection(("127.0.0.1", local), timeout=20) as connection,
        ):
            assert connection.recv(64).startswith(b"SSH-2.0-OpenSSH")


def test_virt_ssh(guest: Guest) -> None:
    done = guest.cluster.virt("ssh", "grace@deb", "--command", "id -un; exit 7", ok=False)
    assert done.stdout == "grace\n", done.stderr
    assert done.returncode == 7
    eventually(lambda: not [entry for entry in guest.cluster.items("vmar") if entry["spec"]["user"] == "grace"], 60)
    left = guest.cluster.virt("ssh", "grace@deb", "--command", "cat ~/.ssh/authorized_keys", ok=False)
    assert left.stdout.count("expiry-time=") == 1, "only the key of this very login"


def test_a_password_that_the_guest_accepts(guest: Guest) -> None:
    done = guest.cluster.virt("reset-windows-password", "deb", "--user=heidi", "--force")
    password = re.search(r"^password: (\S+)$", done.stdout, re.MULTILINE)
    assert password
    # Who knows it becomes heidi, whoever does not does not: `su` asks for it on standard input.
    command = f"printf '%s\\n' '{password[1]}' | su heidi -c 'id -un' 2>&1; echo wrong | su heidi -c 'id -un' 2>&1"
    said = guest.erin(command)
    assert said.count("heidi") == 1, said
    assert "Authentication failure" in said


def test_changed_data_are_applied_at_the_next_start(guest: Guest) -> None:
    changed = guest.user_data.replace("written once", "written again")
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "deb-user"},
        "stringData": {"userdata": changed},
    }
    guest.cluster.apply(secret)
    before = guest.status()["podName"]
    guest.cluster.virt("restart", "deb")
    eventually(lambda: guest.status().get("podName") not in (None, before), 180, "the guest has shut down")
    guest.wait_until_up()
    eventually(lambda: "written again" in guest.erin("cat /etc/from-user-data"), 120, "the changed data are applied")
    assert guest.erin("cat /var/log/starts").splitlines() == ["start", "start"]
