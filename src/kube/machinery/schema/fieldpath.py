"""Paths that a definition writes down to point into its own schema: of selectable fields, and `fieldPath` of rules.

`.spec.host`, `.spec.labels['a.b']`, `['spec']`; what they point to must be there (apiextensions' ValidFieldPath).
"""

from __future__ import annotations

import re
from typing import Any

Node = dict[str, Any]

_PART = re.compile(r"""\.(?P<name>[^.\['"\]]+)|\['(?P<quoted>(?:[^'\\]|\\.)*)'\]""")
_META: Node = {"type": "object", "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}}}
_ROOT: Node = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": _META}


class FieldPathError(ValueError):
    """The path is none, or the schema has nothing there; the text says what is wrong."""


def schema_at(path: str, schema: Node, *, whole_object: bool = True) -> tuple[Node, list[str]]:
    """The schema that a path leads to, and the path's keys. With `whole_object` the schema is a
    Kubernetes object's: type and names belong to it. Raises FieldPathError."""
    node, keys, place = schema, [], 0
    if whole_object:
        node = {**schema, "properties": {**_ROOT, **(schema.get("properties") or {})}}
    while place < len(path):
        found = _PART.match(path, place)
        if found is None:
            raise FieldPathError(f"expected [ or . but got: {path[place:]}")
        name = found["name"] or re.sub(r"\\(.)", r"\1", found["quoted"])
        node = _below(node, name)
        keys.append(name)
        place = found.end()
    if not keys:
        raise FieldPathError("must not be empty")
    return node, keys


def _below(node: Node, name: str) -> Node:
    properties, extra = node.get("properties") or {}, node.get("additionalProperties")
    if name in properties:
        child: Node = properties[name]
        return child
    if isinstance(extra, dict):
        return extra
    raise FieldPathError("does not refer to a valid field")
