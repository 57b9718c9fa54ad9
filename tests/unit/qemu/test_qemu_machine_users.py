"""Whom machines run as, and what is theirs."""

import os
import stat

import pytest

from vmruntime.engines.common import Ref
from vmruntime.engines.qemu import images, machine_users
from vmruntime.engines.qemu.config import QEMU_UID
from vmruntime.engines.qemu.engine_layout import Layout
from vmruntime.engines.qemu.machine_users import READERS

DISK, ONE, OTHER = (Ref("default", name, f"uid-{name}") for name in ("disk", "one", "other"))
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def ids(path):
    status = path.stat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


@pytest.fixture
def spacious(tmp_path, monkeypatch):
    """A namespace of users that has all of them, whatever this one has."""

    def namespace(*lines):
        path = tmp_path / "map"
        path.write_text("".join(f"{line}\n" for line in lines))
        monkeypatch.setattr(machine_users, "_MAPS", (path, path))
        machine_users._may_give.cache_clear()

    namespace("         0          0 4294967295")
    yield namespace
    machine_users._may_give.cache_clear()


def test_each_machine_has_a_user_that_stays(spacious):
    users = [machine_users.user_of(f"uid-{index}") for index in range(1000)]
    assert users == [machine_users.user_of(f"uid-{index}") for index in range(1000)]
    assert len(set(users)) == 1000
    # A pod can run as one up to 2147483647; from 1879048192 on they are nobody's.
    assert all(1879048192 <= user < 2147483647 for user in users)


@pytest.mark.parametrize("lines", [("0 100000 65536",), ("0 0 4000000", "2000000000 2000000000 1000"), ()])
def test_where_there_are_few_users_machines_share_one(spacious, lines):
    spacious(*lines)
    assert machine_users.user_of("uid-one") == machine_users.user_of("uid-other") == QEMU_UID


def test_without_root_all_is_one_users(tmp_path):
    layout = Layout(tmp_path, None)
    layout.prepare()
    assert layout.user(ONE) is None
    images.create_blank(layout.make_disk(DISK) / "disk.raw", "raw", 1 << 20)
    before = ids(layout.disk(DISK) / "disk.raw")
    layout.let_open(ONE, DISK, read_only=False)
    assert ids(layout.disk(DISK) / "disk.raw") == before


@as_root
def test_a_disk_goes_from_hand_to_hand(tmp_path):
    """And qemu-img can read and change it whoever has it."""
    layout = Layout(tmp_path, QEMU_UID)
    layout.prepare()
    path = layout.make_disk(DISK) / "disk.qcow2"
    images.create_blank(path, "qcow2", 1 << 20, QEMU_UID)
    path.parent.chmod(0o710)  # as former versions had it
    size = 1 << 20
    for machine, read_only in ((ONE, False), (OTHER, True), (OTHER, False), (ONE, True)):
        layout.let_open(machine, DISK, read_only)
        writer = (machine_users.user_of(machine.uid), QEMU_UID, 0o660)
        assert ids(path) == ((QEMU_UID, READERS, 0o640) if read_only else writer)
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o711
        size += 1 << 20
        images.resize(path, "qcow2", size)
        assert images.inspect(path, "qcow2").virtual_size == size
    layout.let_open(ONE, Ref("default", "none", "uid-none"), read_only=False)
    assert not layout.disk(Ref("default", "none", "uid-none")).exists()


@as_root
def test_what_a_machine_had_as_the_common_user_becomes_its_own(tmp_path):
    layout = Layout(tmp_path, QEMU_UID)
    layout.prepare()
    directory, user = layout.instance(ONE), machine_users.user_of(ONE.uid)
    directory.mkdir(0o700)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"of another machine")
    (directory / "nvram.fd").write_bytes(b"variables")
    os.link(elsewhere, directory / "second-name")
    (directory / "link").symlink_to(elsewhere)
    os.mkfifo(directory / "pipe")
    for path in (directory, directory / "nvram.fd", elsewhere, directory / "pipe"):
        os.chown(path, QEMU_UID, QEMU_UID)
    assert layout.make_instance(ONE) == directory
    assert ids(directory) == (user, user, 0o700)
    assert ids(directory / "nvram.fd")[:2] == (user, user)
    assert ids(elsewhere)[:2] == (QEMU_UID, QEMU_UID)
