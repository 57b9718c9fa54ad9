"""What the types of hostPath volumes ask of the host."""

import os
import socket
import stat

import pytest

from solo.node import hostpath
from solo.node.hostpath import HostPathError


def pod(path, kind, mounted=True):
    mounts = [{"name": "v", "mountPath": "/x"}] if mounted else []
    volume = {"name": "v", "hostPath": {"path": str(path), "type": kind}}
    return {"spec": {"containers": [{"name": "c", "volumeMounts": mounts}], "volumes": [volume]}}


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_to_be_made_is_made_once(tmp_path):
    before = os.umask(0o077)
    try:
        for _ in range(2):
            hostpath.ensure(pod(tmp_path / "deep" / "d", "DirectoryOrCreate"))
            hostpath.ensure(pod(tmp_path / "deep" / "d" / "f", "FileOrCreate"))
            (tmp_path / "deep" / "d" / "f").write_text("kept")
    finally:
        os.umask(before)
    assert (mode(tmp_path / "deep" / "d"), mode(tmp_path / "deep" / "d" / "f")) == (0o755, 0o644)
    assert (tmp_path / "deep" / "d" / "f").read_text() == "kept"


def test_what_is_there_has_to_be_what_the_volume_says(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "f").touch()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
    right = {"Directory": "d", "DirectoryOrCreate": "d", "File": "f", "FileOrCreate": "f", "Socket": "s"}
    for kind, name in right.items():
        hostpath.ensure(pod(tmp_path / name, kind))
        for other in {"d", "f", "s"} - {name}:
            with pytest.raises(
                HostPathError, match=f'volume "v": hostPath type check failed: {tmp_path}/{other} is not'
            ):
                hostpath.ensure(pod(tmp_path / other, kind))
    hostpath.ensure(pod("/dev/null", "CharDevice"))


@pytest.mark.parametrize("kind", ["Directory", "File", "Socket", "CharDevice", "BlockDevice"])
def test_what_is_not_there_is_not_made(tmp_path, kind):
    with pytest.raises(HostPathError, match="No such file"):
        hostpath.ensure(pod(tmp_path / "none", kind))
    assert not (tmp_path / "none").exists()


def test_only_what_is_said_of_volumes_that_are_mounted_counts(tmp_path):
    hostpath.ensure(pod(tmp_path / "none", "Directory", mounted=False))
    with pytest.raises(HostPathError, match="Folder is an invalid volume type"):
        hostpath.ensure(pod(tmp_path, "Folder"))


def test_without_a_type_everything_is_right_and_a_directory_is_made(tmp_path):
    hostpath.ensure(pod(tmp_path / "d", ""))
    assert (tmp_path / "d").is_dir()
    hostpath.ensure(pod("/dev/null", ""))
