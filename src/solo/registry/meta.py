"""What a server does with ObjectMeta, the same for every kind; its rules are in `kube.machinery.objectmeta`."""

from __future__ import annotations

import uuid
from typing import Any

from kube.machinery import errors, names
from kube.machinery.durations import now_rfc3339
from kube.machinery.errors import Cause, cause
from solo.registry.objects import quote, quote_json

Obj = dict[str, Any]

_GENERATED_BASE_LIMIT = 63 - 5
# What a server keeps whatever a client sends on update.
_SERVER_OWNED = (
    "uid",
    "creationTimestamp",
    "generation",
    "namespace",
    "name",
)


_SET_ON_CREATE = ("uid", "creationTimestamp", "generation")
_NOT_ON_CREATE = ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion")


def wipe_on_create(meta: Obj) -> None:
    """Forget what a client tried to set on a new object although only the server may."""
    for key in (*_SET_ON_CREATE, *_NOT_ON_CREATE):
        meta.pop(key, None)


def fill_on_create(meta: Obj, *, generation: bool) -> None:
    """Set what only the server may set on a new object; forget what admission tried to set of it."""
    wipe_on_create(meta)
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
    if "deletionGracePeriodSeconds" in old:
        meta.setdefault("deletionGracePeriodSeconds", old["deletionGracePeriodSeconds"])
    if "deletionTimestamp" in old:
        meta["deletionTimestamp"] = old["deletionTimestamp"]


def validate_update(meta: Obj, old: Obj) -> list[Cause]:
    """What an update of metadata must not do."""
    causes = [
        cause("FieldValueInvalid", f"metadata.{key}", "field is immutable", quote_json(meta[key]))
        for key in ("deletionTimestamp", "deletionGracePeriodSeconds")
        if meta.get(key) is not None and meta[key] != old.get(key)
    ]
    if not old.get("deletionTimestamp"):
        return causes
    before = set(old.get("finalizers") or [])
    new = sorted(set(meta.get("finalizers") or []) - before)
    if not new:
        return causes
    printed = ", ".join(quote(name) for name in new)
    detail = (
        f"no new finalizers can be added if the object is being deleted, found new finalizers []string{{{printed}}}"
    )
    return [*causes, cause("FieldValueForbidden", "metadata.finalizers", detail)]


def check_identity(meta: Obj, name: str, namespace: str) -> None:
    """The body must name what the URL names. Fills in what it leaves out. Raises 400."""
    if namespace:
        if meta.setdefault("namespace", namespace) not in (namespace, ""):
            raise errors.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        meta["namespace"] = namespace
    else:
        meta.pop("namespace", None)
    if name:
        if not meta.get("name"):
            meta["name"] = name
        if meta["name"] != name:
            raise errors.bad_request(
                f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
            )
