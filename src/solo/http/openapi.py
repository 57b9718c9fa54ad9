"""OpenAPI documents: v3 with one document a group version, v2 with all in one. Made when asked for, and kept."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from aiohttp import web

from kube.machinery import errors
from solo.http.discovery import GIT_VERSION
from solo.http.negotiation import JSON
from solo.http.responses import raw_json
from solo.registry.catalog import Catalog
from solo.registry.kinds import Kind

Obj = dict[str, Any]

_PROTOBUF = "protobuf"
_V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_encode = msgspec.json.Encoder().encode


class OpenApi:
    """The documents of what the catalog serves now."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._generation = -1
        self._documents: dict[str, bytes] = {}

    def answer(self, request: web.Request, parts: list[str]) -> web.Response:
        """`/openapi/v3`, `/openapi/v3/apis/GROUP/VERSION` and `/openapi/v2`. Raises 404 or 406."""
        if self._generation != self._catalog.generation:
            self._generation = self._catalog.generation
            self._documents.clear()
        accept = request.headers.get("Accept") or ""
        if _PROTOBUF in accept and JSON not in accept and "*/*" not in accept:
            if parts[1:] == ["v2"]:
                return web.Response(body=_empty_v2(), content_type=_V2_PROTOBUF)
            raise errors.not_acceptable([JSON])
        key = "/".join(parts[1:])
        body = self._documents.get(key)
        if body is None:
            body = self._documents[key] = self._build(parts[1:])
        return raw_json(body)

    def _build(self, parts: list[str]) -> bytes:
        from kube.machinery.openapi import openapi_v2_document, openapi_v3_document

        if parts == ["v3"]:
            return _encode({"paths": self._index()})
        if parts == ["v2"]:
            # One version a kind: the definitions of further versions of a custom resource have names of their own.
            return _encode(openapi_v2_document([_served(kind) for kind in self._catalog], GIT_VERSION))
        if parts[:2] == ["v3", "api"] and len(parts) == 3:
            group, version = "", parts[2]
        elif parts[:2] == ["v3", "apis"] and len(parts) == 4:
            group, version = parts[2], parts[3]
        else:
            raise errors.path_not_found()
        kinds = self._catalog.groups().get(group, {}).get(version)
        if not kinds:
            raise errors.path_not_found()
        group_version = f"{group}/{version}" if group else version
        return _encode(openapi_v3_document(group_version, [_served(kind) for kind in kinds], GIT_VERSION))

    def _index(self) -> Obj:
        paths: Obj = {}
        for group, versions in self._catalog.groups().items():
            for version, kinds in versions.items():
                path = f"apis/{group}/{version}" if group else f"api/{version}"
                paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={_digest(kinds)}"}
        return paths


def _empty_v2() -> bytes:
    """A version 2 document without definitions, in protobuf (gnostic's `openapi.v2.Document`).

    kubectl asks for version 2 in protobuf alone, and only for kinds that version 3 does not have; the answer "not here
    either" lets it say which kind it misses, where an error would make it complain about the content type.
    """

    def text(number: int, value: bytes) -> bytes:
        return bytes([number << 3 | 2, len(value)]) + value

    info = text(1, b"Kubernetes") + text(2, GIT_VERSION.encode())
    return text(1, b"2.0") + text(2, info) + text(8, b"") + text(9, b"")


def _digest(kinds: list[Kind]) -> str:
    """A hash that changes when the document would, without making the document."""
    seen = hashlib.sha256(GIT_VERSION.encode())
    for kind in kinds:
        seen.update(kind.resource.path().encode())
        if kind.schema is not None:
            seen.update(_encode(kind.schema))
    return seen.hexdigest().upper()


def _served(kind: Kind) -> Any:
    from kube.machinery.openapi import ServedResource

    return ServedResource(
        kind.resource,
        definition=kind.definition or None,
        schema=kind.schema,
        verbs=kind.verbs,
        subresources=tuple(item.name for item in kind.subresources),
        list_kind=kind.list_kind,
    )
