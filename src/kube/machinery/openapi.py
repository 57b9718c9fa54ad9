"""OpenAPI documents of what a server serves: /openapi/v3/apis/GROUP/VERSION and /openapi/v2.

They are made for clients: `kubectl explain` (finds a kind by the path of its resource, then reads the schemas),
kubectl's check for the `fieldValidation` parameter, and generators that look for `x-kubernetes-group-version-kind` and
`x-kubernetes-action`. Built-in kinds come from the packaged definitions, custom ones from their structural schema.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kube.machinery import builtin
from kube.machinery.resources import Resource

Json = dict[str, Any]

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_V2_REF = "#/definitions/"
_V3_REF = "#/components/schemas/"
_PATCH_TYPES = ("application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml")
_STRATEGIC = "application/strategic-merge-patch+json"
_JSON = "application/json"
_CONVENTIONS = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"
_SCALE = Resource("autoscaling", "v1", "scales", "Scale")


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


def openapi_v3_document(group_version: str, resources: Sequence[ServedResource], version: str = "") -> Json:
    """The OpenAPI 3.0 document of one group version ("v1", "apps/v1"); `version` is the server's, for `info`."""
    served = [item for item in resources if item.resource.api_version == group_version]
    schemas = _schemas(served, dict)
    return {
        "openapi": "3.0.0",
        "info": _info(version),
        "paths": _paths(served, _V3()),
        "components": {"schemas": {name: _to_v3(schema, name) for name, schema in schemas.items()}},
    }


def openapi_v2_document(resources: Sequence[ServedResource], version: str = "") -> Json:
    """The Swagger 2.0 document of everything that is served."""
    return {
        "swagger": "2.0",
        "info": _info(version),
        "paths": _paths(resources, _V2()),
        "definitions": _schemas(resources, _custom_v2),
    }


def _info(version: str) -> Json:
    return {"title": "Kubernetes", "version": version or f"v{builtin.VERSION}.0"}


# --- schemas


def _schemas(resources: Iterable[ServedResource], custom: Callable[[Json], Json]) -> dict[str, Json]:
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
        if "scale" in item.subresources:
            pending.append(str(builtin.definition_for(_SCALE)))
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
            yield target.removeprefix(_V2_REF)
        for value in schema.values():
            yield from _references(value)


def _type_meta() -> Json:
    properties = builtin.definitions()["io.k8s.api.core.v1.ConfigMap"]["properties"]
    return {name: properties[name] for name in ("apiVersion", "kind")}


def _gvk(resource: Resource, kind: str) -> Json:
    return {"group": resource.group, "version": resource.version, "kind": kind}


def _custom(item: ServedResource, convert: Callable[[Json], Json]) -> Json:
    schema = item.schema or {}
    if convert is _custom_v2 and schema.get("x-kubernetes-preserve-unknown-fields"):
        # kubectl takes any properties for all that there may be.
        out: Json = {"type": "object", "x-kubernetes-group-version-kind": [_gvk(item.resource, item.resource.kind)]}
    else:
        out = _with_type_and_metadata(_with_embedded(convert(schema)), item.resource)
    if item.selectable:
        out["x-kubernetes-selectable-fields"] = [{"fieldPath": path} for path in item.selectable]
    return out


def _object_fields() -> Json:
    text = f"Standard object's metadata. More info: {_CONVENTIONS}#metadata"
    return {**_type_meta(), "metadata": {"description": text, "$ref": _V2_REF + builtin.OBJECT_META}}


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
    kinds = [_gvk(resource, resource.kind)]
    return {"type": "object", **schema, "properties": properties, "x-kubernetes-group-version-kind": kinds}


def _list_schema(item: ServedResource) -> Json:
    kind = item.list_kind or f"{item.resource.kind}List"
    items = {
        "description": f"List of {item.resource.plural}. More info: {_CONVENTIONS}",
        "type": "array",
        "items": {"$ref": _V2_REF + item.name},
    }
    metadata = {
        "description": f"Standard list metadata. More info: {_CONVENTIONS}#types-kinds",
        "$ref": _V2_REF + builtin.LIST_META,
    }
    return {
        "description": f"{kind} is a list of {item.resource.kind}",
        "type": "object",
        "required": ["items"],
        "properties": {**_type_meta(), "items": items, "metadata": metadata},
        "x-kubernetes-group-version-kind": [_gvk(item.resource, kind)],
    }


_UNSAYABLE = ("nullable", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields")


def _custom_v2(schema: Json) -> Json:
    """A structural schema without what Swagger 2 cannot say (apiextensions' ToStructuralOpenAPIV2)."""
    dropped = {"nullable", "oneOf", "anyOf", "allOf", "not", "x-kubernetes-validations"}
    out = {key: value for key, value in schema.items() if key not in dropped}
    if any(schema.get(key) for key in _UNSAYABLE):
        for key in ("type", "items", "properties", "additionalProperties"):
            out.pop(key, None)
        return out
    if isinstance(schema.get("properties"), dict):
        properties = schema["properties"]
        out["properties"] = {name: _custom_v2(child) for name, child in properties.items()}
        required = [name for name in schema.get("required") or () if not (properties.get(name) or {}).get("nullable")]
        out.pop("required", None)
        if required:
            out["required"] = required
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            out[key] = _custom_v2(schema[key])
    return out


_V3_UNIONS = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": [{"type": "integer"}, {"type": "string"}],
    "io.k8s.apimachinery.pkg.api.resource.Quantity": [{"type": "string"}, {"type": "number"}],
}


def _to_v3(schema: Json, name: str = "") -> Json:
    """A schema with OpenAPI 3 references; one that also has a description needs `allOf`, for `$ref` stands alone."""
    if name in _V3_UNIONS:
        rest = {key: value for key, value in schema.items() if key != "type"}
        return {**rest, "oneOf": _V3_UNIONS[name]}
    out = dict(schema)
    target = out.pop("$ref", None)
    if isinstance(target, str):
        reference = {"$ref": _V3_REF + target.removeprefix(_V2_REF)}
        return {**out, "allOf": [reference]} if out else reference
    if isinstance(out.get("properties"), dict):
        out["properties"] = {key: _to_v3(child) for key, child in out["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(out.get(key), dict):
            out[key] = _to_v3(out[key])
    return out


# --- paths


class _V2:
    """How Swagger 2 writes an operation."""

    def parameter(self, name: str, where: str, kind: str, text: str) -> Json:
        return {"name": name, "in": where, "type": kind, "description": text, "uniqueItems": True}

    def operation(self, base: Json, body: str | None, media: Sequence[str], result: str, code: str) -> Json:
        operation = {
            **base,
            "consumes": list(media) if body else ["*/*"],
            "produces": [_JSON, "application/yaml"],
            "schemes": ["https"],
            "responses": {
                code: {"description": "OK", "schema": {"$ref": _V2_REF + result}},
                "401": {"description": "Unauthorized"},
            },
        }
        if body:
            parameter = {"name": "body", "in": "body", "required": True, "schema": {"$ref": _V2_REF + body}}
            operation["parameters"] = [parameter, *base["parameters"]]
        return operation


class _V3:
    """How OpenAPI 3 writes an operation."""

    def parameter(self, name: str, where: str, kind: str, text: str) -> Json:
        return {"name": name, "in": where, "description": text, "schema": {"type": kind, "uniqueItems": True}}

    def operation(self, base: Json, body: str | None, media: Sequence[str], result: str, code: str) -> Json:
        content = {"schema": {"$ref": _V3_REF + result}}
        operation = {
            **base,
            "responses": {
                code: {"description": "OK", "content": {_JSON: content, "application/yaml": content}},
                "401": {"description": "Unauthorized"},
            },
        }
        if body:
            request = {"schema": {"$ref": _V3_REF + body}}
            operation["requestBody"] = {"required": True, "content": dict.fromkeys(media, request)}
        return operation


_Dialect = _V2 | _V3

_QUERY: Mapping[str, tuple[str, str]] = {
    "pretty": ("string", "If 'true', then the output is pretty printed."),
    "labelSelector": ("string", "A selector to restrict the list of returned objects by their labels."),
    "fieldSelector": ("string", "A selector to restrict the list of returned objects by their fields."),
    "limit": ("integer", "The maximum number of responses to return for a list call."),
    "continue": ("string", "The continue option should be set when retrieving more results from the server."),
    "resourceVersion": ("string", "Constraint on what resource versions a request may be served from."),
    "resourceVersionMatch": ("string", "Determines how resourceVersion is applied to list calls."),
    "timeoutSeconds": ("integer", "Timeout for the list/watch call."),
    "watch": ("boolean", "Watch for changes to the described resources."),
    "allowWatchBookmarks": ("boolean", 'Requests watch events with type "BOOKMARK".'),
    "sendInitialEvents": ("boolean", "Begin the watch stream with synthetic events of the current state."),
    "dryRun": ("string", "When present, indicates that modifications should not be persisted."),
    "fieldManager": ("string", "A name associated with the actor or entity that is making these changes."),
    "fieldValidation": (
        "string",
        "Instructs the server on how to handle objects in the request containing unknown or duplicate fields. "
        "Valid values are: Ignore, Warn and Strict.",
    ),
    "force": ("boolean", 'Force is going to "force" Apply requests.'),
    "gracePeriodSeconds": ("integer", "The duration in seconds before the object should be deleted."),
    "propagationPolicy": ("string", "Whether and how garbage collection will be performed."),
}
_LIST_QUERY = (
    "labelSelector",
    "fieldSelector",
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "timeoutSeconds",
    "watch",
    "allowWatchBookmarks",
    "sendInitialEvents",
)
_WRITE_QUERY = ("dryRun", "fieldManager", "fieldValidation")
_DELETE_QUERY = ("dryRun", "gracePeriodSeconds", "propagationPolicy")


@dataclass(frozen=True)
class _Verb:
    """One kind of operation: API verb, HTTP method, the action's names, query parameters, what goes in and out."""

    verb: str
    method: str
    action: str
    operation: str
    query: Sequence[str]
    body: str = ""
    result: str = "object"
    code: str = "200"


_COLLECTION = (
    _Verb("list", "get", "list", "list", _LIST_QUERY, result="list"),
    _Verb("create", "post", "post", "create", _WRITE_QUERY, body="object", code="201"),
    _Verb("deletecollection", "delete", "deletecollection", "deleteCollection", _DELETE_QUERY, "options", "status"),
)
_ITEM = (
    _Verb("get", "get", "get", "read", ()),
    _Verb("update", "put", "put", "replace", _WRITE_QUERY, body="object"),
    _Verb("patch", "patch", "patch", "patch", (*_WRITE_QUERY, "force"), body="patch"),
    _Verb("delete", "delete", "delete", "delete", _DELETE_QUERY, body="options", result="status"),
)


def _paths(resources: Iterable[ServedResource], dialect: _Dialect) -> Json:
    paths: Json = {}
    for item in resources:
        resource = item.resource
        root = f"/apis/{resource.api_version}" if resource.group else f"/api/{resource.version}"
        scope = "/namespaces/{namespace}" if resource.namespaced else ""
        collection = f"{root}{scope}/{resource.plural}"
        _add(paths, collection, item, _COLLECTION, dialect)
        if resource.namespaced and "list" in item.verbs:
            _add(paths, f"{root}/{resource.plural}", item, _COLLECTION[:1], dialect, suffix="ForAllNamespaces")
        _add(paths, f"{collection}/{{name}}", item, _ITEM, dialect)
        for name in ("status", "scale"):
            if name in item.subresources:
                place = f"{collection}/{{name}}/{name}"
                _add(paths, place, item, _ITEM[:3], dialect, suffix=name.capitalize(), verbs=ALL_VERBS)
    return dict(sorted(paths.items()))


def _add(
    paths: Json,
    path: str,
    item: ServedResource,
    operations: Iterable[_Verb],
    dialect: _Dialect,
    suffix: str = "",
    verbs: Sequence[str] | None = None,
) -> None:
    """Add the operations that a resource has at a path."""
    allowed = item.verbs if verbs is None else verbs
    found = {verb.method: _operation(path, item, verb, dialect, suffix) for verb in operations if verb.verb in allowed}
    if not found:
        return
    names = re.findall(r"\{(\w+)\}", path)
    in_path = [{**dialect.parameter(name, "path", "string", _PATH_TEXT[name]), "required": True} for name in names]
    paths[path] = {**found, "parameters": [*in_path, _query(dialect, "pretty")]}


_PATH_TEXT = {
    "namespace": "object name and auth scope, such as for teams and projects",
    "name": "name of the object",
}


def _query(dialect: _Dialect, name: str) -> Json:
    kind, text = _QUERY[name]
    return dialect.parameter(name, "query", kind, text)


def _operation(path: str, item: ServedResource, verb: _Verb, dialect: _Dialect, suffix: str) -> Json:
    resource = _SCALE if suffix == "Scale" else item.resource
    own = str(builtin.definition_for(_SCALE)) if suffix == "Scale" else item.name
    names = {
        "object": own,
        "list": item.list_name,
        "status": builtin.STATUS,
        "options": builtin.DELETE_OPTIONS,
        "patch": builtin.PATCH,
    }
    scope = "Namespaced" if "{namespace}" in path else ""
    tag = _camel(item.resource.group or "core") + _camel(item.resource.version)
    base = {
        "operationId": f"{verb.operation}{tag}{scope}{item.resource.kind}{suffix}",
        "tags": [tag[0].lower() + tag[1:]],
        "parameters": [_query(dialect, name) for name in verb.query],
        "x-kubernetes-action": verb.action,
        "x-kubernetes-group-version-kind": _gvk(resource, resource.kind),
    }
    media: Sequence[str] = (_JSON,)
    if verb.body == "patch":
        media = (*_PATCH_TYPES, _STRATEGIC) if item.schema is None else _PATCH_TYPES
    return dialect.operation(base, names.get(verb.body), media, names[verb.result], verb.code)


def _camel(text: str) -> str:
    bare = text.removesuffix(".k8s.io")
    return "".join(part.capitalize() for part in re.split(r"[.\-]", bare))
