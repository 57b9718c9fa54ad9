"""One server for all compatibility tests, driven from outside."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.fixture
def namespace(cluster, request):
    """A namespace of the test's own."""
    stem = request.node.name.partition("[")[0].replace("_", "-").lower()[:50].strip("-")
    name = f"{stem}-{next(_numbers)}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")
