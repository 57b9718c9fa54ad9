"""A real API server for tests: with pytest, say `pytest_plugins = ["solo.testing"]` and use the fixture `solo_server`.

The server is a process of its own, ready in less than a second. Its pods are host processes as always; those that a
test leaves behind are ended with the server.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kube.client.config import load_kubeconfig
from kube.client.errors import ConnectionFailed
from kube.client.sync import SyncClient
from kube.machinery.errors import StatusError
from kube.machinery.resources import (
    CRONJOBS,
    DAEMONSETS,
    DEPLOYMENTS,
    JOBS,
    NAMESPACES,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    STATEFULSETS,
)

START_SECONDS = 60.0
STOP_SECONDS = 30.0
_GRACE = 1
"""Not 0, which removes a pod's object at once: like this it goes when nothing of the pod is left on the machine."""


class ServerError(Exception):
    """The server did not start or stop as it should; the message ends with its log."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server: where the administrator's kubeconfig is, and its process."""

    kubeconfig: Path
    log: Path
    process: subprocess.Popen[bytes]

    def client(self) -> SyncClient:
        """A client with all rights, to be closed by the caller (`with server.client() as client`)."""
        return SyncClient(load_kubeconfig(str(self.kubeconfig)))


@contextlib.contextmanager
def run_server(directory: Path, *arguments: str) -> Iterator[RunningServer]:
    """A server with its data in `directory`, on a free port; `arguments` are further ones of `python -m solo`.

    Raises ServerError.
    """
    server = _start(directory, arguments)
    try:
        yield server
        _end_pods(server)
    finally:
        _stop(server)


def _start(directory: Path, arguments: tuple[str, ...]) -> RunningServer:
    kubeconfig, log_path = directory / "kubeconfig", directory / "solo.log"
    ready, tell = os.pipe()
    command = [sys.executable, "-m", "solo", "--data", str(directory / "data"), "--port", "0"]
    command += ["--kubeconfig", str(kubeconfig), "--ready-fd", str(tell), *arguments]
    with log_path.open("ab") as log:
        process = subprocess.Popen(command, pass_fds=[tell], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    os.close(tell)
    server = RunningServer(kubeconfig, log_path, process)
    try:
        told = os.read(ready, 4096) if select.select([ready], [], [], START_SECONDS)[0] else b""
    finally:
        os.close(ready)
    if told != b"READY\n":
        _stop(server)
        raise ServerError(f"the server did not start: {told.decode() or 'no word'}\n{log_path.read_text()}")
    return server


# In the order in which they make each other, or pods.
_MAKERS = (CRONJOBS, DEPLOYMENTS, REPLICASETS, DAEMONSETS, STATEFULSETS, JOBS, REPLICATIONCONTROLLERS)


def _end_pods(server: RunningServer) -> None:
    """End what would outlive the server: pods, and what would make them anew."""
    if server.process.poll() is not None:
        return
    with contextlib.suppress(StatusError, ConnectionFailed), server.client() as client:
        for resource in (*_MAKERS, PODS):
            for obj in client.list(resource)["items"]:
                meta = obj["metadata"]
                with contextlib.suppress(StatusError):
                    client.delete(resource, meta["name"], meta["namespace"], grace=_GRACE)
        listed = client.list(PODS)
        left = len(listed["items"])
        version = listed["metadata"]["resourceVersion"]
        with contextlib.closing(client.watch(PODS, resource_version=version, timeout=STOP_SECONDS)) as events:
            while left > 0 and (event := next(events, None)) is not None:
                left += {"ADDED": 1, "DELETED": -1}.get(event["type"], 0)


def _stop(server: RunningServer) -> None:
    process = server.process
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise ServerError(f"the server did not stop\n{server.log.read_text()}") from None


@pytest.fixture(scope="session")
def solo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server for all tests of a session."""
    with run_server(tmp_path_factory.mktemp("solo")) as server:
        yield server


@pytest.fixture
def solo_namespace(solo_server: RunningServer) -> Iterator[str]:
    """The name of a namespace of the test's own, deleted after it."""
    with solo_server.client() as client:
        made = client.create(NAMESPACES, {"metadata": {"generateName": "test-"}})
        name: str = made["metadata"]["name"]
        yield name
        client.delete(NAMESPACES, name)
