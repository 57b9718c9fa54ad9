"""Drives of a machine that runs: CD-ROMs that come and go, and a node that has no space for what a guest writes."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import Cluster, disk, eventually, vm

MIB = 1 << 20


def status(cluster: Cluster, name: str) -> dict[str, Any]:
    return cluster.get("gvm", name).get("status", {})


def condition(cluster: Cluster, name: str, type_: str) -> dict[str, Any]:
    return next(entry for entry in status(cluster, name)["conditions"] if entry["type"] == type_)


def opened(cluster: Cluster) -> set[str]:
    """The names of the disks whose files QEMU has open: what it really has, whatever is said of it."""
    (pid,) = cluster.qemu()
    links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    return {Path(link).parent.name.rpartition("_")[0] for link in links if link.endswith(("disk.raw", "disk.qcow2"))}


def test_cdroms_are_inserted_and_ejected_under_a_running_machine(runtime: Cluster) -> None:
    runtime.apply(*[disk(name, "1Mi", diskType="cdrom") for name in ("one", "two", "three")], disk("fixed"))
    runtime.apply(vm("media", ["fixed"], autoRestartOnConfigurationChange=True, terminationGracePeriodSeconds=1))
    runtime.wait_for(".status.state", "Running", "gvm", "media")
    (pid,) = runtime.qemu()

    def list_disks(*names: str) -> None:
        disks = [{"virtualMachineDiskName": "fixed", "boot": True}]
        disks += [{"virtualMachineDiskName": name} for name in names]
        runtime.kubectl("patch", "gvm", "media", "--type=merge", "-p", json.dumps({"spec": {"disks": disks}}))

    def has(*names: str) -> bool:
        told = {entry["name"]: entry["readOnly"] for entry in status(runtime, "media").get("disks", [])}
        return told == {"fixed": False} | dict.fromkeys(names, True) and opened(runtime) == {"fixed", *names}

    list_disks("one")
    eventually(lambda: has("one"), what="the first is inserted")
    os.kill(runtime.manager_pid(), signal.SIGKILL)
    list_disks("two")
    eventually(lambda: has("two"), what="the second is in its place")
    runtime.kubectl("delete", "vmdisk", "one", "--timeout=40s")
    list_disks()
    eventually(lambda: has(), what="the drive is empty")
    list_disks("two")
    eventually(lambda: has("two"), what="the second is in again")
    assert list(runtime.qemu()) == [pid]
    assert condition(runtime, "media", "RestartRequired")["status"] == "False"
    # There is one drive: the next CD-ROM needs another one, which comes with a start, and the VM is restarted for it.
    list_disks("two", "three")
    eventually(lambda: runtime.qemu() and list(runtime.qemu()) != [pid] and has("two", "three"), what="two drives")
    check_the_disk_goes_with_the_machine_if_that_is_wanted_by_then(runtime)


def check_the_disk_goes_with_the_machine_if_that_is_wanted_by_then(runtime: Cluster) -> None:
    (pid,) = runtime.qemu()
    wish = [{"op": "add", "path": "/spec/disks/0/autoDelete", "value": True}]
    runtime.kubectl("patch", "gvm", "media", "--type=json", "-p", json.dumps(wish))
    generation = runtime.get("gvm", "media")["metadata"]["generation"]
    eventually(lambda: status(runtime, "media")["observedGeneration"] == generation)
    assert list(runtime.qemu()) == [pid]
    assert condition(runtime, "media", "RestartRequired")["status"] == "False"
    runtime.kubectl("delete", "gvm", "media")
    eventually(lambda: {entry["metadata"]["name"] for entry in runtime.items("vmdisk")} == {"two", "three"})


@pytest.fixture
def small_disk(runtime: Cluster) -> Iterator[tuple[str, Path]]:
    """A blank disk of 64 MiB, `full-data`, on a file system of its own that has not even a tenth of that."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    runtime.apply(disk("full-data", "64Mi"))
    runtime.wait_for(".status.phase", "Succeeded", "vmdisk", "full-data")
    (directory,) = runtime.directory.glob("vm/disks/default/full-data_*")
    mode, group = directory.stat().st_mode & 0o777, directory.stat().st_gid
    image = directory / "disk.raw"
    mount = ["mount", "-t", "tmpfs", "-o", f"size=6m,mode={mode:o},gid={group}", "tmpfs", str(directory)]
    owner = image.stat()
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")
    with image.open("xb") as file:
        file.truncate(64 * MIB)
    os.chown(image, owner.st_uid, owner.st_gid)
    image.chmod(owner.st_mode & 0o777)
    yield "full-data", directory
    runtime.kubectl("delete", "gvm", "--all", "--timeout=60s")
    subprocess.run(["umount", str(directory)], check=True)


def test_a_guest_waits_for_space_and_goes_on(runtime: Cluster, guest: Path, small_disk: tuple[str, Path]) -> None:
    name, directory = small_disk
    target = runtime.directory / "images" / "tiny.qcow2"
    target.write_bytes((guest / "tiny.qcow2").read_bytes())
    script = "#!/bin/sh\ndd if=/dev/zero bs=1M count=10 | tr '\\0' x >/dev/vdb && sync && echo GUEST-WROTE-ALL\n"
    machine = vm("full", ["full-boot", name])
    machine["spec"]["compute"]["memory"]["capacity"] = "128Mi"
    machine["spec"]["cloudInit"] = {"noCloud": {"userDataBase64": base64.b64encode(script.encode()).decode()}}
    runtime.apply(disk("full-boot", "64Mi", source={"file": {"url": f"file://{target}"}}), machine)
    runtime.wait_for(".status.reason", "NoSpace", "gvm", "full", timeout=90)
    (pid,) = runtime.qemu()
    told = status(runtime, "full")
    assert told["state"] == "Running"
    assert '"full-data"' in told["message"]
    assert condition(runtime, "full", "Ready")["status"] == "False"
    assert condition(runtime, "full", "Paused")["reason"] == "NoSpace"
    assert "NoSpace" in runtime.kubectl("get", "events").stdout
    # Controllers that were not there when it happened know it as well.
    os.kill(runtime.manager_pid(), signal.SIGKILL)
    subprocess.run(["mount", "-o", "remount,size=96m", str(directory)], check=True)

    def log() -> str:
        return runtime.kubectl("logs", status(runtime, "full").get("podName", ""), ok=False).stdout

    eventually(lambda: "GUEST-WROTE-ALL" in log(), 60, "the guest goes on")
    eventually(lambda: condition(runtime, "full", "Ready")["status"] == "True", what="it is ready again")
    assert condition(runtime, "full", "Paused")["status"] == "False"
    assert list(runtime.qemu()) == [pid]
    with (directory / "disk.raw").open("rb") as file:
        assert file.read(10 * MIB).strip(b"x") == b""


def test_a_disk_that_somebody_else_has_open_is_named(runtime: Cluster) -> None:
    """QEMU's locks keep two writers apart even where no controller knows of the other; and what QEMU says is told."""
    runtime.apply(disk("locked"))
    runtime.wait_for(".status.phase", "Succeeded", "vmdisk", "locked")
    (image,) = runtime.directory.glob("vm/disks/default/locked_*/disk.raw")
    other = subprocess.Popen(["qemu-io", "-f", "raw", str(image)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write(b"length\n")
        other.stdin.flush()
        assert b"16 MiB" in other.stdout.readline()  # it has the disk open now
        runtime.apply(vm("locked", ["locked"]))
        runtime.wait_for(".status.state", "CrashLoopBackOff", "gvm", "locked")
        assert "lock" in status(runtime, "locked")["message"]
        assert "lock" in runtime.kubectl("get", "events", "--field-selector", "reason=MachineFailed").stdout
    finally:
        other.communicate(b"quit\n", timeout=40)
    runtime.wait_for(".status.state", "Running", "gvm", "locked")
