"""Paths that a definition writes down to point into its own schema: of selectable fields, and `fieldPath` of rules.

`.spec.host`, `.spec.labels['a.b']`; what they point to must be there (apiextensions' ValidFieldPath).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Node = dict[str, Any]

_TOKEN = re.compile(r"'(?:[^'\\]|\\.)*'|[.\[\]]|[^.\[\]]+")


class FieldPathError(ValueError):
    """The path is none, or the schema has nothing there; the text says what is wrong."""


def schema_at(path: str, schema: Node, *, brackets: bool = True) -> tuple[Node, list[str]]:
    """The schema that a path leads to, and the path's keys. Without `brackets` there must be dots only.
    Raises FieldPathError."""
    node, keys = schema, []
    tokens = iter(_TOKEN.findall(path))
    for token in tokens:
        if token == "[" and not brackets:
            raise FieldPathError("array notation is not allowed")
        if token == "[":
            name = _quoted(_following(tokens))
        elif token == ".":
            name = _following(tokens)
        else:
            raise FieldPathError(f"expected [ or . but got: {token}")
        node = _below(node, name)
        keys.append(name)
        if token == "[" and (end := _following(tokens)) != "]":
            raise FieldPathError(f"expected ] but got {end}")
    return node, keys


def _following(tokens: Iterator[str]) -> str:
    token = next(tokens, None)
    if token is None:
        raise FieldPathError("unexpected end of JSON path")
    return token


def _quoted(token: str) -> str:
    if len(token) < 2 or token[0] != "'" or token[-1] != "'":
        raise FieldPathError(f"expected single quoted string but got {token}")
    return re.sub(r"\\(.)", r"\1", token[1:-1])


def _below(node: Node, name: str) -> Node:
    properties, extra = node.get("properties"), node.get("additionalProperties")
    if properties and name in properties:
        child: Node = properties[name]
        return child
    if not properties and isinstance(extra, dict):
        return extra
    raise FieldPathError("does not refer to a valid field")
