"""Files that are whole, and private, whatever happens meanwhile."""

import os
import stat
from pathlib import Path

import pytest

from kube.durable import write_private


def test_the_file_is_private_and_takes_the_place_of_the_former(tmp_path):
    path = tmp_path / "seed.iso"
    for image in (b"one", b"two"):
        write_private(path, image)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_bytes() == image
    assert os.listdir(tmp_path) == ["seed.iso"]


def test_it_is_on_stable_storage_before_and_after_it_gets_its_name(tmp_path, monkeypatch):
    path, seen = tmp_path / "nvram.fd", []

    def sync(descriptor):
        synced = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        seen.append((synced == tmp_path, path.exists(), synced.stat().st_size if synced.is_file() else 0))

    monkeypatch.setattr(os, "fsync", sync)
    write_private(path, b"variables")
    assert seen == [(False, False, 9), (True, True, 0)]


@pytest.mark.parametrize("trap", ["pipe", "link"])
def test_what_a_guest_may_have_put_there_is_not_touched(tmp_path, trap):
    """The directory belongs to QEMU, which a guest may have broken out of."""
    path, other = tmp_path / "seed.iso", tmp_path / "other"
    other.write_bytes(b"other")
    if trap == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(other)
    write_private(path, b"one")
    assert path.read_bytes() == b"one"
    assert other.read_bytes() == b"other"


def test_a_file_that_others_could_read_is_replaced(tmp_path):
    path = tmp_path / "seed.iso"
    path.write_bytes(b"one")
    path.chmod(0o644)
    write_private(path, b"one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
