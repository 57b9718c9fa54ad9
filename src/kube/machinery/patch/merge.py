"""JSON merge patch (RFC 7386), `application/merge-patch+json`."""

from __future__ import annotations

from typing import Any

from kube.machinery.errors import bad_request
from kube.machinery.patch._values import clone, refuse_deep_nesting


@refuse_deep_nesting
def merge_patch(doc: dict[str, Any], patch: Any) -> dict[str, Any]:
    """The object after the patch: null removes a member, objects merge, everything else (lists too) replaces.

    The RFC also lets a patch that is no object replace the whole document; an API object cannot become a string, so
    that is StatusError 400, as kube-apiserver answers.
    """
    if not isinstance(patch, dict):
        raise bad_request("Invalid JSON Patch: a merge patch must be an object")
    return _merge(clone(doc), patch)


def _merge(target: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Merge into `target`, which is ours."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            current = target.get(key)
            # Merging into an empty object is what removes the nulls inside of a new member.
            target[key] = _merge(current if isinstance(current, dict) else {}, value)
        else:
            target[key] = _without_nulls(value)
    return target


def _without_nulls(value: Any) -> Any:
    """A copy of a value that replaces. The RFC keeps null members of objects in lists; kube-apiserver drops them."""
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_nulls(child) for key, child in value.items() if child is not None}
    return value
