"""What a request's body must be, before it is looked at as an object of its kind."""

from __future__ import annotations

from typing import Any

from kube.machinery import errors
from kube.machinery.errors import cause
from solo.registry.kinds import Kind
from solo.registry.objects import dig, quote, quote_json

Obj = dict[str, Any]


def _check_custom(kind: Kind, obj: Obj) -> None:
    resource = kind.resource
    api_version, name = obj.get("apiVersion", ""), obj.get("kind")
    if not name:
        shown = quote_json(obj)
        raise errors.bad_request(
            f"the object provided is unrecognized (must be of type {resource.kind}): "
            f"Object 'Kind' is missing in '{shown}' ({summary(shown.encode())})"
        )
    if not isinstance(api_version, str) or not isinstance(name, str):
        raise errors.bad_request(f"apiVersion and kind of the object must be strings, as in {resource.kind}")
    if api_version != resource.api_version:
        raise errors.bad_request(
            f"the API version in the data ({api_version}) does not match the expected API version "
            f"({resource.api_version})"
        )
    if name != resource.kind:
        problem = cause("FieldValueInvalid", "kind", f"must be {resource.kind}", quote(name))
        raise errors.invalid(resource.group, name, dig(obj, "metadata", "name") or "", [problem])


def summary(body: bytes) -> str:
    """The beginning of a body, as messages show it."""
    if not body:
        return "<empty>"
    rest = " ..." if len(body) > _SHOWN else ""
    shown = body[:_SHOWN]
    return (shown.decode(errors="replace") if body[:1] == b"{" else shown.hex()) + rest


_SHOWN = 30


def check_type(kind: Kind, obj: Obj) -> None:
    """The body must be of the URL's kind; a built-in kind may leave out what the URL says. Raises 400."""
    resource = kind.resource
    api_version, name = obj.get("apiVersion"), obj.get("kind")
    if kind.custom:
        return _check_custom(kind, obj)
    api_version = obj.setdefault("apiVersion", api_version or resource.api_version)
    name = obj.setdefault("kind", name or resource.kind)
    if (api_version, name) == (resource.api_version, resource.kind):
        return None
    if not isinstance(api_version, str) or not isinstance(name, str):
        raise errors.bad_request(f"apiVersion and kind of the object must be strings, as in {resource.kind}")
    version = api_version.rpartition("/")[2]
    if name != resource.kind:
        group = resource.group.partition(".")[0] or "core"
        detail = f"converting ({version}.{name}) to ({group}.{resource.kind}): unknown conversion"
    else:
        detail = f'no kind "{name}" is registered for version "{api_version}" in scheme "solo"'
    raise errors.bad_request(f'{name} in version "{version}" cannot be handled as a {resource.kind}: {detail}')
