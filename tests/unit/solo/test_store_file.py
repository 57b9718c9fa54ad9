"""The store's file: what is in it, restarts, older and newer schemas, full disks, bounds."""

import asyncio
import shutil
import sqlite3
import stat
import subprocess
import sys
import tarfile
from contextlib import closing

import pytest

from kube.machinery.errors import StatusError
from solo.backup import back_up
from solo.store import Store, StoreError
from solo.store import database as database_module
from unit.solo.store_objects import key, obj


async def test_closing_waits_for_a_write_that_nobody_waits_for(tmp_path):
    store = Store.open(tmp_path / "state.db")
    task = asyncio.ensure_future(store.create(key("a"), obj("a")))
    await asyncio.sleep(0)
    task.cancel()
    await store.close()
    again = Store.open(tmp_path / "state.db")
    assert again.get(key("a")) is not None
    await again.close()


def rows(path):
    """The versions in a store's file: revision, type, name."""
    with closing(sqlite3.connect(path / "state.db")) as db:
        return db.execute("SELECT rv, type, name FROM versions ORDER BY rv").fetchall()


async def test_versions_that_nobody_can_ask_for_leave_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("solo.store.store.TRIM_EVERY", 3)
    store = Store.open(tmp_path / "state.db", max_events=10)
    for name in ("stays", "changes", "goes"):
        await store.create(key(name), obj(name))
    await store.delete(key("goes"), None)
    for n in range(20):
        await store.update(key("changes"), obj("changes", n), None)
    await store.close()
    found = rows(tmp_path)
    assert (1, "ADDED", "stays") in found
    assert not [row for row in found if row[2] == "goes"]
    assert 12 <= len(found) <= 12 + 3  # the one that stays, the past, the predecessor of its first, and a trim's worth
    again = Store.open(tmp_path / "state.db", max_events=10)
    assert [s.key.name for s in again.list("pods")[0]] == ["changes", "stays"] and again.revision == 24
    with pytest.raises(StatusError):
        again.watch("pods", None, 13)
    events = await again.watch("pods", None, 14).batch(1)
    assert [event.prev.rv for event in events] == list(range(14, 24))
    assert [s.rv for s in again.as_of("pods", None, 14)] == [14, 1]
    await again.close()


async def test_a_trim_that_failed_is_made_up_for(tmp_path, monkeypatch):
    monkeypatch.setattr("solo.store.store.TRIM_EVERY", 3)
    store = Store.open(tmp_path / "state.db", max_events=4)
    await store.create(key("a"), obj("a"))
    for n in range(7):  # of eight events four are history: the three before the oldest's predecessor go next
        await store.update(key("a"), obj("a", n), None)
    with monkeypatch.context() as patch:
        patch.setattr(database_module, "_FORGET", "nonsense")
        for n in range(2):
            with pytest.raises(StatusError, match="the change was not made"):
                await store.update(key("a"), obj("a", n), None)
    assert [rv for rv, _, _ in rows(tmp_path)] == list(range(1, 9))
    await store.update(key("a"), obj("a", 11), None)
    await store.close()
    assert rows(tmp_path)[0][0] == 4
    again = Store.open(tmp_path / "state.db", max_events=4)
    assert again.get(key("a")).obj["value"] == 11
    await again.close()


async def test_superseded_versions_of_an_earlier_run_go_too(tmp_path, monkeypatch):
    store = Store.open(tmp_path / "state.db", max_events=4)
    await store.create(key("gone"), obj("gone"))
    await store.delete(key("gone"), None)
    for n in range(8):
        await put(store, "a", "", n)
    await store.close()
    assert len(rows(tmp_path)) == 10  # fewer than what a trim is worth
    monkeypatch.setattr("solo.store.store.TRIM_EVERY", 1)
    again = Store.open(tmp_path / "state.db", max_events=4)
    await put(again, "a", "", 8)
    await put(again, "a", "", 9)
    await again.close()
    assert [name for _, _, name in rows(tmp_path)] == ["a"] * 6


async def test_restart_keeps_objects_revision_and_history(tmp_path):
    store = Store.open(tmp_path / "state.db")
    first = await store.create(key("a"), obj("a"))
    await store.update(key("a"), obj("a", 1), None)
    await store.create(key("b"), obj("b"))
    gone = await store.delete(key("b"), None)
    await store.close()
    again = Store.open(tmp_path / "state.db")
    assert again.revision == gone.rv and [s.obj["value"] for s in again.list("pods")[0]] == [1]
    events = await again.watch("pods", None, first.rv).batch(1)
    assert [(e.type, e.stored.key.name) for e in events] == [("MODIFIED", "a"), ("ADDED", "b"), ("DELETED", "b")]
    assert events[0].prev.obj["value"] == 0
    assert (await again.create(key("c"), obj("c"))).rv > gone.rv
    await again.close()


async def test_file_is_private_and_single_owner(store, tmp_path):
    await store.create(key("a"), obj("a"))
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(StoreError, match="in use by another process"):
        Store.open(tmp_path / "state.db")


async def test_a_newer_schema_is_refused_and_left_untouched(tmp_path):
    store = Store.open(tmp_path / "state.db")
    await store.create(key("a"), obj("a"))
    store._database._connection.execute("PRAGMA user_version = 99")
    kept = tmp_path / "kept"
    kept.mkdir()
    for file in ("state.db", "state.db-wal"):  # as after a kill: the newer schema stands in the write-ahead log only
        shutil.copy(tmp_path / file, kept)
    await store.close()
    before = {file.name: file.read_bytes() for file in kept.iterdir()}
    assert len(before["state.db-wal"]) > 0
    with pytest.raises(StoreError, match=r"newer version .*schema 99, this one knows 2"):
        Store.open(kept / "state.db")
    assert {name: (kept / name).read_bytes() for name in before} == before


# A file as the first version wrote it. It stays as it is: users have such files.
SCHEMA_1 = """
CREATE TABLE objects (
  resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, rv INTEGER NOT NULL, raw BLOB NOT NULL,
  PRIMARY KEY (resource, namespace, name)
);
CREATE TABLE log (
  rv INTEGER PRIMARY KEY, type TEXT NOT NULL,
  resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, raw BLOB NOT NULL
);
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT INTO meta VALUES ('revision', 7), ('floor', 5);
INSERT INTO objects VALUES ('pods', 'ns', 'old', 3, CAST('{"metadata":{"name":"old"},"value":5}' AS BLOB));
INSERT INTO objects VALUES ('pods', 'ns', 'a', 7, CAST('{"metadata":{"name":"a"},"value":1}' AS BLOB));
INSERT INTO log VALUES (6, 'ADDED', 'pods', 'ns', 'a', CAST('{"metadata":{"name":"a"},"value":0}' AS BLOB));
INSERT INTO log VALUES (7, 'MODIFIED', 'pods', 'ns', 'a', CAST('{"metadata":{"name":"a"},"value":1}' AS BLOB));
PRAGMA user_version = 1;
"""


@pytest.mark.parametrize("steps", [(), ("ALTER TABLE versions ADD COLUMN extra TEXT", "CREATE TABLE second (x)")])
async def test_an_older_schema_is_migrated(tmp_path, monkeypatch, steps):
    with closing(sqlite3.connect(tmp_path / "state.db")) as db:
        db.executescript(SCHEMA_1)
    monkeypatch.setattr(database_module, "SCHEMA_STEPS", (*database_module.SCHEMA_STEPS, *steps))
    store = Store.open(tmp_path / "state.db")
    assert store.revision == 7
    assert {s.key.name: (s.rv, s.obj["value"]) for s in store.list("pods")[0]} == {"a": (7, 1), "old": (3, 5)}
    assert [event.type for event in await store.watch("pods", None, 5).batch(1)] == ["ADDED", "MODIFIED"]
    assert (await store.create(key("b"), obj("b"))).rv == 8
    await store.close()
    with closing(sqlite3.connect(tmp_path / "state.db")) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == len(database_module.SCHEMA_STEPS)


async def test_a_backup_of_an_older_schema(tmp_path):
    (tmp_path / "data" / "pki").mkdir(parents=True)
    with closing(sqlite3.connect(tmp_path / "data" / "state.db")) as db:
        db.executescript(SCHEMA_1)
    back_up(tmp_path / "data", tmp_path / "backup.tar")
    with tarfile.open(tmp_path / "backup.tar") as archive:
        archive.extract("state.db", tmp_path, filter="data")
    store = Store.open(tmp_path / "state.db")
    assert {s.key.name: s.rv for s in store.list("pods")[0]} == {"a": 7, "old": 3}
    assert store.revision > 1_000_000
    with pytest.raises(StatusError):
        store.watch("pods", None, 7)
    await store.close()


def test_a_migration_that_fails_changes_nothing(tmp_path, monkeypatch):
    with closing(sqlite3.connect(tmp_path / "state.db")) as db:
        db.executescript(SCHEMA_1)
    broken = "CREATE TABLE half (x); CREATE TABLE versions (x)"
    with monkeypatch.context() as patch:
        patch.setattr(database_module, "SCHEMA_STEPS", (*database_module.SCHEMA_STEPS, broken))
        with pytest.raises(StoreError, match="versions already exists"):
            Store.open(tmp_path / "state.db")
    with closing(sqlite3.connect(tmp_path / "state.db")) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == len(database_module.SCHEMA_STEPS)
        assert not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'half'").fetchall()


async def test_files_and_history_stay_bounded(tmp_path):
    store = Store.open(tmp_path / "state.db", max_events=500, max_bytes=2 << 20)
    pad = "x" * 200_000
    sizes = {"state.db": 0, "state.db-wal": 0}
    for step in range(20):  # 80 MB in 400 writes of 20 objects
        await asyncio.gather(*(put(store, f"p{n}", pad, step) for n in range(20)))
        sizes = {name: max(size, (tmp_path / name).stat().st_size) for name, size in sizes.items()}
    assert sizes["state.db"] < 30 << 20  # 4 MB of objects, 2 of history, what is trimmed at once, and a margin
    assert sizes["state.db-wal"] < 30 << 20
    with pytest.raises(StatusError) as caught:
        store.watch("pods", None, 1)
    assert caught.value.code == 410
    await store.close()
    assert not (tmp_path / "state.db-wal").exists()


async def put(store, name, pad, step):
    value = {"metadata": {"name": name}, "pad": pad, "step": step}
    await (store.update(key(name), value, None) if step else store.create(key(name), value))


async def test_writers_that_wait_share_one_sync(tmp_path):
    """Counted where it costs: the calls of fdatasync and fsync that the process makes."""
    script = (
        "import asyncio, sys; from solo.store import Key, Store\n"
        "async def main():\n"
        "    store = Store.open(sys.argv[1]); await store.create(Key('pods', 'ns', 'first'), {})\n"
        "    sys.stderr.flush(); print('go', file=sys.stderr, flush=True)\n"
        "    await asyncio.gather(*(store.create(Key('pods', 'ns', str(n)), {}) for n in range(200)))\n"
        "    print('done', file=sys.stderr, flush=True)\n"
        "asyncio.run(main())\n"
    )
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    trace = tmp_path / "trace"
    command = [strace, "-f", "-o", str(trace), "-e", "trace=fsync,fdatasync,write"]
    subprocess.run([*command, sys.executable, "-c", script, str(tmp_path / "state.db")], check=True, timeout=60)
    lines = trace.read_text().splitlines()
    begin = next(i for i, line in enumerate(lines) if '"go' in line)
    end = next(i for i, line in enumerate(lines) if '"done' in line)
    syncs = sum("sync(" in line for line in lines[begin:end])
    assert 1 <= syncs <= 4


def test_a_damaged_file_is_refused(tmp_path):
    (tmp_path / "state.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match="damaged"):
        Store.open(tmp_path / "state.db")


async def test_a_full_disk_fails_the_write_and_recovers(store):
    await store.create(key("a"), obj("a"))
    before = store.revision
    connection = store._database._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StatusError, match="is full; free some space") as caught:
        await store.create(key("big"), obj("big", "x" * 100_000))
    assert (caught.value.code, caught.value.reason) == (507, "InsufficientStorage")
    assert store.get(key("big")) is None and store.revision == before
    connection.execute("PRAGMA max_page_count = 1000000")
    assert (await store.create(key("big"), obj("big", "x" * 100_000))).rv > before


async def test_a_lost_connection_is_opened_anew(store, caplog):
    await store.create(key("a"), obj("a"))
    store._database._connection.close()
    with pytest.raises(StatusError):
        await store.create(key("b"), obj("b"))
    await store.create(key("b"), obj("b"))
    assert len(store.list("pods")[0]) == 2
