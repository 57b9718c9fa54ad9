"""One Debian guest for all tests here, on each kind of pod network.

It is built once (kept in .cache) and booted once for each, which takes minutes.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from debian.guest import Guest
from e2e.cluster import Cluster, disk

REPOSITORY = Path(__file__).resolve().parents[2]

USER_DATA = """\
#cloud-config
fqdn: berry.example.test
users:
- name: erin
  shell: /bin/bash
  ssh_authorized_keys:
  - {key}
write_files:
- path: /etc/from-user-data
  content: "written once\\n"
bootcmd:
- echo start >> /var/log/starts
"""
NETWORK_DATA = """\
version: 2
ethernets:
  enp0s2:
    dhcp4: true
    nameservers: {addresses: [192.0.2.53], search: [example.test]}
"""


@pytest.fixture(scope="session")
def image() -> Path:
    return build_image("debian")


def build_image(name: str, *packages: str) -> Path:
    """The Debian guest's image with further packages, built once."""
    target = REPOSITORY / ".cache" / name
    script = REPOSITORY / "scripts" / "build_debian_guest.sh"
    subprocess.run([str(script), str(target), *packages], check=True, capture_output=True, timeout=900)
    return target / "debian.qcow2"


@pytest.fixture(scope="session", params=["bridge", "user-mode"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster as root has it, and one as everybody else has it: root without NET_ADMIN stands for them."""
    if request.param == "bridge" and os.geteuid() != 0:
        pytest.skip("a bridge needs root")
    humble = ["setpriv", "--bounding-set=-net_admin"] if request.param == "user-mode" and os.geteuid() == 0 else []
    with running_cluster(tmp_path_factory.mktemp("debian"), *humble) as made:
        yield made


@contextlib.contextmanager
def running_cluster(directory: Path, *humble: str) -> Iterator[Cluster]:
    """A cluster with the runtime enabled under emulation. `humble`: a command that it is created by."""
    made = Cluster(directory / "bmctl-workspace", "debian")
    create = ["bmctl", "create", "cluster", "-c", made.name, "--workspace", str(made.workspace)]
    done = made.run(*humble, *create, timeout=90)
    assert done.returncode == 0, done.stderr
    made.kubectl("patch", "vmruntime", "vmruntime", "--type=merge", "-p", '{"spec":{"useEmulation":true}}')
    made.bmctl("enable", "vmruntime")
    yield made
    made.bmctl("reset", "-c", made.name, "--yes")
    assert made.processes() == {}


@pytest.fixture(scope="session")
def guest(cluster: Cluster, image: Path, tmp_path_factory: pytest.TempPathFactory) -> Guest:
    """The running guest: user data from a Secret under its lower-case key, network data from another."""
    source = cluster.directory / "images" / "debian.qcow2"
    source.write_bytes(image.read_bytes())
    key = tmp_path_factory.mktemp("key") / "erin"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    user_data = USER_DATA.format(key=key.with_suffix(".pub").read_text().strip())
    made = Guest(cluster, "deb", key, user_data)
    for name, content in (("user", {"userdata": user_data}), ("network", {"networkdata": NETWORK_DATA})):
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"deb-{name}"}, "stringData": content}
        cluster.apply(secret)
    no_cloud = {"secretRef": {"name": "deb-user"}, "networkDataSecretRef": {"name": "deb-network"}}
    cluster.apply(disk("deb-disk", "3Gi", source={"file": {"url": f"file://{source}"}}), made.manifest(no_cloud))
    cluster.wait_for(".status.state", "Running", "gvm", "deb", timeout=120)
    made.wait_until_up()
    return made
