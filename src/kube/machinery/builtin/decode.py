"""Why Go could not read an object of a built-in kind.

kube-apiserver decodes built-in objects into Go structures before it validates them, so a field of the wrong type is a
400 in the words of Go's JSON decoder (`json: cannot unmarshal number into Go struct field ConfigMap.data of type
string`), not a 422 with causes. This finds the first such problem.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from kube.machinery.builtin import openapi_v3_schema
from kube.machinery.durations import parse_rfc3339
from kube.machinery.quantity import parse_quantity

Node = dict[str, Any]

_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_INT32 = range(-(2**31), 2**31)
_INT64 = range(-(2**63), 2**63)
_TIME_LAYOUT = "2006-01-02T15:04:05Z07:00"


def decode_problem(name: str, obj: Any) -> str | None:
    """The text that follows `X in version "v1" cannot be handled as a X: `; None if the object can be decoded.

    `name` is a definition's name. Raises KeyError if there is no such definition.
    """
    return _problem(openapi_v3_schema(name), obj, "", "")


def _problem(node: Node, value: Any, struct: str, path: str) -> str | None:
    if value is None:
        return None
    if node.get("x-kubernetes-int-or-string"):
        fits = isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))
        return None if fits else f"json: cannot unmarshal {_kind(value)} into Go value of type string"
    special = node.get("format") in ("quantity", "date-time")
    if special:
        return _scalar_text(node, value)
    declared = node.get("type")
    if declared == "object" or "properties" in node:
        return _object(node, value, struct, path)
    if declared == "array":
        return _array(node, value, struct, path)
    return _scalar(node, value, struct, path)


def _object(node: Node, value: Any, struct: str, path: str) -> str | None:
    if not isinstance(value, dict):
        return _mismatch(value, struct, path, node)
    properties: dict[str, Node] = node.get("properties") or {}
    inner = _type_name(node) or struct
    extra = node.get("additionalProperties")
    for key, child in value.items():
        if key in properties:
            found = _problem(properties[key], child, inner, f"{path}.{key}" if path else key)
        elif isinstance(extra, dict):
            found = _problem(extra, child, struct, path)
        else:
            continue
        if found is not None:
            return found
    return None


def _array(node: Node, value: Any, struct: str, path: str) -> str | None:
    if not isinstance(value, list):
        return _mismatch(value, struct, path, node)
    items: Node = node.get("items") or {}
    found = (_problem(items, element, struct, path) for element in value)
    return next((problem for problem in found if problem is not None), None)


def _scalar(node: Node, value: Any, struct: str, path: str) -> str | None:
    declared = node.get("type")
    if declared == "string":
        if not isinstance(value, str):
            return _mismatch(value, struct, path, node)
        return _base64_problem(value) if node.get("format") == "byte" else None
    if declared == "boolean":
        return None if isinstance(value, bool) else _mismatch(value, struct, path, node)
    if declared in ("integer", "number"):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number:
            return _mismatch(value, struct, path, node)
        if declared == "integer" and not _fits(value, node):
            return _mismatch(value, struct, path, node, kind=f"number {value}")
    return None


def _fits(value: float, node: Node) -> bool:
    bounds = _INT64 if node.get("format") == "int64" else _INT32
    return isinstance(value, int) and value in bounds


def _scalar_text(node: Node, value: Any) -> str | None:
    """Types that read themselves: quantities and times."""
    if node["format"] == "quantity":
        try:
            parse_quantity(value)
        except ValueError as error:
            return str(error)
        return None
    if not isinstance(value, str):
        return f"json: cannot unmarshal {_kind(value)} into Go value of type string"
    try:
        parse_rfc3339(value)
    except ValueError:
        return f'parsing time "{value}" as "{_TIME_LAYOUT}": cannot parse "{value}" as "2006"'
    return None


def _base64_problem(value: str) -> str | None:
    valid = _BASE64.match(value)
    end = valid.end() if valid else 0
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return f"illegal base64 data at input byte {min(end, max(len(value) - 1, 0))}"
    return None


def _mismatch(value: Any, struct: str, path: str, node: Node, kind: str | None = None) -> str:
    read = kind or _kind(value)
    if not path:
        return f"json: cannot unmarshal {read} into Go value of type {_go_type(node)}"
    return f"json: cannot unmarshal {read} into Go struct field {struct}.{path} of type {_go_type(node)}"


def _kind(value: Any) -> str:
    names: dict[type, str] = {str: "string", bool: "bool", dict: "object", list: "array"}
    return names.get(type(value), "number")


def _type_name(node: Node) -> str:
    return str(node.get("x-go-type") or "").rpartition(".")[2]


def _go_type(node: Node) -> str:
    named = node.get("x-go-type")
    if named:
        return ".".join(named.split(".")[-2:])
    declared = node.get("type")
    if declared == "array":
        return f"[]{_go_type(node.get('items') or {})}"
    if declared == "object":
        extra = node.get("additionalProperties")
        return f"map[string]{_go_type(extra)}" if isinstance(extra, dict) else "map[string]interface {}"
    if declared == "string":
        return "[]uint8" if node.get("format") == "byte" else "string"
    if declared == "integer":
        return "int64" if node.get("format") == "int64" else "int32"
    return {"boolean": "bool", "number": "float64"}.get(declared or "", "interface {}")
