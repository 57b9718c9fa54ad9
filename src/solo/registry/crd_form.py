"""The form of a CustomResourceDefinition as it is stored: what Go's types would leave of what a client sends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kube.machinery import errors
from solo.registry.builtin_schema import JSON_NAMES, BuiltinSchema
from solo.registry.objects import dig

Obj = dict[str, Any]

_PROPS = BuiltinSchema(
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps", "CustomResourceDefinition", "v1"
)
# Parts of a schema that the published types leave open, as they may be a schema or something else.
_OPEN = ("items", "additionalProperties", "additionalItems", "not")
_MAPS = ("properties", "patternProperties", "definitions", "dependencies")
_LISTS = ("allOf", "oneOf", "anyOf")
# What stays though it is empty: Go has pointers there, or values of any type.
_SHOWN_EMPTY = frozenset({
    *_OPEN, "default", "example", "externalDocs", "$ref", "maximum", "minimum", "maxLength", "minLength", "maxItems",
    "minItems", "multipleOf", "maxProperties", "minProperties", "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-list-type", "x-kubernetes-map-type",
})  # fmt: skip
_ALWAYS = ("served", "storage")


def read_form(obj: Obj) -> list[str]:
    """Bring a definition into form, in place. Returns the paths of unknown fields, which are dropped.

    Raises 400 for a part of a schema whose type is none of Go's.
    """
    spec = obj.get("spec") or {}
    unknown: list[str] = []
    for index, version in enumerate(spec.get("versions") or []):
        schema = dig(version, "schema", "openAPIV3Schema")
        if isinstance(schema, dict):
            _read_schema(schema, f"spec.versions[{index}].schema.openAPIV3Schema", unknown)
        for column in version.get("additionalPrinterColumns") or []:
            _drop_empty(column, "name", "type", "jsonPath")
        _drop_empty(version, "name", "schema", "subresources", "deprecationWarning", *_ALWAYS)
        for key in _ALWAYS:
            version.setdefault(key, False)
    _drop_empty(spec, "group", "names", "scope", "versions", "conversion")
    _drop_empty(spec.get("names") or {}, "plural", "kind")
    webhook = dig(spec, "conversion", "webhook")
    if isinstance(webhook, dict) and not webhook.get("conversionReviewVersions") and "clientConfig" not in webhook:
        del spec["conversion"]["webhook"]
    return unknown


def _drop_empty(obj: Obj, *kept: str) -> None:
    for key in [key for key, value in obj.items() if not value and key not in kept]:
        del obj[key]


def _read_schema(node: Obj, path: str, unknown: list[str]) -> None:
    for key in [key for key, value in node.items() if not value and key not in _SHOWN_EMPTY]:
        del node[key]
    for rule in node.get("x-kubernetes-validations") or []:
        _drop_empty(rule, "rule", "reason", "optionalOldSelf")
    _read_items(node)
    for key, child, place in _children(node, path):
        if key in _OPEN[:3] or key == "dependencies":
            found = [text.replace('"', f'"{place}.', 1) for text in _PROPS.decode(child)]
            unknown += found
        _read_schema(child, place, unknown)


def _read_items(node: Obj) -> None:
    """`items` is a schema, or a list of them, which is refused later; what else is there counts for nothing
    (apiextensions `pkg/apis/apiextensions/v1/marshal.go`)."""
    items = node.get("items")
    if isinstance(items, list):
        items = node["items"] = [{} if child is None else child for child in items]
        odd = next((child for child in items if not isinstance(child, dict)), None)
        if odd is not None:
            raise errors.bad_request(
                'CustomResourceDefinition in version "v1" cannot be handled as a CustomResourceDefinition: '
                f"json: cannot unmarshal {JSON_NAMES[type(odd)]} into Go value of type v1.JSONSchemaProps"
            )
    elif items is not None and not isinstance(items, dict):
        del node["items"]


def _children(node: Obj, path: str) -> Iterator[tuple[str, Obj, str]]:
    """The schemas in a schema: by which keyword, and where."""
    for key in _OPEN:
        if isinstance(node.get(key), dict):
            yield key, node[key], f"{path}.{key}"
    for index, child in enumerate(node["items"] if isinstance(node.get("items"), list) else []):
        yield "items", child, f"{path}.items[{index}]"
    for key in _MAPS:
        for name, child in (node.get(key) or {}).items():
            if isinstance(child, dict):
                yield key, child, f"{path}.{key}.{name}"
    for key in _LISTS:
        for index, child in enumerate(node.get(key) or []):
            yield key, child, f"{path}.{key}[{index}]"


def unknown_formats(obj: Obj) -> list[str]:
    """Formats in the schemas of a definition that mean nothing, in the order of the schemas."""
    found: list[str] = []
    for version in dig(obj, "spec", "versions") or []:
        schema = dig(version, "schema", "openAPIV3Schema")
        if isinstance(schema, dict):
            _collect_formats(schema, found)
    return found


def _collect_formats(node: Obj, found: list[str]) -> None:
    from kube.machinery.schema.formats import is_known

    name = node.get("format")
    if name and not is_known(name, node.get("type") or ""):
        found.append(name)
    for _, child, _ in _children(node, ""):
        _collect_formats(child, found)
