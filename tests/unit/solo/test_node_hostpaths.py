"""hostPath volumes: their types are checked, and some make what is missing."""

import socket
import stat

import pytest

from solo.node.hostpaths import prepare


def pod(path, kind=None, mounted="v"):
    source = {"path": str(path), **({} if kind is None else {"type": kind})}
    container = {"name": "c", "volumeMounts": [{"name": mounted, "mountPath": "/x"}]}
    return {"spec": {"containers": [container], "volumes": [{"name": "v", "hostPath": source}]}}


@pytest.mark.parametrize("kind", [None, "", "DirectoryOrCreate"])
def test_a_directory_is_made(tmp_path, kind):
    assert prepare(pod(tmp_path / "a" / "b", kind)) == ""
    assert (tmp_path / "a" / "b").is_dir()
    assert prepare(pod(tmp_path / "a" / "b", kind)) == ""


def test_a_file_is_made_and_kept(tmp_path):
    assert prepare(pod(tmp_path / "f", "FileOrCreate")) == ""
    assert stat.S_ISREG((tmp_path / "f").stat().st_mode)
    (tmp_path / "f").write_text("kept")
    assert prepare(pod(tmp_path / "f", "FileOrCreate")) == prepare(pod(tmp_path / "f", "File")) == ""
    assert (tmp_path / "f").read_text() == "kept"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("Directory", "a directory"),
        ("DirectoryOrCreate", "a directory"),
        ("Socket", "a socket file"),
        ("CharDevice", "a character device"),
        ("BlockDevice", "a block device"),
    ],
)
def test_what_is_something_else(tmp_path, kind, name):
    (tmp_path / "f").touch()
    problem = prepare(pod(tmp_path / "f", kind))
    assert problem == f'MountVolume.SetUp failed for volume "v": hostPath type check failed: {tmp_path}/f is not {name}'
    assert prepare(pod(tmp_path / "f")) == ""


def test_what_is_missing(tmp_path):
    for kind in ("Directory", "File", "Socket", "CharDevice"):
        assert f"{tmp_path}/none is not " in prepare(pod(tmp_path / "none", kind))
    assert not (tmp_path / "none").exists()


def test_what_is_as_it_says(tmp_path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        assert prepare(pod(tmp_path / "s", "Socket")) == ""
    assert prepare(pod("/dev/null", "CharDevice")) == prepare(pod(tmp_path, "Directory")) == ""


def test_a_volume_that_nothing_mounts_is_let_be(tmp_path):
    assert prepare(pod(tmp_path / "a", "DirectoryOrCreate", mounted="other")) == ""
    assert not (tmp_path / "a").exists()
