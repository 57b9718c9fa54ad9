"""One server for all compatibility tests, driven from outside."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compat.wire import Wire
from kube.client.config import load_kubeconfig
from kube.client.sync import SyncClient
from kube.machinery.resources import CRDS, NAMESPACES
from solo.testing import run_server

_numbers = itertools.count()


def find_kubectl() -> str | None:
    """The kubectl that KUBECTL names, that of the virtual environment (the newest), or the one on the path."""
    if os.environ.get("KUBECTL"):
        return os.environ["KUBECTL"]
    beside = Path(sys.executable).with_name("kubectl")
    return str(beside) if beside.exists() else shutil.which("kubectl")


class Cluster:
    """A running `python -m solo` and ways to talk to it."""

    def __init__(self, directory: Path, kubectl: str, process: subprocess.Popen) -> None:
        self.directory = directory
        self.process = process
        self.kubeconfig = directory / "kubeconfig"
        self._kubectl = kubectl

    @property
    def command(self) -> list[str]:
        """The beginning of a command line of kubectl."""
        return [self._kubectl, "--kubeconfig", str(self.kubeconfig)]

    def run(self, *arguments: str, stdin: str = "", env: dict | None = None) -> subprocess.CompletedProcess:
        command = [*self.command, *arguments]
        environment = {**os.environ, "HOME": str(self.directory), **(env or {})}
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, env=environment)

    def kubectl(self, *arguments: str, stdin: str = "", env: dict | None = None) -> str:
        done = self.run(*arguments, stdin=stdin, env=env)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def fails(self, *arguments: str, stdin: str = "") -> str:
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def get(self, *arguments: str) -> dict:
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *objects: dict, namespace: str = "default") -> str:
        together = {"apiVersion": "v1", "kind": "List", "items": objects}
        return self.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(together))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    kubectl = find_kubectl()
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    directory = tmp_path_factory.mktemp("cluster")
    with run_server(directory, "--node-name", "here") as server:
        yield Cluster(directory, kubectl, server.process)
    assert server.process.returncode == 0, server.log.read_text()


@pytest.fixture(scope="session")
def admin(cluster):
    """A client with all rights, for what a test only needs and does not show."""
    with SyncClient(load_kubeconfig(str(cluster.kubeconfig))) as client:
        yield client


@pytest.fixture
def namespace(admin, request):
    """A namespace of the test's own."""
    stem = re.sub("[^a-z0-9]+", "-", request.node.name.partition("[")[0].lower())[:50].strip("-")
    name = f"{stem}-{next(_numbers)}"
    admin.create(NAMESPACES, {"metadata": {"name": name}})
    yield name
    admin.delete(NAMESPACES, name)


@pytest.fixture(scope="session")
def wire(cluster, tmp_path_factory):
    return Wire(cluster.kubeconfig, tmp_path_factory.mktemp("wire"))


@pytest.fixture(scope="session")
def gears(admin):
    """A namespaced kind `Gear` of `gears.example.com/v1` with a status; the name of its definition."""
    part = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}}}
    version["schema"] = {"openAPIV3Schema": {"type": "object", "properties": {"spec": part, "status": part}}}
    names = {"plural": "gears", "singular": "gear", "kind": "Gear", "listKind": "GearList"}
    spec = {"group": "gears.example.com", "scope": "Namespaced", "versions": [version], "names": names}
    name = "gears.gears.example.com"
    admin.create(CRDS, {"apiVersion": CRDS.api_version, "kind": CRDS.kind, "metadata": {"name": name}, "spec": spec})
    yield name
    admin.delete(CRDS, name)


def sleeping_pod(name: str, script: str = "echo one; exec sleep 600") -> dict:
    """A pod that runs a shell script as a process of the host."""
    spec = {"containers": [{"name": "c", "image": "host", "command": ["sh", "-c", script]}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {**spec, "terminationGracePeriodSeconds": 0},
    }


def http_pod(name: str) -> dict:
    """A pod that serves HTTP; its log begins with its port."""
    pod = sleeping_pod(name)
    server = "import http.server as h; s = h.HTTPServer(('127.0.0.1', 0), h.SimpleHTTPRequestHandler); "
    server += "print(s.server_port, flush=True); s.serve_forever()"
    pod["spec"]["containers"][0]["command"] = [sys.executable, "-c", server]
    return pod
