"""The small guest's own first line on its serial console: through the cluster, against QEMU started by hand."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import machines
from kube.client.sync import SyncClient
from vmruntime.api import virtualmachine, virtualmachinedisk

REPOSITORY = Path(__file__).resolve().parents[1]
MARK = b"TINY-READY"
SECONDS = 120.0


def image() -> Path:
    """The guest's image, built if it is not there yet."""
    directory = REPOSITORY / ".cache" / "guest"
    subprocess.run([str(REPOSITORY / "scripts" / "build_guest.sh"), str(directory)], check=True, capture_output=True)
    return directory / "tiny.raw"


def import_disk(client: SyncClient, name: str, source: Path, images: Path) -> None:
    """Bring `source` in as the disk `name` and wait until it is whole."""
    shutil.copyfile(source, images / source.name)
    disk: dict[str, Any] = {
        "apiVersion": virtualmachinedisk.RESOURCE.api_version,
        "kind": virtualmachinedisk.RESOURCE.kind,
        "metadata": {"name": name, "namespace": machines.NAMESPACE},
        "spec": {"size": "64Mi", "source": {"file": {"url": f"file://{images / source.name}"}}},
    }
    client.create(virtualmachinedisk.RESOURCE, disk, machines.NAMESPACE)
    deadline = time.monotonic() + SECONDS
    while not virtualmachinedisk.is_ready(client.get(virtualmachinedisk.RESOURCE, name, machines.NAMESPACE)):
        if time.monotonic() > deadline:
            raise RuntimeError("the guest's disk was not imported")
        time.sleep(0.05)


def first_line(client: SyncClient, name: str, disk: str, logs: Path) -> float:
    """Seconds from the POST of a machine with this disk to its guest's first line in its pod's log."""
    vm = machines.manifest(name)
    vm["spec"]["compute"]["memory"]["capacity"] = "128Mi"
    vm["spec"]["disks"] = [{"virtualMachineDiskName": disk, "boot": True}]
    old = set(logs.glob("*/compute/*.log"))
    began = time.perf_counter()
    client.create(virtualmachine.RESOURCE, vm, machines.NAMESPACE)
    while time.perf_counter() - began < SECONDS:
        new = set(logs.glob("*/compute/*.log")) - old
        if any(MARK in log.read_bytes() for log in new):
            return time.perf_counter() - began
        time.sleep(0.02)
    raise RuntimeError("the guest said nothing")


def bare_first_line(command: list[str], disk: Path) -> float:
    """The same for QEMU started by hand with the same command line and a copy of the same disk."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        shutil.copyfile(disk, directory / "disk.raw")
        words = [_with_disk(word, directory / "disk.raw") for word in command]
        began = time.perf_counter()
        _, process = machines.bare_start(words, directory)
        try:
            while MARK not in (directory / "out").read_bytes():
                if time.perf_counter() - began > SECONDS:
                    raise RuntimeError("the guest said nothing")
                time.sleep(0.02)
            return time.perf_counter() - began
        finally:
            process.kill()
            process.wait()


def _with_disk(word: str, path: Path) -> str:
    """A word of the command line with the disk's path replaced, and without port forwards."""
    if not word.startswith("{"):
        return word.split(",hostfwd=")[0]
    node = json.loads(word)
    if Path(node["file"]["filename"]).name.startswith("disk."):
        node["file"]["filename"] = str(path)
    return json.dumps(node)
