"""The decoder: an envelope (`runtime.Unknown`) and the message in it, as the JSON object that Go would have sent.

Strict where Go's decoder is lenient: a field that the table does not know (unless it is empty, as clients of other
versions send some), and a field that comes twice, are errors. To drop the one or to choose among the other would store
an object that the client did not mean.
"""

from __future__ import annotations

import base64
import math
from typing import Any

from kube.machinery.protobuf import table, wire
from kube.machinery.protobuf.forms import FORMS, embedded_json
from kube.machinery.protobuf.table import Field
from kube.machinery.protobuf.wire import ProtobufError

Obj = dict[str, Any]

MAGIC = b"k8s\x00"
_MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAX_DEPTH = 100
_WIRE_TYPES = {
    "int32": wire.VARINT,
    "int64": wire.VARINT,
    "bool": wire.VARINT,
    "double": wire.FIXED64,
    "string": wire.BYTES,
    "bytes": wire.BYTES,
    "json": wire.BYTES,
    "message": wire.BYTES,
}
# The envelope's messages (k8s.io/apimachinery/pkg/runtime/generated.proto).
_UNKNOWN = {1: "typeMeta", 2: "raw", 3: "contentEncoding", 4: "contentType"}
_TYPE_META = {1: "apiVersion", 2: "kind"}
_ABSENT: Any = object()


def decode_unknown(body: bytes) -> tuple[str, str, Obj]:
    """The apiVersion, the kind and the object (with both in it) of a body. Raises ProtobufError, a ValueError."""
    if not body.startswith(MAGIC):
        raise ProtobufError("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    envelope = _bytes_fields(memoryview(body)[len(MAGIC) :], _UNKNOWN, "Unknown")
    empty = memoryview(b"")
    type_meta = _bytes_fields(envelope.get("typeMeta", empty), _TYPE_META, "TypeMeta")
    api_version = wire.text(type_meta.get("apiVersion", empty))
    kind = wire.text(type_meta.get("kind", empty))
    if envelope.get("contentEncoding"):
        raise ProtobufError("the body's content encoding is not supported")
    if wire.text(envelope.get("contentType", empty)) not in ("", _MEDIA_TYPE):
        raise ProtobufError("the body's content type is not protobuf")
    decoded = _message(table.message_of(api_version, kind), envelope.get("raw", empty), 0)
    return api_version, kind, {"apiVersion": api_version, "kind": kind, **decoded}


def _bytes_fields(data: memoryview, names: dict[int, str], message: str) -> dict[str, memoryview]:
    """The fields of a message that has only strings, bytes and messages."""
    found: dict[str, memoryview] = {}
    for number, _, value in wire.fields(data):
        if number not in names:
            raise ProtobufError(f"{message} has no field {number}")
        if isinstance(value, int):
            raise ProtobufError(f"{message}.{names[number]} has an unexpected wire type")
        if names[number] in found:
            raise ProtobufError(f"{message}.{names[number]} comes twice")
        found[names[number]] = value
    return found


def _message(name: str, data: memoryview, depth: int) -> Any:
    """A message as its JSON value: an object, or what its form makes of it."""
    if depth > _MAX_DEPTH:
        raise ProtobufError(f"the object is nested more than {_MAX_DEPTH} levels deep")
    known = table.message(name)
    obj: Obj = {}
    seen: set[int] = set()
    for number, wire_type, value in wire.fields(data):
        field = known.get(number)
        if field is None:
            if not value:
                continue  # Go writes the zero of fields that are no pointers: nothing was said
            raise ProtobufError(f"{name} has no field {number} here, send JSON")
        if field.shape == "list":
            _extend(obj.setdefault(field.name, []), name, field, wire_type, value, depth)
            continue
        if field.shape == "map":
            _put(obj.setdefault(field.name, {}), name, field, wire_type, value, depth)
            continue
        if number in seen:
            raise ProtobufError(f"{name} has field {number} ({field.name}) twice")
        seen.add(number)
        decoded = _value(name, field, wire_type, value, depth)
        if not field.name:
            obj.update(decoded)
        elif decoded is not None and not (field.leaves_out and decoded in ("", 0, {})):
            obj[field.name] = decoded
    form = FORMS.get(name)
    return obj if form is None else form(obj)


def _extend(items: list[Any], name: str, field: Field, wire_type: int, value: wire.Value, depth: int) -> None:
    """One element of a list, or all where integers are packed."""
    if wire_type == wire.BYTES and _WIRE_TYPES[field.kind] == wire.VARINT and isinstance(value, memoryview):
        items += [_value(name, field, wire.VARINT, number, depth) for number in wire.varints(value)]
    else:
        items.append(_value(name, field, wire_type, value, depth))


def _put(entries: Obj, name: str, field: Field, wire_type: int, value: wire.Value, depth: int) -> None:
    """One entry of a map: a message of a key, 1, and a value, 2; what is left out is the zero value."""
    if isinstance(value, int) or wire_type != wire.BYTES:
        raise _unexpected(name, field)
    key, item = "", _ABSENT
    seen: set[int] = set()
    for number, inner_type, inner in wire.fields(value):
        if number not in (1, 2) or number in seen:
            raise ProtobufError(f"an entry of {name}.{field.name} has an unexpected field {number}")
        seen.add(number)
        if number == 2:
            item = _value(name, field, inner_type, inner, depth)
        elif isinstance(inner, int):
            raise _unexpected(name, field)
        else:
            key = wire.text(inner)
    if key in entries:
        raise ProtobufError(f'{name}.{field.name} has the key "{key}" twice')
    # The values of maps are strings, bytes or messages: the zero value of each is empty.
    entries[key] = _value(name, field, wire.BYTES, memoryview(b""), depth) if item is _ABSENT else item


def _value(name: str, field: Field, wire_type: int, value: wire.Value, depth: int) -> Any:
    """One value of a field's type."""
    if wire_type != _WIRE_TYPES[field.kind]:
        raise _unexpected(name, field)
    if isinstance(value, int):
        return bool(value) if field.kind == "bool" else wire.signed(value, 32 if field.kind == "int32" else 64)
    if field.kind == "message":
        return _message(field.message, value, depth + 1)
    if field.kind == "string":
        return wire.text(value)
    if field.kind == "bytes":
        return base64.b64encode(value).decode()
    if field.kind == "json":
        return embedded_json(value)
    number = wire.double(value)
    if not math.isfinite(number):
        raise ProtobufError(f"{name}.{field.name} is no finite number")
    return number


def _unexpected(name: str, field: Field) -> ProtobufError:
    return ProtobufError(f"{name}.{field.name} has an unexpected wire type")
