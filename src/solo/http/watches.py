"""Watches: a stream of events, from a revision or with the present state first (API concepts: "Efficient detection of
changes" and "Streaming lists").
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from kube.machinery import errors
from kube.machinery.errors import StatusError, cause
from kube.machinery.queries import flag
from kube.machinery.resources import CRDS
from solo.http import tables
from solo.http.lists import invalid_options, parse_version, require_reached
from solo.http.negotiation import TABLE, Output
from solo.http.selection import Selection
from solo.http.watchstreams import WatchStream, stream_for
from solo.registry.catalog import same_storage
from solo.registry.kinds import Kind
from solo.registry.views import Views, current
from solo.store import Event, Store, Stored, Watch, with_revision

Obj = dict[str, Any]

BOOKMARK_SECONDS = 60.0
_MIN_TIMEOUT = 1800.0

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """The query parameters of a watch."""

    version: str
    timeout: float
    bookmarks: bool
    initial: bool | None

    @classmethod
    def read(cls, query: Mapping[str, str]) -> WatchOptions:
        """Raises 422 for a combination that does not exist, 400 and 500 for values that cannot be read."""
        version = query.get("resourceVersion") or ""
        if version:
            parse_version(version)
        initial = flag(query, "sendInitialEvents") if "sendInitialEvents" in query else None
        match = query.get("resourceVersionMatch") or ""
        problems = []
        if initial is not None and match != "NotOlderThan":
            detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            problems.append(cause("FieldValueForbidden", "resourceVersionMatch", detail))
        if initial is None and match:
            detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            problems.append(cause("FieldValueForbidden", "resourceVersionMatch", detail))
        if match and match != "NotOlderThan":
            detail = 'supported values: "NotOlderThan"'
            problems.append(cause("FieldValueNotSupported", "resourceVersionMatch", detail, f'"{match}"'))
        if match and query.get("continue"):
            detail = "resourceVersionMatch is forbidden when continue is provided"
            problems.append(cause("FieldValueForbidden", "resourceVersionMatch", detail))
        if problems:
            raise invalid_options(problems)
        try:
            timeout = float(query.get("timeoutSeconds") or 0)
        except ValueError:
            raise errors.bad_request("timeoutSeconds is not a number") from None
        bookmarks = flag(query, "allowWatchBookmarks")
        return cls(version, timeout or _MIN_TIMEOUT * (1 + random.random()), bookmarks, initial)


class Watcher:
    """Serves watches; `stop` ends all of them, so that the server can go.

    Those of a custom resource end when its definition is changed or has gone: kube-apiserver ends them then, too, and
    who watches comes back for what is served now. A definition goes after its objects, so their ends have been told.
    """

    def __init__(self, store: Store, views: Views) -> None:
        self._store = store
        self._views = views
        self._open: set[Watch] = set()
        self._stopped = False
        store.add_listener(CRDS.group_resource, self._definition_changed)

    def _definition_changed(self, event: Event) -> None:
        if event.type == "MODIFIED" and event.prev is not None and same_storage(event.prev.obj, event.stored.obj):
            return
        for watch in tuple(self._open):
            if watch.resource == event.stored.key.name:
                watch.close()

    def stop(self) -> None:
        """End every stream after what it has already been given."""
        self._stopped = True
        for watch in tuple(self._open):
            watch.close()

    async def serve(
        self,
        request: web.BaseRequest,
        kind: Kind,
        namespace: str | None,
        selection: Selection,
        output: Output,
        options: WatchOptions,
    ) -> web.StreamResponse:
        """Stream events until the time is up, the client is gone or the server stops."""
        encoder = _Encoder(kind, output, tables.included(output, request.query))
        stream = stream_for(request, output.media_type, kind.warnings)
        await stream.begin()
        try:
            backlog, watch = await self._begin(kind, namespace, selection, options)
        except StatusError as problem:
            await stream.write(_line("ERROR", problem.to_status()))
            return await stream.end()
        self._open.add(watch)
        stream.when_left(watch.close)
        with watch:
            try:
                await stream.write_all(encoder.line("ADDED", stored) for stored in backlog or [])
                if backlog is not None and options.initial and options.bookmarks:
                    await stream.write(encoder.bookmark(watch.bookmark_rv, initial_end=True))
                if not self._stopped:
                    await self._follow(stream, kind, watch, selection, encoder, options)
            except StatusError as problem:
                await stream.write(_line("ERROR", problem.to_status()))
            finally:
                self._open.discard(watch)
        return await stream.end()

    async def _begin(
        self, kind: Kind, namespace: str | None, selection: Selection, options: WatchOptions
    ) -> tuple[list[Stored] | None, Watch]:
        """The present state to begin with (None: nothing to begin with) and the subscription that follows it.

        Raises 410 when the history does not reach back, 504 when the state is to be of the future, 500 when an object
        cannot be converted.
        """
        resource = kind.store_resource
        wants = None if selection.everything else _Concerns(selection)
        from_start = options.version in ("", "0") and options.initial is not False
        if from_start or options.initial:
            items, revision = self._store.list(resource, namespace)
            require_reached(self._store, int(options.version or "0"))
            watch = self._store.watch(resource, namespace, revision, wants)
            try:
                items = await self._views.all(kind, items)
            except StatusError:
                watch.close()
                raise
            return [stored for stored in items if selection.everything or selection.matches(stored)], watch
        since = self._store.revision if options.version in ("", "0") else int(options.version)
        return None, self._store.watch(resource, namespace, since, wants)

    async def _follow(
        self,
        stream: WatchStream,
        kind: Kind,
        watch: Watch,
        selection: Selection,
        encoder: _Encoder,
        options: WatchOptions,
    ) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + options.timeout
        while (left := end - loop.time()) > 0:
            try:
                events = await watch.batch(min(left, BOOKMARK_SECONDS))
            except StopAsyncIteration:
                if watch.lagged:
                    problem = errors.expired("too old resource version: the watch could not keep up")
                    await stream.write(_line("ERROR", problem.to_status()))
                return
            if events:
                shown = await self._views.events(kind, events)
                await stream.write_all(line for event in shown if (line := _select(event, selection, encoder)))
            elif options.bookmarks:
                await stream.write(encoder.bookmark(watch.bookmark_rv))
        if options.bookmarks:
            await stream.write(encoder.bookmark(watch.bookmark_rv))


@dataclass(frozen=True, slots=True)
class _Concerns:
    """Whether a watcher may see anything of an event; one that has yet to be converted may be selected after that."""

    selection: Selection

    def __call__(self, event: Event) -> bool:
        kind = self.selection.kind
        for stored in (event.stored, event.prev):
            if stored is not None and (not current(kind, stored) or self.selection.matches(stored)):
                return True
        return False


def _select(event: Event, selection: Selection, encoder: _Encoder) -> bytes:
    """The line that a watcher with this selection sees of an event, empty for none."""
    if selection.everything:
        return encoder.event(event)
    now = selection.matches(event.stored)
    if event.type == "ADDED":
        return encoder.event(event) if now else b""
    before = selection.matches(event.prev) if event.prev is not None else now
    if event.type == "DELETED":
        return encoder.event(event) if before else b""
    if now:
        return encoder.event(event) if before else encoder.line("ADDED", event.stored)
    return encoder.line("DELETED", _last_selected(event)) if before else b""


def _last_selected(event: Event) -> Stored:
    """What was selected until this event, at the revision of the event: from there the watch can be resumed."""
    assert event.prev is not None
    return with_revision(event.prev.key, event.prev.obj, event.rv)


def _line(type_: str, obj: Obj) -> bytes:
    return _encode({"type": type_, "object": obj}) + b"\n"


class _Encoder:
    """Events in the representation that the client asked for."""

    def __init__(self, kind: Kind, output: Output, include: str) -> None:
        self._kind = kind
        self._output = output
        self._api_version = output.api_version
        self._include = include
        self._header = True
        self._verbatim = not output.transform and kind.form is None

    def event(self, event: Event) -> bytes:
        if self._verbatim:
            return event.wire
        return self.line(event.type, event.stored)

    def line(self, type_: str, stored: Stored) -> bytes:
        if not self._output.transform:
            return b'{"type":"%s","object":%s}\n' % (type_.encode(), self._kind.served_raw(stored.raw))
        obj = self._kind.served(stored.obj)
        if self._output.transform == TABLE:
            meta = {"resourceVersion": str(stored.rv)}
            shown = tables.table(self._kind, [obj], meta, self._include, self._api_version, header=self._header)
            self._header = False
        else:
            shown = tables.partial(obj, self._api_version)
        return _line(type_, shown)

    def bookmark(self, revision: int, *, initial_end: bool = False) -> bytes:
        meta: Obj = {"resourceVersion": str(revision), "creationTimestamp": None}
        if initial_end:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        if self._output.transform == TABLE:
            shown: Obj = {
                "kind": "Table",
                "apiVersion": self._api_version,
                "metadata": {"resourceVersion": str(revision)},
                "columnDefinitions": [],
                "rows": [{"cells": [], "object": tables.partial({"metadata": meta}, self._api_version)}],
            }
        elif self._output.transform:
            shown = tables.partial({"metadata": meta}, self._api_version)
        else:
            shown = {"kind": self._kind.resource.kind, "apiVersion": self._kind.resource.api_version, "metadata": meta}
        return _line("BOOKMARK", shown)
