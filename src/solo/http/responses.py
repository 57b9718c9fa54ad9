"""Answers: objects, lists and errors in the representation that the client asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

import msgspec
from aiohttp import web

from kube.machinery.errors import StatusError
from solo.http import tables
from solo.http.indentation import indent
from solo.http.negotiation import JSON, PARTIAL_LIST, PROTOBUF, TABLE, YAML, Output, require_many, require_one
from solo.registry.kinds import Kind
from solo.registry.registry import Result
from solo.store import Stored

Obj = dict[str, Any]

_encode = msgspec.json.Encoder().encode

WARNINGS_CHARACTERS, WARNING_CHARACTERS = 4096, 256
"""From which length on all warnings of an answer are cut, and to which each is then (kube-apiserver's numbers)."""
WARNINGS_NUMBER = 64
"""Some clients take no answer with more than a hundred headers, Python's http.client for one."""
PIECE_BYTES = 128 * 1024
"""Long answers go out in pieces of this size, each when the client has taken the one before: a list costs the server
the memory of a piece, not several times its own size."""


def pieces(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The parts, put together to pieces of PIECE_BYTES or a little more; the last piece is what is left."""
    gathered: list[bytes] = []
    size = 0
    for part in parts:
        gathered.append(part)
        size += len(part)
        if size >= PIECE_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


def raw_json(body: bytes | AsyncIterator[bytes], status: int = 200, warnings: Sequence[str] = ()) -> web.Response:
    """A JSON answer from bytes, at once or piece by piece."""
    response = web.Response(body=body, status=status, content_type=JSON)
    response.headers["Cache-Control"] = "no-cache, private"
    add_warnings(response, warnings)
    return response


def add_warnings(response: web.StreamResponse, warnings: Sequence[str]) -> None:
    """Warn the client (RFC 7234, section 5.5)."""
    for text in _told(warnings):
        response.headers.add("Warning", f"299 - {_quoted(text)}")


def _told(warnings: Sequence[str]) -> Iterator[str]:
    """Each warning once. Where they are too long together each is cut, and the last ones are left out."""
    different = [text for text in dict.fromkeys(warnings) if text]
    if sum(map(len, different)) > WARNINGS_CHARACTERS:
        different = [text[:WARNING_CHARACTERS] for text in different]
    told = 0
    for text in different[:WARNINGS_NUMBER]:
        if told >= WARNINGS_CHARACTERS:
            break
        told += len(text)
        yield text


def _quoted(text: str) -> str:
    """A warning text as RFC 7234 wants it: one line, quoted."""
    cleaned = "".join(char if char.isprintable() else " " for char in text)
    return '"' + cleaned.replace("\\", "\\\\").replace('"', '\\"') + '"'


def value(obj: Any, output: Output, status: int = 200, warnings: Sequence[str] = ()) -> web.Response:
    """An answer from a value."""
    return _finish(_encode(obj), output, status, warnings)


def document(obj: Any) -> web.Response:
    """An answer that is no API object, which is indented for everybody."""
    return raw_json(indent(_encode(obj)))


def _finish(body: bytes, output: Output, status: int, warnings: Sequence[str]) -> web.Response:
    if output.media_type == JSON:
        return raw_json(body, status, warnings)
    if output.media_type == PROTOBUF:
        from kube.machinery.protobuf import encode_unknown

        response = raw_json(encode_unknown(msgspec.json.decode(body)), status, warnings)
        response.content_type = PROTOBUF
        return response
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text = yaml.dump(msgspec.json.decode(body), Dumper=dumper, sort_keys=False, allow_unicode=True)
    response = raw_json(text.encode(), status, warnings)
    response.content_type = YAML
    return response


def status_error(problem: StatusError, warnings: Sequence[str] = ()) -> web.Response:
    """A `Status` for an error."""
    body = problem.to_status()
    details = body.get("details")
    if isinstance(details, dict):
        for key in [key for key in ("name", "kind") if details.get(key) == ""]:
            del details[key]
    elif problem.details is not None:
        body["details"] = {}
    response = raw_json(_encode(body), problem.code, warnings)
    seconds = (problem.details or {}).get("retryAfterSeconds")
    if seconds:
        response.headers["Retry-After"] = str(seconds)
    return response


def served_bytes(kind: Kind, result: Result) -> bytes:
    """A stored or unstored object in the version of `kind`."""
    if isinstance(result, Stored):
        return kind.served_raw(result.raw)
    return _encode(kind.served(result))


def served_object(kind: Kind, result: Result) -> Obj:
    """The same as a value; not to be changed."""
    return kind.served(result.obj if isinstance(result, Stored) else result)


def _go_type(kind: Kind) -> str:
    """What kube-apiserver's messages call an object: the type that it has inside of it."""
    if kind.custom:
        return "*unstructured.Unstructured"
    group = kind.store_resource.partition(".")[2].partition(".")[0]
    return f"*{group or 'core'}.{kind.resource.kind}"


def one(
    kind: Kind, result: Result, output: Output, include: str, status: int = 200, warnings: Sequence[str] = ()
) -> web.Response:
    """One object."""
    if not output.transform:
        return _finish(served_bytes(kind, result), output, status, warnings)
    require_one(output, _go_type(kind))
    obj = served_object(kind, result)
    if output.transform == TABLE:
        meta = {"resourceVersion": (obj.get("metadata") or {}).get("resourceVersion") or ""}
        return value(tables.table(kind, [obj], meta, include, output.api_version), output, status, warnings)
    return value(tables.partial(obj, output.api_version), output, status, warnings)


def scale(kind: Kind, obj: Obj, output: Output, include: str, warnings: Sequence[str] = ()) -> web.Response:
    """The Scale of an object of a kind."""
    if output.transform == TABLE:
        obj = tables.scale_table(kind, obj, include, output.api_version)
    elif output.transform:
        obj = tables.partial(obj, output.api_version)
    return value(obj, output, 200, warnings)


def many(
    kind: Kind,
    items: Iterable[Stored],
    list_meta: Obj,
    output: Output,
    include: str,
    warnings: Sequence[str] = (),
) -> web.Response:
    """A list; plain JSON is put together from the stored bytes, and sent in pieces where it is long."""
    require_many(output, f"{_go_type(kind)}List")
    if output.transform and not list_meta.get("continue"):
        list_meta = {key: item for key, item in list_meta.items() if key != "continue"}
    if output.transform == TABLE:
        objects = (kind.served(stored.look()) for stored in items)
        return value(tables.table(kind, objects, list_meta, include, output.api_version), output, 200, warnings)
    if output.transform == PARTIAL_LIST:
        partial = {
            "kind": PARTIAL_LIST,
            "apiVersion": output.api_version,
            "metadata": list_meta,
            "items": [tables.partial(stored.look(), output.api_version) for stored in items],
        }
        return value(partial, output, 200, warnings)
    head = _encode({"kind": kind.list_kind, "apiVersion": kind.resource.api_version, "metadata": list_meta})
    body = pieces(_list_parts(head[:-1], (kind.item_raw(stored.raw) for stored in items)))
    first = next(body)
    if len(first) < PIECE_BYTES or output.media_type != JSON:
        return _finish(first + b"".join(body), output, 200, warnings)
    return raw_json(_sent(first, body), 200, warnings)


def _list_parts(head: bytes, items: Iterable[bytes]) -> Iterator[bytes]:
    separator = head + b',"items":['
    for item in items:
        yield separator
        yield item
        separator = b","
    yield b"]}" if separator == b"," else separator + b"]}"


async def _sent(first: bytes, following: Iterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    for piece in following:
        yield piece
