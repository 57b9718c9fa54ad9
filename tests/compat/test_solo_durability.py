"""What a server has answered stays: kill -9 under load, a full disk, a backup and its restoration."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import resource
import sqlite3
import stat
import subprocess
import sys
import tarfile

import pytest

from kube.client.aio import AsyncClient
from kube.client.config import load_kubeconfig
from kube.client.errors import ConnectionFailed
from kube.machinery.errors import StatusError
from kube.machinery.resources import CONFIGMAPS, SERVICEACCOUNTS
from solo.testing import ServerError, run_server

KILLS = int(os.environ.get("KILLS", "3"))
SEED = int(os.environ.get("SEED", "2024"))
WRITERS = 8


class Ledger:
    """What each object's last acknowledged write was, and the one whose answer did not come."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, tuple[int, int | None]] = {}  # name -> revision, step (None: deleted)
        self.unanswered: dict[str, int | None] = {}
        self.newest = 0
        self.writes = 0
        self.goal = 0
        self.reached = asyncio.Event()

    def acknowledge(self, name: str, revision: int, step: int | None) -> None:
        assert revision > self.acknowledged.get(name, (0, None))[0], "a revision went back"
        self.acknowledged[name] = (revision, step)
        self.newest = max(self.newest, revision)
        self.writes += 1
        if self.writes >= self.goal:
            self.reached.set()

    def check(self, listed: dict) -> None:
        """Each object is as acknowledged, or as the unanswered write has left it; then that is the truth."""
        assert int(listed["metadata"]["resourceVersion"]) >= self.newest
        present = {item["metadata"]["name"]: item for item in listed["items"]}
        for name in {*self.acknowledged, *self.unanswered}:
            revision, step = self.acknowledged.get(name, (0, None))
            item = present.get(name)
            found = int(item["data"]["step"]) if item else None
            if name in self.unanswered and found == self.unanswered[name] and found != step:
                assert item is None or int(item["metadata"]["resourceVersion"]) > revision
                self.acknowledged[name] = (int(item["metadata"]["resourceVersion"]) if item else revision, found)
                continue
            assert found == step, f"{name}: acknowledged step {step} at {revision}, found {found}"
            assert item is None or int(item["metadata"]["resourceVersion"]) == revision
        self.unanswered.clear()
        self.newest = max(self.newest, int(listed["metadata"]["resourceVersion"]))


async def write(client: AsyncClient, ledger: Ledger, writer: int, steps: random.Random, stop: asyncio.Event) -> None:
    """Create, change and delete objects of one's own, one write at a time, until told to stop or the server is gone."""
    floor = ledger.newest
    while not stop.is_set():
        name = f"w{writer}-{steps.randrange(5)}"
        exists = ledger.acknowledged.get(name, (0, None))[1] is not None
        step = None if exists and steps.random() < 0.2 else steps.randrange(1 << 30)
        obj = {"metadata": {"name": name}, "data": {"step": str(step), "pad": "x" * steps.randrange(2000)}}
        ledger.unanswered[name] = step
        try:
            if step is None:
                await client.delete(CONFIGMAPS, name, "default")
                listed = await client.list(CONFIGMAPS, "default", field_selector=f"metadata.name={name}")
                assert not listed["items"]
                revision = int(listed["metadata"]["resourceVersion"])
            else:
                call = client.update if exists else client.create
                revision = int((await call(CONFIGMAPS, obj, "default"))["metadata"]["resourceVersion"])
        except ConnectionFailed:
            return
        assert revision > floor, "a revision was given twice"
        del ledger.unanswered[name]
        ledger.acknowledge(name, revision, step)


async def load_and_kill(server, ledger: Ledger, writes: int, seed: int) -> None:
    """Kill the server after so many writes: every other time amid others, else right after the last answer."""
    async with AsyncClient(load_kubeconfig(str(server.kubeconfig))) as client:
        stop = asyncio.Event()
        ledger.goal, ledger.reached = ledger.writes + writes, asyncio.Event()
        writers = [write(client, ledger, n, random.Random(seed * 100 + n), stop) for n in range(WRITERS)]
        tasks = [asyncio.create_task(writer) for writer in writers]
        async with asyncio.timeout(60):
            await ledger.reached.wait()
        if seed % 2:
            stop.set()
            await asyncio.gather(*tasks)
        server.process.kill()
        await asyncio.gather(*tasks)


@pytest.mark.timeout(60 + 10 * KILLS)
def test_kill_loses_nothing_that_was_acknowledged(tmp_path):
    """`make soak-api` runs it with many kills; a failure names the seed of its round."""
    print(f"SEED={SEED}")
    rng = random.Random(SEED)
    ledger = Ledger()
    for number in range(KILLS + 1):
        with run_server(tmp_path) as server:
            with server.client() as client:
                listed = client.list(CONFIGMAPS, "default")
            listed["items"] = [item for item in listed["items"] if item["metadata"]["name"].startswith("w")]
            ledger.check(listed)
            if number < KILLS:
                asyncio.run(load_and_kill(server, ledger, rng.randrange(10, 150), SEED + number))
    assert ledger.writes >= 10 * KILLS


def fails_until_full(client) -> tuple[set[str], StatusError]:
    """Write until the server cannot; what it has acknowledged, and its answer to the rest."""
    written = set()
    for number in range(200):
        name = f"fill-{number}"
        try:
            client.create(CONFIGMAPS, {"metadata": {"name": name}, "data": {"k": "x" * 300_000}}, "default")
        except StatusError as problem:
            return written, problem
        written.add(name)
    raise AssertionError("the disk did not become full")


def names(client) -> set[str]:
    return {item["metadata"]["name"] for item in client.list(CONFIGMAPS, "default")["items"]}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own with 24 MiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(mount)], capture_output=True)
    if done.returncode != 0:
        pytest.skip("a file system cannot be mounted here")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_a_full_disk(small_disk, tmp_path):
    with run_server(small_disk, "--kubeconfig", str(small_disk / "kubeconfig")) as server, server.client() as client:
        ballast = small_disk / "ballast"
        # Room for the write-ahead log and, when the ballast is gone, for what of it is folded into the file, too.
        ballast.write_bytes(b"x" * (14 << 20))
        written, problem = fails_until_full(client)
        assert (problem.code, problem.reason) == (507, "InsufficientStorage")
        assert "the disk of" in problem.message and "is full" in problem.message
        assert written <= names(client)
        with pytest.raises(StatusError, match="etcd failed"):
            client.raw("GET", "/readyz")
        ballast.unlink()
        client.create(CONFIGMAPS, {"metadata": {"name": "after"}}, "default")
        assert client.raw("GET", "/readyz") == b"ok"
        server.process.kill()
        server.process.wait()
    with run_server(small_disk) as server, server.client() as client:
        assert {*written, "after"} <= names(client)


def test_a_start_without_a_disk_to_write_to_says_so(small_disk, tmp_path):
    with run_server(small_disk):
        pass
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb") as file:
        while True:
            file.write(b"x" * (1 << 16))
            file.flush()
    with pytest.raises(ServerError, match=r"No space left|disk is full"), run_server(small_disk):
        pass
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    code, report = start(small_disk / "data", tmp_path)
    assert (code, "Read-only file system" in report) == (1, True)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    with run_server(small_disk) as server, server.client() as client:
        assert client.raw("GET", "/readyz") == b"ok"


def start(data, tmp_path) -> tuple[int, str]:
    """The exit code and the log of a server that does not start."""
    done = solo("--data", str(data), "--port", "0", "--kubeconfig", str(tmp_path / "kubeconfig"))
    return done.returncode, done.stderr


def test_a_disk_that_takes_no_writes(tmp_path):
    """The kernel refuses every write of the process to a file, as on a file system that has become read-only."""
    with run_server(tmp_path) as server, server.client() as client:
        client.create(CONFIGMAPS, {"metadata": {"name": "before"}}, "default")
        unlimited = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1, unlimited[1]))
        with pytest.raises(StatusError) as caught:
            client.create(CONFIGMAPS, {"metadata": {"name": "refused"}}, "default")
        assert caught.value.code in (500, 507) and "the change was not made" in caught.value.message
        assert "before" in names(client) and "refused" not in names(client)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, unlimited)
        client.create(CONFIGMAPS, {"metadata": {"name": "after"}}, "default")
        server.process.kill()
        server.process.wait()
    with run_server(tmp_path) as server, server.client() as client:
        assert {"before", "after"} <= names(client) and "refused" not in names(client)


def solo(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "solo", *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--data", ""), "argument --data: it is empty: name a directory"),
        (("--data", "d", "--port", "65536"), "argument --port: '65536' is no number from 0 to 65535"),
        (("--data", "d", "--port", "-1"), "argument --port: "),
    ],
)
def test_arguments_that_no_server_starts_with(tmp_path, monkeypatch, arguments, problem):
    monkeypatch.chdir(tmp_path)
    done = solo(*arguments)
    assert (done.returncode, problem in done.stderr, [*tmp_path.iterdir()]) == (2, True, [])


def test_backup_of_a_running_server_and_restoration(tmp_path):
    (tmp_path / "restored").mkdir()
    file = tmp_path / "backup.tar"
    with run_server(tmp_path) as server, server.client() as client:
        for number in range(20):
            client.create(CONFIGMAPS, {"metadata": {"name": f"kept-{number}"}, "data": {"k": "v"}}, "default")
        client.patch(CONFIGMAPS, "kept-0", {"data": {"k": "changed"}}, "default")
        client.create(CONFIGMAPS, {"metadata": {"name": "gone"}}, "default")
        client.delete(CONFIGMAPS, "gone", "default")
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        answer = client.create(SERVICEACCOUNTS, request, "default", name="default", subresource="token")
        token = answer["status"]["token"]
        done = solo("backup", "--data", str(tmp_path / "data"), str(file))
        assert done.returncode == 0, done.stderr
        later = client.create(CONFIGMAPS, {"metadata": {"name": "later"}}, "default")
        kept = {item["metadata"]["name"]: item for item in client.list(CONFIGMAPS, "default")["items"]}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with tarfile.open(file) as archive:
        assert {"state.db", "pki", "pki/ca.key", "pki/sa.key"} <= set(archive.getnames())
        archive.extractall(tmp_path / "restored" / "data", filter="data")
    port = load_kubeconfig(str(server.kubeconfig)).server.rpartition(":")[2]
    with run_server(tmp_path / "restored", "--port", port) as restored:
        # The kubeconfig of before: nobody who has one needs another.
        with server.client() as client:
            listed = client.list(CONFIGMAPS, "default")
            assert {item["metadata"]["name"]: item for item in listed["items"]} == {
                name: item for name, item in kept.items() if name != "later"
            }
            seen = later["metadata"]["resourceVersion"]
            assert int(listed["metadata"]["resourceVersion"]) > int(seen)
            made = client.create(CONFIGMAPS, {"metadata": {"name": "new"}}, "default")
            assert int(made["metadata"]["resourceVersion"]) > int(seen)
            with pytest.raises(StatusError) as caught:
                next(client.watch(CONFIGMAPS, "default", resource_version=seen, timeout=5))
            assert caught.value.code == 410
            review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
            path, headers = "/apis/authentication.k8s.io/v1/tokenreviews", {"Content-Type": "application/json"}
            told = json.loads(client.raw("POST", path, json.dumps(review).encode(), headers))
            assert told["status"]["authenticated"] is True
        assert restored.process.poll() is None


def test_keys_without_a_database_begin_an_empty_cluster_and_say_so(tmp_path):
    with run_server(tmp_path) as server, server.client() as client:
        client.create(CONFIGMAPS, {"metadata": {"name": "lost"}}, "default")
        assert "an empty cluster begins" not in server.log.read_text()
    for file in (tmp_path / "data").glob("state.db*"):
        file.unlink()
    with run_server(tmp_path) as server, server.client() as client:
        assert "lost" not in [each["metadata"]["name"] for each in client.list(CONFIGMAPS, "default")["items"]]
        assert "there is no" in server.log.read_text() and "an empty cluster begins" in server.log.read_text()


def test_a_backup_that_cannot_be(tmp_path):
    done = solo("backup", "--data", str(tmp_path), str(tmp_path / "b.tar"))
    assert (done.returncode, "is not the data directory of a server" in done.stderr) == (1, True)
    (tmp_path / "state.db").touch()
    (tmp_path / "b.tar").write_text("an older one")
    done = solo("backup", "--data", str(tmp_path), str(tmp_path / "b.tar"))
    assert (done.returncode, "exists: name another file" in done.stderr) == (1, True)
    done = solo("backup", "--data", str(tmp_path), str(tmp_path / "c.tar"))
    assert (done.returncode, sorted(path.name for path in tmp_path.iterdir())) == (1, ["b.tar", "state.db"])


def test_data_of_a_newer_version_is_left_alone(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    with sqlite3.connect(data / "state.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    before = (data / "state.db").read_bytes()
    with pytest.raises(ServerError, match="written by a newer version"), run_server(tmp_path):
        pass
    assert (data / "state.db").read_bytes() == before
    assert not (data / "pki").exists() and not (tmp_path / "kubeconfig").exists()
