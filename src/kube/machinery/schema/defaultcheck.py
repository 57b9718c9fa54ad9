"""The defaults of a schema when a definition is written: each must be valid where it is, and have no unknown fields
(apiextensions' pkg/apiserver/schema/defaulting/validation.go).
"""

from __future__ import annotations

from typing import Any

from kube.machinery.errors import Cause, cause
from kube.machinery.schema.compiled import compile_schema
from kube.machinery.schema.embedded import check_object, compile_finder, type_problem
from kube.machinery.schema.values import copy_json, same, show

Node = dict[str, Any]

_META_FIELDS = ("apiVersion", "kind", "metadata")


def check_defaults(schema: Node, path: str) -> list[Cause]:
    """What is wrong with the defaults of a whole schema; it has been found structural before."""
    errors: list[Cause] = []
    _walk({**schema, "x-kubernetes-embedded-resource": True}, path, errors)
    return errors


def _walk(node: Node, path: str, errors: list[Cause]) -> None:
    if node.get("default") is not None:
        errors += _check(node, f"{path}.default")
    if isinstance(node.get("items"), dict):
        _walk(node["items"], f"{path}.items", errors)
    embedded = node.get("x-kubernetes-embedded-resource")
    for name, child in (node.get("properties") or {}).items():
        if embedded and name in _META_FIELDS:
            continue  # forbidden at the root; further down, types and names are ObjectMeta's matter
        _walk(child, f"{path}.properties[{name}]", errors)


def _check(node: Node, place: str) -> list[Cause]:
    compiled = compile_schema(node, embedded_root=False)
    value = node["default"]
    pruned = copy_json(value)
    compiled.prune(pruned)
    errors = []
    if not same(pruned, value):
        errors.append(cause("FieldValueInvalid", place, "must not have unknown fields", show(value)))
    find = compile_finder(node)
    objects = list(find(value, place)) if find is not None else []
    unreadable = [problem for inner, path in objects if (problem := type_problem(inner, path))]
    wrong = unreadable[:1] or [problem for inner, path in objects for problem in check_object(inner, path)]
    return errors + (wrong or compiled.validate_default(value, place))
