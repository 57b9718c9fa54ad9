"""What is wrong with questions about access (pkg/apis/authorization/validation) and with requests for tokens."""

from __future__ import annotations

from typing import Any

from kube.machinery.errors import Cause, cause
from solo.registry.objects import quote, quote_json

Obj = dict[str, Any]

_MIN_TOKEN_SECONDS = 600
_MAX_TOKEN_SECONDS = 1 << 32
_ATTRIBUTES, _PATHS = "spec.resourceAttributes", "spec.nonResourceAttributes"


def check_access_review(plural: str, obj: Obj, namespace: str) -> list[Cause]:
    """A SubjectAccessReview or one of its kin, asked in a namespace or in none."""
    spec = obj.get("spec") or {}
    attributes, paths = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    causes = []
    if attributes is not None and paths is not None:
        detail = "cannot be specified in combination with resourceAttributes"
        causes.append(cause("FieldValueInvalid", _PATHS, detail, quote_json(paths)))
    if attributes is None and paths is None:
        detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        causes.append(cause("FieldValueInvalid", _ATTRIBUTES, detail, "null"))
    if plural != "selfsubjectaccessreviews" and not spec.get("user") and not spec.get("groups"):
        detail = "at least one of user or group must be specified"
        causes.append(cause("FieldValueInvalid", "spec.user", detail, '""'))
    for key in ("fieldSelector", "labelSelector"):
        causes += _selector((attributes or {}).get(key), f"{_ATTRIBUTES}.{key}")
    local = plural == "localsubjectaccessreviews"
    causes += _metadata(obj.get("metadata") or {}, "must be empty except for namespace" if local else "must be empty")
    return causes + _local(attributes, paths, namespace) if local else causes


def _selector(selector: Obj | None, field: str) -> list[Cause]:
    if selector is None:
        return []
    raw, requirements = selector.get("rawSelector"), selector.get("requirements")
    if raw and requirements:
        detail = "may not specified at the same time as requirements"
        return [cause("FieldValueInvalid", f"{field}.rawSelector", detail, quote(raw))]
    if not raw and not requirements:
        detail = f"when {field} is specified, requirements or rawSelector is required"
        return [cause("FieldValueRequired", f"{field}.requirements", detail)]
    return []


def _metadata(metadata: Obj, detail: str) -> list[Cause]:
    # The namespace was compared with the request's, and is nothing to kinds without one.
    if any(value for key, value in metadata.items() if key not in ("managedFields", "namespace")):
        return [cause("FieldValueInvalid", "metadata", detail, quote_json(metadata))]
    return []


def _local(attributes: Obj | None, paths: Obj | None, namespace: str) -> list[Cause]:
    """A LocalSubjectAccessReview is about what is in its namespace."""
    causes = []
    asked = "" if attributes is None else attributes.get("namespace") or ""
    if attributes is not None and asked != namespace:
        detail = "must match metadata.namespace"
        causes.append(cause("FieldValueInvalid", f"{_ATTRIBUTES}.namespace", detail, quote(asked)))
    if paths is not None:
        causes.append(cause("FieldValueInvalid", _PATHS, "disallowed on this kind of request", quote_json(paths)))
    return causes


def check_token_names(metadata: Obj, namespace: str, name: str) -> list[Cause]:
    """What a TokenRequest says of its service account is true."""
    return [
        cause(
            "FieldValueInvalid", f"metadata.{key}", f"must match the service account {key} if specified", quote(given)
        )
        for key, known in (("name", name), ("namespace", namespace))
        if (given := metadata.get(key)) and given != known
    ]


def check_token_lifetime(seconds: int) -> list[Cause]:
    """How long a token may be asked for."""
    if seconds < _MIN_TOKEN_SECONDS:
        detail = "may not specify a duration less than 10 minutes"
    elif seconds > _MAX_TOKEN_SECONDS:
        detail = "may not specify a duration larger than 2^32 seconds"
    else:
        return []
    return [cause("FieldValueInvalid", "spec.expirationSeconds", detail, str(seconds))]
