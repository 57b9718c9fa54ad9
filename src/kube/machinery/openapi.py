"""OpenAPI documents of what a server serves: /openapi/v3/apis/GROUP/VERSION and /openapi/v2.

They are made for clients: `kubectl explain` (finds a kind by the path of its resource, then reads the schemas),
kubectl's check for the `fieldValidation` parameter, and generators that look for `x-kubernetes-group-version-kind` and
`x-kubernetes-action`. Here are the paths; the schemas have a module of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kube.machinery import builtin
from kube.machinery.openapi_schemas import (
    SPOKEN,
    V2_REF,
    V3_REF,
    Json,
    ServedResource,
    custom_v2,
    gvk,
    schemas_of,
    to_v3,
)
from kube.machinery.resources import ALL_VERBS

_PATCH_TYPES = ("application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml")
_STRATEGIC = "application/strategic-merge-patch+json"
_JSON = "application/json"
_TEXT: Json = {"type": "string"}


def openapi_v3_document(group_version: str, resources: Sequence[ServedResource], version: str = "") -> Json:
    """The OpenAPI 3.0 document of one group version ("v1", "apps/v1"); `version` is the server's, for `info`."""
    served = [item for item in resources if item.resource.api_version == group_version]
    schemas = schemas_of(served, dict)
    return {
        "openapi": "3.0.0",
        "info": _info(version),
        "paths": _paths(served, _V3()),
        "components": {"schemas": {name: to_v3(schema, name) for name, schema in schemas.items()}},
    }


def openapi_v2_document(resources: Sequence[ServedResource], version: str = "") -> Json:
    """The Swagger 2.0 document of everything that is served."""
    return {
        "swagger": "2.0",
        "info": _info(version),
        "paths": _paths(resources, _V2()),
        "definitions": schemas_of(resources, custom_v2),
    }


def _info(version: str) -> Json:
    return {"title": "Kubernetes", "version": version or f"v{builtin.VERSION}.0"}


# --- paths


class _V2:
    """How Swagger 2 writes an operation."""

    def parameter(self, name: str, where: str, kind: str, text: str) -> Json:
        return {"name": name, "in": where, "type": kind, "description": text, "uniqueItems": True}

    def operation(self, base: Json, verb: _Verb, body: str | None, media: Sequence[str], result: str | None) -> Json:
        operation = {
            **base,
            "consumes": list(media) if body else ["*/*"],
            "produces": list(verb.produces),
            "schemes": ["https"],
            "responses": {
                verb.code: {"description": "OK", "schema": {"$ref": V2_REF + result} if result else _TEXT},
                "401": {"description": "Unauthorized"},
            },
        }
        if body:
            parameter = {"name": "body", "in": "body", "required": True, "schema": {"$ref": V2_REF + body}}
            operation["parameters"] = [parameter, *base["parameters"]]
        return operation


class _V3:
    """How OpenAPI 3 writes an operation."""

    def parameter(self, name: str, where: str, kind: str, text: str) -> Json:
        return {"name": name, "in": where, "description": text, "schema": {"type": kind, "uniqueItems": True}}

    def operation(self, base: Json, verb: _Verb, body: str | None, media: Sequence[str], result: str | None) -> Json:
        content = {"schema": {"$ref": V3_REF + result} if result else _TEXT}
        operation = {
            **base,
            "responses": {
                verb.code: {"description": "OK", "content": dict.fromkeys(verb.produces, content)},
                "401": {"description": "Unauthorized"},
            },
        }
        if body:
            request = {"schema": {"$ref": V3_REF + body}}
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
    "command": ("string", "The remote command to execute, an argument each. Not executed within a shell."),
    "container": ("string", "The container that is meant. Defaults to the only one of the pod."),
    "stdin": ("boolean", "Redirect the standard input stream of the pod for this call."),
    "stdout": ("boolean", "Redirect the standard output stream of the pod for this call."),
    "stderr": ("boolean", "Redirect the standard error stream of the pod for this call."),
    "tty": ("boolean", "Whether a terminal will be allocated for the call."),
    "ports": ("integer", "List of ports to forward. Required when using WebSockets."),
    "follow": ("boolean", "Follow the log stream of the pod."),
    "insecureSkipTLSVerifyBackend": ("boolean", "Do not confirm the certificate of the node that has the log."),
    "limitBytes": ("integer", "The number of bytes to read before the log output ends."),
    "previous": ("boolean", "Return the log of the previous, terminated container."),
    "sinceSeconds": ("integer", "A relative time in seconds before the current time from which to show logs."),
    "stream": ("string", 'Which log stream to return: "All", "Stdout" or "Stderr".'),
    "tailLines": ("integer", "The number of lines from the end of the logs to show."),
    "timestamps": ("boolean", "Add a timestamp at the beginning of every line of log output."),
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
_ATTACH_QUERY = ("container", "stdin", "stdout", "stderr", "tty")
_LOG_QUERY = (
    "container",
    "follow",
    "insecureSkipTLSVerifyBackend",
    "limitBytes",
    "previous",
    "sinceSeconds",
    "stream",
    "tailLines",
    "timestamps",
)
_DELETE_QUERY = ("dryRun", "gracePeriodSeconds", "propagationPolicy")


@dataclass(frozen=True)
class _Verb:
    """One kind of operation: API verb, HTTP method, the action's names, query parameters, what goes in and out.

    `infix` stands behind the version in the operation's name.
    """

    verb: str
    method: str
    action: str
    operation: str
    query: Sequence[str]
    body: str = ""
    result: str = "object"
    code: str = "200"
    produces: Sequence[str] = (_JSON, "application/yaml")
    infix: str = ""


_COLLECTION = (
    _Verb("list", "get", "list", "list", _LIST_QUERY, result="list"),
    _Verb("create", "post", "post", "create", _WRITE_QUERY, body="object", code="201"),
    _Verb(
        "deletecollection",
        "delete",
        "deletecollection",
        "delete",
        _DELETE_QUERY,
        body="options",
        result="status",
        infix="Collection",
    ),
)
_ITEM = (
    _Verb("get", "get", "get", "read", ()),
    _Verb("update", "put", "put", "replace", _WRITE_QUERY, body="object"),
    _Verb("patch", "patch", "patch", "patch", (*_WRITE_QUERY, "force"), body="patch"),
    _Verb("delete", "delete", "delete", "delete", _DELETE_QUERY, body="options", result="status"),
)


def _connect(query: Sequence[str]) -> Sequence[_Verb]:
    """The operations of a stream, which has one for each method that can begin it."""
    names = (("get", "get", "Get"), ("create", "post", "Post"))
    return [
        _Verb(verb, method, "connect", "connect", query, result="text", produces=("*/*",), infix=infix)
        for verb, method, infix in names
    ]


_SUBRESOURCES: Mapping[str, Sequence[_Verb]] = {
    "approval": _ITEM[:3],
    "attach": _connect(_ATTACH_QUERY),
    "binding": _COLLECTION[1:2],
    "eviction": _COLLECTION[1:2],
    "exec": _connect(("command", *_ATTACH_QUERY)),
    "finalize": _ITEM[1:2],
    "log": (_Verb("get", "get", "get", "read", _LOG_QUERY, result="text", produces=("text/plain",)),),
    "portforward": _connect(("ports",)),
    "scale": _ITEM[:3],
    "status": _ITEM[:3],
    "token": _COLLECTION[1:2],
}


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
        for name in item.subresources:
            place, operations = f"{collection}/{{name}}/{name}", _SUBRESOURCES.get(name, ())
            _add(paths, place, item, operations, dialect, suffix=name.capitalize(), verbs=ALL_VERBS)
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
    spoken = SPOKEN.get(suffix.lower())
    resource = spoken or item.resource
    own = str(builtin.definition_for(spoken)) if spoken else item.name
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
        "operationId": f"{verb.operation}{tag}{verb.infix}{scope}{item.resource.kind}{suffix}",
        "tags": [tag[0].lower() + tag[1:]],
        "parameters": [_query(dialect, name) for name in verb.query],
        "x-kubernetes-action": verb.action,
        "x-kubernetes-group-version-kind": gvk(resource, resource.kind),
    }
    media: Sequence[str] = (_JSON,)
    if verb.body == "patch":
        media = (*_PATCH_TYPES, _STRATEGIC) if item.schema is None else _PATCH_TYPES
    return dialect.operation(base, verb, names.get(verb.body), media, names.get(verb.result))


def _camel(text: str) -> str:
    bare = text.removesuffix(".k8s.io")
    return "".join(part.capitalize() for part in re.split(r"[.\-]", bare))
