"""The encoder: a JSON object of a built-in kind as the envelope (`runtime.Unknown`) that a Go client reads.

The counterpart of `decode`, with the same table and forms. What the table has no number for is left out, as a client
whose types lack a field reads past it.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterable
from typing import Any

from kube.machinery.protobuf import table, wire
from kube.machinery.protobuf.decode import MAGIC
from kube.machinery.protobuf.forms import WRITTEN
from kube.machinery.protobuf.table import Field
from kube.machinery.protobuf.wire import ProtobufError, bytes_field

Obj = dict[str, Any]


def encode_unknown(obj: Obj) -> bytes:
    """An object with apiVersion and kind. Raises ProtobufError, a ValueError, for what has no message here."""
    api_version, kind = str(obj.get("apiVersion") or ""), str(obj.get("kind") or "")
    type_meta = bytes_field(1, api_version.encode()) + bytes_field(2, kind.encode())
    raw = _message(table.message_of(api_version, kind), obj)
    return MAGIC + bytes_field(1, type_meta) + bytes_field(2, raw) + bytes_field(3, b"") + bytes_field(4, b"")


def encode_watch_event(event: Obj) -> bytes:
    """A frame of a watch: the length in four bytes, and a meta/v1 WatchEvent with an envelope in it."""
    text = bytes_field(1, event["type"].encode()) + bytes_field(2, bytes_field(1, encode_unknown(event["object"])))
    return struct.pack(">I", len(text)) + text


def _message(name: str, value: Any) -> bytes:
    form = WRITTEN.get(name)
    obj = value if form is None else form(value)
    if not isinstance(obj, dict):
        raise ProtobufError(f"{name} is no object")
    return b"".join(_fields(name, obj))


def _fields(name: str, obj: Obj) -> Iterable[bytes]:
    for number, field in table.message(name).items():
        if not field.name:
            yield bytes_field(number, _message(field.message, obj))  # its fields stand among ours
            continue
        value: Any = obj.get(field.name)
        if value is None and not (field.kind == "json" and field.name in obj):
            continue
        if field.shape == "list":
            yield from (_value(number, field, each) for each in value)
        elif field.shape == "map":
            yield from (
                bytes_field(number, bytes_field(1, key.encode()) + _value(2, field, each))
                for key, each in value.items()
            )
        else:
            yield _value(number, field, value)


def _value(number: int, field: Field, value: Any) -> bytes:
    if field.kind in ("int32", "int64", "bool"):
        return wire.integer_field(number, value)
    if field.kind == "double":
        return wire.double_field(number, value)
    if field.kind == "message":
        return bytes_field(number, _message(field.message, value))
    if field.kind == "bytes":
        return bytes_field(number, base64.b64decode(value))
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")) if field.kind == "json" else value
    return bytes_field(number, text.encode())
