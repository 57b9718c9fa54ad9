"""The defaults of a schema when a definition is written: each must be valid where it is, and have no unknown fields
(apiextensions' pkg/apiserver/schema/defaulting/validation.go).
"""

from __future__ import annotations

from typing import Any

from kube.machinery.errors import Cause, cause
from kube.machinery.schema.common import NO_PATH
from kube.machinery.schema.compiled import compile_schema
from kube.machinery.schema.values import copy_json, same, show

Node = dict[str, Any]


def check_defaults(schema: Node, path: str) -> list[Cause]:
    """What is wrong with the defaults of a whole schema; it has been found structural before."""
    errors: list[Cause] = []
    for name, child in (schema.get("properties") or {}).items():
        where = f"{path}.properties[{name}]"
        if name not in ("apiVersion", "kind", "metadata"):
            _walk(child, where, errors)
        elif child.get("default") is not None:
            text = f"must not be set in top-level {name}"
            errors.append(cause("FieldValueForbidden", f"{where}.default", text))
    return errors


def _walk(node: Node, path: str, errors: list[Cause]) -> None:
    if node.get("default") is not None:
        errors += _check(node, f"{path}.default")
    for name, child in (node.get("properties") or {}).items():
        _walk(child, f"{path}.properties[{name}]", errors)
    for keyword in ("items", "additionalProperties"):
        if isinstance(node.get(keyword), dict):
            _walk(node[keyword], f"{path}.{keyword}", errors)


def _check(node: Node, place: str) -> list[Cause]:
    compiled = compile_schema({"type": "object", "properties": {"default": node}}, embedded_root=False)
    given = {"default": node["default"]}
    pruned = copy_json(given)
    compiled.prune(pruned)
    errors = []
    if not same(pruned, given):
        errors.append(cause("FieldValueInvalid", place, "must not have unknown fields", show(node["default"])))
    stem = place.removesuffix("default")
    found = compiled.validate(given)
    return errors + [
        Cause(item.reason, item.message, item.field if item.field == NO_PATH else stem + item.field) for item in found
    ]
