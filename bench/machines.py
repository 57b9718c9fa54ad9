"""Virtual machines with nothing to boot: how long until QEMU runs, against QEMU started by hand."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from kube.client.sync import SyncClient
from vmruntime.api import virtualmachine

Obj = dict[str, Any]
NAMESPACE = "default"


def manifest(name: str) -> Obj:
    """64 MiB, no disk: SeaBIOS finds nothing to boot."""
    compute = {"cpu": {"vcpus": 1}, "memory": {"capacity": "64Mi"}}
    return {
        "apiVersion": virtualmachine.RESOURCE.api_version,
        "kind": virtualmachine.RESOURCE.kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"compute": compute, "terminationGracePeriodSeconds": 0},
    }


def create_and_wait(client: SyncClient, names: list[str], gap: float = 0.0, timeout: float = 120.0) -> list[float]:
    """Create machines `gap` seconds apart; for each, the seconds from its POST until its state is Running.

    The states come over one watch that is open before the first POST.
    """
    began: dict[str, float] = {}
    took: dict[str, float] = {}
    version = client.list(virtualmachine.RESOURCE, NAMESPACE)["metadata"]["resourceVersion"]
    ready = threading.Event()

    def follow() -> None:
        with SyncClient(client.config) as watcher:
            ready.set()
            events = watcher.watch(virtualmachine.RESOURCE, NAMESPACE, resource_version=version, timeout=timeout)
            for event in events:
                vm = event["object"]
                name = vm["metadata"]["name"]
                if vm.get("status", {}).get("state") == virtualmachine.RUNNING and name not in took:
                    took[name] = time.perf_counter() - began[name]
                    if len(took) == len(names):
                        return

    thread = threading.Thread(target=follow)
    thread.start()
    ready.wait()
    for name in names:
        began[name] = time.perf_counter()
        client.create(virtualmachine.RESOURCE, manifest(name), NAMESPACE)
        time.sleep(gap)
    thread.join(timeout)
    if len(took) < len(names):
        raise RuntimeError(f"only {len(took)} of {len(names)} machines were running after {timeout:.0f} s")
    return [took[name] for name in names]


def delete_all(client: SyncClient, timeout: float = 120.0) -> None:
    """Delete every machine and wait until the last one is gone."""
    for vm in client.list(virtualmachine.RESOURCE, NAMESPACE)["items"]:
        client.delete(virtualmachine.RESOURCE, vm["metadata"]["name"], NAMESPACE)
    deadline = time.monotonic() + timeout
    while client.list(virtualmachine.RESOURCE, NAMESPACE)["items"]:
        if time.monotonic() > deadline:
            raise RuntimeError("machines are still there")
        time.sleep(0.1)


def revision(client: SyncClient) -> int:
    """The server's count of writes so far. A lease that is renewed meanwhile counts too, once in ten seconds."""
    return int(client.list(virtualmachine.RESOURCE, NAMESPACE)["metadata"]["resourceVersion"])


def bare_start(command: list[str], directory: Path) -> tuple[float, subprocess.Popen[bytes]]:
    """Start QEMU by hand: seconds until its QMP socket greets, and the process. `command` has `qmp.sock` in it."""
    for name in ("qmp.sock", "serial.sock", "vnc.sock", "ga.sock"):
        (directory / name).unlink(missing_ok=True)
    began = time.perf_counter()
    with (directory / "out").open("wb") as out:
        process = subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    with socket.socket(socket.AF_UNIX) as qmp:
        while True:
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                qmp.connect(str(directory / "qmp.sock"))
                break
            if process.poll() is not None:
                raise RuntimeError(f"QEMU ended: {(directory / 'out').read_text()}")
            time.sleep(0.001)
        qmp.recv(4096)
    return time.perf_counter() - began, process
