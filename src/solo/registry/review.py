"""What rules and webhooks are told of a request (admission/v1 AdmissionReview)."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from kube.machinery import errors
from kube.machinery.errors import StatusError
from kube.machinery.patch import json_patch
from kube.machinery.resources import NAMESPACES
from solo.registry.builtin_schema import JSON_NAMES
from solo.registry.registry import Attributes

Obj = dict[str, Any]

API_VERSION = "admission.k8s.io/v1"


class ReviewError(Exception):
    """A webhook's answer that breaks the contract: the call counts as failed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a webhook said: `denial` when it refuses, else the object after its patch, if there was one."""

    denial: StatusError | None
    patched: Obj | None
    warnings: tuple[str, ...]


# Go leaves these out when they are empty (`omitempty`): webhooks and rules tell a subresource by the field's presence.
_LEFT_OUT = ("subResource", "requestSubResource", "name", "namespace")


def admission_request(attributes: Attributes) -> Obj:
    """An AdmissionRequest without the objects: the `request` variable of CEL, and what webhooks are told besides."""
    resource, user = attributes.kind.resource, attributes.context.user
    kind = _kind(attributes)
    place = {"group": resource.group, "version": resource.version, "resource": resource.plural}
    info: Obj = {"username": user.name, "uid": user.uid, "groups": list(user.groups)}
    info["extra"] = {key: list(values) for key, values in user.extra.items()}
    request = {
        "kind": kind,
        "resource": place,
        "subResource": attributes.subresource,
        "requestKind": kind,
        "requestResource": place,
        "requestSubResource": attributes.subresource,
        "name": attributes.name,
        "namespace": attributes.name if resource.group_resource == NAMESPACES.group_resource else attributes.namespace,
        "operation": attributes.operation,
        "userInfo": {key: value for key, value in info.items() if value},
        "dryRun": attributes.context.dry_run,
        "options": _options(attributes),
    }
    return {key: value for key, value in request.items() if value or key not in _LEFT_OUT}


def _kind(attributes: Attributes) -> Obj:
    """The kind of the objects: the resource's, or what its subresource speaks."""
    resource = attributes.kind.resource
    spoken = attributes.kind.subresource(attributes.subresource) if attributes.subresource else None
    if spoken is None or not spoken.kind:
        return {"group": resource.group, "version": resource.version, "kind": resource.kind}
    if not spoken.version:
        return {"group": resource.group, "version": resource.version, "kind": spoken.kind}
    return {"group": spoken.group, "version": spoken.version, "kind": spoken.kind}


def admission_review(attributes: Attributes, obj: Obj | None) -> Obj:
    """The body of a call; `obj` is the object as it stands after the webhooks before."""
    request = {**admission_request(attributes), "uid": str(uuid.uuid4()), "object": obj, "oldObject": attributes.old}
    return {"apiVersion": API_VERSION, "kind": "AdmissionReview", "request": request}


def _options(attributes: Attributes) -> Obj | None:
    """The options of the verb; connecting has none, and a patch those of what it comes to."""
    kind = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}.get(attributes.operation)
    if kind is None:
        return None
    options: Obj = {"apiVersion": "meta.k8s.io/v1", "kind": kind, **attributes.context.options}
    return {**options, "dryRun": ["All"]} if attributes.context.dry_run else options


def read_answer(review: Obj, answer: Any, webhook: str, obj: Obj | None, check_patch: Callable[[Obj], None]) -> Answer:
    """What the answer to `review` says; `check_patch` is the contract of the webhook's kind about patches.

    Raises ReviewError for an answer that breaks the contract, and 500 for a patch that does not fit the object.
    """
    response = _response(review, answer)
    check_patch(response)
    warnings = tuple(text for text in response.get("warnings") or [] if isinstance(text, str))
    if response.get("allowed") is not True:
        return Answer(_denial(webhook, response.get("status")), None, warnings)
    return Answer(None, _patched(response, webhook, obj), warnings)


def _response(review: Obj, answer: Any) -> Obj:
    if not isinstance(answer, dict) or not isinstance(answer.get("response"), dict):
        raise ReviewError(f"{_INVALID}webhook response was absent")
    response: Obj = answer["response"]
    if not isinstance(response.get("allowed") or False, bool):
        name = JSON_NAMES.get(type(response["allowed"]), "value")
        place = "AdmissionResponse.response.allowed"
        raise ReviewError(f"{_FAILED}json: cannot unmarshal {name} into Go struct field {place} of type bool")
    uid = review["request"]["uid"]
    if response.get("uid") != uid:
        raise ReviewError(f'{_INVALID}expected response.uid="{uid}", got "{response.get("uid") or ""}"')
    group, _, version = str(answer.get("apiVersion") or "").rpartition("/")
    given = f"{group}/{version}, Kind={answer.get('kind') or ''}"
    wanted = f"{API_VERSION}, Kind=AdmissionReview"
    if given != wanted:
        raise ReviewError(f"{_INVALID}expected webhook response of {wanted}, got {given}")
    return response


_FAILED = "failed to call webhook: "
_INVALID = "received invalid webhook response: "


def check_mutating(response: Obj) -> None:
    """A mutating webhook gives a patch and its type together. Raises ReviewError."""
    patch, kind = response.get("patch"), response.get("patchType")
    if patch and kind is None:
        raise ReviewError(f"{_INVALID}webhook returned response.patch but not response.patchType")
    if kind is not None and not patch:
        raise ReviewError(f"{_INVALID}webhook returned response.patchType but not response.patch")
    if kind == "":
        raise ReviewError(f'{_INVALID}webhook returned invalid response.patchType of ""')


def check_validating(response: Obj) -> None:
    """A validating webhook gives neither. Raises ReviewError."""
    for name in ("patch", "patchType"):
        if response.get(name) or (name == "patchType" and response.get(name) is not None):
            raise ReviewError(f"{_INVALID}validating webhook may not return response.{name}")


def _patched(response: Obj, webhook: str, obj: Obj | None) -> Obj | None:
    """The object after the patch, None without one. Raises 500 where there is no object or the patch does not fit."""
    operations = _operations(response)
    if operations is None or operations == []:
        return None
    if obj is None:
        text = (
            f'admission webhook "{webhook}" attempted to modify the object, which is not supported for this operation'
        )
        raise errors.internal(text)
    if response.get("patchType") != "JSONPatch":
        raise ReviewError(f'unsupported patch type "{response.get("patchType")}"')
    try:
        return json_patch(obj, operations)
    except StatusError as problem:
        if problem.code == 400:
            raise ReviewError(f"{_UNDECODABLE}{problem.message}") from None
        causes = (problem.details or {}).get("causes")
        raise errors.internal(causes[0]["message"] if causes else problem.message) from None


_UNDECODABLE = "received undecodable patch in webhook response: "


def _operations(response: Obj) -> Any:
    patch = response.get("patch")
    if not patch:
        return []
    try:
        decoded = base64.b64decode(patch, validate=True)
    except (ValueError, TypeError) as problem:
        raise ReviewError(f"{_FAILED}response.patch is not in base64: {problem}") from None
    try:
        return msgspec.json.decode(decoded)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise ReviewError(f"{_UNDECODABLE}{problem}") from None


def _denial(webhook: str, given: Any) -> StatusError:
    """A webhook's refusal (apiserver `webhook/errors` ToStatusErr)."""
    status: Obj = given if isinstance(given, dict) else {}
    text = f'admission webhook "{webhook}" denied the request'
    why = status.get("message") or status.get("reason")
    code = status.get("code")
    code = code if isinstance(code, int) and 400 <= code < 600 else 400
    details = status.get("details")
    reason = str(status.get("reason") or "")
    message = f"{text}: {why}" if why else f"{text} without explanation"
    return StatusError(code, reason, message, details if isinstance(details, dict) else None)
