"""Conversion of custom resources between the versions of their definition by its webhook (apiextensions v1
ConversionReview): the request, and what its answer must keep (apiextensions `pkg/apiserver/conversion`).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from kube.machinery import objectmeta
from kube.machinery.errors import StatusError
from solo.registry.calling import Caller, CallError
from solo.registry.objects import copy, dig

Obj = dict[str, Any]

REVIEW_VERSIONS = ("v1", "v1beta1")
_GROUP = "apiextensions.k8s.io"
_SECONDS = 30.0


async def convert_by_webhook(webhook: Obj, objects: Sequence[Obj], wanted: str, post: Caller) -> list[Obj]:
    """The objects in the apiVersion `wanted`, in order; `webhook` is the definition's `spec.conversion.webhook`.

    Raises StatusError (500, as kube-apiserver answers) when the webhook fails or breaks the contract.
    """
    subject = f"conversion webhook for {objects[0].get('apiVersion')}, Kind={objects[0].get('kind')}"
    review = _review(webhook, objects, wanted)
    try:
        answer = await post(webhook.get("clientConfig") or {}, review, _SECONDS)
        converted = _read(review, answer)
    except (CallError, ValueError) as problem:
        text = str(problem).removeprefix("failed to call webhook: ")
        raise StatusError(500, "", f"{subject} failed: {text}") from None
    if len(converted) != len(objects):
        raise StatusError(500, "", f"{subject} returned {len(converted)} objects, expected {len(objects)}")
    result = []
    for index, (original, changed) in enumerate(zip(objects, converted, strict=True)):
        try:
            result.append(_checked(original, changed, wanted))
        except ValueError as problem:
            text = f"{subject} returned invalid converted object at index {index}: {problem}"
            raise StatusError(500, "", text) from None
    return result


def _review(webhook: Obj, objects: Sequence[Obj], wanted: str) -> Obj:
    known = [version for version in webhook.get("conversionReviewVersions") or [] if version in REVIEW_VERSIONS]
    return {
        "kind": "ConversionReview",
        "apiVersion": f"{_GROUP}/{known[0] if known else 'v1'}",
        "request": {"uid": str(uuid.uuid4()), "desiredAPIVersion": wanted, "objects": list(objects)},
    }


def _read(review: Obj, answer: Any) -> list[Any]:
    """The converted objects of an answer. Raises ValueError for one that is none, or tells of a failure."""
    expected = f"{review['apiVersion']}, Kind=ConversionReview"
    given: Obj = answer if isinstance(answer, dict) else {}
    if (given.get("apiVersion"), given.get("kind")) != (review["apiVersion"], "ConversionReview"):
        found = f"{given.get('apiVersion') or ''}, Kind={given.get('kind') or ''}"
        raise ValueError(f"expected webhook response of {expected}, got {found}")
    response = given.get("response")
    if not isinstance(response, dict):
        raise ValueError("no response provided")
    uid = review["request"]["uid"]
    if response.get("uid") != uid:
        raise ValueError(f'expected response.uid="{uid}", got "{response.get("uid") or ""}"')
    status = dig(response, "result", "status")
    if status != "Success":
        message = dig(response, "result", "message")
        raise ValueError(str(message) if message else f"response.result.status was '{status or ''}', not 'Success'")
    return list(response.get("convertedObjects") or [])


def _checked(original: Obj, converted: Any, wanted: str) -> Obj:
    """What a webhook made of an object, with the original's metadata: it may change labels and annotations only."""
    if not isinstance(converted, dict):
        raise ValueError("it is no object")
    if converted.get("apiVersion") != wanted:
        raise ValueError(f"invalid groupVersion (expected {wanted}, received {converted.get('apiVersion') or ''})")
    if converted.get("kind") != original.get("kind"):
        raise ValueError(f"must have the same kind: {original.get('kind')} != {converted.get('kind') or ''}")
    given = converted.get("metadata")
    if given is None:
        raise ValueError("missing metadata in converted object")
    if not isinstance(given, dict):
        raise ValueError("invalid metadata in converted object: it is no object")
    before = original.get("metadata") or {}
    for key, shown in (("name", "name"), ("namespace", "namespace"), ("uid", "UID")):
        if (before.get(key) or "") != (given.get(key) or ""):
            raise ValueError(f"must have the same {shown}: {before.get(key) or ''} != {given.get(key) or ''}")
    metadata: Obj = copy(before)
    for key in ("labels", "annotations"):
        _take(metadata, given, key)
    rest = {name: value for name, value in converted.items() if name != "metadata"}
    return {"apiVersion": rest.pop("apiVersion"), "kind": rest.pop("kind"), "metadata": metadata, **rest}


def _take(metadata: Obj, given: Obj, key: str) -> None:
    """Take labels or annotations over from an answer. Raises ValueError where they are none."""
    values = given.get(key)
    if values is None:
        metadata.pop(key, None)
        return
    if not isinstance(values, dict):
        raise ValueError(f"invalid metadata.{key} in converted object: it is no object")
    for name, value in values.items():
        if not isinstance(value, str):
            raise ValueError(f"metadata.{key}[{name}] must be a string in converted object")
    if values != metadata.get(key):
        check = objectmeta.validate_labels if key == "labels" else objectmeta.validate_annotations
        problems = check(values, f"metadata.{key}")
        if problems:
            raise ValueError(f"invalid metadata in object: {problems[0].field}: {problems[0].message}")
    metadata[key] = values
