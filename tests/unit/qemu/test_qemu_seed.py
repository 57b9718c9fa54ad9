import io
import os

import pycdlib
import pytest

from vmruntime.engines.qemu.seed import build_seed, instance_id


def read_back(image: bytes) -> tuple[str, dict[str, bytes]]:
    """Label and files as another program's reader sees them."""
    iso = pycdlib.PyCdlib()
    iso.open_fp(io.BytesIO(image))
    files = {}
    for child in iso.list_children(joliet_path="/"):
        name = child.file_identifier().decode("utf-16-be")
        if not child.is_dir():
            content = io.BytesIO()
            iso.get_file_from_iso_fp(content, joliet_path=f"/{name}")
            files[name] = content.getvalue()
    label = iso.pvd.volume_identifier.decode().rstrip()
    iso.close()
    return label, files


def test_seed_holds_what_nocloud_wants():
    label, files = read_back(build_seed(instance_id="i-1", hostname="web-1", user_data=b"#cloud-config\n{}\n"))
    assert label == "CIDATA"
    assert files == {
        "meta-data": b"instance-id: i-1\nlocal-hostname: web-1\n",
        "user-data": b"#cloud-config\n{}\n",
    }


def test_network_config_is_there_where_it_is_given_and_user_data_always():
    _, files = read_back(build_seed(instance_id="i", hostname="h", network_config=b"version: 2\n"))
    assert files["network-config"] == b"version: 2\n"
    _, files = read_back(build_seed(instance_id="i", hostname="h"))
    assert files.keys() == {"meta-data", "user-data"}
    assert files["user-data"] == b""


def test_large_user_data_comes_back_whole():
    data = os.urandom(100_001)
    _, files = read_back(build_seed(instance_id="i", hostname="h", user_data=data))
    assert files["user-data"] == data


def test_names_are_read_as_they_are_without_joliet_too():
    iso = pycdlib.PyCdlib()
    iso.open_fp(io.BytesIO(build_seed(instance_id="i", hostname="h")))
    names = {child.rock_ridge.name().decode() for child in iso.list_children(iso_path="/") if not child.is_dir()}
    iso.close()
    assert names == {"meta-data", "user-data"}


def test_changed_data_are_another_instance_and_unchanged_are_not():
    assert instance_id("u", b"a", b"") == instance_id("u", b"a", b"")
    others = {
        instance_id("u", b"a", b""),
        instance_id("u", b"", b"a"),
        instance_id("u", b"b"),
        instance_id("v", b"a", b""),
    }
    assert len(others) == 4


@pytest.mark.parametrize(
    "fields",
    [
        {"instance_id": "i\nlocal-hostname: evil", "hostname": "h"},
        {"instance_id": "i", "hostname": "h\nx: y"},
        {"instance_id": "i", "hostname": "-h"},
        {"instance_id": "i", "hostname": "h", "user_data": bytes((1 << 20) + 1)},
    ],
)
def test_what_would_not_be_read_as_meant_is_refused(fields):
    with pytest.raises(ValueError):
        build_seed(**fields)
