"""Images, good and hostile, through the real qemu-img."""

import os
import subprocess

import pytest

from vmruntime.engines.qemu import formats, images
from vmruntime.engines.qemu.images import ImageError

MIB = 1 << 20
OWNER = images.QEMU_UID if os.geteuid() == 0 else None


def qemu_img(directory, *argv):
    subprocess.run(["qemu-img", *argv], cwd=directory, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def raw(tmp_path):
    """Two MiB with something in them; readable for the user that qemu-img runs as."""
    path = tmp_path / "disk.raw"
    path.write_bytes(os.urandom(MIB) + bytes(MIB))
    path.chmod(0o644)
    return path


@pytest.mark.parametrize("format_", ["qcow2", "vmdk", "vdi", "vhdx", "vpc"])
def test_formats_are_known_by_their_first_bytes_and_read(raw, tmp_path, format_):
    path = tmp_path / "image"
    qemu_img(tmp_path, "convert", "-f", "raw", "-O", format_, raw, path)
    assert formats.detect_format(path.read_bytes()[: formats.HEADER_BYTES]) == format_
    info = images.inspect(path)
    assert info.format == format_
    assert info.virtual_size >= 2 * MIB


def test_anything_else_is_raw_or_compressed():
    assert formats.detect_format(bytes(512)) == "raw"
    assert formats.detect_format(b"") == "raw"
    assert formats.detect_format(b"\x1f\x8b\x08") == "gz"
    assert formats.detect_format(b"\xfd7zXZ\0") == "xz"


def test_a_raw_image_that_begins_like_qcow2_is_read_as_declared(tmp_path):
    path = tmp_path / "liar"
    qemu_img(tmp_path, "create", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", path, "1M")
    assert images.inspect(path, "raw").virtual_size == -(-path.stat().st_size // 512) * 512


def hostile_backing(directory, path):
    qemu_img(directory, "create", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", path)


def hostile_data_file(directory, path):
    qemu_img(directory, "create", "-f", "qcow2", "-o", "data_file=other", path, "1M")


def hostile_vmdk(_directory, path):
    path.write_text(
        '# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
        'RW 4 FLAT "/etc/passwd" 0\n'
    )


def huge(directory, path):
    qemu_img(directory, "create", "-f", "qcow2", path, "100T")


def encrypted(directory, path):
    secret = "secret,id=s,data=x"
    options = "encrypt.format=aes,encrypt.key-secret=s"
    qemu_img(directory, "create", "-f", "qcow2", "-o", options, "--object", secret, path, "1M")


def truncated(directory, path):
    (directory / "full.raw").write_bytes(os.urandom(4 * MIB))
    qemu_img(directory, "convert", "-f", "raw", "-O", "qcow2", "full.raw", path)
    os.truncate(path, 2 * MIB)


def garbage(_directory, path):
    path.write_bytes(b"QFI\xfb\0\0\0\3" + b"x" * 5000)


def compressed(_directory, path):
    path.write_bytes(b"\x1f\x8b\x08" + bytes(100))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (hostile_backing, "BackingFile"),
        (hostile_data_file, "ExternalData"),
        (hostile_vmdk, "ExternalData"),
        (huge, "TooLarge"),
        (encrypted, "Encrypted"),
        (truncated, "Corrupt"),
        (garbage, "ImageUnreadable"),
        (compressed, "UnsupportedFormat"),
    ],
)
def test_hostile_and_broken_images_are_refused(tmp_path, make, reason):
    path = tmp_path / "image"
    make(tmp_path, path)
    path.chmod(0o644)
    with pytest.raises(ImageError) as caught:
        images.inspect(path)
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value) and "/proc/" not in str(caught.value)


@pytest.mark.parametrize("make", [hostile_data_file, hostile_vmdk])
def test_qemu_is_not_even_told_of_images_with_data_elsewhere(tmp_path, monkeypatch, make):
    path = tmp_path / "image"
    make(tmp_path, path)
    monkeypatch.setattr(images, "_command", lambda *_: ["false"])
    with pytest.raises(ImageError) as caught:
        images.inspect(path)
    assert caught.value.reason == "ExternalData"


def test_a_disk_with_data_elsewhere_does_not_grow_there(tmp_path):
    """A QEMU that its guest has taken over can write such a header, and qemu-img reaches every machine's disk."""
    path, other = tmp_path / "disk.qcow2", tmp_path / "other"
    qemu_img(tmp_path, "create", "-f", "qcow2", "-o", f"data_file={other},data_file_raw=on", path, "1M")
    other.write_bytes(b"another machine's")
    for file in (path, other):
        file.chmod(0o666)
    with pytest.raises(ImageError, match="in another file"):
        images.resize(path, "qcow2", 4 * MIB)
    assert other.read_bytes() == b"another machine's"


@pytest.mark.parametrize("target_format", ["raw", "qcow2"])
def test_conversion_keeps_every_byte_and_the_holes(raw, tmp_path, target_format):
    source = tmp_path / "source.vdi"
    qemu_img(tmp_path, "convert", "-f", "raw", "-O", "vdi", raw, source)
    source.chmod(0o644)
    target = tmp_path / "target"
    seen: list[float] = []
    with open(source, "rb") as file, images.new_file(target, OWNER) as out:
        images.convert(file, "vdi", out, target_format, seen.append)
    assert seen == sorted(seen) and seen[-1] == 100.0
    assert images.inspect(target).format == target_format
    assert target.stat().st_blocks * 512 < 1.5 * MIB
    subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", target_format, raw, target], check=True, stdout=-3)


def test_a_failed_conversion_leaves_nothing_and_says_why(tmp_path):
    source = tmp_path / "bad.vdi"
    source.write_bytes(b"x" * 1000)
    source.chmod(0o644)
    with (
        pytest.raises(ImageError, match="cannot be converted"),
        open(source, "rb") as file,
        images.new_file(tmp_path / "target", None) as out,
    ):
        images.convert(file, "vdi", out, "raw")
    assert os.listdir(tmp_path) == ["bad.vdi"]


@pytest.mark.parametrize("format_", ["raw", "qcow2"])
def test_blank_disks_have_their_size_grow_and_never_shrink(tmp_path, format_):
    path = tmp_path / "disk"
    images.create_blank(path, format_, 3 * MIB, OWNER)
    assert images.inspect(path, format_).virtual_size == 3 * MIB
    assert path.stat().st_mode & 0o777 == 0o600
    images.resize(path, format_, 5 * MIB)
    assert images.inspect(path, format_).virtual_size == 5 * MIB
    images.resize(path, format_, 1 * MIB)
    assert images.inspect(path, format_).virtual_size == 5 * MIB
    assert os.listdir(tmp_path) == ["disk"]


@pytest.mark.parametrize("format_", ["raw", "qcow2"])
def test_without_an_owner_a_disk_belongs_to_whoever_makes_it(tmp_path, format_):
    images.create_blank(tmp_path / "disk", format_, MIB)
    assert (tmp_path / "disk").stat().st_uid == os.geteuid()


def test_blank_disks_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(ImageError, match="vmdk"):
        images.create_blank(tmp_path / "a", "vmdk", MIB)
    with pytest.raises(ImageError, match="cannot be made"):
        images.create_blank(tmp_path / "a", "raw", 0)
    assert os.listdir(tmp_path) == []


def test_texts_and_pages_are_no_disks():
    assert formats.why_no_disk(b"<!DOCTYPE html><p>\xc3\xa4") == "it is a web page"
    assert formats.why_no_disk(b"\n <html>") == "it is a web page"
    assert formats.why_no_disk(b'{"error": "no"}') == "it is a text"
    assert formats.why_no_disk(b"") == "it is empty"
    assert formats.why_no_disk(bytes(512)) is None
    assert formats.why_no_disk(b"\xeb\x63\x90" + bytes(509)) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has another user to become")
def test_the_tool_runs_as_somebody_else(tmp_path):
    path = tmp_path / "secret.raw"
    path.write_bytes(bytes(512))
    path.chmod(0o600)
    with pytest.raises(ImageError, match="Permission denied"):
        images.inspect(path, "raw")


def test_what_an_image_makes_the_tool_say_is_shown_without_its_control_sequences():
    said = b"qemu-img: Invalid extent line: \x1b[2J\x1b]0;owned\x07 RW\tx\r\nsecond \xe2\x80\xae line\n"
    assert images.error_line(said) == "Invalid extent line: ?[2J?]0;owned? RW x; second ? line"
