"""The schemas of an OpenAPI document: of built-in kinds from the packaged definitions, of custom ones from their
structural schema, each in the words of Swagger 2 or OpenAPI 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kube.machinery import builtin
from kube.machinery.resources import ALL_VERBS, Resource

Json = dict[str, Any]

SPOKEN: Mapping[str, Resource] = {
    "attach": Resource("", "v1", "", "PodAttachOptions"),
    "binding": Resource("", "v1", "bindings", "Binding"),
    "eviction": Resource("policy", "v1", "evictions", "Eviction"),
    "exec": Resource("", "v1", "", "PodExecOptions"),
    "portforward": Resource("", "v1", "", "PodPortForwardOptions"),
    "scale": Resource("autoscaling", "v1", "scales", "Scale"),
    "token": Resource("authentication.k8s.io", "v1", "tokenrequests", "TokenRequest"),
}
"""Subresources that speak a kind of their own. Those that are streams have options, which are no object."""
V2_REF = "#/definitions/"
V3_REF = "#/components/schemas/"
_CONVENTIONS = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"


@dataclass(frozen=True)
class ServedResource:
    """One resource of a document: built-in (`definition` names its schema) or custom (`schema` is its own)."""

    resource: Resource
    definition: str | None = None
    schema: Json | None = None
    verbs: Sequence[str] = ALL_VERBS
    subresources: Sequence[str] = ()
    list_kind: str = ""
    selectable: Sequence[str] = ()
    """Fields that a field selector may name besides the metadata's."""

    @property
    def name(self) -> str:
        """The name under which the kind's schema is in the document."""
        return self.definition or definition_name(self.resource, self.resource.kind)

    @property
    def list_name(self) -> str:
        """The same for the kind of its lists."""
        kind = self.list_kind or f"{self.resource.kind}List"
        packaged = builtin.definition_for_kind(self.resource.group, self.resource.version, kind)
        return packaged or definition_name(self.resource, kind)


def definition_name(resource: Resource, kind: str) -> str:
    """The REST-friendly name of a custom kind: `com.example.v1.Widget` (kube-openapi's ToRESTFriendlyName)."""
    reverse = ".".join(reversed(resource.group.split("."))) if resource.group else "io.k8s.api.core"
    return f"{reverse}.{resource.version}.{kind}"


def schemas_of(resources: Iterable[ServedResource], custom: Callable[[Json], Json]) -> dict[str, Json]:
    """All schemas of the document with Swagger 2 references, sorted by name."""
    packaged = builtin.definitions()
    found: dict[str, Json] = {}
    pending = [builtin.DELETE_OPTIONS, builtin.STATUS, builtin.PATCH, builtin.WATCH_EVENT]
    for item in resources:
        if item.schema is not None:
            found[item.name] = _custom(item, custom)
            found[item.list_name] = _list_schema(item)
            pending += [builtin.OBJECT_META, builtin.LIST_META]
        else:
            pending += [name for name in (item.name, item.list_name) if name in packaged]
        spoken = [SPOKEN[name] for name in item.subresources if name in SPOKEN]
        pending += [name for name in map(builtin.definition_for, spoken) if name is not None]
    while pending:
        name = pending.pop()
        if name not in found:
            found[name] = packaged[name]
            pending += _references(packaged[name])
    return dict(sorted(found.items()))


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        target = schema.get("$ref")
        if isinstance(target, str):
            yield target.removeprefix(V2_REF)
        for value in schema.values():
            yield from _references(value)


def _type_meta() -> Json:
    properties = builtin.definitions()["io.k8s.api.core.v1.ConfigMap"]["properties"]
    return {name: properties[name] for name in ("apiVersion", "kind")}


def gvk(resource: Resource, kind: str) -> Json:
    """A kind as `x-kubernetes-group-version-kind` names it."""
    return {"group": resource.group, "version": resource.version, "kind": kind}


def _custom(item: ServedResource, convert: Callable[[Json], Json]) -> Json:
    schema = item.schema or {}
    if convert is custom_v2 and schema.get("x-kubernetes-preserve-unknown-fields"):
        # kubectl takes any properties for all that there may be.
        out: Json = {"type": "object", "x-kubernetes-group-version-kind": [gvk(item.resource, item.resource.kind)]}
    else:
        out = _with_type_and_metadata(_with_embedded(convert(schema)), item.resource)
    if item.selectable:
        out["x-kubernetes-selectable-fields"] = [{"fieldPath": path} for path in item.selectable]
    return out


def _object_fields() -> Json:
    text = f"Standard object's metadata. More info: {_CONVENTIONS}#metadata"
    return {**_type_meta(), "metadata": {"description": text, "$ref": V2_REF + builtin.OBJECT_META}}


def _with_embedded(schema: Json) -> Json:
    """A schema in which embedded resources have the fields that every object has."""
    out = dict(schema)
    if isinstance(out.get("properties"), dict):
        out["properties"] = {name: _with_embedded(child) for name, child in out["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(out.get(key), dict):
            out[key] = _with_embedded(out[key])
    if out.get("x-kubernetes-embedded-resource") and out.get("type") == "object":
        out["properties"] = {**(out.get("properties") or {}), **_object_fields()}
        out["required"] = [*dict.fromkeys([*(out.get("required") or ()), "kind", "apiVersion"])]
    return out


def _with_type_and_metadata(schema: Json, resource: Resource) -> Json:
    properties = {**(schema.get("properties") or {}), **_object_fields()}
    kinds = [gvk(resource, resource.kind)]
    return {"type": "object", **schema, "properties": properties, "x-kubernetes-group-version-kind": kinds}


def _list_schema(item: ServedResource) -> Json:
    kind = item.list_kind or f"{item.resource.kind}List"
    items = {
        "description": f"List of {item.resource.plural}. More info: {_CONVENTIONS}",
        "type": "array",
        "items": {"$ref": V2_REF + item.name},
    }
    metadata = {
        "description": f"Standard list metadata. More info: {_CONVENTIONS}#types-kinds",
        "$ref": V2_REF + builtin.LIST_META,
    }
    return {
        "description": f"{kind} is a list of {item.resource.kind}",
        "type": "object",
        "required": ["items"],
        "properties": {**_type_meta(), "items": items, "metadata": metadata},
        "x-kubernetes-group-version-kind": [gvk(item.resource, kind)],
    }


_UNSAYABLE = ("nullable", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields")


def custom_v2(schema: Json) -> Json:
    """A structural schema without what Swagger 2 cannot say (apiextensions' ToStructuralOpenAPIV2)."""
    dropped = {"nullable", "oneOf", "anyOf", "allOf", "not", "x-kubernetes-validations"}
    out = {key: value for key, value in schema.items() if key not in dropped}
    if any(schema.get(key) for key in _UNSAYABLE):
        for key in ("type", "items", "properties", "additionalProperties"):
            out.pop(key, None)
        return out
    if isinstance(schema.get("properties"), dict):
        properties = schema["properties"]
        out["properties"] = {name: custom_v2(child) for name, child in properties.items()}
        required = [name for name in schema.get("required") or () if not (properties.get(name) or {}).get("nullable")]
        out.pop("required", None)
        if required:
            out["required"] = required
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            out[key] = custom_v2(schema[key])
    return out


_V3_UNIONS = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": [{"type": "integer"}, {"type": "string"}],
    "io.k8s.apimachinery.pkg.api.resource.Quantity": [{"type": "string"}, {"type": "number"}],
}


def to_v3(schema: Json, name: str = "") -> Json:
    """A schema with OpenAPI 3 references; one that also has a description needs `allOf`, for `$ref` stands alone."""
    if name in _V3_UNIONS:
        rest = {key: value for key, value in schema.items() if key != "type"}
        return {**rest, "oneOf": _V3_UNIONS[name]}
    out = dict(schema)
    target = out.pop("$ref", None)
    if isinstance(target, str):
        reference = {"$ref": V3_REF + target.removeprefix(V2_REF)}
        return {**out, "allOf": [reference]} if out else reference
    if isinstance(out.get("properties"), dict):
        out["properties"] = {key: to_v3(child) for key, child in out["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(out.get(key), dict):
            out[key] = to_v3(out[key])
    return out
