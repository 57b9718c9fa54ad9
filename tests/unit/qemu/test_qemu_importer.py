"""Imports from small servers that behave and misbehave, and from files."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from vmruntime.engines.qemu import files, import_job, sources
from vmruntime.engines.qemu.config import QEMU_UID
from vmruntime.engines.qemu.http_request import Access, Limits
from vmruntime.engines.qemu.images import ImageError, inspect
from vmruntime.engines.qemu.import_job import Job
from vmruntime.engines.qemu.progress import Progress
from vmruntime.engines.qemu.source_kinds import Origin, open_source
from vmruntime.engines.qemu.sources import SourceError

MIB = 1 << 20
DISK = bytes([0xEB, 0x63, 0x90]) + os.urandom(2 * MIB - 3) + bytes(MIB) + os.urandom(MIB)
QUICK = Limits(connect=2, stall=0.3, failures=3, pause=0.01)
OPEN = Access()
OWNER = QEMU_UID if os.geteuid() == 0 else None


@contextmanager
def opened(url: str, allowed=(), limits: Limits = QUICK, access: Access = OPEN):
    source = open_source(Origin(url, tuple(allowed), access), limits=limits)
    try:
        yield source
    finally:
        source.close()


def fetch(url: str, allowed=(), limits: Limits = QUICK, access: Access = OPEN) -> bytes:
    with opened(url, allowed, limits, access) as source:
        return b"".join(source.pieces())


def import_disk(directory: Path, url: str, format_: str = "raw", size: int = 8 * MIB, allowed=(), **more) -> list[str]:
    """One import in this process; returns the lines it said."""
    dest = directory / f"disk.{format_}"
    lines: list[str] = []
    job = Job(Origin(url, tuple(allowed), **more), format_, size, dest, OWNER)
    import_job.run(job, Progress(dest.with_name(dest.name + ".progress"), lines.append))
    return lines


def qcow2_of(directory: Path, content: bytes, *options: str) -> bytes:
    (directory / "s.raw").write_bytes(content)
    command = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, "s.raw", "s.qcow2"]
    subprocess.run(command, cwd=directory, check=True)
    return (directory / "s.qcow2").read_bytes()


# --- sources ---


def test_a_download_is_what_the_server_has(server):
    server.files["/d"] = DISK
    with opened(server.url + "/d?token=secret") as source:
        assert source.length == len(DISK)
        assert b"".join(source.pieces()) == DISK


def test_a_broken_connection_is_resumed_with_a_range(server):
    server.files["/d"] = DISK
    server.breaks = [1_500_000, 700_000]
    assert fetch(server.url + "/d") == DISK
    assert [wanted for _, wanted in server.requests] == ["", "bytes=1500000-", "bytes=2200000-"]


def test_without_ranges_or_validators_it_starts_again_and_compares(server):
    server.files["/d"] = DISK
    server.ranges = False
    server.headers = {}
    server.breaks = [1_500_000]
    assert fetch(server.url + "/d") == DISK
    assert [wanted for _, wanted in server.requests] == ["", ""]


def test_other_content_after_a_break_is_noticed(server):
    server.files["/d"] = DISK
    server.headers = {}
    server.breaks = [1_500_000]
    with opened(server.url + "/d") as source, pytest.raises(SourceError, match="changed while"):
        for _ in source.pieces():
            server.files["/d"] = os.urandom(len(DISK))


def test_a_stalled_connection_is_resumed(server):
    server.files["/d"] = DISK
    server.breaks = [1000]
    server.stalls = 1
    assert fetch(server.url + "/d") == DISK


def test_a_server_that_always_breaks_is_given_up(server):
    server.files["/d"] = DISK
    server.breaks = [10] * 50
    with pytest.raises(SourceError, match=f"broke off after 30 of {len(DISK)} bytes") as caught:
        fetch(server.url + "/d")
    assert caught.value.temporary and len(server.requests) == 3


def test_redirects_are_followed_but_not_for_ever_nor_to_files(server):
    server.files["/d"] = DISK
    server.redirects = {"/a": "/b", "/b": server.url + "/d", "/loop": "/loop", "/file": "file:///etc/passwd"}
    assert fetch(server.url + "/a") == DISK
    with pytest.raises(SourceError, match="more than 5 times"):
        fetch(server.url + "/loop")
    with pytest.raises(SourceError, match="file URL, which is refused"):
        fetch(server.url + "/file")


@pytest.mark.parametrize(
    ("status", "reason", "attempts"), [(404, "NotFound", 1), (403, "Forbidden", 1), (503, "ServerError", 3)]
)
def test_refusals_are_told_and_repeated_only_where_it_may_help(server, status, reason, attempts):
    server.status["/d"] = status
    with pytest.raises(SourceError, match=rf"the server answered {status} \w.* for {server.url}/d$") as caught:
        fetch(server.url + "/d?key=secret")
    assert caught.value.reason == reason
    assert len(server.requests) == attempts


def test_an_encoded_answer_is_refused(server):
    server.files["/d"] = DISK
    server.headers["Content-Encoding"] = "gzip"
    with pytest.raises(SourceError, match="gzip"):
        fetch(server.url + "/d")


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("http://user:pw@host/x", "user name or password"),
        ("http://host/a b", "blanks"),
        ("http://host:0/", "wrong port"),
        ("http://host:x/", "cannot be understood"),
        ("http:///x", "no host"),
        ("ftp://host/x", "'ftp' are not supported"),
        ("gs://bucket", "gs://bucket/object"),
        ("gs://other@bucket/object", "user name or password"),
        ("gs://bucket:1/object", "gs://bucket/object"),
        ("file://host/x", "file:///absolute/path"),
        ("file:relative", "file:///absolute/path"),
    ],
)
def test_urls_that_cannot_be_used(url, word):
    with pytest.raises(SourceError, match=word) as caught:
        sources.check_url(url)
    assert "pw" not in str(caught.value)


def test_files_come_only_from_allowed_directories(tmp_path):
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "my disk").write_bytes(DISK)
    (tmp_path / "outside").write_bytes(DISK)
    (allowed / "escape").symlink_to(tmp_path / "outside")
    (allowed / "inner").symlink_to("my disk")
    os.mkfifo(allowed / "pipe")
    assert fetch(f"file://{allowed}/my%20disk", [allowed]) == DISK
    assert fetch(f"file://{allowed}/inner", [allowed]) == DISK
    for path in (f"{allowed}/escape", f"{tmp_path}/outside", f"{allowed}/../outside", "/etc/passwd", "/nowhere"):
        with pytest.raises(SourceError, match="not below an allowed directory"):
            fetch(f"file://{path}", [allowed])
    for path in (allowed / "pipe", allowed):
        with pytest.raises(SourceError, match="not a regular file"):
            fetch(f"file://{path}", [allowed])
    with pytest.raises(SourceError, match="No such file"):
        fetch(f"file://{allowed}/missing", [allowed])
    with pytest.raises(SourceError, match="none is"):
        fetch(f"file://{allowed}/inner")


# --- imports ---


def test_raw_goes_straight_into_place_sparse_and_grown(server, tmp_path):
    server.files["/d"] = DISK
    import_disk(tmp_path, server.url + "/d")
    disk = tmp_path / "disk.raw"
    assert disk.read_bytes() == DISK + bytes(4 * MIB)
    assert disk.stat().st_blocks * 512 <= 3 * MIB + 65536
    assert disk.stat().st_mode & 0o777 == 0o600 and disk.stat().st_uid == (OWNER or os.getuid())
    assert sorted(os.listdir(tmp_path)) == ["disk.raw", "disk.raw.progress"]


@pytest.mark.parametrize(("there", "here"), [("qcow2", "raw"), ("raw", "qcow2"), ("qcow2", "qcow2")])
@pytest.mark.parametrize("kind", ["http", "file"])
def test_every_format_ends_as_the_one_asked_for(server, tmp_path, there, here, kind):
    store = tmp_path / "store"
    store.mkdir()
    content = qcow2_of(store, DISK) if there == "qcow2" else DISK
    image = store / f"image.{there}"
    image.write_bytes(content)
    image.chmod(0o600)
    server.files[f"/image.{there}"] = content
    url = f"{server.url}/image.{there}" if kind == "http" else f"file://{image}"
    target = tmp_path / "target"
    target.mkdir()
    lines = import_disk(target, url, here, allowed=[store])
    disk = target / f"disk.{here}"
    assert inspect(disk, here).virtual_size == 8 * MIB
    raw = subprocess.run(["qemu-img", "convert", "-f", here, "-O", "raw", disk, target / "back"], check=True)
    assert raw.returncode == 0
    assert (target / "back").read_bytes() == DISK + bytes(4 * MIB)
    assert any(line.startswith("finishing") for line in lines)
    assert {p.name for p in target.iterdir()} == {disk.name, f"{disk.name}.progress", "back"}


def page(_directory):
    return b"<html><body>Please log in</body></html>"


def too_big(_directory):
    return DISK * 3


def too_big_inside(directory):
    return qcow2_of(directory, bytes(64 * MIB))


def with_backing(directory):
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", "s.qcow2"]
    subprocess.run(command, cwd=directory, check=True)
    return (directory / "s.qcow2").read_bytes()


def cut_short(directory):
    return qcow2_of(directory, DISK)[: 2 * MIB]


def gzipped(_directory):
    return b"\x1f\x8b\x08" + bytes(7) + b"\xff" * 2000  # a deflate block of the reserved kind


def empty(_directory):
    return b""


@pytest.mark.parametrize(
    ("make", "format_", "reason", "words"),
    [
        (page, "raw", "NotAnImage", "web page"),
        (empty, "raw", "NotAnImage", "empty"),
        (too_big, "raw", "TooLarge", "12Mi, more than the requested size of 8Mi"),
        (too_big, "qcow2", "TooLarge", "12Mi, more than the requested size of 8Mi"),
        (too_big_inside, "raw", "TooLarge", "64Mi, more than the requested size of 8Mi"),
        (with_backing, "raw", "BackingFile", "backing file"),
        (with_backing, "qcow2", "BackingFile", "backing file"),
        (cut_short, "raw", "Corrupt", "cut short"),
        (cut_short, "qcow2", "Corrupt", "cut short"),
        (gzipped, "raw", "Corrupt", "gz data is damaged"),
    ],
)
def test_bad_images_are_refused_with_the_reason_and_leave_nothing(server, tmp_path, make, format_, reason, words):
    store = tmp_path / "store"
    store.mkdir()
    server.files["/d"] = make(store)
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(ImageError, match=words) as caught:
        import_disk(target, server.url + "/d", format_)
    assert caught.value.reason == reason
    assert os.listdir(target) == [f"disk.{format_}.progress"]


def test_a_name_that_promises_another_format_is_not_believed(server, tmp_path):
    server.files["/d.qcow2"] = DISK
    with pytest.raises(ImageError, match="not the qcow2 image that its name promises"):
        import_disk(tmp_path, server.url + "/d.qcow2?x=1")


def test_no_space_is_told_with_the_numbers(server, tmp_path, monkeypatch):
    server.files["/d"] = DISK
    small = os.statvfs_result((4096, 4096, 10, 10, 10, 1, 1, 1, 0, 255))
    monkeypatch.setattr(files.os, "statvfs", lambda _path: small)
    with pytest.raises(ImageError, match="4Mi, but only 40Ki are free") as caught:
        import_disk(tmp_path, server.url + "/d")
    assert caught.value.reason == "NoSpace"


def test_readable_sizes():
    assert import_job.readable_size(10 << 30) == "10Gi"
    assert import_job.readable_size(512) == "512 bytes"
    assert import_job.readable_size((1 << 20) + 1) == "1.00Mi (1048577 bytes)"


def test_a_public_object_of_cloud_storage(server, tmp_path):
    server.files["/bucket.example/some/image%23one.raw"] = DISK
    import_disk(tmp_path, "gs://bucket.example/some/image#one.raw", gcs=server.url)
    assert (tmp_path / "disk.raw").read_bytes()[: len(DISK)] == DISK
    server.redirects["/bucket/other"] = "gs://bucket/another"
    with pytest.raises(SourceError, match="gs URL, which is refused"):
        import_disk(tmp_path, "gs://bucket/other", gcs=server.url)


# --- the program ---


def program(*argv: str) -> list[str]:
    return [sys.executable, "-m", "vmruntime.engines.qemu.importer", *argv]


def test_the_program_reports_success_and_the_hash(server, tmp_path):
    server.files["/d"] = DISK
    dest = tmp_path / "disk.raw"
    argv = program("--url", server.url + "/d", "--format", "raw", "--size", str(8 * MIB), "--dest", str(dest))
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("done in ")
    report = json.loads((tmp_path / "disk.raw.progress").read_text())
    assert report["phase"] == "Succeeded" and report["percent"] == 100.0
    assert report["bytesDone"] == report["bytesTotal"] == len(DISK)
    assert report["sha256"] == hashlib.sha256(DISK).hexdigest()


def test_the_program_ends_with_one_line_that_says_why(server, tmp_path):
    argv = program("--url", server.url + "/no", "--format", "raw", "--size", "1000", "--dest", str(tmp_path / "d"))
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[-1] == f"error: NotFound: the server answered 404 Not Found for {server.url}/no"
    report = json.loads((tmp_path / "d.progress").read_text())
    assert (report["phase"], report["reason"], report["temporary"]) == ("Failed", "NotFound", False)


@pytest.mark.parametrize("change", [("--size", "0"), ("--format", "vmdk"), ("--dest", "/nowhere/at/all/disk")])
def test_wrong_arguments_are_told_apart(tmp_path, change):
    arguments = {"--url": "http://h/", "--format": "raw", "--size": "1", "--dest": str(tmp_path / "d")}
    arguments[change[0]] = change[1]
    argv = program(*(word for pair in arguments.items() for word in pair))
    assert subprocess.run(argv, capture_output=True, timeout=30).returncode == 2


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_import_leaves_no_disk_and_the_next_one_no_litter(server, tmp_path, how):
    server.files["/d"] = DISK
    server.breaks = [MIB]
    server.stalls = 1
    dest = tmp_path / "disk.raw"
    argv = program("--url", server.url + "/d", "--format", "raw", "--size", str(8 * MIB), "--dest", str(dest))
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    while not child.stdout.readline().startswith("downloading"):
        assert child.poll() is None
    child.send_signal(how)
    child.stdout.close()
    assert child.wait(10) == (143 if how == signal.SIGTERM else -9)
    assert not dest.exists()
    server.stall.set()
    import_disk(tmp_path, server.url + "/d")
    assert sorted(os.listdir(tmp_path)) == ["disk.raw", "disk.raw.progress"]
