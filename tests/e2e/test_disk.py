"""Disks: where their content may come from, in which format they are kept, and what is said when it fails."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster import Cluster, disk, eventually, vm

CONTENT = bytes(range(256)) * 4096  # 1 MiB that is not zero


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on loopback and its directory."""
    with serving(tmp_path) as port:
        yield f"http://127.0.0.1:{port}", tmp_path


@contextlib.contextmanager
def serving(directory: Path, port: int = 0) -> Iterator[int]:
    """The port of a web server that has a directory; 0: any."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(directory))

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Quiet) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running.server_port
        running.shutdown()
        thread.join()


def file_of(cluster: Cluster, name: str) -> Path:
    (found,) = (cluster.directory / "vm" / "disks").glob(f"*/{name}_*/disk.*")
    return found


def describe(path: Path) -> dict:
    return json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", str(path)]))


def digest(path: Path, image_format: str, scratch: Path) -> str:
    """SHA-256 of as much of the disk's content as the source had."""
    words = ["qemu-img", "convert", "-f", image_format, "-O", "raw", str(path), str(scratch)]
    subprocess.run(words, check=True)
    return hashlib.sha256(scratch.read_bytes()[: len(CONTENT)]).hexdigest()


def qcow2(path: Path, content: bytes = CONTENT) -> Path:
    raw = path.with_suffix(".src")
    raw.write_bytes(content)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(path)], check=True)
    raw.unlink()
    return path


@pytest.mark.parametrize("target_format", ["raw", "qcow2"])
@pytest.mark.parametrize("source_format", ["raw", "qcow2"])
def test_http_source_in_the_format_of_the_runtime(
    runtime: Cluster, server: tuple[str, Path], source_format: str, target_format: str
) -> None:
    url, directory = server
    if source_format == "qcow2":
        qcow2(directory / "image.qcow2")
    else:
        (directory / "image.raw").write_bytes(CONTENT)
    patch = json.dumps({"spec": {"vmImageFormat": target_format}})
    runtime.kubectl("patch", "vmruntime", "vmruntime", "--type=merge", "-p", patch)
    runtime.wait_for(".status.vmImageFormat", target_format, "vmruntime", "vmruntime")
    runtime.apply(disk("imported", "8Mi", source={"http": {"url": f"{url}/image.{source_format}"}}))
    runtime.wait_for(".status.phase", "Succeeded", "virtualmachinedisk", "imported")
    status = runtime.get("virtualmachinedisk", "imported")["status"]
    assert (status["progress"], status["format"]) == ("100.0%", target_format)
    image = file_of(runtime, "imported")
    assert describe(image)["format"] == target_format
    assert describe(image)["virtual-size"] == 8 << 20
    assert digest(image, target_format, directory / "out.raw") == hashlib.sha256(CONTENT).hexdigest()
    assert sorted(p.name for p in image.parent.iterdir()) == [image.name, "origin.json"]
    header, row = runtime.kubectl("get", "virtualmachinedisk").stdout.splitlines()
    assert header.split() == ["NAME", "PHASE", "PROGRESS", "SIZE", "FORMAT", "AGE"]
    assert row.split()[:5] == ["imported", "Succeeded", "100.0%", "8Mi", target_format]


def test_file_source_only_from_the_allowed_directory(runtime: Cluster, tmp_path: Path) -> None:
    allowed = runtime.directory / "images" / "allowed.raw"
    allowed.write_bytes(CONTENT)
    (runtime.directory / "images" / "escape.raw").symlink_to("/etc/hostname")
    runtime.apply(
        disk("allowed", source={"file": {"url": f"file://{allowed}"}}),
        disk("forbidden", source={"file": {"url": "file:///etc/hostname"}}),
        disk("escape", source={"file": {"url": f"file://{allowed.parent}/escape.raw"}}),
    )
    runtime.wait_for(".status.phase", "Succeeded", "virtualmachinedisk", "allowed")
    for name in ("forbidden", "escape"):
        failed = eventually(lambda n=name: failure(runtime, n))
        assert "images" in failed
    allowed.unlink()
    (allowed.parent / "escape.raw").unlink()


def failure(cluster: Cluster, name: str) -> str:
    status = cluster.get("virtualmachinedisk", name).get("status", {})
    return status.get("message", "") if status.get("phase") in ("Failed", "ErrorConfiguration") else ""


def test_sources_that_cannot_work_say_why(runtime: Cluster, server: tuple[str, Path]) -> None:
    url, directory = server
    (directory / "large.raw").write_bytes(b"\1" * (2 << 20))
    backed = directory / "backed.qcow2"
    words = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "/etc/hostname", "-F", "raw", str(backed), "1M"]
    subprocess.run(words, check=True)
    (directory / "broken.qcow2").write_bytes(qcow2(directory / "whole.qcow2").read_bytes()[:70000])
    cases = {
        "missing": (f"{url}/nothing.raw", "404"),
        "large": (f"{url}/large.raw", "size"),
        "backed": (f"{url}/backed.qcow2", "backing file"),
        "broken": (f"{url}/broken.qcow2", ""),
        "nobody": ("http://127.0.0.1:1/x.raw", "127.0.0.1:1"),
    }
    for name, (source, _) in cases.items():
        runtime.apply(disk(name, "1Mi", source={"http": {"url": source}}))
    for name, (_, why) in cases.items():
        message = eventually(lambda n=name: failure(runtime, n), 60, f"{name} fails")
        assert why in message, (name, message)
        assert "Traceback" not in message
        assert not list((runtime.directory / "vm" / "disks").glob(f"*/{name}_*/disk.*"))
    # A disk that is not whole is never attached.
    runtime.apply(vm("hopeful", ["missing"]))
    eventually(lambda: "missing" in runtime.get("gvm", "hopeful").get("status", {}).get("message", ""))
    assert runtime.qemu() == {}


def test_a_disk_in_use_goes_only_with_its_vm(runtime: Cluster) -> None:
    runtime.apply(disk("held"), vm("holder", ["held"]))
    runtime.wait_for(".status.state", "Running", "gvm", "holder")
    done = runtime.virt("delete", "disk", "held")
    assert "holder" in done.stdout
    eventually(lambda: "holder" in runtime.get("virtualmachinedisk", "held")["status"].get("message", ""))
    assert file_of(runtime, "held").exists()
    runtime.virt("delete", "vm", "holder")
    runtime.kubectl("wait", "--for=delete", "virtualmachinedisk/held", "--timeout=30s")
    assert not list((runtime.directory / "vm" / "disks").glob("*/held_*"))


def test_a_server_that_is_away_is_asked_again(runtime: Cluster, tmp_path: Path) -> None:
    (tmp_path / "image.raw").write_bytes(CONTENT)
    # A socket that does not listen: nobody else gets the port, and who connects is refused.
    with socket.socket() as away:
        away.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        away.bind(("127.0.0.1", 0))
        port = away.getsockname()[1]
        runtime.apply(disk("patient", source={"http": {"url": f"http://127.0.0.1:{port}/image.raw"}}))
        assert "Connection refused; trying again in 10 s" in eventually(lambda: failure(runtime, "patient"))
    with serving(tmp_path, port):
        runtime.wait_for(".status.phase", "Succeeded", "virtualmachinedisk", "patient")
    assert "failures" not in runtime.get("virtualmachinedisk", "patient")["status"]
    assert file_of(runtime, "patient").read_bytes()[: len(CONTENT)] == CONTENT


def test_an_empty_name_means_nothing(runtime: Cluster) -> None:
    """As a variable that is not set gives it: not all disks of the namespace."""
    runtime.apply(disk("kept"))
    for words in (("delete", "disk", ""), ("delete", "vm", ""), ("delete", "vm", "", "--all"), ("stop", "")):
        done = runtime.virt(*words, ok=False)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", "error: the name is empty\n")
    assert "deletionTimestamp" not in runtime.get("virtualmachinedisk", "kept")["metadata"]


def test_one_writer_per_disk(runtime: Cluster) -> None:
    runtime.apply(disk("single"), vm("first", ["single"]))
    runtime.wait_for(".status.state", "Running", "gvm", "first")
    runtime.apply(vm("second", ["single"]))
    eventually(lambda: "first" in runtime.get("gvm", "second").get("status", {}).get("message", ""))
    assert len(runtime.qemu()) == 1


def test_delete_all_takes_the_disks_too(runtime: Cluster) -> None:
    runtime.apply(disk("pos-vm-boot-dv"), vm("pos-vm", ["pos-vm-boot-dv"]))
    runtime.wait_for(".status.state", "Running", "gvm", "pos-vm")
    done = runtime.virt("delete", "vm", "pos-vm", "--all")
    assert done.stdout.splitlines() == [
        'vm "pos-vm" used the following resources:',
        "gvm: pos-vm",
        "VirtualMachineDisk: pos-vm-boot-dv",
        "Start deleting the resources:",
        'Deleted gvm "pos-vm".',
        'Deleted VirtualMachineDisk "pos-vm-boot-dv".',
    ]
    eventually(lambda: not runtime.items("virtualmachinedisk"))


def test_a_killed_import_starts_again_by_itself(runtime: Cluster) -> None:
    """kill -9 of the manager, then of the importer, during a download from a server that takes its time."""
    goes_on = threading.Event()

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[: len(CONTENT) // 2])
            self.wfile.flush()
            goes_on.wait(60)
            with contextlib.suppress(OSError):  # the reader may have been killed
                self.wfile.write(CONTENT[len(CONTENT) // 2 :])

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        runtime.apply(disk("killed", "8Mi", source={"http": {"url": f"http://127.0.0.1:{server.server_port}/x.raw"}}))
        victim = eventually(lambda: importers(runtime), what="the importer runs")[0]
        eventually(lambda: "%" in runtime.get("virtualmachinedisk", "killed")["status"].get("progress", ""))
        os.kill(runtime.manager_pid(), signal.SIGKILL)
        runtime.apply(vm("early", ["killed"]))
        eventually(lambda: "killed" in runtime.get("gvm", "early").get("status", {}).get("message", ""), 30)
        assert importers(runtime) == [victim] and runtime.qemu() == {}
        os.kill(victim, signal.SIGKILL)
        goes_on.set()
        runtime.wait_for(".status.phase", "Succeeded", "virtualmachinedisk", "killed")
        server.shutdown()
        thread.join()
    assert file_of(runtime, "killed").read_bytes()[: len(CONTENT)] == CONTENT
    assert importers(runtime) == []
    eventually(lambda: runtime.get("virtualmachinedisk", "killed")["status"].get("attachedTo") == ["early"])
    runtime.wait_for(".status.state", "Running", "gvm", "early")


def importers(cluster: Cluster) -> list[int]:
    return [pid for pid, words in cluster.processes().items() if "vmruntime.engines.qemu.importer" in words]


def test_a_copy_grows_when_its_origin_is_gone(runtime: Cluster) -> None:
    copied = disk("copied", "8Mi", source={"virtualMachineDisk": {"name": "origin"}})
    runtime.apply(disk("origin", "8Mi"), copied)
    runtime.wait_for(".status.phase", "Succeeded", "vmdisk", "copied")
    runtime.kubectl("delete", "vmdisk", "origin")
    runtime.kubectl("patch", "vmdisk", "copied", "--type=merge", "-p", '{"spec":{"size":"10Mi"}}')
    runtime.wait_for(".status.virtualSize", str(10 << 20), "vmdisk", "copied")
    assert runtime.get("vmdisk", "copied")["status"].get("message", "") == ""
