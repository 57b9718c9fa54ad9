"""From client-side to server-side apply: kubectl's annotation of what it applied last.

When the manager is `kubectl`, conflicts on fields that client-side apply had set, and that still have that value, are
no conflicts, and the annotation is kept up to date so that one can go back (managedfields/internal/lastapplied*.go).
"""

from __future__ import annotations

import json
from typing import Any

from kube.machinery.apply.compare import compare
from kube.machinery.apply.fieldset import FieldSet
from kube.machinery.apply.typed import field_set
from kube.machinery.apply.types import Type

Obj = dict[str, Any]

KUBECTL = "kubectl"
ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
_MAX_ANNOTATIONS = 256 * 1024  # bytes of an object's annotations, names and values


def fields_of_last_applied(kind: Type, live: Obj, api_version: str) -> FieldSet:
    """The fields that client-side apply set and nobody changed since; empty if it never was used or cannot be told."""
    text = _annotations(live).get(ANNOTATION)
    if not text:
        return FieldSet()
    try:
        last = json.loads(text)
        if not isinstance(last, dict) or last.get("apiVersion") != api_version:
            return FieldSet()
        fields, differences = field_set(kind, last), compare(kind, last, live)
    except (ValueError, RecursionError):
        return FieldSet()
    changed = differences.modified.union(differences.added).union(differences.removed)
    return fields.difference(changed)


def with_annotation(obj: Obj, applied: Obj) -> Obj:
    """The object with its annotation, if it has one, brought up to date; without it if it has grown too large."""
    if not _annotations(obj).get(ANNOTATION):
        return obj
    meta = dict(applied.get("metadata") or {})
    rest = {name: value for name, value in _annotations(applied).items() if name != ANNOTATION}
    if "annotations" in meta:
        meta["annotations"] = rest
    text = json.dumps({**applied, "metadata": meta}, ensure_ascii=False, separators=(",", ":"), sort_keys=True) + "\n"
    annotations = {**_annotations(obj), ANNOTATION: text}
    if sum(len(f"{name}{value}".encode()) for name, value in annotations.items()) > _MAX_ANNOTATIONS:
        del annotations[ANNOTATION]
    return {**obj, "metadata": {**obj["metadata"], "annotations": annotations}}


def _annotations(obj: Obj) -> Obj:
    meta = obj.get("metadata")
    found = meta.get("annotations") if isinstance(meta, dict) else None
    return found if isinstance(found, dict) else {}
