"""Disks in full: compressed and protected sources, the second disk from one image, growth, copies, what is told."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import lzma
import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import registry_server
import tls_server
from e2e.cluster import Cluster, Terminal, disk, eventually, vm
from vmruntime.engines.qemu.decompress import zstd

CONTENT = os.urandom(1 << 20)
PASSWORD = "not-for-everyone"


@pytest.fixture
def protected() -> Iterator[tuple[str, dict[str, bytes]]]:
    """A web server that wants a password, and what it has."""
    content: dict[str, bytes] = {}
    expected = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = content.get(self.path, b"")
            allowed = self.headers.get("Authorization") == expected
            self.send_response(200 if allowed else 401)
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("Content-Length", str(len(body) if allowed else 0))
            self.end_headers()
            if allowed:
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", content
        running.shutdown()
        thread.join()


def secret(name: str, **data: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def file_of(cluster: Cluster, name: str) -> Path:
    (found,) = (cluster.directory / "vm" / "disks").glob(f"*/{name}_*/disk.*")
    return found


def status_of(cluster: Cluster, name: str) -> dict:
    return cluster.get("virtualmachinedisk", name).get("status", {})


def message_of(cluster: Cluster, name: str, reason: str) -> str:
    status = status_of(cluster, name)
    return status.get("message", "") if status.get("reason") == reason else ""


def ready(cluster: Cluster, name: str) -> dict:
    cluster.wait_for(".status.phase", "Succeeded", "virtualmachinedisk", name)
    return status_of(cluster, name)


def compressed(directory: Path) -> bytes:
    (directory / "s.raw").write_bytes(CONTENT)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", "s.raw", "s.qcow2"], cwd=directory, check=True)
    return lzma.compress((directory / "s.qcow2").read_bytes(), preset=0)


def test_a_protected_compressed_image_twice(
    runtime: Cluster, protected: tuple[str, dict[str, bytes]], tmp_path: Path
) -> None:
    url, content = protected
    image = content["/image.qcow2.xz"] = compressed(tmp_path)
    checksum = "sha256:" + hashlib.sha256(image).hexdigest()
    http_source = {"url": f"{url}/image.qcow2.xz", "secretRef": "entry", "checksum": checksum}
    runtime.apply(disk("early", "4Mi", source={"http": http_source}))
    assert "entry" in eventually(lambda: message_of(runtime, "early", "SecretMissing"))
    runtime.apply(secret("entry", accessKeyId="me", secretKey=PASSWORD))
    runtime.apply(disk("first", "4Mi", source={"http": http_source}))
    status = ready(runtime, "first")
    assert status["sourceFormat"] == "qcow2.xz"
    assert (status["sourceChecksum"], int(status["sourceSize"])) == (checksum, len(image))
    assert file_of(runtime, "first").read_bytes()[: len(CONTENT)] == CONTENT
    runtime.apply(disk("second", "4Mi", source={"http": http_source}))
    eventually(lambda: status_of(runtime, "second").get("phase") == "Succeeded")
    assert json.loads((file_of(runtime, "second").parent / "origin.json").read_text())["fromCache"] is True
    assert file_of(runtime, "second").read_bytes()[: len(CONTENT)] == CONTENT
    told = runtime.kubectl("describe", "gvmdisk", "first").stdout
    size = f"{len(image)} bytes is in place, {4 << 20} bytes as raw"
    assert "ImportSucceeded" in told and f"the qcow2.xz source of {size}" in told
    wrong = {**http_source, "checksum": "sha256:" + "0" * 64}
    runtime.apply(disk("wrong", "4Mi", source={"http": wrong}))
    assert checksum[7:] in eventually(lambda: message_of(runtime, "wrong", "ImportFailed"))
    assert PASSWORD not in runtime.kubectl("get", "pods,virtualmachinedisks,events", "-A", "-o", "json").stdout
    logs = [p for p in runtime.directory.rglob("*.log*") if PASSWORD.encode() in p.read_bytes()]
    assert logs == []


def test_disks_of_container_images(runtime: Cluster, tmp_path: Path) -> None:
    """From a registry with TLS that wants a token, and from an archive of the same image in the images directory."""
    (tmp_path / "s.raw").write_bytes(CONTENT)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", "s.raw", "s.qcow2"], cwd=tmp_path, check=True)
    context, pem = tls_server.make(tmp_path)
    with registry_server.serving(context) as hub:
        hub.scheme = "Bearer"
        container = registry_server.member("disk/guest.qcow2", (tmp_path / "s.qcow2").read_bytes())
        hub.image(registry_server.layer(container, pack=zstd.compress))
        runtime.kubectl("create", "configmap", "hub-authority", f"--from-literal=ca.crt={pem}")
        address = f"docker://{hub.host}/{registry_server.REPOSITORY}"
        public = {"url": address, "certConfigMap": "hub-authority"}
        runtime.apply(disk("open", "4Mi", source={"registry": public}))
        assert "401" in eventually(lambda: message_of(runtime, "open", "ImportFailed"))
        for user, words in (("me", "--docker-password=secret"), ("you", "--docker-password=guess")):
            credentials = (f"--docker-server={hub.host}", f"--docker-username={user}", words)
            runtime.kubectl("create", "secret", "docker-registry", f"hub-{user}", *credentials)
            runtime.apply(disk(f"by-{user}", "4Mi", source={"registry": {**public, "secretRef": f"hub-{user}"}}))
        assert "401" in eventually(lambda: message_of(runtime, "by-you", "ImportFailed"))
        runtime.kubectl("delete", "configmap/hub-authority", "secret/hub-me", "secret/hub-you")
        status = ready(runtime, "by-me")
        assert status["sourceFormat"] == "qcow2" and status["sourceChecksum"] in hub.blobs
        assert file_of(runtime, "by-me").read_bytes()[: len(CONTENT)] == CONTENT
        archive = runtime.directory / "images" / "guest.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(hub.layout(tmp_path / "layout", "latest"), ".")
    runtime.apply(disk("packed", "4Mi", source={"registry": {"url": f"oci-archive://{archive}"}}))
    ready(runtime, "packed")
    assert file_of(runtime, "packed").read_bytes()[: len(CONTENT)] == CONTENT
    archive.unlink()


def test_the_key_for_cloud_storage_comes_from_a_secret(runtime: Cluster) -> None:
    """What is done with it is shown by the unit tests; here, that it gets to the import and is shown nowhere."""
    source = {"gcs": {"url": "gs://bucket/image.raw", "secretRef": "google"}}
    runtime.apply(secret("google", key="{}"), disk("keyless", source=source))
    assert "creds-gcp.json" in eventually(lambda: message_of(runtime, "keyless", "SecretKeyMissing"))
    account = {"type": "service_account", "client_email": "x@y.example", "private_key": PASSWORD}
    runtime.apply(secret("google", **{"creds-gcp.json": json.dumps(account)}))
    runtime.apply(disk("keyed", source=source))
    assert "private_key" in eventually(lambda: message_of(runtime, "keyed", "ImportFailed"))
    assert PASSWORD not in runtime.kubectl("get", "pods,virtualmachinedisks,events", "-A", "-o", "json").stdout


def test_a_disk_grows_under_its_guest_and_at_rest(runtime: Cluster, guest: Path) -> None:
    image = runtime.directory / "images" / "tiny.qcow2"
    image.write_bytes((guest / "tiny.qcow2").read_bytes())
    machine = vm("grower", ["growing"])
    machine["spec"]["compute"]["memory"]["capacity"] = "128Mi"
    runtime.apply(disk("growing", "64Mi", source={"file": {"url": f"file://{image}"}}), machine)
    runtime.wait_for(".status.state", "Running", "gvm", "grower")
    grow(runtime, "growing", "96Mi")
    runtime.wait_for(".status.virtualSize", str(96 << 20), "virtualmachinedisk", "growing")
    terminal = Terminal.start(runtime, "kubectl-virt", "console", "grower", "--kubeconfig", str(runtime.kubeconfig))
    terminal.expect("TINY-READY", 60)
    terminal.type("\n")
    terminal.expect("tiny# ")
    grow(runtime, "growing", "128Mi")
    runtime.wait_for(".status.virtualSize", str(128 << 20), "virtualmachinedisk", "growing")
    terminal.type("echo sectors=$(cat /sys/block/vda/size)\n")
    terminal.expect(f"sectors={(128 << 20) // 512}")
    terminal.type("\x1d")
    terminal.wait()
    shrunk = json.dumps({"spec": {"size": "64Mi"}})
    refused = runtime.kubectl("patch", "gvmdisk", "growing", "--type=merge", "-p", shrunk, ok=False)
    assert refused.returncode != 0 and "grow but not shrink" in refused.stderr
    check_a_copy_waits_for_the_writer(runtime)


def grow(cluster: Cluster, name: str, size: str) -> None:
    cluster.kubectl("patch", "gvmdisk", name, "--type=merge", "-p", json.dumps({"spec": {"size": size}}))


def check_a_copy_waits_for_the_writer(runtime: Cluster) -> None:
    """Of the disk that machine "grower" has open; then the disk grows without a machine."""
    runtime.apply(
        disk("copy", "160Mi", source={"virtualMachineDisk": {"name": "growing"}}),
        disk("of-nothing", source={"virtualMachineDisk": {"name": "nothing"}}),
        disk("too-small", source={"virtualMachineDisk": {"name": "growing"}}),
    )
    assert "grower" in eventually(lambda: message_of(runtime, "copy", "SourceInUse"))
    assert "nothing" in eventually(lambda: message_of(runtime, "of-nothing", "SourceMissing"))
    runtime.kubectl("delete", "gvm", "grower")
    ready(runtime, "copy")
    original, copied = file_of(runtime, "growing"), file_of(runtime, "copy")
    assert copied.stat().st_size == 160 << 20
    assert copied.read_bytes()[: 128 << 20] == original.read_bytes()
    assert copied.stat().st_blocks * 512 < 64 << 20
    assert "128Mi" in eventually(lambda: message_of(runtime, "too-small", "ImportFailed"))
    grow(runtime, "growing", "192Mi")
    runtime.wait_for(".status.virtualSize", str(192 << 20), "virtualmachinedisk", "growing")


def test_what_has_no_effect_and_what_has_no_owner_is_told(runtime: Cluster) -> None:
    runtime.apply(disk("classy", storageClassName="fast"))
    ready(runtime, "classy")
    conditions = {entry["type"]: entry for entry in status_of(runtime, "classy")["conditions"]}
    assert conditions["Ready"]["status"] == "True"
    assert '"fast"' in conditions["StorageClassIgnored"]["message"]
    orphan = runtime.directory / "vm" / "disks" / "default" / "lost_00000000-0000-4000-8000-000000000000"
    orphan.mkdir()
    (orphan / "disk.raw").write_bytes(b"data")
    runtime.bmctl("disable", "vmruntime")
    runtime.bmctl("enable", "vmruntime")
    events = eventually(lambda: [e for e in runtime.items("events", "-A") if e["reason"] == "OrphanedDisks"])
    assert str(orphan) in events[-1]["message"]
    assert (orphan / "disk.raw").read_bytes() == b"data"
    assert not (runtime.directory / "vm" / "cache").exists()
    (orphan / "disk.raw").unlink()
    orphan.rmdir()
