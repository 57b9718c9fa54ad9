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
from kube.machinery.protobuf.wire import ProtobufError

Obj = dict[str, Any]

_UINT64 = (1 << 64) - 1


def encode_unknown(obj: Obj) -> bytes:
    """An object with apiVersion and kind. Raises ProtobufError, a ValueError, for what has no message here."""
    api_version, kind = str(obj.get("apiVersion") or ""), str(obj.get("kind") or "")
    type_meta = _bytes(1, api_version.encode()) + _bytes(2, kind.encode())
    raw = _message(table.message_of(api_version, kind), obj)
    return MAGIC + _bytes(1, type_meta) + _bytes(2, raw) + _bytes(3, b"") + _bytes(4, b"")


def encode_watch_event(event: Obj) -> bytes:
    """A frame of a watch: the length in four bytes, and a meta/v1 WatchEvent with an envelope in it."""
    text = _bytes(1, event["type"].encode()) + _bytes(2, _bytes(1, encode_unknown(event["object"])))
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
            yield _bytes(number, _message(field.message, obj))  # its fields stand among ours
            continue
        value: Any = obj.get(field.name)
        if value is None and not (field.kind == "json" and field.name in obj):
            continue
        if field.shape == "list":
            yield from (_value(number, field, each) for each in value)
        elif field.shape == "map":
            yield from (_bytes(number, _bytes(1, key.encode()) + _value(2, field, each)) for key, each in value.items())
        else:
            yield _value(number, field, value)


def _value(number: int, field: Field, value: Any) -> bytes:
    if field.kind in ("int32", "int64", "bool"):
        return wire.key(number, wire.VARINT) + wire.varint_bytes(int(value) & _UINT64)
    if field.kind == "double":
        return wire.key(number, wire.FIXED64) + struct.pack("<d", value)
    if field.kind == "message":
        return _bytes(number, _message(field.message, value))
    if field.kind == "bytes":
        return _bytes(number, base64.b64decode(value))
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")) if field.kind == "json" else value
    return _bytes(number, text.encode())


def _bytes(number: int, data: bytes) -> bytes:
    return wire.key(number, wire.BYTES) + wire.varint_bytes(len(data)) + data
