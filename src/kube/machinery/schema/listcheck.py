"""Do the list and map types of a schema fit what they are said of (apiextensions' API validation)?"""

from __future__ import annotations

from typing import Any

from kube.machinery.errors import Cause, cause
from kube.machinery.schema.structural import wrong_type
from kube.machinery.schema.values import show

Node = dict[str, Any]

_MAP_TYPES = ("atomic", "granular")
_LIST_TYPES = ("atomic", "set", "map")


def _not_supported(field: str, value: str, supported: tuple[str, ...]) -> Cause:
    return cause("FieldValueNotSupported", field, f"supported values: {', '.join(map(show, supported))}", show(value))


def check_map_type(node: Node, path: str) -> list[Cause]:
    """What is wrong with `x-kubernetes-map-type`."""
    map_type, declared = node.get("x-kubernetes-map-type"), node.get("type") or ""
    errors = []
    if map_type is not None and declared != "object":
        errors.append(wrong_type(path, declared, "must be object if x-kubernetes-map-type is specified"))
    if map_type is not None and map_type not in _MAP_TYPES:
        errors.append(_not_supported(f"{path}.x-kubernetes-map-type", map_type, _MAP_TYPES))
    return errors


def check_list_type(node: Node, path: str) -> list[Cause]:
    """What is wrong with `x-kubernetes-list-type` and the keys of a list that is a map."""
    list_type, keys = node.get("x-kubernetes-list-type"), node.get("x-kubernetes-list-map-keys") or []
    items, where = node.get("items"), f"{path}.x-kubernetes-list-type"
    declared = node.get("type") or ""
    errors = []
    if list_type is not None and declared != "array":
        errors.append(wrong_type(path, declared, "must be array if x-kubernetes-list-type is specified"))
    elif list_type == "set" and isinstance(items, dict):
        errors += _set_items(items, f"{path}.items")
    if list_type is not None and list_type not in _LIST_TYPES:
        errors.append(_not_supported(where, list_type, _LIST_TYPES))
    if keys and list_type is None:
        text = "must be map if x-kubernetes-list-map-keys is non-empty"
        errors.append(cause("FieldValueRequired", where, text))
    elif keys and list_type != "map":
        text = "must be map if x-kubernetes-list-map-keys is non-empty"
        errors.append(cause("FieldValueInvalid", where, text, show(list_type)))
    if list_type == "map":
        errors += _map_keys(items, keys, path)
    if list_type in ("set", "map") and isinstance(items, dict):
        errors += _identity(items, keys if list_type == "map" else [], list_type, f"{path}.items")
    return errors


def _set_items(items: Node, path: str) -> list[Cause]:
    """Elements of a set are compared as wholes, so they must not be merged field by field."""
    text = "must be atomic as item of a list with x-kubernetes-list-type=set"
    kind, list_type, map_type = (items.get(key) for key in ("type", "x-kubernetes-list-type", "x-kubernetes-map-type"))
    if kind == "array" and list_type not in (None, "atomic"):
        return [cause("FieldValueInvalid", f"{path}.x-kubernetes-list-type", text, show(list_type))]
    if kind == "object" and map_type != "atomic":
        return [cause("FieldValueInvalid", f"{path}.x-kubernetes-map-type", text, show(list_type))]
    return []


def _map_keys(items: Any, keys: list[str], path: str) -> list[Cause]:
    where = f"{path}.x-kubernetes-list-map-keys"
    errors = []
    if not keys:
        errors.append(cause("FieldValueRequired", where, "must not be empty if x-kubernetes-list-type is map"))
    if items is None:
        text = "must have a schema if x-kubernetes-list-type is map"
        return [*errors, cause("FieldValueRequired", f"{path}.items", text)]
    if not isinstance(items, dict):
        text = "must only have a single schema if x-kubernetes-list-type is map"
        return [*errors, cause("FieldValueInvalid", f"{path}.items", text, show(items))]
    if items.get("type") != "object":
        text = "must be object if parent array's x-kubernetes-list-type is map"
        return [*errors, cause("FieldValueInvalid", f"{path}.items.type", text, show(items.get("type") or ""))]
    properties = items.get("properties") or {}
    for index, key in enumerate(keys):
        if key not in properties:
            text = "entries must all be names of item properties"
            errors.append(cause("FieldValueInvalid", where, text, show(keys)))
        elif properties[key].get("type") in ("array", "object"):
            text = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            errors.append(cause("FieldValueInvalid", f"{path}.items.properties[{key}].type", text, show("object")))
        if key in keys[:index]:
            errors.append(cause("FieldValueInvalid", where, "must not contain duplicate entries", show(keys)))
    return errors


def _identity(items: Node, keys: list[str], list_type: str, path: str) -> list[Cause]:
    """What tells elements apart must be there."""
    errors = []
    if items.get("nullable"):
        text = f"cannot be nullable when x-kubernetes-list-type is {list_type}"
        errors.append(cause("FieldValueForbidden", f"{path}.nullable", text))
    properties = items.get("properties") or {}
    for key in keys:
        node, where = properties.get(key), f"{path}.properties[{key}]"
        if node is None:
            continue
        if key not in (items.get("required") or ()) and node.get("default") is None:
            text = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
            errors.append(cause("FieldValueRequired", f"{where}.default", text))
        if node.get("nullable"):
            text = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable"
            errors.append(cause("FieldValueForbidden", f"{where}.nullable", text))
    return errors
