"""The store: optimistic concurrency, group commit, a consistent view for readers, events for watchers.

How a write goes: the event loop checks it against the present (one write a key at a time, so the present is what the
check sees), gives it the next revision and queues it. The writer thread commits everything queued in one transaction;
meanwhile the next group gathers. When the commit has returned, the group becomes visible in order of revision: in the
maps that `get` and `list` read, in the history, at the watchers, and only then do the writers get their answer. A write
that another one overtook raises `Overtaken`: read again, and compute it anew.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from kube.machinery import errors
from kube.machinery.errors import StatusError
from solo.store.database import Database, Snapshot, Trim
from solo.store.history import History
from solo.store.model import Event, EventType, Key, Obj, Stored, with_revision
from solo.store.watch import Wants, Watch, Watches

logger = logging.getLogger(__name__)

HISTORY_EVENTS = 20_000
HISTORY_BYTES = 16 * 1024 * 1024
TRIM_EVERY = 16
"""Versions that are superseded go with a write when there are so many, at most GROUP_LIMIT at a time."""
GROUP_LIMIT = 512
GROUP_BYTES = 8 * 1024 * 1024
OBJECT_BYTES = 1536 * 1024
"""The largest object that is stored, encoded: what etcd takes in one request by default."""

Listener = Callable[[Event], None]


class Overtaken(StatusError):
    """Another write came first: the object is not what the writer saw. It may be tried again on the present one."""

    def __init__(self, problem: StatusError) -> None:
        super().__init__(problem.code, problem.reason, problem.message, problem.details)


class _Bucket:
    """The objects of one resource, with their sorted keys made when first listed after a change of the set."""

    __slots__ = ("_order", "objects")

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Stored] = {}
        self._order: list[tuple[str, str]] | None = None

    def put(self, stored: Stored) -> None:
        place = (stored.key.namespace, stored.key.name)
        if place not in self.objects:
            self._order = None
        self.objects[place] = stored

    def remove(self, key: Key) -> None:
        self._order = None
        self.objects.pop((key.namespace, key.name), None)

    def sorted(self, namespace: str | None) -> list[Stored]:
        if self._order is None:
            self._order = sorted(self.objects)
        order = self._order
        if namespace is not None:
            order = order[bisect_left(order, (namespace, "")) : bisect_left(order, (namespace + "\0", ""))]
        return [self.objects[place] for place in order]


class _Write:
    """A change on its way to the disk."""

    __slots__ = ("done", "error", "event")

    def __init__(self, event: Event, done: asyncio.Future[None]) -> None:
        self.event = event
        self.done = done
        self.error: StatusError | None = None


_Group = list[_Write]


class Store:
    """All objects of a cluster. Use it from one event loop only; open it with `Store.open`."""

    def __init__(self, database: Database, snapshot: Snapshot, *, max_events: int, max_bytes: int) -> None:
        self._database = database
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._revision = snapshot.revision
        self._assigned = snapshot.revision
        self._buckets: dict[str, _Bucket] = {}
        self._pending: dict[Key, _Write] = {}
        self._waiting: dict[Key, deque[asyncio.Future[None]]] = {}
        self._queue: _Group = []
        self._busy = False
        self._closing = False
        self.writable = True
        """Whether the newest writes reached the disk."""
        self._watches = Watches(lambda: self._revision)
        self._listeners: dict[str, list[Listener]] = {}
        for stored in snapshot.objects.values():
            self._bucket(stored.key.resource).put(stored)
        self._history = History(snapshot.floor, max_events, max_bytes)
        self._superseded = snapshot.superseded
        """Versions that nothing needs, until they are off the disk."""
        for event in snapshot.events:
            self._superseded += self._history.append(event)
        self._failing = ""

    @classmethod
    def open(cls, path: str | Path, *, max_events: int = HISTORY_EVENTS, max_bytes: int = HISTORY_BYTES) -> Store:
        """Open or create the store's file (mode 0600) and read it into memory.

        `max_events` and `max_bytes` bound the history that watches can resume from.

        Raises:
            StoreError: the file cannot be used.
        """
        database = Database(Path(path))
        return cls(database, database.open(), max_events=max_events, max_bytes=max_bytes)

    # ---- reading

    @property
    def revision(self) -> int:
        """The revision of the newest visible change."""
        return self._revision

    def get(self, key: Key) -> Stored | None:
        bucket = self._buckets.get(key.resource)
        return bucket.objects.get((key.namespace, key.name)) if bucket else None

    def as_of(self, resource: str, namespace: str | None, rv: int) -> list[Stored]:
        """What `list` gave when the revision was `rv`: the present state with the changes since then undone.

        Raises:
            StatusError: 410 Expired; the history does not reach back to `rv`.
        """
        items, revision = self.list(resource, namespace)
        if rv >= revision:
            return items
        if rv < self._history.floor:
            raise errors.expired(f"too old resource version: {rv} ({self._history.floor})")
        events = self._history.since(resource, rv)
        if not events:
            return items
        state = {stored.key: stored for stored in items}
        for event in reversed(events):
            key = event.stored.key
            if namespace is not None and key.namespace != namespace:
                continue
            if event.type == "ADDED":
                state.pop(key, None)
            elif event.prev is not None:
                state[key] = event.prev
            else:
                raise errors.expired(f"too old resource version: {rv} ({self._history.floor})")
        return [state[key] for key in sorted(state)]

    def list(self, resource: str, namespace: str | None = None) -> tuple[list[Stored], int]:
        """The objects in order of namespace and name, and the revision at which this was the whole truth."""
        bucket = self._buckets.get(resource)
        return (bucket.sorted(namespace) if bucket else []), self._revision

    def count(self, resource: str) -> int:
        bucket = self._buckets.get(resource)
        return len(bucket.objects) if bucket else 0

    def on_the_way(self, resource: str) -> Iterator[Event]:
        """The changes of `resource` that are on their way to the disk: not visible yet, and they may still fail."""
        return (write.event for key, write in self._pending.items() if key.resource == resource)

    def watch(self, resource: str, namespace: str | None, since_rv: int, wants: Wants | None = None) -> Watch:
        """All changes after `since_rv`, starting with those of the past, which `wants` is not asked about.

        Raises:
            StatusError: 410 Expired; the history does not reach back to `since_rv`, or it is of another store.
        """
        if since_rv < self._history.floor:
            raise errors.expired(f"too old resource version: {since_rv} ({self._history.floor})")
        if since_rv > self._revision:
            raise errors.expired(f"too large resource version: {since_rv}, current: {self._revision}")
        backlog = [
            event
            for event in self._history.since(resource, since_rv)
            if namespace is None or event.stored.key.namespace == namespace
        ]
        watch = self._watches.open(resource, namespace, backlog, wants)
        if self._closing:
            watch.close()
        return watch

    def add_listener(self, resource: str, listener: Listener) -> None:
        """Call `listener` for every change of `resource` when it becomes visible, before the writer is answered."""
        self._listeners.setdefault(resource, []).append(listener)

    def remove_listener(self, resource: str, listener: Listener) -> None:
        """Undo `add_listener`; also while listeners are being called."""
        self._listeners[resource] = [each for each in self._listeners.get(resource, ()) if each != listener]

    # ---- writing

    async def create(self, key: Key, obj: Obj) -> Stored:
        """Store a new object. The store keeps `obj`'s nested values: do not change them afterwards.

        Raises:
            Overtaken: 409 AlreadyExists.
            StatusError: 413 above OBJECT_BYTES; 500, 503 or 507 when it cannot be written.
        """
        await self.turn(key)
        if self.get(key) is not None:
            raise Overtaken(errors.already_exists(key.resource, key.name))
        return await self._write("ADDED", key, obj, None)

    async def update(self, key: Key, obj: Obj, expected_rv: int | None) -> Stored:
        """Replace an object if it still is at `expected_rv` (None: whatever it is).

        Raises:
            Overtaken: 404, 409 Conflict.
            StatusError: as `create` does.
        """
        await self.turn(key)
        current = self._expect(key, expected_rv)
        return await self._write("MODIFIED", key, obj, current)

    async def delete(self, key: Key, expected_rv: int | None, final: Obj | None = None) -> Stored:
        """Remove an object if it still is at `expected_rv` (None: whatever it is) and return its last state.

        `final` is that last state if the deletion changes it too (as when the last finalizer is taken away).

        Raises:
            Overtaken: 404, 409 Conflict.
            StatusError: 500, 503 or 507 when it cannot be written.
        """
        await self.turn(key)
        current = self._expect(key, expected_rv)
        return await self._write("DELETED", key, current.obj if final is None else final, current)

    async def turn(self, key: Key) -> None:
        """Wait until no write of this key is on its way. Raises 503 when the store closes.

        Who then reads the object and writes it without having waited for anything is not overtaken.
        """
        await self._settled(key)
        if self._closing:
            raise errors.service_unavailable("the server is shutting down")

    async def _settled(self, key: Key) -> None:
        while key in self._pending:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(key, deque()).append(waiter)
            await waiter

    def _pass_turn(self, key: Key) -> None:
        """Wake the first of those who wait for this key, and the next one unless that has led to a write."""
        waiting = self._waiting.pop(key, None)
        while waiting and key not in self._pending:
            first = waiting.popleft()
            if not first.done():
                first.set_result(None)
                first.get_loop().call_soon(self._pass_turn, key)
                break
        if waiting:
            self._waiting[key] = waiting

    def _expect(self, key: Key, expected_rv: int | None) -> Stored:
        current = self.get(key)
        if current is None:
            raise Overtaken(errors.not_found(key.resource, key.name))
        if expected_rv is not None and current.rv != expected_rv:
            raise Overtaken(errors.conflict(key.resource, key.name, errors.OPTIMISTIC_LOCK))
        return current

    async def _write(self, type_: EventType, key: Key, obj: Obj, prev: Stored | None) -> Stored:
        loop = self._loop = asyncio.get_running_loop()
        stored = with_revision(key, obj, self._assigned + 1)
        if type_ != "DELETED" and len(stored.raw) > OBJECT_BYTES:
            raise errors.too_large(
                f'{key.resource} "{key.name}" is too large: {len(stored.raw)} bytes, limit is {OBJECT_BYTES}'
            )
        self._assigned = stored.rv
        write = _Write(Event(type_, stored, prev), loop.create_future())
        self._pending[key] = write
        self._queue.append(write)
        if not self._busy:
            # One turn of the loop later, so that writes of the same turn share the first transaction too.
            self._busy = True
            loop.call_soon(self._submit)
        # A caller that is cancelled does not take the write with it, only this future.
        await write.done
        if write.error is not None:
            raise write.error
        return stored

    def _submit(self) -> None:
        """Hand the next group to the writer thread, or rest."""
        group = self._next_group()
        self._busy = bool(group)
        if not group:
            return
        superseded = self._superseded[:GROUP_LIMIT]
        trim = Trim(self._history.floor, superseded) if len(superseded) >= TRIM_EVERY else None
        loop = self._loop
        assert loop is not None
        events = [write.event for write in group]
        future = self._thread.submit(self._database.commit, events, trim)
        future.add_done_callback(lambda done: loop.call_soon_threadsafe(self._finish, group, trim, done))

    def _next_group(self) -> _Group:
        """The writes of the next transaction: bounded, because the write-ahead log holds it as a whole."""
        size = 0
        for count, write in enumerate(self._queue):
            size += len(write.event.stored.raw)
            if count == GROUP_LIMIT or (count and size > GROUP_BYTES):
                group, self._queue = self._queue[:count], self._queue[count:]
                return group
        group, self._queue = self._queue, []
        return group

    def _finish(self, group: _Group, trim: Trim | None, commit: Future[None]) -> None:
        """Back on the loop: start the next group, then make this one visible (or fail it), the watchers last."""
        exc = commit.exception()
        if exc is None and trim is not None:
            del self._superseded[: len(trim.superseded)]
        self._submit()
        error = self._outcome(exc)
        self.writable = error is None
        for write in group:
            if error is None:
                self._show(write.event)
            write.error = error
            key = write.event.stored.key
            del self._pending[key]
            if not write.done.done():
                write.done.set_result(None)
            self._pass_turn(key)
        if error is None:
            for write in group:
                self._watches.publish(write.event)

    def _outcome(self, exc: BaseException | None) -> StatusError | None:
        """What the writers of a group are told. The log tells of a trouble's beginning and end, not of each write."""
        if exc is None:
            if self._failing:
                logger.warning("%s can be written again", self._database.path)
            self._failing = ""
            return None
        if self._failing != str(exc):
            known = isinstance(exc, sqlite3.Error)
            logger.error("writes to %s fail: %s", self._database.path, exc, exc_info=not known)
            self._failing = str(exc)
        if getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            where = self._database.path.parent
            return errors.insufficient_storage(f"the change was not made: the disk of {where} is full; free some space")
        return errors.internal(f"the change was not made, as it could not be written to {self._database.path}: {exc}")

    def _show(self, event: Event) -> None:
        stored = event.stored
        resource = stored.key.resource
        bucket = self._bucket(resource)
        if event.type == "DELETED":
            bucket.remove(stored.key)
        else:
            bucket.put(stored)
        self._revision = event.rv
        self._superseded += self._history.append(event)
        for listener in self._listeners.get(resource, ()):
            try:
                listener(event)
            except Exception:
                logger.exception("a listener for %s failed", resource)

    def _bucket(self, resource: str) -> _Bucket:
        bucket = self._buckets.get(resource)
        if bucket is None:
            bucket = self._buckets[resource] = _Bucket()
        return bucket

    async def close(self) -> None:
        """Finish the writes that are on their way, end all watches and close the file."""
        self._closing = True
        while self._pending:
            await self._settled(next(iter(self._pending)))
        self._watches.close()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
        self._thread.shutdown(wait=False)
