"""Lists: selection, pages that all show the same moment, resourceVersion semantics (API concepts: "Retrieving large
results sets in chunks").
"""

from __future__ import annotations

import base64
import binascii
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from kube.machinery import errors
from kube.machinery.errors import Cause, StatusError, cause
from solo.http.selection import Selection
from solo.registry.kinds import Kind
from solo.registry.views import BATCH, Views
from solo.store import Key, Store, Stored

Obj = dict[str, Any]

_SNAPSHOTS = 64
_SNAPSHOT_SECONDS = 300.0
_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You must start a new list "
    "without the continue parameter."
)


class Snapshots:
    """The lists that are being read in pages, kept by reference for some minutes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str | None, int], tuple[float, list[Stored]]] = OrderedDict()

    def keep(self, resource: str, namespace: str | None, revision: int, items: list[Stored]) -> None:
        self._kept[resource, namespace, revision] = (time.monotonic(), items)
        self._kept.move_to_end((resource, namespace, revision))
        horizon = time.monotonic() - _SNAPSHOT_SECONDS
        while self._kept:
            since, _ = next(iter(self._kept.values()))
            if len(self._kept) <= _SNAPSHOTS and since >= horizon:
                break
            self._kept.popitem(last=False)

    def get(self, resource: str, namespace: str | None, revision: int) -> list[Stored] | None:
        found = self._kept.get((resource, namespace, revision))
        return found[1] if found else None


class Lister:
    """Answers list requests from the store's cache."""

    def __init__(self, store: Store, views: Views) -> None:
        self._store = store
        self._views = views
        self._snapshots = Snapshots()

    async def page(
        self, kind: Kind, namespace: str | None, selection: Selection, query: Mapping[str, str]
    ) -> tuple[list[Stored], Obj]:
        """The objects of one page and the list's metadata.

        Raises 400, 410, 422 or 504 as `StatusError`, and 500 for objects that cannot be converted.
        """
        _check_versions(self._store, query)
        limit = _number(query, "limit")
        token = query.get("continue") or ""
        if token:
            items, revision, start = self._resume(kind, namespace, token)
        elif selection.name and namespace:
            found = self._store.get(Key(kind.store_resource, namespace, selection.name))
            items, revision, start = ([found] if found else []), self._store.revision, 0
        else:
            items, revision = self._store.list(kind.store_resource, namespace)
            start = 0
        page, position = await self._page(kind, items, start, limit, selection)
        meta: Obj = {"resourceVersion": str(revision)}
        if position < len(items):
            self._snapshots.keep(kind.store_resource, namespace, revision, items)
            meta["continue"] = _token(revision, page[-1])
            if selection.everything:
                meta["remainingItemCount"] = len(items) - position
        elif kind.custom:
            meta = {"continue": "", **meta}
        return page, meta

    async def _page(
        self, kind: Kind, items: Sequence[Stored], start: int, limit: int, selection: Selection
    ) -> tuple[list[Stored], int]:
        """The selected objects from `start` on, at most `limit`, and the position after them."""
        if selection.everything:
            end = min(start + limit, len(items)) if limit else len(items)
            return await self._views.all(kind, items[start:end]), end
        page: list[Stored] = []
        for first in range(start, len(items), BATCH):
            for position, stored in enumerate(await self._views.all(kind, items[first : first + BATCH]), first):
                if selection.matches(stored):
                    if limit and len(page) == limit:
                        return page, position
                    page.append(stored)
        return page, len(items)

    def _resume(self, kind: Kind, namespace: str | None, token: str) -> tuple[list[Stored], int, int]:
        revision, place = _read_token(token)
        items = self._snapshots.get(kind.store_resource, namespace, revision)
        if items is None:
            current, now = self._store.list(kind.store_resource, namespace)
            if now != revision:
                raise errors.expired(_EXPIRED)
            items = current
        start = bisect_right(items, place, key=lambda stored: (stored.key.namespace, stored.key.name))
        return items, revision, start


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name) or "0"
    try:
        return max(int(text), 0)
    except ValueError:
        raise errors.bad_request(f'{name}: strconv.ParseInt: parsing "{text}": invalid syntax') from None


def _token(revision: int, last: Stored) -> str:
    raw = msgspec.json.encode({"v": "meta.k8s.io/v1", "rv": revision, "start": [last.key.namespace, last.key.name]})
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _read_token(token: str) -> tuple[int, tuple[str, str]]:
    try:
        value = msgspec.json.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        namespace, name = value["start"]
        return int(value["rv"]), (str(namespace), str(name))
    except (binascii.Error, ValueError, KeyError, TypeError, msgspec.DecodeError):
        raise errors.bad_request("continue key is not valid") from None


def invalid_options(problems: Sequence[Cause]) -> StatusError:
    """422 for list options that contradict each other."""
    return errors.invalid("meta.k8s.io", "ListOptions", "", problems)


def parse_version(text: str) -> int:
    """A resourceVersion parameter. Raises the 500 that kube-apiserver answers with to one that is no number."""
    if text.isdigit():
        return int(text)
    detail = f'Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
    raise StatusError(500, "", f"resourceVersion: {detail}")


def _check_versions(store: Store, query: Mapping[str, str]) -> None:
    version, match = query.get("resourceVersion") or "", query.get("resourceVersionMatch") or ""
    forbidden = "FieldValueForbidden"
    problems = []
    if match:
        field = "resourceVersionMatch"
        if not version:
            detail = "resourceVersionMatch is forbidden unless resourceVersion is provided"
            problems.append(cause(forbidden, field, detail))
        elif query.get("continue"):
            problems.append(cause(forbidden, field, "resourceVersionMatch is forbidden when continue is provided"))
        if match not in ("Exact", "NotOlderThan"):
            detail = 'supported values: "Exact", "NotOlderThan", ""'
            problems.append(cause("FieldValueNotSupported", field, detail, f'"{match}"'))
        elif match == "Exact" and version == "0":
            problems.append(
                cause(forbidden, field, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"')
            )
    if problems:
        raise invalid_options(problems)
    if query.get("continue") and version not in ("", "0"):
        raise errors.bad_request("specifying resource version is not allowed when using continue")
    if version and parse_version(version) > store.revision:
        raise StatusError(
            504,
            "Timeout",
            f"Too large resource version: {version}, current: {store.revision}",
            {
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                "retryAfterSeconds": 1,
            },
        )
    if match == "Exact" and int(version) != store.revision:
        raise errors.expired(f"The resourceVersion for the provided list is too old: {version}")
