"""Is a CustomResourceDefinition's schema structural (apiextensions' ValidateStructural, pkg/apiserver/schema)?

Every place has a type, value validation inside allOf/anyOf/oneOf/not adds no structure, metadata is not redefined,
patterns compile. What else the API demands of a schema is in `schemacheck`.
"""

from __future__ import annotations

from typing import Any

from kube.machinery.errors import Cause, cause
from kube.machinery.goregex import RegexError, compile_go_regex
from kube.machinery.schema.values import show

Node = dict[str, Any]

_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
_ROOT, _ITEM, _FIELD = "root", "item", "field"
_TYPE_MISSING = {
    _ROOT: "must not be empty at the root",
    _ITEM: "must not be empty for specified array items",
    _FIELD: "must not be empty for specified object fields",
}
_EMPTY, _FALSE, _UNDEFINED = (f"must be {state} to be structural" for state in ("empty", "false", "undefined"))
_FORBIDDEN_NESTED = {
    "type": _EMPTY,
    "title": _EMPTY,
    "description": _EMPTY,
    "nullable": _FALSE,
    "x-kubernetes-preserve-unknown-fields": _FALSE,
    "x-kubernetes-embedded-resource": _FALSE,
    "x-kubernetes-int-or-string": _FALSE,
    "x-kubernetes-list-map-keys": _EMPTY,
    "x-kubernetes-list-type": _UNDEFINED,
    "x-kubernetes-map-type": _UNDEFINED,
    "x-kubernetes-validations": _EMPTY,
}
_UNSUPPORTED = {
    "id": "id",
    "$schema": "schema",
    "$ref": "$ref",
    "patternProperties": "patternProperties",
    "dependencies": "dependencies",
    "additionalItems": "additionalItems",
    "definitions": "definitions",
}


def unsupported(schema: Node) -> str:
    """What keeps a schema from being understood as a structural one at all; "" if nothing does."""
    for keyword, name in _UNSUPPORTED.items():
        if schema.get(keyword) or (keyword == "additionalItems" and keyword in schema):
            return f"OpenAPIV3Schema '{name}' is not supported"
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        return "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined"
    items = schema.get("items")
    if isinstance(items, list) and items:
        return "OpenAPIV3Schema 'items' must be a schema, but is an array"
    below = [*(schema.get("properties") or {}).values(), items, schema.get("additionalProperties"), schema.get("not")]
    for keyword in ("allOf", "anyOf", "oneOf"):
        below += schema.get(keyword) or []
    return next((found for child in below if isinstance(child, dict) and (found := unsupported(child))), "")


def check_structural(schema: Node, path: str) -> list[Cause]:
    """What makes a schema no structural one, in the order of the texts. It must be one without `unsupported` parts."""
    errors: list[Cause] = []
    _check_node(schema, _ROOT, path, errors)
    _check_junctors(schema, schema, path, path, errors)
    return sorted(errors, key=lambda error: f"{error.field}: {error.message}")


def _check_node(node: Node, level: str, path: str, errors: list[Cause]) -> None:
    items, extra = node.get("items"), node.get("additionalProperties")
    if node.get("type") == "array" and items is None:
        errors.append(cause("FieldValueRequired", f"{path}.items", "must be specified"))
    if items is not None:
        _check_node(items, _ITEM, f"{path}.items", errors)
    for name, child in (node.get("properties") or {}).items():
        _check_node(child, _FIELD, f"{path}.properties[{name}]", errors)
    if extra is not None:
        if level == _ROOT:
            errors.append(cause("FieldValueForbidden", f"{path}.additionalProperties", "must not be used at the root"))
        if isinstance(extra, dict):
            _check_node(extra, _FIELD, f"{path}.additionalProperties", errors)
    _check_int_or_string(node, path, errors)
    _check_values(node, path, errors)
    _check_type(node, level, path, errors)
    _check_embedded(node, path, errors)
    if level == _ROOT or node.get("x-kubernetes-embedded-resource"):
        _check_type_meta(node, path, errors)
    metadata = (node.get("properties") or {}).get("metadata")
    if level == _ROOT and metadata is not None:
        _check_root_metadata(metadata, f"{path}.properties[metadata]", errors)


def _check_type(node: Node, level: str, path: str, errors: list[Cause]) -> None:
    declared = node.get("type") or ""
    free = node.get("x-kubernetes-int-or-string") or node.get("x-kubernetes-preserve-unknown-fields")
    if node.get("x-kubernetes-embedded-resource") and declared != "object":
        text = "must be object if x-kubernetes-embedded-resource is true"
        errors.append(wrong_type(path, declared, text))
    elif not declared and not free:
        errors.append(cause("FieldValueRequired", f"{path}.type", _TYPE_MISSING[level]))
    if level == _ROOT and declared not in ("", "object"):
        errors.append(cause("FieldValueInvalid", f"{path}.type", "must be object at the root", show(declared)))


def wrong_type(path: str, declared: str, text: str) -> Cause:
    """That a type must be another one, or be there."""
    if declared:
        return cause("FieldValueInvalid", f"{path}.type", text, show(declared))
    return cause("FieldValueRequired", f"{path}.type", text)


def _check_int_or_string(node: Node, path: str, errors: list[Cause]) -> None:
    for keyword in ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"):
        if node.get("x-kubernetes-int-or-string") and node.get(keyword):
            text = "must be false if x-kubernetes-int-or-string is true"
            errors.append(cause("FieldValueInvalid", f"{path}.{keyword}", text, "true"))


def _check_embedded(node: Node, path: str, errors: list[Cause]) -> None:
    if not node.get("x-kubernetes-embedded-resource"):
        return
    if node.get("additionalProperties") is not None:
        text = "must not be used if x-kubernetes-embedded-resource is set"
        errors.append(cause("FieldValueForbidden", f"{path}.additionalProperties", text))
    if not node.get("x-kubernetes-preserve-unknown-fields") and not node.get("properties"):
        text = (
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
        )
        errors.append(cause("FieldValueRequired", f"{path}.properties", text))


def _check_type_meta(node: Node, path: str, errors: list[Cause]) -> None:
    """A whole object's type and metadata have the types that they have everywhere."""
    for name, wanted in (("kind", "string"), ("apiVersion", "string"), ("metadata", "object")):
        child = (node.get("properties") or {}).get(name)
        if child is not None and (declared := child.get("type") or "") != wanted:
            field = f"{path}.properties[{name}].type"
            errors.append(cause("FieldValueInvalid", field, f"must be {wanted}", show(declared)))


def _check_root_metadata(node: Node, path: str, errors: list[Cause]) -> None:
    """At the root, metadata is implied; a schema may restrict the names only."""
    rest = {key: value for key, value in node.items() if key not in ("type", "default") and value}
    if set(rest.get("properties") or ()) <= {"name", "generateName"}:
        rest.pop("properties", None)
    if rest:
        text = "must not specify anything other than name and generateName, but metadata is implicitly specified"
        errors.append(cause("FieldValueForbidden", path, text))


def _check_values(node: Node, path: str, errors: list[Cause]) -> None:
    """The value validation of a node of the structure; what an int-or-string has to say is let through."""
    _check_pattern(node, path, errors)
    for keyword in ("allOf", "anyOf", "oneOf"):
        branches = node.get(keyword) or []
        if keyword == "anyOf" and branches == _INT_OR_STRING:
            continue
        for index, branch in enumerate(branches):
            if keyword == "allOf" and index == 0 and branch.get("anyOf") == _INT_OR_STRING:
                branch = {key: value for key, value in branch.items() if key != "anyOf"}
            _check_nested(branch, f"{path}.{keyword}[{index}]", errors)
    if isinstance(node.get("not"), dict):
        _check_nested(node["not"], f"{path}.not", errors)


def _check_pattern(node: Node, path: str, errors: list[Cause]) -> None:
    if pattern := node.get("pattern"):
        try:
            compile_go_regex(pattern)
        except RegexError as error:
            text = f"must be a valid regular expression, but isn't: {error}"
            errors.append(cause("FieldValueInvalid", f"{path}.pattern", text, show(pattern)))


def _check_nested(node: Node, path: str, errors: list[Cause]) -> None:
    """What is inside a junctor: value validation only."""
    _check_pattern(node, path, errors)
    for place, child in _branches(node, path):
        _check_nested(child, place, errors)
    if isinstance(node.get("items"), dict):
        _check_nested(node["items"], f"{path}.items", errors)
    for name, child in (node.get("properties") or {}).items():
        _check_nested(child, f"{path}.properties[{name}]", errors)
    for keyword, text in _FORBIDDEN_NESTED.items():
        if node.get(keyword):
            errors.append(cause("FieldValueForbidden", f"{path}.{keyword}", text))
    for keyword, allowed in (("additionalProperties", (None, False)), ("default", (None,))):
        if not any(node.get(keyword) is value for value in allowed):
            errors.append(cause("FieldValueForbidden", f"{path}.{keyword}", _UNDEFINED))
    if "metadata" in (node.get("properties") or {}):
        text = "must not be specified in a nested context"
        errors.append(cause("FieldValueForbidden", f"{path}.properties[metadata]", text))


def _branches(node: Node, path: str) -> list[tuple[str, Node]]:
    """The schemas in the junctors of a node, with their places."""
    found = [(f"{path}.not", node["not"])] if isinstance(node.get("not"), dict) else []
    for keyword in ("allOf", "anyOf", "oneOf"):
        found += [(f"{path}.{keyword}[{index}]", branch) for index, branch in enumerate(node.get(keyword) or [])]
    return found


def _check_junctors(node: Node, structure: Node, where: str, seen: str, errors: list[Cause]) -> None:
    """Whatever the root's junctors say about a field, the structure has that field, too (complete.go, which leaves the
    junctors of fields alone)."""
    for place, branch in _branches(node, seen):
        _check_branch(branch, structure, where, place, errors)


def _check_branch(branch: Node, structure: Node | None, where: str, place: str, errors: list[Cause]) -> None:
    if structure is None:
        errors.append(cause("FieldValueRequired", where, f"because it is defined in {place}"))
        return
    _check_junctors(branch, structure, where, place, errors)
    if isinstance(branch.get("items"), dict):
        _check_branch(branch["items"], structure.get("items"), f"{where}.items", f"{place}.items", errors)
    declared = structure.get("properties") or {}
    for name, child in (branch.get("properties") or {}).items():
        below, defined = f"{where}.properties[{name}]", f"{place}.properties[{name}]"
        _check_branch(child, declared.get(name), below, defined, errors)
