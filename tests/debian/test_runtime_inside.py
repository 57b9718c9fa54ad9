"""The runtime inside a Debian guest: tests of what this host's kernel may not have and Debian's has, such as VLANs.

The guest gets a disk with the installed product and the tests, mounted where it was installed, as an environment of
Python knows its own path. An emulated machine in there that emulates one itself is too slow for another guest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from debian.conftest import REPOSITORY, build_image, running_cluster
from debian.guest import Guest
from e2e.cluster import disk, eventually

pytestmark = [
    pytest.mark.debian,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, so that the guest can be reached on its own address"),
]

PACKAGES = ("qemu-system-x86", "qemu-utils", "nftables", "python3", "procps")
# What tests/e2e needs beside the product.
TESTING = ("hypothesis", "pytest", "pytest-asyncio", "pytest-timeout")
TREE = ("bench", "pyproject.toml", "tests")
SYSTEM_PYTHON = "/usr/bin/python3"
USER_DATA = """\
#cloud-config
disable_root: false
users:
- name: root
  ssh_authorized_keys:
  - {key}
bootcmd:
- mkdir -p {room}
- mount LABEL=room {room}
"""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the product, installed for the Python of the guest's release (the host's), and the tests."""
    made = tmp_path_factory.mktemp("room")
    subprocess.run([SYSTEM_PYTHON, "-m", "venv", str(made / "venv")], check=True, capture_output=True)
    install = [str(made / "venv" / "bin" / "pip"), "install", "-q", f"{REPOSITORY}[kubectl]", *TESTING]
    subprocess.run(install, check=True, capture_output=True)
    for name in TREE:
        source = REPOSITORY / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, made / name)
    return made


@pytest.fixture(scope="module")
def inside(room: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """A running Debian guest with the room in it; root gets in by SSH."""
    directory = tmp_path_factory.mktemp("inside")
    key = directory / "root"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    image = build_image("debian-runtime", *PACKAGES)
    with running_cluster(directory) as cluster:
        images = cluster.directory / "images"
        shutil.copy(image, images / "debian.qcow2")
        ext4 = ["/sbin/mke2fs", "-q", "-t", "ext4", "-L", "room", "-d", str(room), str(images / "room.raw"), "1G"]
        subprocess.run(ext4, check=True, capture_output=True)
        user_data = USER_DATA.format(key=key.with_suffix(".pub").read_text().strip(), room=room)
        made = Guest(cluster, "deb", key, user_data)
        machine = made.manifest({"userData": user_data})
        machine["spec"]["compute"]["memory"]["capacity"] = "3Gi"
        machine["spec"]["disks"].append({"virtualMachineDiskName": "room"})
        cluster.apply(
            disk("deb-disk", "5Gi", source={"file": {"url": f"file://{images}/debian.qcow2"}}),
            disk("room", "1Gi", source={"file": {"url": f"file://{images}/room.raw"}}),
            machine,
        )
        cluster.wait_for(".status.state", "Running", "gvm", "deb", timeout=120)
        made.wait_until_up()
        eventually(lambda: made.ssh("root", key, f"mountpoint {room}").returncode == 0, 240, "root gets in")
        yield made


def test_machines_on_vlans(inside: Guest, room: Path) -> None:
    command = f"cd {room} && PATIENCE=6 venv/bin/python -m pytest -p no:cacheprovider tests/e2e/test_vlans.py"
    done = inside.ssh("root", inside.key, command, timeout=1300)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr
