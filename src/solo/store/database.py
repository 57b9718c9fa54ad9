"""The store's file: one SQLite database that only this process writes (others may read it, as a backup does).

`objects` is the present, `log` the recent past (so that watches can be resumed after a restart), `meta` the global
revision and the floor below which the log has been trimmed. Every method blocks; the store calls them from its one
writer thread, apart from opening and closing.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from solo.store.model import Event, EventType, Key, Stored

logger = logging.getLogger(__name__)

CHECKPOINT_PAGES = 4000
"""Of the write-ahead log, 16 MB. The write that fills it waits for a checkpoint, tens of milliseconds: one in about 500
of objects of 4 KB; with SQLite's own 1000 pages it was one in 130."""
JOURNAL_LIMIT_BYTES = 24 * 1024 * 1024

# Step N takes a file from schema N-1 to N; a new file goes through all of them. Never change one that was released.
SCHEMA_STEPS = (
    """
CREATE TABLE objects (
  resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, rv INTEGER NOT NULL, raw BLOB NOT NULL,
  PRIMARY KEY (resource, namespace, name)
);
CREATE TABLE log (
  rv INTEGER PRIMARY KEY, type TEXT NOT NULL,
  resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, raw BLOB NOT NULL
);
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT INTO meta VALUES ('revision', 0), ('floor', 0);
""",
)
_UPSERT = (
    "INSERT INTO objects (resource, namespace, name, rv, raw) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (resource, namespace, name) DO UPDATE SET rv = excluded.rv, raw = excluded.raw"
)
_DELETE = "DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?"
_LOG = "INSERT INTO log (rv, type, resource, namespace, name, raw) VALUES (?, ?, ?, ?, ?, ?)"


class StoreError(Exception):
    """The store's file cannot be used; the message names the file and the remedy."""


@dataclass(slots=True)
class Snapshot:
    """What the file holds when it is opened."""

    revision: int
    floor: int
    objects: list[Stored] = field(default_factory=list)
    events: list[tuple[EventType, Stored]] = field(default_factory=list)


class Database:
    """The SQLite file behind a store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._lock: int | None = None

    def open(self) -> Snapshot:
        """Open or create the file, bring it to this program's schema, and read all of it.

        Raises:
            StoreError: it is no database, of a newer version (it is left untouched then), damaged, or in use by
                another process.
        """
        try:
            self._take_lock()
            if self.path.exists():
                self._refuse_newer()
            else:
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self._migrate(self._connect())
            return self._load()
        except (sqlite3.Error, OSError) as exc:
            self.close()
            raise StoreError(_open_message(self.path, exc)) from exc
        except StoreError:
            self.close()
            raise

    def _take_lock(self) -> None:
        """A second writer would not see this one's memory. A file of its own: to close a descriptor of the database
        would take away SQLite's locks on it."""
        self._lock = os.open(f"{self.path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(f"{self.path} is in use by another process: stop that one first") from None

    def _refuse_newer(self) -> None:
        """Look at the schema with a connection that can change nothing, not even fold the write-ahead log in."""
        with closing(read_only(self.path)) as connection:
            version = schema_of(connection)
        if version > len(SCHEMA_STEPS):
            raise StoreError(
                f"{self.path} was written by a newer version of this program (schema {version}, this one knows "
                f"{len(SCHEMA_STEPS)}): use that version, or start with an empty data directory"
            )

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=0.2, isolation_level=None, check_same_thread=False)
        self._connection = connection
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_LIMIT_BYTES}")
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        """Each step is one transaction: a kill in between leaves a file of an older schema, and the rest to do."""
        version = schema_of(connection)
        for number, step in enumerate(SCHEMA_STEPS[version:], version + 1):
            if version:
                logger.info("%s: migrating the schema to %d", self.path, number)
            connection.executescript(f"BEGIN IMMEDIATE;{step};PRAGMA user_version = {number};COMMIT;")

    def _load(self) -> Snapshot:
        connection = self._require()
        meta = dict(connection.execute("SELECT name, value FROM meta"))
        snapshot = Snapshot(revision=int(meta["revision"]), floor=int(meta["floor"]))
        rows = connection.execute("SELECT resource, namespace, name, rv, raw FROM objects")
        snapshot.objects = [
            Stored(Key(resource, namespace, name), rv, raw) for resource, namespace, name, rv, raw in rows
        ]
        present = {stored.key: stored for stored in snapshot.objects}
        rows = connection.execute(
            "SELECT type, resource, namespace, name, rv, raw FROM log WHERE rv > ? ORDER BY rv", (snapshot.floor,)
        )
        for type_, resource, namespace, name, rv, raw in rows:
            key = Key(resource, namespace, name)
            current = present.get(key)
            shared = current is not None and current.rv == rv
            snapshot.events.append((type_, current if current and shared else Stored(key, rv, raw)))
        return snapshot

    def _require(self) -> sqlite3.Connection:
        return self._connection if self._connection is not None else self._connect()

    def commit(self, events: Sequence[Event], floor: int | None) -> None:
        """Write all events in one durable transaction; with `floor`, trim the log up to it as well.

        Raises:
            sqlite3.Error: nothing of the transaction has happened.
        """
        connection = self._require()
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                _UPSERT, [(*e.stored.key, e.rv, e.stored.raw) for e in events if e.type != "DELETED"]
            )
            connection.executemany(_DELETE, [e.stored.key for e in events if e.type == "DELETED"])
            connection.executemany(_LOG, [(e.rv, e.type, *e.stored.key, e.stored.raw) for e in events])
            connection.execute("UPDATE meta SET value = ? WHERE name = 'revision'", (events[-1].rv,))
            if floor is not None:
                connection.execute("DELETE FROM log WHERE rv <= ?", (floor,))
                connection.execute("UPDATE meta SET value = ? WHERE name = 'floor'", (floor,))
            connection.execute("COMMIT")
        except BaseException:
            self._undo(connection)
            raise

    def _undo(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            # The connection is unusable: the next write starts with a new one, which recovers from the file.
            logger.warning("%s: rolling back failed, the file is opened anew", self.path, exc_info=True)
            self._disconnect()

    def close(self) -> None:
        """Close the file (and fold its write-ahead log into it). Safe to call twice."""
        self._disconnect()
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.close()
        except sqlite3.Error:
            logger.warning("%s: closing failed", self.path, exc_info=True)


def read_only(path: Path) -> sqlite3.Connection:
    """A connection for another process than the store's, or before it. Raises sqlite3.Error."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)


def schema_of(connection: sqlite3.Connection) -> int:
    """The schema of a file; 0 for an empty one. Raises sqlite3.Error."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _open_message(path: Path, exc: Exception) -> str:
    text = str(exc)
    if isinstance(exc, sqlite3.DatabaseError) and ("not a database" in text or "malformed" in text):
        return f"{path} is damaged ({text}): restore it from a copy, or start with an empty data directory"
    return f"{path} cannot be opened: {text}"
