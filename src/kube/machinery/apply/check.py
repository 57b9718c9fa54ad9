"""Does an applied configuration fit the schema? Worded as structured-merge-diff's typed/validate.go does.

This is all that apply itself asks for, before it merges: known fields, values of the declared types, and list items
that can be told apart. Whether the merged object is valid is checked afterwards like any other write.
"""

from __future__ import annotations

from typing import Any

from kube.machinery.apply.elements import field_element, show_element, show_path
from kube.machinery.apply.fieldset import Path
from kube.machinery.apply.types import LIST, SCALAR, ItemError, ListType, Type

_GO_TYPES: dict[type, str] = {str: "string", bool: "bool", int: "int64", float: "float64"}


def problems(kind: Type, obj: Any) -> str:
    """All that is wrong, as one text: `.spec.x: field not declared in schema`; empty if nothing is."""
    found: list[str] = []
    _check(kind, obj, (), found)
    return found[0] if len(found) == 1 else "\n  ".join(["errors:", *found]) if found else ""


def _check(kind: Type, value: Any, path: Path, found: list[str]) -> None:
    shape = kind.shape(value)
    if value is None:
        return
    if shape == SCALAR:
        problem = _scalar_problem(kind.scalar, value)
        if problem:
            _report(path, problem, found)
    elif shape == LIST:
        if value.__class__ is not list:
            _report(path, f"expected list, got &{{{_show(value)}}}", found)
        elif kind.listing is not None:
            _check_list(kind.listing, value, path, found)
    elif value.__class__ is not dict:
        _report(path, f"expected map, got &{{{_show(value)}}}", found)
    else:
        _check_map(kind, value, path, found)


def _check_map(kind: Type, value: dict[str, Any], path: Path, found: list[str]) -> None:
    mapping = kind.mapping
    if mapping is None:
        return
    for name, member in value.items():
        below = (*path, field_element(name))
        if not mapping.allows(name):
            _report(below, "field not declared in schema", found)
            return  # as Kubernetes, which reports one unknown field of an object
        _check(mapping.child(name), member, below, found)


def _check_list(listing: ListType, items: list[Any], path: Path, found: list[str]) -> None:
    seen: set[str] = set()
    for index, item in enumerate(items):
        if listing.atomic:
            below = (*path, f"i:{index}")
        else:
            try:
                element = listing.element(item)
            except ItemError as error:
                _report(path, f"element {index}: {error}", found)
                return
            if element in seen:
                _report(path, f"duplicate entries for key {show_element(element)}", found)
            seen.add(element)
            below = (*path, element)
        _check(listing.item, item, below, found)


def _scalar_problem(scalar: str, value: Any) -> str:
    got = value.__class__
    if scalar == "numeric" and got not in (int, float):
        names = {dict: "map[string]interface {}", list: "[]interface {}"} | _GO_TYPES
        return f"expected numeric (int or float), got {names[got]}"
    if scalar == "string" and got is not str:
        return f"expected string, got &value.valueUnstructured{{Value:{_show(value)}}}"
    if scalar == "boolean" and got is not bool:
        return f"expected boolean, got &{{{_show(value)}}}"
    if scalar == "untyped" and got in (dict, list):
        return f"expected any scalar, got &{{{_show(value)}}}"
    return ""


def _show(value: Any) -> str:
    """A value as Go's `%v` prints it."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_show(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(_show, value)) + "]"
    return str(value)


def _report(path: Path, problem: str, found: list[str]) -> None:
    found.append(f"{show_path(path)}: {problem}" if path else problem)
