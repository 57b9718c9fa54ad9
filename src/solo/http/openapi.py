"""OpenAPI documents: v3 with one document a group version, v2 with all in one. Made when asked for, and kept."""

from __future__ import annotations

import hashlib
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from kube.machinery import builtin, errors
from kube.machinery.resources import Resource
from solo.http.discovery import GIT_VERSION, POSTED
from solo.http.negotiation import JSON
from solo.registry.catalog import Catalog
from solo.registry.kinds import Kind
from solo.registry.strategy import METADATA_FIELDS

if TYPE_CHECKING:
    from kube.machinery.openapi_schemas import ServedResource

Obj = dict[str, Any]

_PROTOBUF = "protobuf"
_V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_YEAR_SECONDS = 365 * 24 * 3600
_encode = msgspec.json.Encoder().encode


class OpenApi:
    """The documents of what the catalog serves now."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._generation = -1
        self._documents: dict[str, tuple[bytes, str]] = {}

    def answer(self, request: web.BaseRequest, parts: list[str]) -> web.Response:
        """`/openapi/v3`, `/openapi/v3/apis/GROUP/VERSION` and `/openapi/v2`. Raises 404 or 406.

        A document asked for by its hash may be kept for ever; by another hash, the client is sent to the present one.
        """
        if self._generation != self._catalog.generation:
            self._generation = self._catalog.generation
            self._documents.clear()
        accept = request.headers.get("Accept") or ""
        protobuf = _PROTOBUF in accept and JSON not in accept and "*/*" not in accept
        if protobuf and parts[1:] != ["v2"]:
            raise errors.not_acceptable([JSON])
        wanted = request.query.get("hash")
        if wanted and len(parts) > 2 and (digest := self._digest(parts[2:])) != wanted:
            return web.Response(status=301, headers={"Location": f"{request.path}?hash={digest}"})
        body, tag = self._document(parts[1:], protobuf)
        cached = request.headers.get("If-None-Match") == tag
        media_type = _V2_PROTOBUF if protobuf else JSON
        response = web.Response(status=304) if cached else web.Response(body=body, content_type=media_type)
        response.headers.update({"ETag": tag, "Vary": "Accept", "Cache-Control": "no-cache, private"})
        if wanted:
            expires = formatdate(time.time() + _YEAR_SECONDS, usegmt=True)
            response.headers.update({"Cache-Control": "public, immutable", "Expires": expires})
        return response

    def _document(self, parts: list[str], protobuf: bool) -> tuple[bytes, str]:
        """A document and its entity tag, kept until the catalog changes."""
        key = "/".join([*parts, _PROTOBUF] if protobuf else parts)
        found = self._documents.get(key)
        if found is None:
            body = self._v2_in_protobuf() if protobuf else self._build(parts)
            found = self._documents[key] = (body, f'"{hashlib.sha512(body).hexdigest().upper()}"')
        return found

    def _kinds(self, parts: list[str]) -> tuple[str, list[ServedResource]]:
        """The group version at `api/VERSION` or `apis/GROUP/VERSION`, and what it serves. Raises 404."""
        if parts[0] == "api" and len(parts) == 2:
            group, version = "", parts[1]
        elif parts[0] == "apis" and len(parts) == 3:
            group, version = parts[1], parts[2]
        else:
            raise errors.path_not_found()
        found = [_served(kind) for kind in self._catalog.groups().get(group, {}).get(version, [])]
        found += [_posted(item) for item in POSTED if (item.group, item.version) == (group, version)]
        if not found:
            raise errors.path_not_found()
        return f"{group}/{version}" if group else version, found

    def _digest(self, parts: list[str]) -> str:
        """A hash that changes when the document would, without making the document. Raises 404."""
        seen = hashlib.sha512(GIT_VERSION.encode())
        for item in self._kinds(parts)[1]:
            seen.update(item.resource.path().encode())
            seen.update(_encode([item.schema, item.verbs, item.subresources, item.list_kind, item.selectable]))
        return seen.hexdigest().upper()

    def _build(self, parts: list[str]) -> bytes:
        from kube.machinery.openapi import openapi_v3_document

        if parts == ["v3"]:
            return _encode({"paths": self._index()})
        if parts == ["v2"]:
            return _encode(self._v2())
        if parts[:1] != ["v3"]:
            raise errors.path_not_found()
        group_version, served = self._kinds(parts[1:])
        return _encode(openapi_v3_document(group_version, served, GIT_VERSION))

    def _v2(self) -> Obj:
        from kube.machinery.openapi import openapi_v2_document

        # One version a kind: the definitions of further versions of a custom resource have names of their own.
        everything = [*map(_served, self._catalog), *map(_posted, POSTED)]
        return openapi_v2_document(everything, GIT_VERSION)

    def _v2_in_protobuf(self) -> bytes:
        from kube.machinery.protobuf.swagger import encode_swagger

        return encode_swagger(self._v2())

    def _index(self) -> Obj:
        versions = {(group, version) for group, listed in self._catalog.groups().items() for version in listed}
        versions |= {(item.group, item.version) for item in POSTED}
        paths = [f"apis/{group}/{version}" if group else f"api/{version}" for group, version in sorted(versions)]
        return {
            path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={self._digest(path.split('/'))}"} for path in paths
        }


def _served(kind: Kind) -> ServedResource:
    from kube.machinery.openapi_schemas import ServedResource

    return ServedResource(
        kind.resource,
        definition=kind.definition or None,
        schema=kind.schema,
        verbs=kind.verbs,
        subresources=tuple(item.name for item in kind.subresources),
        list_kind=kind.list_kind,
        selectable=tuple(field for field in kind.strategy.fields if kind.custom and field not in METADATA_FIELDS),
    )


def _posted(resource: Resource) -> ServedResource:
    from kube.machinery.openapi_schemas import ServedResource

    return ServedResource(resource, definition=builtin.definition_for(resource), verbs=("create",))
