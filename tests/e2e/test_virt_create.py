"""`kubectl virt create vm`: what it writes, what it makes, and that it makes all or nothing."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import yaml

from e2e.cluster import Cluster, eventually


def image(cluster: Cluster) -> str:
    """A small file in the cluster's own directory that is a disk image, if an empty one."""
    path = cluster.directory / "images" / "empty.raw"
    path.write_bytes(bytes(1 << 20))
    return str(path)


def test_a_vm_from_the_command_line(runtime: Cluster) -> None:
    options = ("--cpu", "1", "--memory", "64Mi", "--boot-disk-size", "2Mi", "--os-type", "Linux")
    password = ("--configure-initial-password", "admin:s3cret")
    done = runtime.virt("create", "vm", "made", "--image", image(runtime), *options, *password)
    manifest = runtime.workspace / "google-virtctl" / "made.yaml"
    assert done.stdout.splitlines() == [
        'Constructing manifest for vm "made":',
        f'Manifest for vm "made" is saved to {manifest}',
        'Applying manifest for vm "made"',
        'Created gvm "made"',
    ]
    assert manifest.stat().st_mode & 0o777 == 0o600
    kinds = [obj["kind"] for obj in yaml.safe_load_all(manifest.read_text())]
    assert kinds == ["VirtualMachine", "VirtualMachineDisk", "Secret"]
    runtime.wait_for(".status.state", "Running", "gvm", "made")
    found = runtime.get("gvm", "made")
    assert found["status"]["compute"] == {"vcpus": 1, "memory": "64Mi"}
    assert "s3cret" not in json.dumps(found)
    assert runtime.get("virtualmachinedisk", "made-boot-dv")["spec"]["size"] == "2Mi"
    user_data = base64.b64decode(runtime.get("secret", "made-startup")["data"]["userData"]).decode()
    (account,) = yaml.safe_load(user_data)["users"]
    assert user_data.startswith("#cloud-config\n")
    assert (account["name"], account["plain_text_passwd"]) == ("admin", "s3cret")

    check_completion(runtime)
    again = runtime.virt("create", "vm", "made", "--image", image(runtime), ok=False)
    assert again.returncode == 1
    assert 'VirtualMachine "made" exists already' in again.stderr
    check_start_while_it_stops(runtime)
    runtime.virt("delete", "vm", "made", "--all")
    eventually(lambda: not runtime.items("secrets", "--field-selector", "metadata.name=made-startup"))


def check_completion(runtime: Cluster) -> None:
    """What a shell asks kubectl, and kubectl asks the plugin."""

    def completed(*words: str) -> list[str]:
        return runtime.run("kubectl", "__complete", "virt", *words).stdout.splitlines()

    at = ("--kubeconfig", str(runtime.kubeconfig))
    assert completed("de") == ["delete", ":4"]
    assert completed("delete", "") == ["disk", "vm", ":4"]
    assert completed("stop", *at, "ma") == ["made", ":4"]
    assert completed("delete", "disk", *at, "made-") == ["made-boot-dv", ":4"]
    assert completed("ssh", *at, "admin@m") == ["admin@made", ":4"]
    assert completed("stop", "--kubeconfig", "/nonexistent", "ma") == [":4"]


def check_start_while_it_stops(runtime: Cluster) -> None:
    """There is no guest in it that would heed the power button, so it goes on stopping for a while."""
    runtime.virt("stop", "made")
    runtime.wait_for(".status.state", "Stopping", "gvm", "made")
    assert runtime.virt("start", "made").stdout == 'VM "made" was asked to start\n'
    assert runtime.virt("start", "made").stdout == 'VM "made" is Stopping and starts again after that\n'


def test_what_is_refused_leaves_nothing(runtime: Cluster) -> None:
    bad_disk = runtime.virt("create", "vm", "half", "--image", image(runtime), "--boot-disk-size", "20GiB", ok=False)
    assert bad_disk.returncode == 1
    assert "spec.size" in bad_disk.stderr
    eventually(lambda: not runtime.items("gvm"), what="the VM without a disk is gone")
    no_image = runtime.virt("create", "vm", "half", "--image", "nonsense", ok=False)
    assert "neither a known image (ubuntu20.04), an address nor a file" in no_image.stderr
    assert "cannot be the name of a VM" in runtime.virt("create", "vm", "../x", "--image", "u", ok=False).stderr
    long = runtime.virt("create", "vm", "a" * 60, "--image", image(runtime), ok=False)
    assert f'"{"a" * 60}" is too long: ' in long.stderr
    assert not (runtime.workspace / "google-virtctl" / f"{'a' * 60}.yaml").exists()


def test_without_the_runtime_the_command_says_what_to_do(disabled: Cluster) -> None:
    done = disabled.virt("create", "vm", "early", "--image", image(disabled), ok=False)
    assert done.returncode == 1
    assert "bmctl enable vmruntime" in done.stderr


def test_a_local_image_is_brought_to_the_cluster(runtime: Cluster, tmp_path: Path) -> None:
    local = tmp_path / "my disk.raw"
    local.write_bytes(b"\xeb" + bytes((1 << 20) - 1))
    small = ("--image", str(local), "--cpu", "1", "--memory", "64Mi")
    target = runtime.directory / "images" / "local-boot-dv.raw"
    refused = runtime.virt("create", "vm", "local", *small, "--boot-disk-size", "20GiB", ok=False)
    assert "spec.size" in refused.stderr and not target.exists()
    eventually(lambda: not runtime.items("gvm"))
    done = runtime.virt("create", "vm", "local", *small, "--boot-disk-size", "2Mi")
    assert f"Copying {local} to {target}" in done.stdout
    runtime.wait_for(".status.phase", "Succeeded", "virtualmachinedisk", "local-boot-dv")
    (imported,) = (runtime.directory / "vm" / "disks").glob("*/local-boot-dv_*/disk.*")
    assert imported.read_bytes()[: 1 << 20] == local.read_bytes() == target.read_bytes()
    target.unlink()
    moved = tmp_path / "config"
    moved.write_bytes(runtime.kubeconfig.read_bytes())
    elsewhere = runtime.run("kubectl-virt", "create", "vm", "far", *small, "--kubeconfig", str(moved))
    assert elsewhere.returncode == 1 and "kubeconfig in its directory" in elsewhere.stderr
