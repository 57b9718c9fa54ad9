"""Many machines at once: all run, none is lost, and nothing of them is left. `make soak` takes more of them."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from e2e import soak_checks
from e2e.cluster import Cluster, disk, eventually, vm
from e2e.soak_checks import MIB, NAMESPACE, Disk, Found, Machine
from kube.client.config import load_kubeconfig
from kube.client.sync import SyncClient
from vmruntime.api import virtualmachine

EMPTY = int(os.environ.get("EMPTY", "10"))
GUESTS = int(os.environ.get("GUESTS", "1"))
GAP_SECONDS = 0.1
# The small guest needs about five seconds of a processor to boot under emulation.
BOOT_SECONDS = 60 + 10 * GUESTS
# Its creation, its pod, that runs, an event of that, its status, and its interface. A machine that takes longer than a
# second to start has a status more.
WRITES = 6


def writes_about(cluster: Cluster, machine: str) -> list[str]:
    """The kinds of the objects that were written for a machine, of a cluster that has seen no other of its name."""
    own = re.compile(rf"(virt-launcher-)?{machine}([-.].*)?")
    with closing(sqlite3.connect(f"file:{cluster.directory}/solo/state.db?mode=ro", uri=True)) as store:
        written = store.execute("SELECT resource, name FROM versions WHERE namespace = ? ORDER BY rv", (NAMESPACE,))
        return [resource for resource, name in written if own.fullmatch(name)]


def versions(cluster: Cluster, machine: str) -> list[dict[str, Any]]:
    """What its object said, write after write, but for numbers that come along with the rest."""
    with closing(sqlite3.connect(f"file:{cluster.directory}/solo/state.db?mode=ro", uri=True)) as store:
        kind = f"{virtualmachine.RESOURCE.plural}.{virtualmachine.RESOURCE.group}"
        written = store.execute("SELECT raw FROM versions WHERE resource = ? AND name = ? ORDER BY rv", (kind, machine))
        found = [json.loads(raw) for (raw,) in written]
    for obj in found:
        obj["metadata"].pop("resourceVersion")
        obj["metadata"].pop("managedFields", None)
        obj.get("status", {}).pop("timings", None)
    return found


@pytest.mark.timeout(120 + 3 * EMPTY + 3 * BOOT_SECONDS)
def test_many_machines_at_once(runtime: Cluster, guest: Path) -> None:
    target = runtime.directory / "images" / "tiny.qcow2"
    target.write_bytes((guest / "tiny.qcow2").read_bytes())
    disks = {f"g{number}-disk": Disk(64 * MIB) for number in range(GUESTS)}
    empty = {f"e{number}": Machine([]) for number in range(EMPTY)}
    guests = {f"g{number}": Machine([f"g{number}-disk"], memory=128) for number in range(GUESTS)}
    with SyncClient(load_kubeconfig(str(runtime.kubeconfig))) as client:
        for name, machine in {**empty, **guests}.items():
            wanted = vm(name, machine.disks, terminationGracePeriodSeconds=0 if not machine.disks else 30)
            wanted["spec"]["compute"]["memory"]["capacity"] = f"{machine.memory}Mi"
            client.create(virtualmachine.RESOURCE, wanted, NAMESPACE)
            time.sleep(GAP_SECONDS)
    # After the machines, which wait for them.
    runtime.apply(*[disk(name, "64Mi", source={"file": {"url": f"file://{target}"}}) for name in disks])

    def wrong() -> list[str]:
        found = Found.of(runtime)
        assert not soak_checks.had_twice(found.running)
        return soak_checks.wrong(found, empty | guests, disks)

    eventually(lambda: not wrong(), BOOT_SECONDS + EMPTY, "all machines run")
    restarts = [entry["status"].get("restarts", 0) for entry in runtime.items("gvm")]
    assert restarts == [0] * (EMPTY + GUESTS)
    fewest = min((writes_about(runtime, name) for name in empty), key=len)
    assert 0 < len(fewest) <= WRITES, fewest
    for name in guests:
        said = versions(runtime, name)
        assert len(said) > 1 and not any(before == after for before, after in pairwise(said)), name

    def booted() -> int:
        logs = runtime.directory.glob("solo/pods/*/compute/*.log")
        return sum("TINY-READY" in path.read_text(errors="replace") for path in logs)

    eventually(lambda: booted() == GUESTS, BOOT_SECONDS, "all guests have booted")
    assert wrong() == []
    runtime.kubectl("delete", "gvm,vmdisk", "--all", timeout=90 + BOOT_SECONDS)
    eventually(lambda: not runtime.items("pods"), what="the pods are gone")
    eventually(lambda: not soak_checks.wrong(Found.of(runtime), {}, {}), what="nothing is left")
    assert runtime.qemu() == {}
    assert list((runtime.directory / "vm" / "instances").iterdir()) == []
    assert list((runtime.directory / "vm" / "disks").iterdir()) == []
