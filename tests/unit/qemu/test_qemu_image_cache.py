"""The second disk from the same source; clones; and the room that kept images take."""

import hashlib
import os
import subprocess
import sys

import pytest

from vmruntime.engines.qemu import clone, files, image_cache, images, import_job
from vmruntime.engines.qemu.clone import CloneJob
from vmruntime.engines.qemu.config import QEMU_UID
from vmruntime.engines.qemu.image_cache import ImageCache
from vmruntime.engines.qemu.images import ImageError
from vmruntime.engines.qemu.import_job import Job
from vmruntime.engines.qemu.progress import Progress
from vmruntime.engines.qemu.source_kinds import Origin

MIB = 1 << 20
DISK = bytes([0xEB, 0x63, 0x90]) + os.urandom(MIB - 3) + bytes(MIB)
OWNER = QEMU_UID if os.geteuid() == 0 else None


@pytest.fixture
def cache(tmp_path):
    return ImageCache(tmp_path / "cache", "default", 100 * MIB)


def quiet(path):
    return Progress(path, lambda _line: None)


def bring_in(directory, url, cache, format_="raw", **more):
    directory.mkdir(exist_ok=True)
    dest = directory / f"disk.{format_}"
    progress = quiet(directory / "progress")
    import_job.run(Job(Origin(url), format_, 8 * MIB, dest, OWNER, cache=cache, **more), progress)
    return dest, progress


def content_of(disk, format_):
    back = disk.with_name("back")
    subprocess.run(["qemu-img", "convert", "-f", format_, "-O", "raw", disk, back], check=True)
    return back.read_bytes()


def qcow2(directory):
    (directory / "s.raw").write_bytes(DISK)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", "s.raw", "s.qcow2"], cwd=directory, check=True)
    return (directory / "s.qcow2").read_bytes()


@pytest.mark.parametrize("there", ["raw", "qcow2"])
@pytest.mark.parametrize("here", ["raw", "qcow2"])
def test_the_second_disk_is_not_downloaded(server, tmp_path, cache, there, here):
    server.files["/d"] = DISK if there == "raw" else qcow2(tmp_path)
    url = server.url + "/d"
    first, told = bring_in(tmp_path / "one", url, cache, here)
    assert not told.from_cache
    first.write_bytes(b"what a machine wrote")
    server.breaks = [0] * 9  # the headers come, and not a byte of content
    second, told = bring_in(tmp_path / "two", url, cache, here)
    assert told.from_cache and told.source_format == there
    assert told.sha256 == hashlib.sha256(server.files["/d"]).hexdigest()
    assert content_of(second, here) == DISK + bytes(6 * MIB)
    assert second.stat().st_blocks * 512 <= MIB + 512 * 1024


def changed(server):
    server.headers["ETag"] = '"two"'


def nothing_to_tell_by(server):
    server.headers.clear()


@pytest.mark.parametrize("change", [changed, nothing_to_tell_by])
def test_an_image_that_may_have_changed_is_downloaded_again(server, tmp_path, cache, change):
    server.files["/d"] = DISK
    bring_in(tmp_path / "one", server.url + "/d", cache)
    change(server)
    _, told = bring_in(tmp_path / "two", server.url + "/d", cache)
    assert not told.from_cache


def test_another_namespace_does_not_profit(server, tmp_path, cache):
    server.files["/d"] = DISK
    bring_in(tmp_path / "one", server.url + "/d", cache)
    other = ImageCache(tmp_path / "cache", "other", 100 * MIB)
    assert not bring_in(tmp_path / "two", server.url + "/d", other)[1].from_cache


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_checksum_is_compared_with_what_came_and_with_what_is_kept(server, tmp_path, cache, algorithm):
    server.files["/d"] = DISK
    digest = hashlib.new(algorithm, DISK).hexdigest()
    right, wrong = f"{algorithm}:{digest}", f"{algorithm}:{'0' * len(digest)}"
    with pytest.raises(ImageError, match=f"checksum {right}, not {wrong}") as caught:
        bring_in(tmp_path / "one", server.url + "/d", cache, checksum=wrong)
    assert caught.value.reason == "ChecksumMismatch" and os.listdir(tmp_path / "one") == ["progress"]
    assert not bring_in(tmp_path / "one", server.url + "/d", cache, checksum=right)[1].from_cache
    assert bring_in(tmp_path / "two", server.url + "/d", cache, checksum=right)[1].from_cache
    with pytest.raises(ImageError, match=f"checksum {right}"):
        bring_in(tmp_path / "three", server.url + "/d", cache, checksum=wrong)


def test_what_is_kept_is_bounded_and_the_longest_unused_goes(server, tmp_path):
    cache = ImageCache(tmp_path / "cache", "default", 2 * MIB + 300 * 1024)
    for name in "abc":
        server.files[f"/{name}"] = DISK[:MIB]
        bring_in(tmp_path / name, f"{server.url}/{name}", cache)
        for path in (tmp_path / "cache").glob("*/*/*"):
            os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns - 10**9))
    assert bring_in(tmp_path / "again-b", server.url + "/b", cache)[1].from_cache
    assert not bring_in(tmp_path / "again-a", server.url + "/a", cache)[1].from_cache
    assert bring_in(tmp_path / "again-b", server.url + "/b", cache)[1].from_cache
    assert not bring_in(tmp_path / "again-c", server.url + "/c", cache)[1].from_cache


def test_an_image_of_more_than_half_the_room_is_not_kept(server, tmp_path):
    cache = ImageCache(tmp_path / "cache", "default", MIB)
    server.files["/d"] = DISK
    bring_in(tmp_path / "one", server.url + "/d", cache)
    assert list((tmp_path / "cache").glob("*/*")) == []


def test_kept_images_go_where_a_disk_needs_the_room(server, tmp_path, cache, monkeypatch):
    server.files["/d"] = DISK
    bring_in(tmp_path / "one", server.url + "/d", cache)
    monkeypatch.setattr(image_cache.files, "free_bytes", lambda _directory: 0)
    cache.make_room(1)
    assert list((tmp_path / "cache").glob("*/*")) == []


def test_images_of_before_the_last_boot_are_deleted(tmp_path, monkeypatch, cache):
    assert len(list((tmp_path / "cache").iterdir())) == 1
    (tmp_path / "boot").write_text("another\n")
    monkeypatch.setattr(image_cache, "_BOOT_ID", tmp_path / "boot")
    ImageCache(tmp_path / "cache", "default")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["another"]


def test_only_the_manager_may_reach_or_change_what_is_kept(server, tmp_path, cache):
    server.files["/d"] = qcow2(tmp_path)
    bring_in(tmp_path / "one", server.url + "/d", cache)
    (kept,) = (tmp_path / "cache").glob("*/*/*")
    assert kept.stat().st_uid == os.getuid() and kept.stat().st_mode & 0o022 == 0
    assert all(parent.stat().st_mode & 0o777 == 0o700 for parent in list(kept.parents)[:3])


def test_a_sparse_copy_has_the_same_holes(tmp_path):
    source = tmp_path / "source"
    with source.open("wb") as out:
        out.seek(3 * MIB)
        out.write(b"x" * 5000)
        out.truncate(20 * MIB)
    with source.open("rb") as given, (tmp_path / "copy").open("w+b") as made:
        files.copy_sparsely(given, made)
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    assert (tmp_path / "copy").stat().st_blocks == source.stat().st_blocks


# --- clones ---


def a_disk(tmp_path, format_):
    path = tmp_path / f"origin.{format_}"
    (tmp_path / "s.raw").write_bytes(DISK)
    subprocess.run(["qemu-img", "convert", "-O", format_, "s.raw", path.name], cwd=tmp_path, check=True)
    path.chmod(0o600)
    if OWNER is not None:
        os.chown(path, OWNER, OWNER)
    return path


@pytest.mark.parametrize("there", ["raw", "qcow2"])
@pytest.mark.parametrize("here", ["raw", "qcow2"])
def test_a_clone_has_the_content_and_may_be_larger(tmp_path, there, here):
    origin = a_disk(tmp_path, there)
    dest = tmp_path / f"disk.{here}"
    clone.run(CloneJob(origin, there, here, 4 * MIB, dest, OWNER), quiet(tmp_path / "progress"))
    assert content_of(dest, here) == DISK + bytes(2 * MIB)
    assert images.inspect(origin, there).virtual_size == 2 * MIB


def test_a_clone_is_not_smaller(tmp_path):
    job = CloneJob(a_disk(tmp_path, "raw"), "raw", "raw", MIB, tmp_path / "disk.raw", OWNER)
    with pytest.raises(ImageError, match="2Mi, more than the requested size of 1Mi"):
        clone.run(job, quiet(tmp_path / "progress"))


@pytest.mark.parametrize("there", ["raw", "qcow2"])
def test_a_disk_that_is_written_to_is_not_cloned_now(tmp_path, there):
    origin = a_disk(tmp_path, there)
    writer = ["qemu-io", "-f", there, "-c", "sleep 60000", str(origin)]
    with subprocess.Popen(writer, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        argv = [sys.executable, "-m", "vmruntime.engines.qemu.importer", "--clone", str(origin)]
        argv += ["--clone-format", there, "--format", "raw", "--size", str(4 * MIB), "--dest", str(tmp_path / "disk")]
        try:
            for _ in range(50):
                done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
                if done.returncode:
                    break
                (tmp_path / "disk").unlink()
        finally:
            child.kill()
    assert done.returncode == os.EX_TEMPFAIL, done.stdout + done.stderr
    assert not (tmp_path / "disk").exists()


def test_damage_is_not_taken_for_a_lock():
    """Such an import would be tried again for ever."""
    assert not clone.is_in_use(ImageError("Corrupt", "the image is damaged: a bad block"))
