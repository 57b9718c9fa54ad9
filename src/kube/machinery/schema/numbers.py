"""Whole numbers that were written with a fraction or an exponent (`2.0`, `1e3`), which JSON's readers take for floats.

Go writes such a float as a whole number, so that whoever reads what a Go server stored meets an integer; and its reader
refuses one for a field that is an integer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Node = dict[str, Any]

_LIMIT = 2.0**63
"""Whole numbers from here on are floats to everybody."""


def write_whole(value: Any) -> None:
    """Make integers of the floats in an object or list that are whole numbers, in place."""
    if value.__class__ is not dict and value.__class__ is not list:
        return
    items = value.items() if value.__class__ is dict else enumerate(value)
    for key, item in items:
        kind = item.__class__
        if kind is dict or kind is list:
            write_whole(item)
        elif kind is float and item.is_integer() and abs(item) < _LIMIT:
            value[key] = int(item)


def misplaced_floats(value: Any, node: Node, path: str = "") -> Iterator[str]:
    """The paths of floats where the schema has integers, such as `spec.ports[0].port`."""
    if value.__class__ is dict:
        properties, extra = node.get("properties") or {}, node.get("additionalProperties")
        for key, item in value.items():
            if item.__class__ in _WALKED:
                below = properties.get(key, extra)
                if isinstance(below, dict):
                    yield from misplaced_floats(item, below, f"{path}.{key}" if path else key)
    elif value.__class__ is list:
        below = node.get("items")
        if isinstance(below, dict):
            for index, item in enumerate(value):
                if item.__class__ in _WALKED:
                    yield from misplaced_floats(item, below, f"{path}[{index}]")
    elif node.get("type") == "integer" or node.get("x-kubernetes-int-or-string"):
        yield path


_WALKED = frozenset({dict, list, float})
