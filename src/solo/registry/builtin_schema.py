"""Decoding of built-in kinds by their published definitions: types, unknown fields, nulls.

Definitions are loaded and compiled on the first write of a kind, so that a server that only serves stored objects
starts without them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from kube.machinery import errors
from kube.machinery.schema.nulls import drop_nulls
from kube.machinery.schema.numbers import misplaced_floats

if TYPE_CHECKING:
    from kube.machinery.schema import Schema

Obj = dict[str, Any]

_OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_TYPE_ERROR = re.compile(r"in body must be of type (?P<wanted>[\w,-]+)")
_RANGE_ERROR = re.compile(r"value must be of type integer (?:with format (?P<wanted>\w+)|.*) in (?P<field>.*)")
_GO_TYPES = {"object": "map", "boolean": "bool", "integer": "int64", "number": "float64", "array": "slice"}
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
JSON_NAMES = {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}


class BuiltinSchema:
    """The compiled definition of one built-in kind."""

    def __init__(self, definition: str, kind: str, version: str) -> None:
        self._definition = definition
        self._kind = kind
        self._version = version
        self._compiled: Schema | None = None

    @property
    def compiled(self) -> Schema:
        if self._compiled is None:
            self._compiled = _compile(self._definition)
        return self._compiled

    def decode(self, obj: Obj) -> list[str]:
        """Drop nulls and unknown fields in place and return the latter's paths.

        Raises 400 when a value's JSON type is not the field's.
        """
        node = definition_schema(self._definition)
        drop_nulls(obj, node)
        schema = self.compiled
        unknown = [f'unknown field "{path}"' for path in schema.prune(obj)]
        for cause in schema.validate(obj):
            if found := _TYPE_ERROR.search(cause.message):
                if found["wanted"] != "byte" or not cause.message.endswith(': ""'):  # no bytes are bytes, too
                    raise self._unreadable(obj, cause.field, found["wanted"])
            elif found := _RANGE_ERROR.search(cause.message):
                raise self._unreadable(obj, found["field"], found["wanted"] or "int64")
        for field in misplaced_floats(obj, node):
            raise self._unreadable(obj, field, "int32")
        return unknown

    def _unreadable(self, obj: Obj, field: str, wanted: str) -> errors.StatusError:
        """What Go's decoder says of a value that does not fit."""
        problem = self._type_problem(_value_at(obj, field), field, wanted)
        subject = f'{self._kind} in version "{self._version}" cannot be handled as a {self._kind}'
        return errors.bad_request(f"{subject}: {problem}")

    def _type_problem(self, value: Any, field: str, wanted: str) -> str:
        if wanted == "byte" and isinstance(value, str):
            return f"illegal base64 data at input byte {_bad_byte(value)}"
        name = JSON_NAMES.get(type(value), "value")
        if name == "number" and wanted.startswith("int"):
            name = f"number {value}"
        plain = re.sub(r"\[[^\]]*\]", "", field)
        go_type = _GO_TYPES.get(wanted, wanted)
        return f"json: cannot unmarshal {name} into Go struct field {self._kind}.{plain} of type {go_type}"


def _value_at(obj: Any, field: str) -> Any:
    """The value at a path such as `spec.ports[0].name`."""
    for part in re.findall(r"[^.\[\]]+", field):
        if isinstance(obj, dict):
            obj = obj.get(part)
        elif isinstance(obj, list) and part.isdecimal() and int(part) < len(obj):
            obj = obj[int(part)]
    return obj


def _bad_byte(value: str) -> int:
    """Where base64 stops being any."""
    return next((index for index, char in enumerate(value) if char not in _BASE64), max(len(value) - 1, 0))


@lru_cache(maxsize=256)
def definition_schema(definition: str) -> Obj:
    """The schema of a definition; of ObjectMeta as an object has it."""
    from kube.machinery.builtin import openapi_v3_schema

    schema = openapi_v3_schema(definition)
    return {"type": "object", "properties": {"metadata": schema}} if definition == _OBJECT_META else schema


@lru_cache(maxsize=256)
def _compile(definition: str) -> Schema:
    from kube.machinery.schema import compile_schema

    return compile_schema(definition_schema(definition), embedded_root=False)


@lru_cache(maxsize=256)
def metadata_schema(kind: str, version: str) -> BuiltinSchema:
    """A schema for `{"metadata": ObjectMeta}`."""
    return BuiltinSchema(_OBJECT_META, kind, version)
