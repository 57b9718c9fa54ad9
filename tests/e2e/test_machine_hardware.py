"""What a machine is made of, as its firmware sees it: UEFI with variables of its own, disks of each kind in order."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import Cluster, Terminal, disk, eventually, vm
from vmruntime.engines.qemu import machine_users

IS_ROOT = os.geteuid() == 0


def console_log(cluster: Cluster, name: str) -> str:
    pod = cluster.get("gvm", name)["status"].get("podName", "")
    return cluster.kubectl("logs", pod, ok=False).stdout


def uefi(name: str, disk_name: str, **boot_loader: Any) -> dict[str, Any]:
    machine = vm(name, [disk_name], firmware={"bootloader": {"type": "uefi", **boot_loader}, "serial": "SN-1"})
    # The firmware's own shell does not react to the power button.
    machine["spec"]["terminationGracePeriodSeconds"] = 1
    machine["spec"]["compute"]["memory"]["capacity"] = "128Mi"
    return machine


def test_uefi_boots_and_keeps_its_variables(runtime: Cluster) -> None:
    runtime.apply(disk("efi-disk"), uefi("efi", "efi-disk"))
    runtime.wait_for(".status.state", "Running", "gvm", "efi")
    eventually(lambda: "BdsDxe" in console_log(runtime, "efi"), 60, "the boot manager of the firmware")
    (words,) = runtime.qemu().values()
    assert any(word.endswith("serial=SN-1") for word in words)
    (variables,) = (runtime.directory / "vm" / "instances").glob("*/nvram.fd")
    written = variables.read_bytes()
    runtime.virt("stop", "efi")
    runtime.wait_for(".status.state", "Stopped", "gvm", "efi")
    inode = variables.stat().st_ino
    secure = {"spec": {"firmware": {"bootloader": {"enableSecureBoot": True}}, "runningState": "Running"}}
    runtime.kubectl("patch", "gvm", "efi", "--type=merge", "-p", json.dumps(secure))
    runtime.wait_for(".status.state", "Running", "gvm", "efi")
    assert variables.stat().st_ino == inode
    assert variables.read_bytes()[:64] == written[:64]
    assert (variables.parent / "nvram-secure.fd").exists()
    runtime.virt("delete", "vm", "efi")
    assert not variables.exists()


def test_disks_of_each_kind_in_the_order_of_the_spec(runtime: Cluster) -> None:
    """Nothing is on them; the firmware's attempts to boot show what it found, and in which order."""
    runtime.apply(
        disk("a-disk-with-a-long-name-1"),
        disk("a-disk-with-a-long-name-2"),
        disk("sata"),
        disk("cd", diskType="cdrom"),
    )
    machine = vm("many")
    machine["spec"]["disks"] = [
        {"virtualMachineDiskName": "a-disk-with-a-long-name-1"},
        {"virtualMachineDiskName": "a-disk-with-a-long-name-2", "driver": "scsi", "readOnly": True},
        {"virtualMachineDiskName": "sata", "driver": "sata"},
        {"virtualMachineDiskName": "cd", "boot": True},
    ]
    runtime.apply(machine)
    runtime.wait_for(".status.state", "Running", "gvm", "many")
    eventually(lambda: console_log(runtime, "many").count("Booting from") >= 2, 30, "attempts to boot")
    attempts = [line for line in console_log(runtime, "many").splitlines() if line.startswith("Booting from")]
    assert "DVD/CD" in attempts[0]
    assert "Hard Disk" in attempts[1]
    (words,) = runtime.qemu().values()
    devices = [word for word in words if "drive=disk" in word]
    assert [device.split(",")[0] for device in devices] == ["virtio-blk-pci", "scsi-hd", "ide-hd", "ide-cd"]
    serials = [device.partition("serial=")[2].partition(",")[0] for device in devices]
    assert serials == ["a-disk-with-a-long-n", "", "sata", "cd"]
    nodes = [json.loads(word) for word in words if word.startswith("{")]
    assert [node["read-only"] for node in nodes] == [False, True, False, True]


def test_what_a_driver_cannot_do_is_an_error_of_configuration(runtime: Cluster) -> None:
    machine = vm("never")
    machine["spec"]["disks"] = [{"virtualMachineDiskName": "ro", "driver": "sata", "readOnly": True}]
    runtime.apply(disk("ro"), machine)
    runtime.wait_for(".status.state", "ErrorConfiguration", "gvm", "never")
    status = runtime.get("gvm", "never")["status"]
    assert status["reason"] == "InvalidSpec"
    assert "SATA disks are always writable" in status["message"]
    # It is tried again and again, and meanwhile its disk is free for others.
    runtime.apply(vm("other", ["ro"]))
    runtime.wait_for(".status.state", "Running", "gvm", "other")


def test_the_screen_over_vnc(runtime: Cluster) -> None:
    runtime.apply(vm("screen"))
    runtime.wait_for(".status.state", "Running", "gvm", "screen")
    command = ["kubectl-virt", "vnc", "screen", "--proxy-only", "--kubeconfig", str(runtime.kubeconfig)]
    wrong = runtime.virt("vnc", "screen", "--proxy-only", "--port", "70000", ok=False)
    assert (wrong.returncode, wrong.stderr) == (1, "error: cannot listen on port 70000 of 127.0.0.1: it is no port\n")
    terminal = Terminal.start(runtime, *command)
    terminal.expect("}\n")
    port = json.loads(terminal.output)["port"]
    for _ in range(2):  # a viewer that has left makes room for the next
        with socket.create_connection(("127.0.0.1", port), timeout=20) as viewer:
            stream = viewer.makefile("rb")
            assert stream.read(12) == b"RFB 003.008\n"
            viewer.sendall(b"RFB 003.008\n")
            assert stream.read(stream.read(1)[0]) == b"\x01"  # no security beyond that of the API
            viewer.sendall(b"\x01")
            assert stream.read(4) == bytes(4)
            viewer.sendall(b"\x01")
            width, height = struct.unpack(">HH", stream.read(20)[:4])
            name = stream.read(struct.unpack(">I", stream.read(4))[0])
            assert width >= 640
            assert height >= 400
            assert b"screen" in name
    terminal.interrupt()
    assert terminal.wait() == 0
    runtime.virt("stop", "screen")
    refused = runtime.virt("vnc", "screen", ok=False)
    assert refused.returncode == 1
    assert "screen" in refused.stderr


def test_qemu_may_do_next_to_nothing(runtime: Cluster) -> None:
    runtime.apply(disk("safe"), vm("safe", ["safe"]))
    runtime.wait_for(".status.state", "Running", "gvm", "safe")
    owner = machine_users.user_of(runtime.get("gvm", "safe")["metadata"]["uid"]) if IS_ROOT else os.geteuid()
    ((pid, words),) = runtime.qemu().items()
    kernel = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert (kernel["Seccomp"], kernel["NoNewPrivs"]) == ("2", "1")
    # NET_BIND_SERVICE, for ports of the guest below 1024, is all that there is.
    assert int(kernel["CapEff"], 16) | (1 << 10) == 1 << 10
    assert {int(uid) for uid in kernel["Uid"].split()} == {owner}
    (instance,) = (runtime.directory / "vm" / "instances").iterdir()
    assert (instance.stat().st_mode & 0o777, instance.stat().st_uid) == (0o700, owner)
    assert {path.name for path in instance.glob("*.sock")} == {"qmp.sock", "serial.sock", "vnc.sock"}
    assert (
        words[words.index("-sandbox") + 1] == "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
    )
    (data,) = runtime.directory.glob("vm/disks/default/safe_*/disk.raw")
    assert data.stat().st_mode & 0o007 == 0


@pytest.mark.skipif(not IS_ROOT, reason="without root everything is one user's")
def test_a_machine_that_was_taken_over_reaches_nothing_of_another(runtime: Cluster) -> None:
    """What a process can do that runs as the one machine's QEMU does; disks that are only read are for all."""
    sharing = []
    for name in ("first", "second"):
        machine = vm(name, [name, "shared"])
        machine["spec"]["disks"][1]["readOnly"] = True
        machine["spec"]["terminationGracePeriodSeconds"] = 1
        sharing += [disk(name), machine]
    runtime.apply(disk("shared"), *sharing)
    for name in ("first", "second"):
        runtime.wait_for(".status.state", "Running", "gvm", name)
    (instance,) = runtime.directory.glob("vm/instances/default_first_*")
    user = instance.stat().st_uid

    def outcome(*command: str) -> str:
        done = subprocess.run(
            command, cwd=instance, user=user, group=user, extra_groups=[machine_users.READERS], capture_output=True
        )
        return done.stderr.decode().rpartition(": ")[2].strip()

    def below(pattern: str) -> str:
        (path,) = (runtime.directory / "vm").glob(pattern)
        return f"../../{path.relative_to(runtime.directory / 'vm')}"

    assert outcome("cat", below("disks/default/first_*/disk.raw")) == ""
    assert outcome("cat", below("disks/default/shared_*/disk.raw")) == ""
    assert outcome("truncate", "-s0", below("disks/default/shared_*/disk.raw")) == "Permission denied"
    assert outcome("cat", below("disks/default/second_*/disk.raw")) == "Permission denied"
    assert outcome("ls", below("instances/default_second_*")) == "Permission denied"
    (other,) = (pid for pid in runtime.qemu() if f"Uid:\t{user}\t" not in Path(f"/proc/{pid}/status").read_text())
    assert outcome("sh", "-c", f"kill -9 {other}") == "Operation not permitted"
    # A disk can be copied all the same, and goes to whoever writes to it next.
    for name in ("first", "second"):
        runtime.kubectl("delete", "gvm", name)
    (former,) = runtime.directory.glob("vm/disks/default/first_*/disk.raw")
    runtime.apply(disk("copy", source={"virtualMachineDisk": {"name": "first"}}))
    runtime.wait_for(".status.phase", "Succeeded", "virtualmachinedisk", "copy")
    runtime.apply(vm("heir", ["first", "copy"]))
    runtime.wait_for(".status.state", "Running", "gvm", "heir")
    assert former.stat().st_uid == machine_users.user_of(runtime.get("gvm", "heir")["metadata"]["uid"])
