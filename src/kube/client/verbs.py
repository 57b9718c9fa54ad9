"""Requests of the Kubernetes API as values: what the sync and the async client send is decided here, once.

Source: Kubernetes API concepts ("Resource URIs", "Efficient detection of changes", "Retrieving large results sets in
chunks") and the meta/v1 ListOptions, DeleteOptions and Patch types.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from kube.machinery.errors import StatusError
from kube.machinery.resources import Resource

Obj = dict[str, Any]

JSON = "application/json"
MAX_WATCH_LINE = 4 * 1024 * 1024
"""Bytes. Objects are at most about 1.5 MiB on the wire of a real API server."""

_PATCH_TYPES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request: `target` is path and query, `body` is sent as JSON unless it is None."""

    method: str
    target: str
    body: Any = None
    content_type: str = JSON


class Verbs:
    """Builds requests. A namespaced resource named without a namespace is in the default namespace."""

    def __init__(self, default_namespace: str) -> None:
        self._default_namespace = default_namespace

    def _path(self, resource: Resource, namespace: str | None, name: str | None, subresource: str | None = None) -> str:
        where = (namespace or self._default_namespace) if resource.namespaced else None
        return resource.path(where, name, subresource)

    def get(self, resource: Resource, name: str, namespace: str | None, subresource: str | None) -> Request:
        return Request("GET", self._path(resource, namespace, name, subresource))

    def list(
        self,
        resource: Resource,
        namespace: str | None,
        *,
        label_selector: str | None,
        field_selector: str | None,
        limit: int | None = None,
        continue_token: str | None = None,
    ) -> Request:
        """Without `namespace`: in all namespaces."""
        query = _query(
            labelSelector=label_selector, fieldSelector=field_selector, limit=limit, **{"continue": continue_token}
        )
        return Request("GET", resource.path(namespace) + query)

    def watch(
        self,
        resource: Resource,
        namespace: str | None,
        *,
        resource_version: str | None,
        label_selector: str | None,
        field_selector: str | None,
        timeout: float,
        bookmarks: str | None = None,
    ) -> Request:
        query = _query(
            watch="true",
            resourceVersion=resource_version,
            labelSelector=label_selector,
            fieldSelector=field_selector,
            timeoutSeconds=max(1, round(timeout)),
            allowWatchBookmarks=bookmarks,
        )
        return Request("GET", resource.path(namespace) + query)

    def create(
        self, resource: Resource, obj: Obj, namespace: str | None, name: str | None, subresource: str | None
    ) -> Request:
        where = namespace or obj.get("metadata", {}).get("namespace")
        return Request("POST", self._path(resource, where, name, subresource), obj)

    def update(self, resource: Resource, obj: Obj, namespace: str | None, subresource: str | None) -> Request:
        meta = obj["metadata"]
        return Request("PUT", self._path(resource, namespace or meta.get("namespace"), meta["name"], subresource), obj)

    def patch(
        self, resource: Resource, name: str, patch: Any, namespace: str | None, kind: str, subresource: str | None
    ) -> Request:
        return Request("PATCH", self._path(resource, namespace, name, subresource), patch, _PATCH_TYPES[kind])

    def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None,
        *,
        propagation: str | None,
        grace: int | None,
        uid: str | None,
        version: str | None = None,
    ) -> Request:
        options = _delete_options(propagation, grace, uid, version)
        return Request("DELETE", self._path(resource, namespace, name), options)

    def delete_collection(
        self, resource: Resource, namespace: str | None, label_selector: str | None, propagation: str | None
    ) -> Request:
        target = self._path(resource, namespace, None) + _query(labelSelector=label_selector)
        return Request("DELETE", target, _delete_options(propagation, None, None))


def _query(**parameters: str | int | None) -> str:
    given = {key: value for key, value in parameters.items() if value is not None and value != ""}
    return f"?{urlencode(given)}" if given else ""


def _delete_options(
    propagation: str | None, grace: int | None, uid: str | None, version: str | None = None
) -> Obj | None:
    options: Obj = {}
    if propagation is not None:
        options["propagationPolicy"] = propagation
    if grace is not None:
        options["gracePeriodSeconds"] = grace
    preconditions = {"uid": uid, "resourceVersion": version}
    if uid is not None or version is not None:
        options["preconditions"] = {key: value for key, value in preconditions.items() if value is not None}
    return {"kind": "DeleteOptions", "apiVersion": "v1", **options} if options else None


def fill_kinds(resource: Resource, listing: Obj) -> Obj:
    """Give a list's items the apiVersion and kind that servers leave out of them, so that they can stand alone."""
    for item in listing.get("items") or ():
        item.setdefault("apiVersion", resource.api_version)
        item.setdefault("kind", resource.kind)
    return listing


class WatchStream:
    """Turns the chunks of a watch answer into events.

    It cuts lines itself because stream readers have small line limits and an object may be 1.5 MiB long.
    """

    def __init__(self, loads: Callable[[bytes], Any] = json.loads) -> None:
        self._loads = loads
        self._parts: list[bytes] = []
        self._held = 0

    def feed(self, chunk: bytes) -> list[Obj]:
        """The events that `chunk` completes.

        Raises StatusError for an ERROR event (410 when the resource version is too old) and ValueError for a line that
        is too long or no event.
        """
        head, *rest = chunk.split(b"\n")
        lines = []
        for part in rest:
            lines.append(b"".join([*self._parts, head]))
            self._parts, self._held, head = [], 0, part
        self._parts.append(head)
        self._held += len(head)
        if self._held > MAX_WATCH_LINE:
            raise ValueError(f"a watch event is longer than {MAX_WATCH_LINE} bytes")
        return [self._event(line) for line in lines if line.strip()]

    def _event(self, line: bytes) -> Obj:
        event = self._loads(line)
        if not isinstance(event, dict) or not isinstance(event.get("object"), dict):
            raise ValueError("a line of the watch is no watch event")
        if event.get("type") == "ERROR":
            raise StatusError.from_status(event["object"], 500)
        return event
