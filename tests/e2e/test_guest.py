"""What happens inside a guest: its agent, access to it, passwords; one guest, as booting is what takes time here."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import Cluster, disk, eventually, vm


@pytest.fixture
def image(runtime: Cluster, guest_with_agent: Path) -> str:
    """The address of the image with a guest agent as a disk source."""
    target = runtime.directory / "images" / "tiny-agent.qcow2"
    if not target.exists():
        target.write_bytes(guest_with_agent.read_bytes())
    return f"file://{target}"


@pytest.fixture(scope="module")
def public_key(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("key") / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "a comment", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text().strip()


def boot(cluster: Cluster, name: str, image: str, **spec: Any) -> None:
    user_data = {"cloudInit": {"noCloud": {"userData": "#cloud-config\n"}}}
    machine = vm(name, [f"{name}-disk"], osType="Linux", **{**user_data, **spec})
    machine["spec"]["compute"]["memory"]["capacity"] = "128Mi"
    cluster.apply(disk(f"{name}-disk", "64Mi", source={"file": {"url": image}}), machine)


def condition(cluster: Cluster, name: str, type_: str) -> tuple[str, str]:
    for entry in cluster.get("gvm", name).get("status", {}).get("conditions", []):
        if entry["type"] == type_:
            return entry["status"], entry["reason"]
    return "", ""


def synced(cluster: Cluster, name: str) -> bool:
    return condition(cluster, name, "GuestEnvironmentSynced") == ("True", "GuestEnvironmentDataSynced")


def request(name: str, machine: str, user: str, **how: Any) -> dict[str, Any]:
    return {
        "apiVersion": "vm.cluster.gke.io/v1",
        "kind": "VirtualMachineAccessRequest",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"vm": machine, "user": user, **how},
    }


def console(cluster: Cluster, name: str, command: str) -> str:
    """What a command prints in the guest's shell on the serial console."""
    done = cluster.run(
        "kubectl-virt",
        "console",
        name,
        "--kubeconfig",
        str(cluster.kubeconfig),
        stdin=f"\n{command}; echo END-$((40+2))\n",
    )
    return done.stdout


@pytest.mark.timeout(400)  # a guest on a busy machine takes minutes to boot
def test_life_with_a_guest_agent(runtime: Cluster, image: str, public_key: str) -> None:
    boot(runtime, "inside", image)
    eventually(lambda: synced(runtime, "inside"), 180, "the guest's agent answers")
    check_what_the_status_says(runtime)
    check_the_socket_is_the_owners_alone(runtime)
    check_a_key_comes_and_goes(runtime, public_key)
    check_nothing_is_injected(runtime, public_key)
    check_a_password(runtime)
    check_a_key_ended(runtime)
    check_a_key_outlives_a_manager_and_a_reboot(runtime, public_key)
    check_the_agent_shuts_the_guest_down(runtime)
    check_a_key_in_a_stopped_machine(runtime)


def check_what_the_status_says(runtime: Cluster) -> None:
    assert condition(runtime, "inside", "GuestEnvironmentEnabled") == ("True", "UserConfiguration")

    def addresses() -> list[str]:
        cards = runtime.get("gvm", "inside")["status"]["guest"].get("interfaces", [])
        return [address.partition("/")[0] for card in cards for address in card.get("ipAddresses", [])]

    card = runtime.get("gvm", "inside")["status"]["interfaces"][0]
    # The last one is the guest's own; with forwarded ports and no other, that of its user-mode network is.
    own = "10.0.2.15" if card.get("ports") and len(card["ipAddresses"]) == 1 else card["ipAddresses"][-1]
    given = own.partition("/")[0]
    eventually(lambda: given in addresses(), 30, "the guest's address")
    found = runtime.get("gvm", "inside")["status"]
    assert found["guest"]["hostName"] == "inside"
    assert "cloud-amd64" in found["guest"]["kernelRelease"]
    assert found["guest"]["interfaces"][0]["macAddress"] == found["interfaces"][0]["macAddress"]


def check_the_socket_is_the_owners_alone(runtime: Cluster) -> None:
    (socket,) = (runtime.directory / "vm" / "instances").glob("*/ga.sock")
    assert socket.parent.stat().st_mode & 0o077 == 0


def check_a_key_comes_and_goes(runtime: Cluster, public_key: str) -> None:
    runtime.apply(request("soon-over", "inside", "alice", ssh={"key": public_key, "ttl": "45s"}))
    runtime.apply(request("taken-back", "inside", "alice", ssh={"key": public_key, "ttl": "1d"}))
    for name in ("soon-over", "taken-back"):
        eventually(lambda name=name: "configuredTime" in runtime.get("vmar", name).get("status", {}), 40, name)
    files = console(runtime, "inside", "ls -lan /home/alice /home/alice/.ssh; cat /home/alice/.ssh/authorized_keys")
    kind, encoded = public_key.split()[:2]
    entries = re.findall(rf'expiry-time="(\d{{14}})" {kind} {re.escape(encoded)} vm.cluster.gke.io/vmar=\S+', files)
    assert len(entries) == 2, files
    assert re.search(r"-rw------- .* authorized_keys", files), files
    assert re.search(r"drwx--S?-*.* \.ssh", files), files
    runtime.kubectl("delete", "vmar", "taken-back", "--timeout=20s")
    assert console(runtime, "inside", "cat /home/alice/.ssh/authorized_keys").count("expiry-time") == 1


def check_a_key_ended(runtime: Cluster) -> None:
    runtime.wait_for(".status.state", "expired", "vmar", "soon-over")
    status = runtime.get("vmar", "soon-over")["status"]
    assert status["reason"] == "Expired"
    assert status["expiryTime"]
    assert "expiry-time" not in console(runtime, "inside", "cat /home/alice/.ssh/authorized_keys")
    header, row = runtime.kubectl("get", "vmar", "soon-over").stdout.splitlines()
    assert header.split() == ["NAME", "VM", "USER", "STATE", "EXPIRES", "AGE"]
    assert row.split()[:4] == ["soon-over", "inside", "alice", "expired"]


def check_nothing_is_injected(runtime: Cluster, public_key: str) -> None:
    kind, encoded = public_key.split()[:2]
    bad = [
        ({"user": "x;touch /tmp/hacked"}, "spec.user"),
        ({"user": "-r"}, "spec.user"),
        ({"user": "x\ny"}, "spec.user"),
        ({"ssh": {"key": f"{kind} {encoded}\n{kind} {encoded}", "ttl": "1m"}}, "spec.ssh.key"),
        ({"ssh": {"key": f'command="x" {kind} {encoded}', "ttl": "1m"}}, "spec.ssh.key"),
        ({"ssh": {"key": f"{kind} $(id)", "ttl": "1m"}}, "spec.ssh.key"),
        ({"ssh": {"key": public_key, "ttl": "soon"}}, "spec.ssh.ttl"),
    ]
    for change, field in bad:
        wanted = request("bad", "inside", "mallory", ssh={"key": public_key, "ttl": "1m"})
        wanted["spec"] |= change
        done = runtime.apply(wanted, ok=False)
        assert done.returncode == 1, change
        assert field in done.stderr
    # A comment is anybody's text, and does not get into the guest.
    comment = f"{kind} {encoded} $(touch /tmp/hacked); \"'`touch /tmp/hacked`"
    runtime.apply(request("odd", "inside", "bob", ssh={"key": comment, "ttl": "1h"}))
    runtime.wait_for(".status.state", "configured", "vmar", "odd")
    said = console(runtime, "inside", "ls /tmp; cat /home/bob/.ssh/authorized_keys")
    assert "hacked" not in said
    # The right form, and still no key.
    runtime.apply(request("no-key", "inside", "bob", ssh={"key": "ssh-ed25519 AAAA", "ttl": "1h"}))
    runtime.wait_for(".status.state", "failed", "vmar", "no-key")
    assert "spec.ssh.key" in runtime.get("vmar", "no-key")["status"]["message"]


def check_a_password(runtime: Cluster) -> None:
    done = runtime.virt("reset-windows-password", "inside", "--user=carol", "--force")
    lines = done.stdout.splitlines()
    assert lines[0] == "Resetting and retrieving password for carol on inside"
    assert [line.split(":")[0] for line in lines[1:]] == ["vm_name", "username", "password"]
    password = lines[3].removeprefix("password: ")
    assert len(password) >= 16
    shadow = console(runtime, "inside", "cat /etc/shadow")
    assert f"carol:sha256-{hashlib.sha256(password.encode()).hexdigest()}:" in shadow
    eventually(lambda: not runtime.items("secrets", "--field-selector", "type=vm.cluster.gke.io/password"))
    assert password not in json.dumps(runtime.get("gvm", "inside"))
    assert password not in runtime.kubectl("get", "vmar,events,gvm", "-o", "yaml").stdout
    logs = runtime.kubectl("logs", "-n", "vm-system", "-l", "app.kubernetes.io/name=vmruntime-controller-manager")
    assert password not in logs.stdout
    refused = runtime.virt("reset-windows-password", "inside", "--user=carol", ok=False)
    assert refused.returncode == 1
    assert "--force" in refused.stderr


def check_a_key_outlives_a_manager_and_a_reboot(runtime: Cluster, public_key: str) -> None:
    """This guest keeps nothing over a reboot: what is there again was put there again, by a manager that is new."""
    runtime.kubectl("delete", "pods", "-n", "vm-system", "--all", "--grace-period=0", "--force")
    terminal = ("kubectl-virt", "console", "inside", "--kubeconfig", str(runtime.kubeconfig))
    runtime.run(*terminal, stdin="\nreboot -f\n")

    def is_back() -> bool:
        return "vmar=" in console(runtime, "inside", "cat /home/bob/.ssh/authorized_keys")

    eventually(is_back, 180, "the key is in the guest that started anew")


def check_the_agent_shuts_the_guest_down(runtime: Cluster) -> None:
    pod = runtime.get("gvm", "inside")["status"]["podName"]
    eventually(lambda: synced(runtime, "inside"), 60)
    runtime.virt("stop", "inside")
    log = runtime.kubectl("logs", "-f", pod, ok=False).stdout
    assert "TINY-SHUTDOWN-BY-AGENT" in log
    assert "TINY-POWEROFF" not in log
    runtime.wait_for(".status.state", "Stopped", "gvm", "inside")
    assert condition(runtime, "inside", "GuestEnvironmentSynced") == ("False", "MachineNotRunning")
    assert "guest" not in runtime.get("gvm", "inside")["status"]


def check_a_key_in_a_stopped_machine(runtime: Cluster) -> None:
    """It may be on the machine's disk, so the object stays and says why; with the machine it goes."""
    runtime.kubectl("delete", "vmar", "odd", "--wait=false")
    runtime.wait_for(".status.reason", "KeyNotRemoved", "vmar", "odd")
    runtime.virt("delete", "vm", "inside")
    eventually(lambda: not runtime.items("vmar"), what="the requests went with their machine")


def test_a_machine_without_an_agent(runtime: Cluster, public_key: str) -> None:
    runtime.apply(vm("plain"), vm("refuses", osType="Linux", guestEnvironment={}))
    for name in ("plain", "refuses"):
        runtime.wait_for(".status.state", "Running", "gvm", name)
        assert condition(runtime, name, "GuestEnvironmentEnabled") == ("False", "UserConfiguration")
        assert condition(runtime, name, "GuestEnvironmentSynced") == ("", "")
    assert not any("org.qemu.guest_agent.0" in word for words in runtime.qemu().values() for word in words)
    runtime.apply(
        request("early", "plain", "alice", ssh={"key": public_key, "ttl": "1h"}),
        request("nowhere", "nothing", "alice", ssh={"key": public_key, "ttl": "1h"}),
    )
    runtime.wait_for(".status.reason", "GuestEnvironmentDisabled", "vmar", "early")
    runtime.wait_for(".status.reason", "MachineMissing", "vmar", "nowhere")
    done = runtime.virt("ssh", "alice@plain", ok=False)
    assert done.returncode == 1
    assert "osType" in done.stderr
    # Disabling takes them all along, and says so before.
    runtime.kubectl("annotate", "vmruntime", "vmruntime", "baremetal.cluster.gke.io/vmruntime-force-disable=true")
    done = runtime.bmctl("disable", "vmruntime", "--yes")
    assert "  VirtualMachineAccessRequest default/early\n" in done.stdout
    assert "virtualmachineaccessrequests" not in runtime.kubectl("get", "crds").stdout
