"""The Swagger 2.0 document in protobuf: gnostic's `openapi.v2.Document`, which client-go asks for and nothing else.

Field numbers: https://github.com/google/gnostic-models/blob/main/openapiv2/OpenAPIv2.proto. A map is a message whose
entries are messages of a name (1) and a value (2); what has no type of its own is YAML, of which JSON is a part.
A field of the document that has no number here is left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from kube.machinery.protobuf.wire import bytes_field, double_field, integer_field

Json = dict[str, Any]
_Form = Callable[[int, Any], bytes]
"""Writes a value as the field of a number."""
_Fields = Mapping[str, tuple[int, _Form]]

_EXTENSION = "x-"


def encode_swagger(document: Json) -> bytes:
    """A whole document, as `openapi_v2_document` makes it."""
    return _encode(_DOCUMENT, document)


def _encode(fields: _Fields, value: Json) -> bytes:
    _, extension = fields.get(_EXTENSION, (0, None))
    parts = []
    for key, each in value.items():
        number, form = fields.get(key, (0, None))
        if form is not None:
            parts.append(form(number, each))
        elif extension is not None and key.startswith(_EXTENSION):
            parts.append(extension(fields[_EXTENSION][0], {key: each}))
    return b"".join(parts)


def _text(number: int, value: str) -> bytes:
    return bytes_field(number, value.encode())


def _any(number: int, value: Any) -> bytes:
    return bytes_field(number, _text(2, json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"))


def _list(form: _Form) -> _Form:
    return lambda number, values: b"".join(form(number, each) for each in values)


def _message(fields: _Fields) -> _Form:
    return lambda number, value: bytes_field(number, _encode(fields, value))


def _within(inner: int, form: _Form) -> _Form:
    """A message whose only field, of the number `inner`, is the value."""
    return lambda number, value: bytes_field(number, form(inner, value))


def _entries(form: _Form) -> _Form:
    """A map's entries, one field each."""
    return lambda number, value: b"".join(
        bytes_field(number, _text(1, name) + form(2, each)) for name, each in value.items()
    )


def _schema(number: int, value: Json) -> bytes:
    return bytes_field(number, _encode(_SCHEMA, value))


def _additional(number: int, value: Any) -> bytes:
    return bytes_field(number, integer_field(2, value) if isinstance(value, bool) else _schema(1, value))


def _parameter(number: int, value: Json) -> bytes:
    """An item of an operation's parameters; those without a schema are told apart by where they stand."""
    if value["in"] == "body":
        parameter = bytes_field(1, _encode(_BODY, value))
    else:
        inner, fields = _PLACES[value["in"]]
        parameter = bytes_field(2, bytes_field(inner, _encode(fields, value)))
    return bytes_field(number, bytes_field(1, parameter))


_BOUNDS: tuple[tuple[str, _Form], ...] = (
    ("maximum", double_field),
    ("exclusiveMaximum", integer_field),
    ("minimum", double_field),
    ("exclusiveMinimum", integer_field),
    ("maxLength", integer_field),
    ("minLength", integer_field),
    ("pattern", _text),
    ("maxItems", integer_field),
    ("minItems", integer_field),
    ("uniqueItems", integer_field),
)


def _bounds(first: int) -> dict[str, tuple[int, _Form]]:
    """The fields that bound a value; in every message they have successive numbers."""
    return {name: (number, form) for number, (name, form) in enumerate(_BOUNDS, first)}


_SCHEMA: _Fields = {
    "$ref": (1, _text),
    "format": (2, _text),
    "title": (3, _text),
    "description": (4, _text),
    "default": (5, _any),
    "multipleOf": (6, double_field),
    **_bounds(7),
    "maxProperties": (17, integer_field),
    "minProperties": (18, integer_field),
    "required": (19, _list(_text)),
    "enum": (20, _list(_any)),
    "additionalProperties": (21, _additional),
    "type": (22, _within(1, _text)),
    "items": (23, _within(1, _schema)),
    "allOf": (24, _list(_schema)),
    "properties": (25, _within(1, _entries(_schema))),
    "externalDocs": (29, _message({"description": (1, _text), "url": (2, _text)})),
    "example": (30, _any),
    _EXTENSION: (31, _entries(_any)),
}

_BODY: _Fields = {
    "description": (1, _text),
    "name": (2, _text),
    "in": (3, _text),
    "required": (4, integer_field),
    "schema": (5, _schema),
}
_PARAMETER: _Fields = {
    "required": (1, integer_field),
    "in": (2, _text),
    "description": (3, _text),
    "name": (4, _text),
}
_PATH: _Fields = {**_PARAMETER, "type": (5, _text), "format": (6, _text), **_bounds(10)}
_QUERY: _Fields = {**_PARAMETER, "type": (6, _text), "format": (7, _text), **_bounds(11)}
_PLACES: Mapping[str, tuple[int, _Fields]] = {"query": (3, _QUERY), "path": (4, _PATH)}

_RESPONSE: _Fields = {"description": (1, _text), "schema": (2, _within(1, _schema))}
_OPERATION: _Fields = {
    "tags": (1, _list(_text)),
    "description": (3, _text),
    "operationId": (5, _text),
    "produces": (6, _list(_text)),
    "consumes": (7, _list(_text)),
    "parameters": (8, _list(_parameter)),
    "responses": (9, _within(1, _entries(_within(1, _message(_RESPONSE))))),
    "schemes": (10, _list(_text)),
    _EXTENSION: (13, _entries(_any)),
}
_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}
_ITEM: _Fields = {
    **{method: (number, _message(_OPERATION)) for method, number in _METHODS.items()},
    "parameters": (9, _list(_parameter)),
}
_DOCUMENT: _Fields = {
    "swagger": (1, _text),
    "info": (2, _message({"title": (1, _text), "version": (2, _text)})),
    "paths": (8, _within(2, _entries(_message(_ITEM)))),
    "definitions": (9, _within(1, _entries(_schema))),
}
