"""What has to be true of a cluster whatever was done to it, against what was asked for; looked at from outside."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench import processes

from e2e.cluster import Cluster
from kube.client.config import load_kubeconfig
from kube.client.sync import SyncClient
from kube.machinery.quantity import quantity_to_int
from kube.machinery.resources import PODS
from vmruntime.api import virtualmachine, virtualmachinedisk

MIB = 1 << 20
NAMESPACE = "default"
BLOCK = 4096
# What control plane and manager may come to with a handful of machines, whatever they went through. The control plane
# watches each kind of object over a connection to itself, which are two descriptors.
_MEMORY_LIMIT, _DESCRIPTOR_LIMIT = 200 * MIB, 350

Obj = dict[str, Any]


@dataclass
class Disk:
    """A disk as it was asked for. `patterns`: what was written to it, by offset. `copying`: of which disk."""

    size: int
    patterns: dict[int, bytes] = field(default_factory=dict)
    copying: str = ""
    cdrom: bool = False


@dataclass
class Machine:
    """A machine as it was asked for."""

    disks: list[str]
    running: bool = True
    vcpus: int = 1
    memory: int = 64
    auto_restart: bool = False


@dataclass
class Found:
    """What there is, at one moment."""

    directory: Path
    machines: list[Obj]
    disks: list[Obj]
    pods: list[Obj]
    running: list[list[str]]

    @classmethod
    def of(cls, cluster: Cluster) -> Found:
        """Raises StatusError or ConnectionFailed while the API does not answer."""
        with SyncClient(load_kubeconfig(str(cluster.kubeconfig))) as client:
            machines, disks, pods = (
                client.list(resource, NAMESPACE)["items"]
                for resource in (virtualmachine.RESOURCE, virtualmachinedisk.RESOURCE, PODS)
            )
        return cls(cluster.directory, machines, disks, pods, list(cluster.qemu().values()))


def wrong(found: Found, machines: dict[str, Machine], disks: dict[str, Disk]) -> list[str]:
    """All that is not as it was asked for, in words."""
    return [
        *_wrong_machines(found, machines, disks),
        *_wrong_disks(found, disks),
        *_leftovers(found),
        *_wrong_network(found),
    ]


def _wrong_machines(found: Found, wanted: dict[str, Machine], disks: dict[str, Disk]) -> Iterator[str]:
    present = {machine["metadata"]["name"]: machine for machine in found.machines}
    if present.keys() != wanted.keys():
        yield f"machines are {sorted(present)}, and not {sorted(wanted)}"
    for name in wanted.keys() & present.keys():
        status = present[name].get("status", {})
        state = "Running" if wanted[name].running else "Stopped"
        if status.get("state") != state:
            yield f"{name} is {status.get('state')} ({status.get('reason')}: {status.get('message')}), not {state}"
            continue
        own = [words for words in found.running if machine_uid(words) == present[name]["metadata"]["uid"]]
        if len(own) != wanted[name].running:
            yield f"{name} has {len(own)} processes and is {state}"
        elif own:
            yield from _wrong_change(name, wanted[name], status, own[0], disks)


def _wrong_change(name: str, wanted: Machine, status: Obj, words: list[str], disks: dict[str, Disk]) -> Iterator[str]:
    """A machine that runs either is what its spec says, or says that it waits for a restart."""
    written = [Path(path).parent.name.rpartition("_")[0] for path in written_files(words)]
    told = [entry["name"] for entry in status.get("disks", [])]
    is_new = (
        f"size={wanted.memory}M" in words
        and any(word.startswith(f"cpus={wanted.vcpus},") for word in words)
        and sorted(told) == sorted(wanted.disks)
        and sorted(written) == sorted(disk for disk in wanted.disks if not disks[disk].cdrom)
    )
    waits = any(entry["type"] == "RestartRequired" and entry["status"] == "True" for entry in status["conditions"])
    if waits == is_new or (waits and wanted.auto_restart):
        yield f"{name} has {told}, writes to {written}, wants {wanted}, RestartRequired is {waits}: {words}"


def _wrong_disks(found: Found, wanted: dict[str, Disk]) -> Iterator[str]:
    present = {entry["metadata"]["name"]: entry for entry in found.disks}
    if present.keys() != wanted.keys():
        yield f"disks are {sorted(present)}, and not {sorted(wanted)}"
    for name in wanted.keys() & present.keys():
        status = present[name].get("status", {})
        path = found.directory / "vm/disks" / NAMESPACE / f"{name}_{present[name]['metadata']['uid']}" / "disk.raw"
        if status.get("phase") != "Succeeded":
            yield f"disk {name} is {status}"
        elif not path.exists():
            yield f"disk {name} has no data"
        else:
            yield from _wrong_data(name, wanted[name], quantity_to_int(status["virtualSize"]), path.read_bytes())


def _wrong_data(name: str, wanted: Disk, told: int, content: bytes) -> Iterator[str]:
    if not told == len(content) == wanted.size:
        yield f"disk {name} has {told} in its status and {len(content)} on disk, not {wanted.size}"
    for offset, data in wanted.patterns.items():
        if content[offset : offset + BLOCK] != data:
            yield f"disk {name} has lost what was written at {offset}"


def _leftovers(found: Found) -> Iterator[str]:
    """Processes, pods and files of machines and disks that there are no more."""
    machines = {entry["metadata"]["uid"] for entry in found.machines}
    disks = {entry["metadata"]["uid"] for entry in found.disks}
    yield from (f"a process of no machine: {words}" for words in found.running if machine_uid(words) not in machines)
    for entry in found.pods:
        owner = entry["metadata"]["ownerReferences"][0]["uid"]
        if owner not in machines or entry["status"].get("phase") != "Running":
            yield f"pod {entry['metadata']['name']} is left"
    for kind, known in (("instances/*", machines), ("disks/*/*", disks)):
        paths = found.directory.glob(f"vm/{kind}")
        yield from (f"{path} is left" for path in paths if path.name.rpartition("_")[2] not in known)
    yield from (f"{path} is left" for path in found.directory.glob("vm/disks/*/*/import"))
    pods = {path.name for path in found.directory.glob("solo/pods/*")}
    left = pods - {entry["metadata"]["uid"] for entry in found.pods}
    if len(left) > 1:  # one is the controller manager's, in another namespace
        yield f"directories of pods are left: {sorted(left)}"


def _wrong_network(found: Found) -> Iterator[str]:
    """Every process has its taps and the rules for them, nobody else has any; where the cluster makes some at all."""
    try:
        identity = json.loads((found.directory / "vm" / "network.json").read_text())["id"]
    except FileNotFoundError:
        return
    used = {name for words in found.running for word in words for name in re.findall(r"ifname=(\w+)", word)}
    taps = {path.name for path in Path("/sys/class/net").glob(f"vmt{identity}*")}
    command = ["nft", "list", "table", "bridge", f"vmruntime_{identity}"]
    rules = set(re.findall(r'"(vmt\w+)"', subprocess.run(command, capture_output=True, text=True, check=False).stdout))
    if not used == taps == rules:
        yield f"machines use the taps {sorted(used)}, there are {sorted(taps)}, and rules for {sorted(rules)}"


def had_twice(running: Iterable[list[str]]) -> set[str]:
    """Machines that have several of these processes, and disks that several write to."""
    had = Counter(name for words in running for name in (machine_uid(words), *written_files(words)))
    return {name for name, number in had.items() if number > 1}


def machine_uid(words: list[str]) -> str:
    return words[words.index("-uuid") + 1]


def written_files(words: list[str]) -> list[str]:
    """The files that a QEMU has open for writing."""
    nodes = [json.loads(word) for before, word in pairwise(words) if before == "-blockdev"]
    return [node["file"]["filename"] for node in nodes if not node["read-only"]]


def figures(name: str, pid: int) -> str:
    """Memory and descriptors of a process. AssertionError where they are beyond all bounds."""
    memory, descriptors = processes.pss(pid), len(os.listdir(f"/proc/{pid}/fd"))
    text = f"{name} {memory // MIB} MiB {descriptors} descriptors"
    assert memory < _MEMORY_LIMIT, text
    assert descriptors < _DESCRIPTOR_LIMIT, text
    return text
