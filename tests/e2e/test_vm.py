"""A virtual machine, for real: a guest that boots from a disk image under QEMU, and what happens to it."""

from __future__ import annotations

import base64
import os
import re
import signal
import urllib.request
from pathlib import Path

import pytest

from e2e.cluster import Cluster, Terminal, disk, eventually, vm

USER_DATA = "#cloud-config\nhttp: true\n"


@pytest.fixture
def image(runtime: Cluster, guest: Path) -> str:
    """The address of the guest's image as a disk source."""
    target = runtime.directory / "images" / "tiny.qcow2"
    if not target.exists():
        target.write_bytes((guest / "tiny.qcow2").read_bytes())
    return f"file://{target}"


def boot(cluster: Cluster, name: str, image: str, **spec: object) -> None:
    """Create disk and VM, and wait for the guest's own line on its serial console."""
    machine = vm(name, [f"{name}-disk"], **{"cloudInit": {"noCloud": {"userData": USER_DATA}}, **spec})
    machine["spec"]["compute"]["memory"]["capacity"] = "128Mi"
    cluster.apply(disk(f"{name}-disk", "64Mi", source={"file": {"url": image}}), machine)
    cluster.wait_for(".status.state", "Running", "gvm", name)
    eventually(lambda: f"TINY-READY host={name}" in console_log(cluster, name), 60, "the guest's first line")


def pod(cluster: Cluster, name: str) -> str:
    """The pod that the VM runs in; empty between two of them."""
    return cluster.get("gvm", name)["status"].get("podName", "")


def console_log(cluster: Cluster, name: str) -> str:
    return cluster.kubectl("logs", pod(cluster, name), ok=False).stdout


def ask(cluster: Cluster, name: str) -> dict[str, str]:
    """What the guest's web server says of itself, on the address in the VM's status."""
    interface = cluster.get("gvm", name)["status"]["interfaces"][0]
    # Without a list of ports all of them can be reached.
    host_port = next((port["host"] for port in interface.get("ports", []) if port["guest"] == 80), 80)
    url = f"http://{interface['ipAddresses'][0]}:{host_port}/"

    def answer() -> str:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return response.read().decode()
        except OSError:
            return ""

    text = eventually(answer, 30, f"an answer of {url}")
    return dict(re.findall(r"(\w+)=(\S+)", text))


def test_life_of_a_vm(runtime: Cluster, image: str) -> None:
    """Boot, look, guest power-off, stop, start, kill, delete: one guest, as booting is what takes time here."""
    boot(runtime, "life", image)
    check_what_the_documents_show(runtime)
    check_power_off_from_the_console(runtime)
    check_stop_presses_the_power_button(runtime)
    check_a_killed_qemu_comes_back(runtime)
    check_delete_leaves_only_the_disk(runtime)


def address(cluster: Cluster) -> str:
    return cluster.get("gvm", "life")["status"]["interfaces"][0]["ipAddresses"][0]


def check_what_the_documents_show(runtime: Cluster) -> None:
    header, row = runtime.kubectl("get", "gvm").stdout.splitlines()
    assert header.split() == ["NAME", "STATUS", "AGE", "IP"]
    assert row.split()[:2] == ["life", "Running"]
    status = runtime.get("gvm", "life")["status"]
    assert row.split()[3] == address(runtime)
    assert status["accelerator"] == "tcg"
    assert status["timings"]["disksReadySeconds"] >= 0
    assert 0 < status["timings"]["qemuStartedSeconds"] < 30
    (words,) = runtime.qemu().values()
    assert any(word.startswith("tcg") for word in words)
    assert "kubevirt/vm=life" in runtime.kubectl("get", "pod", pod(runtime, "life"), "--show-labels").stdout


def check_power_off_from_the_console(runtime: Cluster) -> None:
    """The guest powers itself off; `runningState: Running` means that it runs again, with the same address."""
    first, old_pod, old_address = ask(runtime, "life"), pod(runtime, "life"), address(runtime)
    assert first["host"] == "life"
    terminal = Terminal.start(runtime, "kubectl-virt", "console", "life", "--kubeconfig", str(runtime.kubeconfig))
    terminal.expect("Successfully connected to life console. The escape sequence is ^]")
    terminal.type("\n")
    terminal.expect("tiny# ")
    terminal.type("\x1d")
    assert terminal.wait() == 0, terminal.output
    terminal = Terminal.start(runtime, "kubectl-virt", "console", "life", "--kubeconfig", str(runtime.kubeconfig))
    terminal.expect("escape sequence")
    terminal.type("poweroff -f\n")
    eventually(lambda: pod(runtime, "life") not in ("", old_pod), 60, "a new pod after the guest's power-off")
    terminal.wait()
    runtime.wait_for(".status.state", "Running", "gvm", "life")
    assert ask(runtime, "life")["boot"] != first["boot"]
    assert address(runtime) == old_address


def check_stop_presses_the_power_button(runtime: Cluster) -> None:
    log = Terminal.start(
        runtime, "kubectl", "--kubeconfig", str(runtime.kubeconfig), "logs", "-f", pod(runtime, "life")
    )
    runtime.virt("stop", "life")
    log.expect("TINY-POWEROFF")
    log.wait()
    runtime.wait_for(".status.state", "Stopped", "gvm", "life")
    eventually(lambda: runtime.qemu() == {}, what="no QEMU is left")
    assert "Stopped already" in runtime.virt("stop", "life").stdout
    restart = runtime.virt("restart", "life", ok=False)
    assert restart.returncode == 1
    assert "is stopped" in restart.stderr


def check_a_killed_qemu_comes_back(runtime: Cluster) -> None:
    runtime.virt("start", "life")
    runtime.wait_for(".status.state", "Running", "gvm", "life")
    (killed,) = runtime.qemu()
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: runtime.qemu() and killed not in runtime.qemu(), 30, "QEMU is started again")
    runtime.wait_for(".status.state", "Running", "gvm", "life")
    assert runtime.get("gvm", "life")["status"]["restarts"] >= 1


def check_delete_leaves_only_the_disk(runtime: Cluster) -> None:
    done = runtime.virt("delete", "vm", "life", "--dry-run")
    assert done.stdout.splitlines()[1:] == ["gvm: life", "VirtualMachineDisk: life-disk"]
    done = runtime.virt("delete", "vm", "life")
    assert done.stdout.splitlines()[-1] == 'Deleted gvm "life".'
    eventually(lambda: not runtime.items("pods"), what="the VM's pods are gone")
    assert runtime.qemu() == {}
    assert list((runtime.directory / "vm" / "instances").iterdir()) == []
    assert runtime.get("virtualmachinedisk", "life-disk")["status"]["phase"] == "Succeeded"


def test_a_vm_outlives_everything_that_manages_it(runtime: Cluster, image: str) -> None:
    """kill -9 of the API server, the node agent (one process) and the controllers: the guest's own clock goes on."""
    boot(runtime, "survivor", image)
    before = ask(runtime, "survivor")
    (qemu,) = runtime.qemu()
    launcher = pod(runtime, "survivor")
    os.kill(runtime.solo_pid(), signal.SIGKILL)
    os.kill(runtime.manager_pid(), signal.SIGKILL)
    eventually(lambda: "Stopped" in runtime.bmctl("get", "clusters").stdout)
    runtime.bmctl("start", "cluster", "-c", runtime.name)
    runtime.wait_for(".status.ready", "true", "vmruntime", "vmruntime")
    eventually(lambda: "1/1" in runtime.kubectl("get", "pods", "-n", "vm-system").stdout, what="the manager is back")
    after = ask(runtime, "survivor")
    assert after["boot"] == before["boot"]
    assert float(after["uptime"]) > float(before["uptime"])
    assert list(runtime.qemu()) == [qemu]
    assert pod(runtime, "survivor") == launcher
    # It is not only alive but managed again; and controllers that have only just come back end no guest the hard way.
    runtime.kubectl("delete", "pods", "-n", "vm-system", "--all", "--grace-period=0", "--force")
    follow = Terminal.start(runtime, "kubectl", "--kubeconfig", str(runtime.kubeconfig), "logs", "-f", launcher)
    runtime.virt("stop", "survivor")
    follow.expect("TINY-POWEROFF")
    follow.wait()
    runtime.wait_for(".status.state", "Stopped", "gvm", "survivor")


def test_rerun_on_failure_leaves_a_guest_off_that_powered_itself_off(runtime: Cluster, image: str) -> None:
    script = "#!/bin/sh\necho GUEST-LEAVES; sleep 1; poweroff -f\n"
    machine = vm("once", ["once-disk"], runningState="RerunOnFailure")
    machine["spec"]["compute"]["memory"]["capacity"] = "128Mi"
    machine["spec"]["cloudInit"] = {"noCloud": {"userDataBase64": base64.b64encode(script.encode()).decode()}}
    runtime.apply(disk("once-disk", "64Mi", source={"file": {"url": image}}), machine)
    runtime.wait_for(".status.state", "Stopped", "gvm", "once", timeout=90)
    eventually(lambda: runtime.qemu() == {}, what="QEMU is gone")
    assert runtime.get("gvm", "once")["status"].get("restarts", 0) == 0
    runtime.virt("start", "once")
    eventually(lambda: runtime.qemu() != {}, what="QEMU runs again")


def test_a_guest_that_ignores_the_power_button_is_cut_off(runtime: Cluster) -> None:
    runtime.apply(vm("deaf", terminationGracePeriodSeconds=2))
    runtime.wait_for(".status.state", "Running", "gvm", "deaf")
    runtime.virt("stop", "deaf")
    runtime.wait_for(".status.state", "Stopped", "gvm", "deaf", timeout=20)
    assert runtime.qemu() == {}


def test_a_vm_waits_for_its_disk_and_says_so(runtime: Cluster) -> None:
    runtime.apply(vm("waiting", ["later"]))
    runtime.wait_for(".status.state", "Provisioning", "gvm", "waiting")
    eventually(lambda: "later" in runtime.get("gvm", "waiting")["status"].get("message", ""))
    runtime.apply(disk("later"))
    runtime.wait_for(".status.state", "Running", "gvm", "waiting")


def test_no_machine_takes_a_disk_from_another(runtime: Cluster) -> None:
    """Neither by `autoDelete` nor by `delete vm --all`; with the last machine the disk may go."""
    machines = [vm(name, ["shared"], runningState="Stopped") for name in ("one", "two", "three")]
    machines[0]["spec"]["disks"][0]["autoDelete"] = True
    runtime.apply(disk("shared"), *machines)
    eventually(lambda: len(runtime.get("virtualmachinedisk", "shared")["status"].get("attachedTo", [])) == 3)
    runtime.virt("delete", "vm", "one")
    kept = runtime.virt("delete", "vm", "two", "--all").stdout.splitlines()[-1]
    assert kept == 'Kept VirtualMachineDisk "shared", which is used by: three.'
    assert "deletionTimestamp" not in runtime.get("virtualmachinedisk", "shared")["metadata"]
    runtime.virt("delete", "vm", "three", "--all")
    eventually(lambda: not runtime.items("virtualmachinedisk"), what="the disk went with the last machine")


def test_a_disk_of_a_machine_that_has_only_just_come_is_kept(runtime: Cluster) -> None:
    """Also while nobody is there who would write it into the disk's status."""
    runtime.apply(disk("young"), vm("old", ["young"], runningState="Stopped"))
    eventually(lambda: runtime.get("virtualmachinedisk", "young")["status"].get("attachedTo") == ["old"])
    os.kill(runtime.manager_pid(), signal.SIGSTOP)
    runtime.apply(vm("new", ["young"], runningState="Stopped"))
    terminal = Terminal.start(
        runtime, "kubectl-virt", "delete", "vm", "old", "--all", "--kubeconfig", str(runtime.kubeconfig)
    )
    terminal.expect("Start deleting")
    eventually(lambda: "deletionTimestamp" in runtime.get("gvm", "old")["metadata"])
    os.kill(runtime.manager_pid(), signal.SIGCONT)
    assert terminal.wait() == 0
    assert 'Kept VirtualMachineDisk "young", which is used by: new.' in terminal.output
    assert "deletionTimestamp" not in runtime.get("virtualmachinedisk", "young")["metadata"]


def test_a_missing_secret_is_an_error_of_configuration(runtime: Cluster) -> None:
    runtime.apply(vm("secretive", cloudInit={"noCloud": {"secretRef": {"name": "absent"}}}))
    runtime.wait_for(".status.state", "ErrorConfiguration", "gvm", "secretive")
    assert "absent" in runtime.get("gvm", "secretive")["status"]["message"]
    runtime.kubectl("create", "secret", "generic", "absent", "--from-literal=userData=#cloud-config")
    runtime.wait_for(".status.state", "Running", "gvm", "secretive")
    runtime.kubectl("delete", "secret", "absent")


def test_defaults(runtime: Cluster) -> None:
    machine = vm("defaults")
    del machine["spec"]["compute"]
    runtime.apply(machine)
    runtime.wait_for(".status.state", "Running", "gvm", "defaults")
    found = runtime.get("gvm", "defaults")
    assert found["status"]["compute"] == {"vcpus": 2, "memory": "4Gi"}
    assert found["spec"]["interfaces"] == [{"name": "eth0", "networkName": "pod-network", "default": True}]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"compute": {"cpu": {"vcpus": 0}}}, "spec.compute.cpu.vcpus"),
        ({"compute": {"memory": {"capacity": "20GiB"}}}, "spec.compute.memory.capacity"),
        ({"runningState": "Perhaps"}, "spec.runningState"),
        ({"cloudInit": {"noCloud": {"userData": "x" * 2049}}}, "secretRef"),
        ({"cloudInit": {"noCloud": {"userData": "x", "userDataBase64": "eA=="}}}, "at most one of"),
    ],
)
def test_bad_input_names_the_field(runtime: Cluster, spec: dict, field: str) -> None:
    machine = vm("bad")
    machine["spec"] |= spec
    done = runtime.apply(machine, ok=False)
    assert done.returncode == 1
    assert field in done.stderr
