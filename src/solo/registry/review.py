"""What rules and webhooks are told of a request (admission/v1 AdmissionReview)."""

from __future__ import annotations

import base64
import uuid
from dataclasses import dataclass
from typing import Any

import msgspec

from kube.machinery.errors import StatusError
from kube.machinery.patch import json_patch
from solo.registry.registry import Attributes

Obj = dict[str, Any]

API_VERSION = "admission.k8s.io/v1"


class ReviewError(Exception):
    """A webhook's answer that cannot be understood."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a webhook said: `denial` when it refuses, else the object after its patch, if there was one."""

    denial: StatusError | None
    patched: Obj | None
    warnings: tuple[str, ...]


_LEFT_OUT = ("subResource", "requestSubResource", "name", "namespace")


def admission_request(attributes: Attributes) -> Obj:
    """An AdmissionRequest without the objects: the `request` variable of CEL, and what webhooks are told besides."""
    resource, user = attributes.kind.resource, attributes.context.user
    kind = _kind(attributes)
    place = {"group": resource.group, "version": resource.version, "resource": resource.plural}
    info: Obj = {"username": user.name, "uid": user.uid, "groups": list(user.groups)}
    info["extra"] = {key: list(values) for key, values in user.extra.items()}
    return {
        "kind": kind,
        "resource": place,
        "subResource": attributes.subresource,
        "requestKind": kind,
        "requestResource": place,
        "requestSubResource": attributes.subresource,
        "name": attributes.name,
        "namespace": attributes.namespace,
        "operation": attributes.operation,
        "userInfo": info,
        "dryRun": attributes.context.dry_run,
    }


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
    request = {**admission_request(attributes), "uid": str(uuid.uuid4())}
    request["requestResource"] = request["resource"]
    # Go leaves these out when they are empty (`omitempty`), and webhooks tell a subresource by the field's presence.
    request = {key: value for key, value in request.items() if value or key not in _LEFT_OUT}
    request["userInfo"] = {key: value for key, value in request["userInfo"].items() if value}
    request.update(object=obj, oldObject=attributes.old, options=_options(attributes))
    return {"apiVersion": API_VERSION, "kind": "AdmissionReview", "request": request}


def _options(attributes: Attributes) -> Obj | None:
    """The options of the verb; connecting has none."""
    kind = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}.get(attributes.operation)
    if kind is None:
        return None
    options: Obj = {"apiVersion": "meta.k8s.io/v1", "kind": kind}
    return {**options, "dryRun": ["All"]} if attributes.context.dry_run else options


def read_answer(review: Obj, answer: Any, webhook: str, obj: Obj | None) -> Answer:
    """What the answer to `review` says. Raises ReviewError for one that breaks the contract."""
    if not isinstance(answer, dict) or (answer.get("apiVersion"), answer.get("kind")) != (
        API_VERSION,
        "AdmissionReview",
    ):
        raise ReviewError(f"expected webhook response of {API_VERSION}, Kind=AdmissionReview")
    response = answer.get("response")
    if not isinstance(response, dict):
        raise ReviewError("webhook response was absent")
    if response.get("uid") != review["request"]["uid"]:
        raise ReviewError(f'expected response.uid="{review["request"]["uid"]}", got "{response.get("uid") or ""}"')
    warnings = tuple(text for text in response.get("warnings") or [] if isinstance(text, str))
    if response.get("allowed") is not True:
        return Answer(_denial(webhook, response.get("status")), None, warnings)
    return Answer(None, _patched(response, obj), warnings)


def _patched(response: Obj, obj: Obj | None) -> Obj | None:
    patch = response.get("patch")
    if not patch:
        return None
    if response.get("patchType") != "JSONPatch":
        raise ReviewError(f'invalid response.patchType "{response.get("patchType") or ""}": must be JSONPatch')
    if obj is None:
        raise ReviewError("a deletion cannot be patched")
    try:
        changed = json_patch(obj, msgspec.json.decode(base64.b64decode(patch, validate=True)))
    except (ValueError, TypeError, msgspec.DecodeError, StatusError) as problem:
        raise ReviewError(f"the patch cannot be applied: {problem}") from problem
    if not isinstance(changed, dict) or not isinstance(changed.get("metadata"), dict):
        raise ReviewError("the patch leaves no object")
    return changed


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
