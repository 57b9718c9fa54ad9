"""Is a CustomResourceDefinition's schema structural? The checks at the creation of a CRD, with kube-apiserver's words.

As apiextensions' ValidateStructural (pkg/apiserver/schema) and the parts of its API validation that keep a schema from
working: every place has a type, value validation inside allOf/anyOf/oneOf/not adds no structure, metadata is not
redefined, patterns and rules compile, list types fit.
"""

from __future__ import annotations

from typing import Any

from kube.machinery.errors import Cause, cause
from kube.machinery.goregex import RegexError, compile_go_regex
from kube.machinery.schema.defaultcheck import check_defaults
from kube.machinery.schema.rulecheck import check_all_rules
from kube.machinery.schema.values import show

Node = dict[str, Any]

_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
_ROOT, _ITEM, _FIELD = "root", "item", "field"
_TYPE_MISSING = {
    _ROOT: "must not be empty at the root",
    _ITEM: "must not be empty for specified array items",
    _FIELD: "must not be empty for specified object fields",
}
_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_FORBIDDEN_NESTED = {
    "type": "must be empty to be structural",
    "additionalProperties": "must be undefined to be structural",
    "default": "must be undefined to be structural",
    "title": "must be empty to be structural",
    "description": "must be empty to be structural",
    "nullable": "must be false to be structural",
    "externalDocs": "must be undefined to be structural",
    "x-kubernetes-preserve-unknown-fields": "must be false to be structural",
    "x-kubernetes-embedded-resource": "must be false to be structural",
    "x-kubernetes-int-or-string": "must be false to be structural",
    "x-kubernetes-list-map-keys": "must be empty to be structural",
    "x-kubernetes-list-type": "must be undefined to be structural",
    "x-kubernetes-map-type": "must be undefined to be structural",
    "x-kubernetes-validations": "must be empty to be structural",
}
_UNSUPPORTED = ("$ref", "definitions", "dependencies", "patternProperties", "id", "$schema", "additionalItems")


def check_structural(schema: Node, path: str = "") -> list[Cause]:
    """Everything that makes a schema unusable for custom resources.

    `path` is where the schema is in the CRD (`spec.validation.openAPIV3Schema`); without it, fields are relative.
    """
    errors: list[Cause] = []
    _check_node(schema, _ROOT, path, errors)
    _check_complete(schema, schema, path, path, errors)
    if not errors:  # only then rules and defaults can be understood
        errors = check_all_rules(schema, path) + check_defaults(schema, path)
    relative = (Cause(error.reason, error.message, error.field.removeprefix(".")) for error in errors)
    return sorted(relative, key=lambda error: (error.field, error.message))


def _check_node(node: Any, level: str, path: str, errors: list[Cause]) -> None:
    if not isinstance(node, dict):
        errors.append(cause("FieldValueTypeInvalid", path, "must be a schema", show(node)))
        return
    _check_type(node, level, path, errors)
    _check_supported(node, path, errors)
    items, extra = node.get("items"), node.get("additionalProperties")
    if node.get("type") == "array" and items is None:
        errors.append(cause("FieldValueRequired", f"{path}.items", "must be specified"))
    if items is not None:
        _check_node(items, _ITEM, f"{path}.items", errors)
    for name, child in (node.get("properties") or {}).items():
        where = f"{path}.properties[{name}]"
        if level == _ROOT and name == "metadata":
            _check_metadata(child, where, errors)
        else:
            _check_node(child, _FIELD, where, errors)
    if extra is not None:
        if level == _ROOT:
            errors.append(cause("FieldValueForbidden", f"{path}.additionalProperties", "must not be used at the root"))
        if node.get("properties"):
            text = "additionalProperties and properties are mutual exclusive"
            errors.append(cause("FieldValueForbidden", f"{path}.additionalProperties", text))
        if isinstance(extra, dict):
            _check_node(extra, _FIELD, f"{path}.additionalProperties", errors)
    _check_extensions(node, path, errors)
    _check_list_type(node, path, errors)
    _check_map_type(node, path, errors)
    _check_values(node, path, errors, nested=False)


def _check_type(node: Node, level: str, path: str, errors: list[Cause]) -> None:
    declared = node.get("type") or ""
    free = node.get("x-kubernetes-int-or-string") or node.get("x-kubernetes-preserve-unknown-fields")
    if node.get("x-kubernetes-embedded-resource") and declared != "object":
        text = "must be object if x-kubernetes-embedded-resource is true"
        if declared:
            errors.append(cause("FieldValueInvalid", f"{path}.type", text, show(declared)))
        else:
            errors.append(cause("FieldValueRequired", f"{path}.type", text))
    elif not declared:
        if not free:
            errors.append(cause("FieldValueRequired", f"{path}.type", _TYPE_MISSING[level]))
    elif declared == "null":
        text = "type cannot be set to null, use nullable as an alternative"
        errors.append(cause("FieldValueForbidden", f"{path}.type", text))
    elif declared not in _TYPES:
        supported = ", ".join(f'"{name}"' for name in _TYPES)
        text = f"supported values: {supported}"
        errors.append(cause("FieldValueNotSupported", f"{path}.type", text, show(declared)))
    elif level == _ROOT and declared != "object":
        errors.append(cause("FieldValueInvalid", f"{path}.type", "must be object at the root", show(declared)))


def _check_supported(node: Node, path: str, errors: list[Cause]) -> None:
    found = [keyword for keyword in _UNSUPPORTED if keyword in node]
    errors.extend(cause("FieldValueForbidden", f"{path}.{keyword}", f"{keyword} is not supported") for keyword in found)
    if node.get("uniqueItems"):
        text = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        errors.append(cause("FieldValueForbidden", f"{path}.uniqueItems", text))
    if node.get("additionalProperties") is False:
        text = "additionalProperties cannot be set to false"
        errors.append(cause("FieldValueForbidden", f"{path}.additionalProperties", text))


def _check_metadata(node: Any, path: str, errors: list[Cause]) -> None:
    """At the root, metadata is implied; a schema may restrict the names only."""
    rest = dict(node) if isinstance(node, dict) else {"": node}
    if rest.pop("type", None) != "object":
        declared = node.get("type", "") if isinstance(node, dict) else ""
        errors.append(cause("FieldValueInvalid", f"{path}.type", "must be object", show(declared)))
    rest.pop("description", None)
    if set(rest.get("properties") or ()) <= {"name", "generateName"}:
        rest.pop("properties", None)
    if rest:
        text = "must not specify anything other than name and generateName, but metadata is implicitly specified"
        errors.append(cause("FieldValueForbidden", path, text))


def _check_extensions(node: Node, path: str, errors: list[Cause]) -> None:
    for keyword in ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"):
        if node.get("x-kubernetes-int-or-string") and node.get(keyword):
            text = "must be false if x-kubernetes-int-or-string is true"
            errors.append(cause("FieldValueInvalid", f"{path}.{keyword}", text, "true"))
    if node.get("x-kubernetes-preserve-unknown-fields") is False:
        where = f"{path}.x-kubernetes-preserve-unknown-fields"
        errors.append(cause("FieldValueInvalid", where, "must be true or undefined", "false"))
    if node.get("x-kubernetes-embedded-resource"):
        if node.get("additionalProperties") is not None:
            text = "must not be used if x-kubernetes-embedded-resource is set"
            errors.append(cause("FieldValueForbidden", f"{path}.additionalProperties", text))
        if not node.get("x-kubernetes-preserve-unknown-fields") and not node.get("properties"):
            text = (
                "must not be empty if x-kubernetes-embedded-resource is true without "
                "x-kubernetes-preserve-unknown-fields"
            )
            errors.append(cause("FieldValueRequired", f"{path}.properties", text))


def _check_list_type(node: Node, path: str, errors: list[Cause]) -> None:
    list_type, keys = node.get("x-kubernetes-list-type"), node.get("x-kubernetes-list-map-keys") or []
    where = f"{path}.x-kubernetes-list-type"
    if list_type is None:
        if keys:
            text = "must be map if x-kubernetes-list-map-keys is non-empty"
            errors.append(cause("FieldValueRequired", where, text))
        return
    if list_type not in ("atomic", "set", "map"):
        text = 'supported values: "atomic", "map", "set"'
        errors.append(cause("FieldValueNotSupported", where, text, show(list_type)))
        return
    if node.get("type") != "array":
        text = "must be array if x-kubernetes-list-type is specified"
        errors.append(cause("FieldValueInvalid", f"{path}.type", text, show(node.get("type") or "")))
        return
    items = node.get("items") if isinstance(node.get("items"), dict) else {}
    if list_type == "map":
        _check_map_keys(items or {}, keys, path, errors)
    elif list_type == "set":
        _check_set_items(items or {}, f"{path}.items", errors)
    if keys and list_type != "map":
        text = "must be map if x-kubernetes-list-map-keys is non-empty"
        errors.append(cause("FieldValueInvalid", where, text, show(list_type)))


def _check_set_items(items: Node, path: str, errors: list[Cause]) -> None:
    """Elements of a set are compared as wholes, so they must not be merged field by field."""
    text = "must be atomic as item of a list with x-kubernetes-list-type=set"
    kind, list_type, map_type = (items.get(key) for key in ("type", "x-kubernetes-list-type", "x-kubernetes-map-type"))
    if kind == "array" and list_type not in (None, "atomic"):
        errors.append(cause("FieldValueInvalid", f"{path}.x-kubernetes-list-type", text, show(list_type)))
    elif kind == "object" and map_type != "atomic":
        errors.append(cause("FieldValueInvalid", f"{path}.x-kubernetes-map-type", text, show(map_type)))
    if items.get("nullable"):
        text = "cannot be nullable when x-kubernetes-list-type is set"
        errors.append(cause("FieldValueForbidden", f"{path}.nullable", text))


def _check_map_type(node: Node, path: str, errors: list[Cause]) -> None:
    map_type, declared = node.get("x-kubernetes-map-type"), node.get("type") or ""
    if map_type is None:
        return
    if declared != "object":
        text = "must be object if x-kubernetes-map-type is specified"
        if declared:
            errors.append(cause("FieldValueInvalid", f"{path}.type", text, show(declared)))
        else:
            errors.append(cause("FieldValueRequired", f"{path}.type", text))
    if map_type not in ("atomic", "granular"):
        text = 'supported values: "atomic", "granular"'
        errors.append(cause("FieldValueNotSupported", f"{path}.x-kubernetes-map-type", text, show(map_type)))


def _check_map_keys(items: Node, keys: list[str], path: str, errors: list[Cause]) -> None:
    if not keys:
        text = "must not be empty if x-kubernetes-list-type is map"
        errors.append(cause("FieldValueRequired", f"{path}.x-kubernetes-list-map-keys", text))
    if items.get("type") != "object":
        text = "must be object if parent array's x-kubernetes-list-type is map"
        errors.append(cause("FieldValueInvalid", f"{path}.items.type", text, show(items.get("type") or "")))
        return
    if len(set(keys)) < len(keys):
        where = f"{path}.x-kubernetes-list-map-keys"
        errors.append(cause("FieldValueInvalid", where, "must not contain duplicate entries", show(keys)))
    properties = items.get("properties") or {}
    for key in dict.fromkeys(keys):
        where = f"{path}.items.properties[{key}]"
        if key not in properties:
            text = "entries must all be names of item properties"
            errors.append(cause("FieldValueInvalid", f"{path}.x-kubernetes-list-map-keys", text, show(key)))
        elif properties[key].get("type") in ("array", "object"):
            text = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            errors.append(cause("FieldValueInvalid", f"{where}.type", text, show(properties[key]["type"])))
        elif properties[key].get("default") is None and key not in (items.get("required") or ()):
            text = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
            errors.append(cause("FieldValueRequired", f"{where}.default", text))


def _check_values(node: Node, path: str, errors: list[Cause], *, nested: bool) -> None:
    """The value validation of a node and what is nested in its logical junctors."""
    pattern = node.get("pattern")
    if pattern:
        try:
            compile_go_regex(pattern)
        except RegexError as error:
            text = f"must be a valid regular expression, but isn't: {error}"
            errors.append(cause("FieldValueInvalid", f"{path}.pattern", text, show(pattern)))
    int_or_string = bool(node.get("x-kubernetes-int-or-string"))
    for keyword in ("allOf", "anyOf", "oneOf"):
        branches = node.get(keyword) or []
        if keyword == "anyOf" and int_or_string and branches == _INT_OR_STRING:
            continue
        for index, branch in enumerate(branches):
            if keyword == "allOf" and index == 0 and int_or_string and branch.get("anyOf") == _INT_OR_STRING:
                branch = {key: value for key, value in branch.items() if key != "anyOf"}
            _check_nested(branch, f"{path}.{keyword}[{index}]", errors)
    if isinstance(node.get("not"), dict):
        _check_nested(node["not"], f"{path}.not", errors)
    if nested:
        if isinstance(node.get("items"), dict):
            _check_nested(node["items"], f"{path}.items", errors)
        for name, child in (node.get("properties") or {}).items():
            _check_nested(child, f"{path}.properties[{name}]", errors)


def _check_nested(node: Node, path: str, errors: list[Cause]) -> None:
    for keyword, text in _FORBIDDEN_NESTED.items():
        if node.get(keyword):
            errors.append(cause("FieldValueForbidden", f"{path}.{keyword}", text))
    if "metadata" in (node.get("properties") or {}):
        text = "must not be specified in a nested context"
        errors.append(cause("FieldValueForbidden", f"{path}.properties[metadata]", text))
    _check_values(node, path, errors, nested=True)


def _check_complete(node: Node, structure: Node | None, where: str, seen: str, errors: list[Cause]) -> None:
    """Whatever a junctor says about a field, the structure has that field, too (apiextensions' complete.go)."""
    for keyword in ("allOf", "anyOf", "oneOf", "not"):
        branches = node.get(keyword) or []
        listed = [branches] if isinstance(branches, dict) else branches
        for index, branch in enumerate(listed):
            place = f"{seen}.not" if keyword == "not" else f"{seen}.{keyword}[{index}]"
            _check_branch(branch, structure, where, place, errors)
    if node is structure:
        for name, child in (node.get("properties") or {}).items():
            if isinstance(child, dict):
                below = f"{where}.properties[{name}]"
                _check_complete(child, child, below, below, errors)
        for keyword in ("items", "additionalProperties"):
            child = node.get(keyword)
            if isinstance(child, dict):
                _check_complete(child, child, f"{where}.{keyword}", f"{where}.{keyword}", errors)


def _check_branch(branch: Node, structure: Node | None, where: str, place: str, errors: list[Cause]) -> None:
    if structure is None:
        errors.append(cause("FieldValueRequired", where, f"because it is defined in {place}"))
        return
    _check_complete(branch, structure, where, place, errors)
    if isinstance(branch.get("items"), dict):
        _check_branch(branch["items"], structure.get("items"), f"{where}.items", f"{place}.items", errors)
    declared = structure.get("properties") or {}
    for name, child in (branch.get("properties") or {}).items():
        below, defined = f"{where}.properties[{name}]", f"{place}.properties[{name}]"
        _check_branch(child, declared.get(name), below, defined, errors)
