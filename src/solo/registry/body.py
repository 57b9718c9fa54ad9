"""What a request's body must be, before it is looked at as an object of its kind."""

from __future__ import annotations

from typing import Any

from kube.machinery import errors
from solo.registry.kinds import Kind

Obj = dict[str, Any]


def check_type(kind: Kind, obj: Obj) -> None:
    """The body must be of the URL's kind; a built-in kind may leave out what the URL says. Raises 400."""
    resource = kind.resource
    api_version, name = obj.get("apiVersion"), obj.get("kind")
    if kind.custom and not name:
        raise errors.bad_request("Object 'Kind' is missing in the object provided")
    if kind.custom and not api_version:
        raise errors.bad_request("Object 'apiVersion' is missing in the object provided")
    api_version = obj.setdefault("apiVersion", api_version or resource.api_version)
    name = obj.setdefault("kind", name or resource.kind)
    if (api_version, name) == (resource.api_version, resource.kind):
        return
    if not isinstance(api_version, str) or not isinstance(name, str):
        raise errors.bad_request(f"apiVersion and kind of the object must be strings, as in {resource.kind}")
    version = api_version.rpartition("/")[2]
    if name != resource.kind:
        group = resource.group.partition(".")[0] or "core"
        detail = f"converting ({version}.{name}) to ({group}.{resource.kind}): unknown conversion"
    else:
        detail = f'no kind "{name}" is registered for version "{api_version}" in scheme "solo"'
    raise errors.bad_request(f'{name} in version "{version}" cannot be handled as a {resource.kind}: {detail}')
