"""Objects inside objects (`x-kubernetes-embedded-resource`): their types and metadata are Kubernetes', whatever the
schema says (apiextensions' pkg/apiserver/schema/objectmeta).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from kube.machinery import builtin, names, objectmeta
from kube.machinery.errors import Cause, cause
from kube.machinery.schema.values import show

Node = dict[str, Any]
Obj = dict[str, Any]
# A value and its path; yields the embedded objects in it, with their paths.
Finder = Callable[[Any, str], Iterator[tuple[Obj, str]]]


def compile_finder(node: Node) -> Finder | None:
    """A function that finds the embedded objects in a value of a schema; None where there can be none."""
    fields = {name: found for name, child in (node.get("properties") or {}).items() if (found := compile_finder(child))}
    items, extra = node.get("items"), node.get("additionalProperties")
    of_items = compile_finder(items) if isinstance(items, dict) else None
    of_extra = compile_finder(extra) if isinstance(extra, dict) else None
    embedded = bool(node.get("x-kubernetes-embedded-resource"))
    if not (fields or of_items or of_extra or embedded):
        return None
    declared = node.get("properties") or {}

    def find(value: Any, path: str) -> Iterator[tuple[Obj, str]]:
        if isinstance(value, dict):
            if embedded:
                yield value, path
            for key, child in value.items():
                below = fields.get(key) if key in declared else of_extra
                if below is not None:
                    place = f"{path}.{key}" if path else key
                    yield from below(child, place if key in declared else f"{path}[{key}]")
        elif isinstance(value, list) and of_items is not None:
            for index, child in enumerate(value):
                yield from of_items(child, f"{path}[{index}]")

    return find


def type_problem(obj: Obj, path: str) -> Cause | None:
    """Why an embedded object cannot be read at all: its types are no strings, or its metadata none."""
    for key in ("apiVersion", "kind"):
        if key in obj and not isinstance(obj[key], str):
            return cause("FieldValueInvalid", f"{path}.{key}", "must be a string", show(obj[key]))
    if "metadata" not in obj:
        return None
    problem = _metadata_problem(obj["metadata"])
    return cause("FieldValueInvalid", f"{path}.metadata", problem, show(obj["metadata"])) if problem else None


def _metadata_problem(meta: Any) -> str:
    from kube.machinery.schema.compiled import compile_object_meta

    if meta is not None and not isinstance(meta, dict):
        return "must be an object"
    wrong = [found for found in compile_object_meta().validate(meta or {}) if found.reason == "FieldValueTypeInvalid"]
    return f"{wrong[0].field}: {wrong[0].message}" if wrong else ""


def check_object(obj: Obj, path: str) -> list[Cause]:
    """What is wrong with the types and the metadata of an embedded object."""
    stem = f"{path}." if path else ""
    errors = [cause("FieldValueRequired", f"{stem}{key}") for key in ("apiVersion", "kind") if key not in obj]
    for key, check in (("apiVersion", _api_version), ("kind", _kind)):
        value = obj.get(key)
        if key in obj and not isinstance(value, str):
            errors.append(cause("FieldValueInvalid", f"{stem}{key}", "must be a string", show(value)))
        elif key in obj and (text := "must not be empty" if not value else check(str(value))):
            errors.append(cause("FieldValueInvalid", f"{stem}{key}", text, show(value)))
    if "metadata" in obj:
        meta = obj["metadata"]
        if problem := _metadata_problem(meta):
            return [*errors, cause("FieldValueInvalid", f"{stem}metadata", problem, show(meta))]
        named = {**(meta or {}), "name": (meta or {}).get("name") or "fakename"}
        errors += objectmeta.validate(
            named, names.path_segment, namespaced=bool(named.get("namespace")), path=f"{stem}metadata"
        )
    return errors


def _api_version(value: str) -> str:
    return f"unexpected GroupVersion string: {value}" if value.count("/") > 1 else ""


def _kind(value: str) -> str:
    problems = names.dns1035_label(value.lower())
    return f"may have mixed case, but should otherwise match: {','.join(problems)}" if problems else ""


def object_meta() -> Node:
    """The schema of ObjectMeta."""
    return builtin.openapi_v3_schema(builtin.OBJECT_META)
