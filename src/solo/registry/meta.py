"""The rules of ObjectMeta, the same for every kind (apimachinery `pkg/api/validation/objectmeta.go`)."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from kube.machinery import errors, names
from kube.machinery.durations import now_rfc3339
from kube.machinery.errors import Cause, cause
from solo.registry.objects import quote

Obj = dict[str, Any]
NameCheck = Callable[[str], list[str]]

_ANNOTATIONS_LIMIT = 256 * 1024
_GENERATED_BASE_LIMIT = 63 - 5
# What a server keeps whatever a client sends on update.
_SERVER_OWNED = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "namespace",
    "name",
)


def fill_on_create(meta: Obj, *, generation: bool) -> None:
    """Set what only the server may set on a new object; forget what a client tried to set of it."""
    for key in ("deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink", "resourceVersion"):
        meta.pop(key, None)
    meta["uid"] = str(uuid.uuid4())
    meta["creationTimestamp"] = now_rfc3339()
    if generation:
        meta["generation"] = 1


def generate_name(base: str) -> str:
    """A name from `generateName`, cut so that it stays a DNS label."""
    return base[:_GENERATED_BASE_LIMIT] + names.generate_suffix()


def keep_on_update(meta: Obj, old: Obj) -> None:
    """Carry over the fields that an update cannot change."""
    meta.pop("selfLink", None)
    for key in _SERVER_OWNED:
        if key in old:
            meta[key] = old[key]
        else:
            meta.pop(key, None)


def validate(meta: Obj, name_check: NameCheck, *, namespaced: bool) -> list[Cause]:
    """All that is wrong with an object's metadata."""
    name = meta.get("name") or ""
    causes: list[Cause] = []
    if not name:
        causes.append(cause("FieldValueRequired", "metadata.name", "name or generateName is required"))
    else:
        causes += [cause("FieldValueInvalid", "metadata.name", text, quote(name)) for text in name_check(name)]
    if namespaced and not meta.get("namespace"):
        causes.append(cause("FieldValueRequired", "metadata.namespace"))
    causes += validate_labels(meta.get("labels") or {}, "metadata.labels")
    causes += validate_annotations(meta.get("annotations") or {}, "metadata.annotations")
    return causes + _links(meta)


def validate_labels(labels: Obj, field: str) -> list[Cause]:
    """Keys are qualified names, values label values."""
    causes = []
    for key, value in labels.items():
        causes += [cause("FieldValueInvalid", field, text, quote(key)) for text in names.qualified_name(key)]
        causes += [cause("FieldValueInvalid", field, text, quote(value)) for text in names.label_value(value)]
    return causes


def validate_annotations(annotations: Obj, field: str) -> list[Cause]:
    """Keys are qualified names in either case; all together are not too long."""
    causes = []
    size = 0
    for key, value in annotations.items():
        size += len(key) + len(value)
        causes += [cause("FieldValueInvalid", field, text, quote(key)) for text in names.qualified_name(key.lower())]
    if size > _ANNOTATIONS_LIMIT:
        causes.append(cause("FieldValueTooLong", field, f"may not be more than {_ANNOTATIONS_LIMIT} bytes"))
    return causes


def _links(meta: Obj) -> list[Cause]:
    causes = []
    for finalizer in meta.get("finalizers") or []:
        causes += [
            cause("FieldValueInvalid", "metadata.finalizers", text, quote(finalizer))
            for text in names.qualified_name(finalizer)
        ]
    controllers = []
    for index, owner in enumerate(meta.get("ownerReferences") or []):
        field = f"metadata.ownerReferences[{index}]"
        for key in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(key):
                text = "must not be empty" if key != "apiVersion" else "version must not be empty"
                causes.append(cause("FieldValueInvalid", f"{field}.{key}", text, '""'))
        if owner.get("controller"):
            controllers.append(str(owner.get("name")))
    if len(controllers) > 1:
        detail = (
            'Only one reference can have Controller set to true. Found "true" in references for '
            f"{controllers[0]} and {controllers[1]}"
        )
        causes.append(cause("FieldValueInvalid", "metadata.ownerReferences", detail, quote(controllers[1])))
    return causes


def validate_update(meta: Obj, old: Obj) -> list[Cause]:
    """What an update of metadata must not do."""
    if not old.get("deletionTimestamp"):
        return []
    before = set(old.get("finalizers") or [])
    new = sorted(set(meta.get("finalizers") or []) - before)
    if not new:
        return []
    printed = ", ".join(quote(name) for name in new)
    detail = (
        f"no new finalizers can be added if the object is being deleted, found new finalizers []string{{{printed}}}"
    )
    return [cause("FieldValueForbidden", "metadata.finalizers", detail)]


def check_identity(meta: Obj, name: str, namespace: str) -> None:
    """The body must name what the URL names. Fills in what it leaves out. Raises 400."""
    if namespace:
        if meta.setdefault("namespace", namespace) not in (namespace, ""):
            raise errors.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        meta["namespace"] = namespace
    elif meta.get("namespace"):
        raise errors.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    if name:
        if not meta.get("name"):
            meta["name"] = name
        if meta["name"] != name:
            raise errors.bad_request(
                f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
            )
