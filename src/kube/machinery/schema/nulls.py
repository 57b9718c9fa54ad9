"""Nulls in objects whose kind is a Go type: absent where a field is meant, the zero value where an element is."""

from __future__ import annotations

from typing import Any

Node = dict[str, Any]

_ZEROS: dict[str, Any] = {"string": "", "boolean": False, "integer": 0, "number": 0}


def drop_nulls(value: Any, node: Node) -> None:
    """Remove nulls from a value of a built-in schema, in place. What the schema does not describe stays as it is."""
    if isinstance(value, dict):
        properties, extra = node.get("properties") or {}, node.get("additionalProperties")
        for key in [key for key, item in value.items() if item is None]:
            if key not in properties and isinstance(extra, dict):
                value[key] = _zero(extra)
            elif properties:
                del value[key]
        for key, item in value.items():
            if item.__class__ is dict or item.__class__ is list:
                below = properties.get(key, extra)
                if isinstance(below, dict):
                    drop_nulls(item, below)
    elif isinstance(value, list) and isinstance(node.get("items"), dict):
        for index, item in enumerate(value):
            if item is None:
                value[index] = _zero(node["items"])
            else:
                drop_nulls(item, node["items"])


def _zero(node: Node) -> Any:
    if node.get("type") == "object" or "properties" in node:
        return {}
    return _ZEROS.get(node.get("type") or "")
