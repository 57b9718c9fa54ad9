"""One cluster for all end-to-end tests, and the guest image that they boot."""

from __future__ import annotations

import json
import random
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster import Cluster, eventually

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running cluster; afterwards it is reset, and nothing of it may be left."""
    made = Cluster(tmp_path_factory.mktemp("e2e") / "bmctl-workspace", "e2e")
    made.bmctl("create", "cluster", "-c", made.name, "--port", str(quiet_port()))
    yield made
    made.bmctl("reset", "-c", made.name, "--yes")
    assert not made.directory.exists()
    assert made.processes() == {}


def quiet_port() -> int:
    """A free port that neither other clusters look for when they start, nor the kernel gives to connections.

    So nobody takes it while the cluster is stopped for a moment.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


@pytest.fixture
def disabled(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with the runtime switched off, and no VM, disk or annotation of another test."""
    clean(cluster)
    yield cluster
    clean(cluster)


@pytest.fixture
def runtime(disabled: Cluster) -> Cluster:
    """The cluster with the runtime enabled under emulation, and nothing in it yet."""
    disabled.kubectl("patch", "vmruntime", "vmruntime", "--type=merge", "-p", '{"spec":{"useEmulation":true}}')
    disabled.bmctl("enable", "vmruntime")
    return disabled


def clean(cluster: Cluster) -> None:
    runtime = cluster.get("vmruntime", "vmruntime")
    if runtime["spec"].get("enabled") or runtime.get("status", {}).get("ready"):
        cluster.bmctl("disable", "vmruntime", "--force=true", "--yes", ok=False)
    cluster.kubectl("delete", "virtualmachinedisk", "--all", "-A", ok=False)
    annotations = dict.fromkeys(runtime["metadata"].get("annotations", {}))
    reset = {
        "metadata": {"annotations": annotations},
        "spec": {"enabled": False, "useEmulation": None, "vmImageFormat": None},
    }
    cluster.kubectl("patch", "vmruntime", "vmruntime", "--type=merge", "-p", json.dumps(reset))
    eventually(lambda: not cluster.items("virtualmachinedisk", "-A"), what="disks of the last test are gone")
    assert cluster.qemu() == {}


@pytest.fixture(scope="session")
def guest() -> Path:
    """The directory of the small guest's images (`tiny.raw`, `tiny.qcow2`), built once and kept in .cache."""
    target = REPOSITORY / ".cache" / "guest"
    subprocess.run([str(REPOSITORY / "scripts" / "build_guest.sh"), str(target)], check=True, capture_output=True)
    return target


@pytest.fixture(scope="session")
def guest_with_agent() -> Path:
    """The small guest's image with a guest agent in it, built once and kept in .cache."""
    target = REPOSITORY / ".cache" / "guest"
    script = str(REPOSITORY / "scripts" / "build_guest.sh")
    subprocess.run([script, str(target), "agent"], check=True, capture_output=True)
    return target / "tiny-agent.qcow2"
