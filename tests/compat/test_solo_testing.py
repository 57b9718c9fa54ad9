"""The pytest plug-in that gives operators' tests a real API server."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kube.client.config import load_kubeconfig
from kube.machinery.resources import DEPLOYMENTS, PODS
from solo.testing import ServerError, run_server

OPERATOR_TEST = """
from kube.machinery.resources import CONFIGMAPS

pytest_plugins = ["solo.testing"]

def test_a_server_and_a_namespace(solo_server, solo_namespace):
    with solo_server.client() as client:
        client.create(CONFIGMAPS, {"metadata": {"name": "a"}}, solo_namespace)
        assert client.get(CONFIGMAPS, "a", solo_namespace)["metadata"]["namespace"] == solo_namespace
"""


def test_the_fixtures(tmp_path):
    test = tmp_path / "test_operator.py"
    test.write_text(OPERATOR_TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_pods_end_with_the_server(tmp_path):
    with run_server(tmp_path) as server:
        spec = {"containers": [{"name": "c", "image": "host", "command": ["sleep", "1000"]}]}
        with server.client() as client:
            client.create(PODS, {"metadata": {"name": "p"}, "spec": spec}, "default")
            with contextlib.closing(client.watch(PODS, "default", timeout=30)) as events:
                assert any(event["object"].get("status", {}).get("phase") == "Running" for event in events)
        started = time.monotonic()
    assert time.monotonic() - started < 25
    assert not list((tmp_path / "data" / "pods").iterdir())


def test_a_server_connects_to_itself_without_the_network(tmp_path):
    """Its controllers and its node agent work, and no connection is open to its port."""
    with run_server(tmp_path) as server, server.client() as client:
        port = int(load_kubeconfig(str(server.kubeconfig)).server.rpartition(":")[2])
        spec = {"containers": [{"name": "c", "image": "host", "command": ["sleep", "1000"]}]}
        template = {"metadata": {"labels": {"app": "a"}}, "spec": spec}
        deployment = {"selector": {"matchLabels": {"app": "a"}}, "template": template}
        client.create(DEPLOYMENTS, {"metadata": {"name": "d"}, "spec": deployment}, "default")
        with contextlib.closing(client.watch(PODS, "default", timeout=30)) as events:
            assert any(event["object"].get("status", {}).get("phase") == "Running" for event in events)
        assert len(connections_to(port)) == 1  # the client's here, kept for its next request


def connections_to(port: int) -> list[str]:
    """The local ends of established TCP connections to a port of this machine."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[1] for row in rows if row[3] == "01" and row[2].endswith(f":{port:04X}")]


def test_a_server_that_cannot_start_says_why(tmp_path):
    with pytest.raises(ServerError, match="cannot listen"), run_server(tmp_path, "--listen", "192.0.2.1"):
        pass
