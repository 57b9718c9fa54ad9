"""Reading of request URLs: which resource, which verb (apiserver `pkg/endpoints/request/requestinfo.go`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from kube.machinery.queries import flag

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "GET": "get", "HEAD": "get"}
# What stands behind /namespaces/NAME/ and belongs to the namespace itself.
_NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})
STREAMING = frozenset({"exec", "attach", "portforward"})


@dataclass(slots=True)
class RequestInfo:
    """A resource request. `resource` is empty when the path names only a group and version."""

    verb: str
    group: str
    version: str
    namespace: str = ""
    resource: str = ""
    name: str = ""
    subresource: str = ""


def asks_to_watch(query: Mapping[str, str]) -> bool:
    """Whether the query of a list makes a watch of it."""
    return flag(query, "watch")


def parse(method: str, raw_path: str) -> RequestInfo | None:
    """The resource that a path names; None for a path outside `/api/VERSION` and `/apis/GROUP/VERSION`."""
    parts = [unquote(part) for part in raw_path.strip("/").split("/")]
    if len(parts) >= 2 and parts[0] == "api":
        info = RequestInfo(_VERBS.get(method, method.lower()), "", parts[1])
        rest = parts[2:]
    elif len(parts) >= 3 and parts[0] == "apis":
        info = RequestInfo(_VERBS.get(method, method.lower()), parts[1], parts[2])
        rest = parts[3:]
    else:
        return None
    watches = method == "GET" and len(rest) > 1 and rest[0] == "watch"
    if watches:
        rest = rest[1:]
    if len(rest) >= 3 and rest[0] == "namespaces" and rest[2] not in _NAMESPACE_SUBRESOURCES:
        info.namespace = rest[1]
        rest = rest[2:]
    elif len(rest) >= 2 and rest[0] == "namespaces":
        info.namespace = rest[1]
    if rest:
        info.resource = rest[0]
        info.name = rest[1] if len(rest) > 1 else ""
        info.subresource = "/".join(rest[2:])
    if watches:
        info.verb = "watch"
    elif method == "DELETE":
        info.verb = "delete" if info.name else "deletecollection"
    elif info.verb == "get" and not info.name:
        info.verb = "list"
    elif info.subresource in STREAMING:
        info.verb = "create"  # a GET that upgrades to a stream does as much as a POST
    return info
