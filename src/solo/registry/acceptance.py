"""What the object of a request must be, and what becomes of it, before admission sees it; no I/O."""

from __future__ import annotations

from typing import Any

from kube.machinery import errors
from kube.machinery.errors import cause
from solo.registry import meta
from solo.registry.body import check_type
from solo.registry.context import RequestContext
from solo.registry.kinds import Kind
from solo.store import Stored

Obj = dict[str, Any]

# What metadata does not show when it is empty (`omitempty` of Go's ObjectMeta).
_NEVER_EMPTY = frozenset({"annotations", "finalizers", "labels", "ownerReferences"})


def decode(kind: Kind, obj: Obj, context: RequestContext) -> None:
    """Check and prune the object in place; the field manager reads managedFields by itself. Raises 400."""
    check_type(kind, obj)
    metadata = obj.get("metadata")
    owners = metadata.pop("managedFields", None) if isinstance(metadata, dict) else None
    unknown = kind.strategy.decode(obj)
    if not isinstance(obj.get("metadata"), dict):
        obj["metadata"] = {}
    for key in _NEVER_EMPTY & obj["metadata"].keys():
        if not obj["metadata"][key]:
            del obj["metadata"][key]
    if owners is not None:
        obj["metadata"]["managedFields"] = owners
    context.report_unknown(kind.resource.kind, kind.resource.version, unknown)


def accept_new(kind: Kind, namespace: str, name: str, obj: Obj, context: RequestContext) -> None:
    """Take an object that is to be created, in place. `name` is the URL's, mostly empty. Raises 400."""
    decode(kind, obj, context)
    meta.check_identity(obj["metadata"], name, namespace)
    if obj["metadata"].get("resourceVersion"):
        raise errors.bad_request("resourceVersion should not be set on objects to be created")


def accept_changed(kind: Kind, current: Stored, obj: Obj, context: RequestContext) -> None:
    """Take what is to replace `current`, in place. Raises 400, 409 for another object or version, 422."""
    decode(kind, obj, context)
    meta.check_identity(obj["metadata"], current.key.name, current.key.namespace)
    _check_version(kind, obj["metadata"], current)
    kind.strategy.default(obj)


def _check_version(kind: Kind, metadata: Obj, current: Stored) -> None:
    uid = metadata.get("uid")
    if uid and uid != current.obj["metadata"].get("uid"):
        text = (
            f"Precondition failed: UID in precondition: {uid}, UID in object meta: {current.obj['metadata'].get('uid')}"
        )
        raise errors.conflict(kind.resource.group_resource, current.key.name, text)
    version = metadata.get("resourceVersion")
    if version and version != "0":
        if version != str(current.rv):
            raise errors.conflict(kind.resource.group_resource, current.key.name, errors.OPTIMISTIC_LOCK)
    elif not kind.strategy.allow_unconditional_update:
        problem = cause("FieldValueInvalid", "metadata.resourceVersion", "must be specified for an update", "0")
        raise errors.invalid(kind.resource.group, kind.resource.plural, current.key.name, [problem])


def prepare_changed(kind: Kind, obj: Obj, old: Obj, subresource: str) -> None:
    """Undo, in place, what a write through the kind itself ("") or a subresource cannot change."""
    metadata = obj["metadata"] = {**obj["metadata"]}
    meta.keep_on_update(metadata, old["metadata"])
    metadata["resourceVersion"] = old["metadata"]["resourceVersion"]
    if subresource == "status":
        kind.strategy.prepare_status(obj, old)
    elif subresource:
        kind.strategy.prepare_subresource(subresource, obj, old)
    else:
        kind.strategy.prepare_update(obj, old)


def validate(kind: Kind, obj: Obj, old: Obj | None, subresource: str = "") -> None:
    """Raises 422 with everything that is wrong; `old` is given on update."""
    causes = kind.strategy.validate_all(obj, old, subresource)
    if causes:
        raise errors.invalid(kind.resource.group, kind.resource.kind, obj["metadata"].get("name") or "", causes)
