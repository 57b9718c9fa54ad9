"""The store's file: one SQLite database that only this process writes (others may read it, as a backup does).

`versions` holds each object as every change left it: a change appends one row, whatever else there is. The newest row
of an object is its present, those above the floor in `meta` are the recent past (so that watches can be resumed after a
restart), and what is neither goes bit by bit. Every method blocks; the store calls them from its one writer thread,
apart from opening and closing.
"""

from __future__ import annotations

import fcntl
import json
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
"""Of the write-ahead log, 16 MB. The write that fills it waits for a checkpoint, tens of milliseconds: one in 700
to 1,300 of objects of 4 KB."""
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
    """
CREATE TABLE versions (
  rv INTEGER PRIMARY KEY, type TEXT NOT NULL,
  resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, raw BLOB NOT NULL
);
INSERT INTO versions SELECT rv, 'ADDED', resource, namespace, name, raw FROM objects
  WHERE rv <= (SELECT value FROM meta WHERE name = 'floor') ORDER BY rv;
INSERT INTO versions SELECT rv, type, resource, namespace, name, raw FROM log
  WHERE rv > (SELECT value FROM meta WHERE name = 'floor') ORDER BY rv;
DROP TABLE objects;
DROP TABLE log;
DELETE FROM meta WHERE name = 'revision';
""",
)
_INSERT = "INSERT INTO versions (rv, type, resource, namespace, name, raw) VALUES "
_FORGET = "DELETE FROM versions WHERE rv IN (SELECT value FROM json_each(?))"


class StoreError(Exception):
    """The store's file cannot be used; the message names the file and the remedy."""


@dataclass(frozen=True, slots=True)
class Trim:
    """The past up to `floor` can be asked for no more; `superseded` are versions that nothing else needs."""

    floor: int
    superseded: list[int]


@dataclass(slots=True)
class Snapshot:
    """What the file holds when it is opened."""

    revision: int
    floor: int
    objects: dict[Key, Stored] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    superseded: list[int] = field(default_factory=list)
    """Versions that belong neither to the present nor to the past above the floor."""

    def add(self, type_: EventType, stored: Stored) -> None:
        """The next version, in order of revision."""
        self.revision = max(self.revision, stored.rv)
        event = Event(type_, stored, self.objects.pop(stored.key, None))
        if type_ != "DELETED":
            self.objects[stored.key] = stored
        if stored.rv > self.floor:
            self.events.append(event)
        else:
            self.superseded += event.superseded


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
            migrate(self._connect(), self.path)
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

    def _load(self) -> Snapshot:
        connection = self._require()
        (floor,) = connection.execute("SELECT value FROM meta WHERE name = 'floor'").fetchone()
        snapshot = Snapshot(revision=floor, floor=floor)
        rows = connection.execute("SELECT rv, type, resource, namespace, name, raw FROM versions ORDER BY rv")
        for rv, type_, resource, namespace, name, raw in rows:
            snapshot.add(type_, Stored(Key(resource, namespace, name), rv, raw))
        return snapshot

    def _require(self) -> sqlite3.Connection:
        return self._connection if self._connection is not None else self._connect()

    def commit(self, events: Sequence[Event], trim: Trim | None) -> None:
        """Write all events in one durable transaction; with `trim`, shorten the past as well.

        One statement each, however many rows: every step of one gives the interpreter's lock away, and to have it back
        while the event loop is busy takes milliseconds.

        Raises:
            sqlite3.Error: nothing of the transaction has happened.
        """
        connection = self._require()
        values = [value for event in events for value in (event.rv, event.type, *event.stored.key, event.stored.raw)]
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_INSERT + ", ".join(["(?, ?, ?, ?, ?, ?)"] * len(events)), values)
            if trim is not None:
                connection.execute(_FORGET, (json.dumps(trim.superseded),))
                connection.execute("UPDATE meta SET value = ? WHERE name = 'floor'", (trim.floor,))
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


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a file to this program's schema. Raises sqlite3.Error.

    Each step is one transaction: a kill in between leaves a file of an older schema, and the rest to do.
    """
    version = schema_of(connection)
    for number, step in enumerate(SCHEMA_STEPS[version:], version + 1):
        if version:
            logger.info("%s: migrating the schema to %d", path, number)
        connection.executescript(f"BEGIN IMMEDIATE;{step};PRAGMA user_version = {number};COMMIT;")


def forget_past(connection: sqlite3.Connection, gap: int) -> None:
    """Keep the present only, at a revision that is `gap` ahead of the newest. Raises sqlite3.Error."""
    connection.executescript(
        "BEGIN IMMEDIATE;"
        f"UPDATE meta SET value = max(value, (SELECT coalesce(max(rv), 0) FROM versions)) + {gap} WHERE name = 'floor';"
        "DELETE FROM versions WHERE type = 'DELETED'"
        " OR rv NOT IN (SELECT max(rv) FROM versions GROUP BY resource, namespace, name);"
        "COMMIT;"
    )


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
