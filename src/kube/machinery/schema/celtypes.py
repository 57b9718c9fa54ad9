"""The part of CEL's type check that needs a schema: selections of fields that the schema does not have.

Rules are compiled with dynamically typed variables, so a misspelt `self.replcas` would only fail at every object. Here
the chains of selections that start at `self` or `oldSelf` are followed through the schema instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from kube.machinery.cel.escape import unescape
from kube.machinery.cel.program import CelCompileError, check_types

Node = dict[str, Any]


@cache
def _tokens(*roots: str) -> re.Pattern[str]:
    """What texts, and chains of selections that begin at one of the variables `roots`, look like."""
    return re.compile(
        rf"""(?P<text>r?(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'))
          | (?P<chain>(?<![\w.])(?:{"|".join(roots)})\b(?:\.\w+)*)(?P<call>\()?""",
        re.VERBOSE,
    )


_SCALARS = {"integer": "int", "number": "double", "string": "string", "boolean": "bool"}
_HAS = re.compile(r"\bhas\(\s*\Z")
_META_FIELDS = {"name": {"type": "string"}, "generateName": {"type": "string"}}
_ROOT_FIELDS: dict[str, Node] = {
    "apiVersion": {"type": "string"},
    "kind": {"type": "string"},
    "metadata": {"type": "object", "properties": _META_FIELDS},
}


def with_root_fields(node: Node) -> Node:
    """The schema of a Kubernetes object with type and names, as rules see it."""
    return {**node, "properties": {**(node.get("properties") or {}), **_ROOT_FIELDS}}


def undefined_field(expression: str, node: Node, *, whole_object: bool) -> str | None:
    """The compiler error for the first selection of a field that is not in the schema; None if there is none.

    With `whole_object` the node is a Kubernetes object's: type and names belong to it.
    """
    if whole_object:
        node = with_root_fields(node)
    return first_undefined(expression, {"self": node, "oldSelf": node})


def first_undefined(expression: str, schemas: Mapping[str, Node]) -> str | None:
    """The same for variables of any name, each with the schema of its value."""
    for token in _tokens(*schemas).finditer(expression):
        chain = token["chain"]
        if chain is None:
            continue
        root, *names = chain.split(".")
        if token["call"] and names:
            names.pop()  # the last name is a method
        offset = token.start("chain") + len(root)
        current: Node | None = schemas[root]
        for name in names:
            current = _select(current, unescape(name))
            if current is None:
                return _error(expression, offset, name)
            if not current:
                break
            offset += len(name) + 1
    return None


def type_problem(expression: str, schemas: Mapping[str, Node], others: Iterable[str]) -> str | None:
    """What a compiler that knows the schemas of variables says of an expression; None if it is content.

    `others` are variables of which nothing is known. Fields of lists' elements and of variables of comprehensions are
    not checked.
    """
    if problem := first_undefined(expression, schemas):
        return problem
    types = dict.fromkeys((*schemas, *others), "dyn")
    parts, place = [], 0
    for token in _tokens(*schemas).finditer(expression):
        if token["chain"] is None or _HAS.search(expression, 0, token.start()):
            continue
        root, *names = token["chain"].split(".")
        if token["call"] and names:
            names.pop()  # the last name is a method
        current: Node | None = schemas[root]
        for name in names:
            current = _select(current, unescape(name)) or None
        type_ = _scalar(current) if names else None
        if type_ is not None:
            # A variable of that type, of a name as long as the chain, so that places in messages stay right.
            variable = "_".join((root, *names))
            types[variable] = type_ if types.get(variable, type_) == type_ else "dyn"
            parts += [expression[place : token.start()], variable]
            place = token.start() + len(variable)
    typed = "".join([*parts, expression[place:]])
    try:
        check_types(typed, types)
    except CelCompileError as problem:
        shown = str(problem)
        for line, written in zip(typed.split("\n"), expression.split("\n"), strict=True):
            shown = shown.replace(f" | {line}\n", f" | {written}\n")
        return shown
    return None


def _scalar(node: Node | None) -> str | None:
    """The type in CEL of a value of a plain type, None of anything else. Texts with a format may be none to CEL."""
    if not node or node.get("x-kubernetes-int-or-string") or not isinstance(node.get("type"), str):
        return None
    if node["type"] == "string" and node.get("format"):
        return None
    return _SCALARS.get(node["type"])


def _select(node: Node | None, name: str) -> Node | None:
    """The schema of a field; None if there is no such field, empty if nothing is known about it."""
    if not node or node.get("x-kubernetes-int-or-string"):
        return {}
    if node.get("type") not in ("object", None):
        return None
    properties: dict[str, Node] = dict(node.get("properties") or {})
    if node.get("x-kubernetes-embedded-resource"):
        properties = {**properties, **_ROOT_FIELDS}
    if name in properties:
        return properties[name]
    extra = node.get("additionalProperties")
    if isinstance(extra, dict):
        return extra
    if extra or (node.get("x-kubernetes-preserve-unknown-fields") and not properties):
        return {}
    return None if properties or node.get("type") == "object" else {}


def _error(expression: str, offset: int, name: str) -> str:
    line = expression.count("\n", 0, offset)
    start = expression.rfind("\n", 0, offset) + 1
    column = offset - start
    text = expression[start:].split("\n", 1)[0]
    dots = "." * column
    return f"ERROR: <input>:{line + 1}:{column + 1}: undefined field '{name}'\n | {text}\n | {dots}^"
