"""Disk images by HTTP: from the object to a disk that is whole, against `curl` and `qemu-img convert` by hand."""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.processes import free_port
from kube.client.sync import SyncClient
from vmruntime.api import virtualmachinedisk

Obj = dict[str, Any]
NAMESPACE = "default"
DISK_BYTES = 2 << 30
_PIECES = 100
_PIECE_BYTES = 5_000_000
_WARM_BYTES = 3 << 30


def make_image(directory: Path) -> Path:
    """A qcow2 of 2 GiB with 500 MB in it that cannot be compressed, in a hundred places."""
    raw, image = directory / "source.raw", directory / "source.qcow2"
    with raw.open("wb") as out:
        for index in range(_PIECES):
            out.seek(index * (DISK_BYTES // _PIECES))
            out.write(os.urandom(_PIECE_BYTES))
        out.truncate(DISK_BYTES)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, image], check=True)
    raw.unlink()
    return image


@contextlib.contextmanager
def served(directory: Path) -> Iterator[str]:
    """The address of a web server, a process of its own, with this directory."""
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(directory)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int) -> None:
    until = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return


def settle() -> None:
    """Nothing left to write, and memory that this machine really has.

    A virtual machine is given memory by its host when it first touches it, which can take longer than all that is
    measured here; memory that was used and is free again it has.
    """
    os.sync()
    with mmap.mmap(-1, _WARM_BYTES) as memory:
        for page in range(0, _WARM_BYTES, mmap.PAGESIZE):
            memory[page] = 1


def by_hand(url: str, directory: Path, image_format: str) -> tuple[float, float]:
    """Seconds of the download, and of the conversion with its result on stable storage like that of an import."""
    image, disk = directory / "image", directory / "disk"
    settle()
    began = time.perf_counter()
    subprocess.run(["curl", "-sf", "-o", image, url], check=True)
    downloaded = time.perf_counter()
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", image_format, image, disk], check=True)
    subprocess.run(["sync", disk], check=True)
    done = time.perf_counter()
    image.unlink()
    disk.unlink()
    return downloaded - began, done - downloaded


def drop_cached(cache: Path) -> None:
    """Nothing of an import stays in memory, as nothing does of what was done by hand: both begin alike."""
    for image in cache.glob("*/*/*"):
        image.unlink()


def create_and_wait(client: SyncClient, name: str, url: str, timeout: float = 120.0) -> float:
    """Seconds from the POST of a disk until the watch event in which it has Succeeded."""
    resource = virtualmachinedisk.RESOURCE
    spec = {"size": str(DISK_BYTES), "source": {"http": {"url": url}}}
    disk = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name}, "spec": spec}
    settle()
    version = client.list(resource, NAMESPACE)["metadata"]["resourceVersion"]
    began = time.perf_counter()
    client.create(resource, disk, NAMESPACE)
    for event in client.watch(resource, NAMESPACE, resource_version=version, timeout=timeout):
        status = event["object"].get("status", {})
        if status.get("phase") == virtualmachinedisk.SUCCEEDED:
            return time.perf_counter() - began
        if status.get("phase") in (virtualmachinedisk.FAILED, virtualmachinedisk.ERROR_CONFIGURATION):
            raise RuntimeError(f"{name}: {status.get('message')}")
    raise TimeoutError(f"{name} was not there within {timeout:.0f} s")


def delete(client: SyncClient, name: str) -> None:
    """Delete a disk, and wait until it is gone."""
    resource = virtualmachinedisk.RESOURCE
    client.delete(resource, name, NAMESPACE)
    until = time.monotonic() + 60
    while any(disk["metadata"]["name"] == name for disk in client.list(resource, NAMESPACE)["items"]):
        if time.monotonic() > until:
            raise TimeoutError(f"{name} is not gone")
        time.sleep(0.05)
