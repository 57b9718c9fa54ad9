"""Lists: selection, pages that all show the same moment, resourceVersion semantics (API concepts: "Retrieving large
results sets in chunks").
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from bisect import bisect_right
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

TOKEN_SECONDS = 300.0
"""For how long a continue token shows the state of its list; kube-apiserver compacts its history as often."""
_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


class Lister:
    """Answers list requests from the store's cache."""

    def __init__(self, store: Store, views: Views) -> None:
        self._store = store
        self._views = views

    async def page(
        self, kind: Kind, namespace: str | None, selection: Selection, query: Mapping[str, str]
    ) -> tuple[list[Stored], Obj]:
        """The objects of one page and the list's metadata.

        Raises 400, 410, 422 or 504 as `StatusError`, and 500 for objects that cannot be converted.
        """
        _check_versions(self._store, query)
        limit = _number(query, "limit")
        _number(query, "timeoutSeconds")
        token = query.get("continue") or ""
        if token:
            items, revision, start = self._resume(kind, namespace, token)
        elif selection.name and namespace:
            found = self._store.get(Key(kind.store_resource, namespace, selection.name))
            items, revision, start = ([found] if found else []), self._store.revision, 0
        elif query.get("resourceVersionMatch") == "Exact":
            items, revision, start = self._exact(kind, namespace, query["resourceVersion"])
        else:
            items, revision = self._store.list(kind.store_resource, namespace)
            start = 0
        page, position = await self._page(kind, items, start, limit, selection)
        meta: Obj = {"resourceVersion": str(revision)}
        if position < len(items):
            meta["continue"] = _token(revision, page[-1].key[1:])
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

    def _exact(self, kind: Kind, namespace: str | None, version: str) -> tuple[list[Stored], int, int]:
        try:
            return self._store.as_of(kind.store_resource, namespace, int(version)), int(version), 0
        except StatusError:
            text = f"The resourceVersion for the provided list is too old: {version}"
            raise errors.expired(text) from None

    def _resume(self, kind: Kind, namespace: str | None, token: str) -> tuple[list[Stored], int, int]:
        revision, place, since = _read_token(token)
        if revision == _ANY_REVISION:
            items, revision = self._store.list(kind.store_resource, namespace)
        else:
            try:
                if time.time() - since > TOKEN_SECONDS:
                    raise errors.expired(_EXPIRED)
                items = self._store.as_of(kind.store_resource, namespace, revision)
            except StatusError:
                problem = errors.expired(_EXPIRED)
                problem.list_continue = _token(_ANY_REVISION, place)
                raise problem from None
        start = bisect_right(items, place, key=lambda stored: (stored.key.namespace, stored.key.name))
        return items, revision, start


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name) or "0"
    try:
        return max(int(text), 0)
    except ValueError:
        raise errors.bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


_ANY_REVISION = -1
"""In a token that goes on with the present state, after the list's own has expired."""


def _token(revision: int, place: tuple[str, str]) -> str:
    fields = {"v": "meta.k8s.io/v1", "rv": revision, "start": list(place), "at": int(time.time())}
    return base64.urlsafe_b64encode(msgspec.json.encode(fields)).decode().rstrip("=")


def _read_token(token: str) -> tuple[int, tuple[str, str], int]:
    try:
        value = msgspec.json.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        namespace, name = value["start"]
        return int(value["rv"]), (str(namespace), str(name)), int(value["at"])
    except (binascii.Error, ValueError, KeyError, TypeError, msgspec.DecodeError):
        raise errors.bad_request("invalid continue token: continue key is not valid") from None


def invalid_options(problems: Sequence[Cause]) -> StatusError:
    """422 for list options that contradict each other."""
    return errors.invalid("meta.k8s.io", "ListOptions", "", problems)


_VERSION = re.compile("[0-9]{1,40}")


def parse_version(text: str) -> int:
    """A resourceVersion parameter. Raises the 500 that kube-apiserver answers with to one that is no number."""
    if _VERSION.fullmatch(text):
        return int(text)
    detail = f'Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
    raise StatusError(500, "", f"resourceVersion: {detail}")


def require_reached(store: Store, version: int) -> None:
    """Raises 504 for a resourceVersion of the future: what is asked for is at least as fresh."""
    if version > store.revision:
        raise StatusError(
            504,
            "Timeout",
            f"Timeout: Too large resource version: {version}, current: {store.revision}",
            {
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                "retryAfterSeconds": 1,
            },
        )


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
    if "sendInitialEvents" in query:
        problems.append(cause(forbidden, "sendInitialEvents", "sendInitialEvents is forbidden for list"))
    if problems:
        raise invalid_options(problems)
    if query.get("continue") and version not in ("", "0"):
        raise errors.bad_request("specifying resource version is not allowed when using continue")
    try:
        wanted = parse_version(version or "0")
    except StatusError as problem:
        raise errors.bad_request(f"invalid resource version: {problem.message}") from None
    require_reached(store, wanted)
