"""What the object of a request must be, and what becomes of it, before admission sees it; no I/O."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kube.machinery import errors
from kube.machinery.errors import cause
from solo.registry import meta
from solo.registry.body import check_type
from solo.registry.context import RequestContext
from solo.registry.kinds import Kind
from solo.registry.objects import copy
from solo.registry.spoken import SPOKEN
from solo.store import Stored

Obj = dict[str, Any]

# What metadata does not show when it is empty (`omitempty` of Go's ObjectMeta).
_NEVER_EMPTY = frozenset({"annotations", "finalizers", "labels", "ownerReferences"})


def decode(kind: Kind, obj: Obj, context: RequestContext) -> None:
    """Check and prune the object in place; the field manager reads managedFields by itself. Raises 400."""
    check_type(kind, obj)
    metadata = obj.get("metadata")
    owners = metadata.get("managedFields") if isinstance(metadata, dict) else None
    if owners is None or (isinstance(owners, list) and all(isinstance(item, dict) for item in owners)):
        owners = metadata.pop("managedFields", None) if isinstance(metadata, dict) else None
    unknown = kind.strategy.decode(obj)
    if not isinstance(obj.get("metadata"), dict):
        obj["metadata"] = {}
    for key in _NEVER_EMPTY & obj["metadata"].keys():
        if not obj["metadata"][key]:
            del obj["metadata"][key]
    _drop_repeated_owners(obj["metadata"], context)
    if owners is not None:
        obj["metadata"]["managedFields"] = owners
    context.report_unknown(kind.resource.kind, kind.resource.version, unknown)


def _drop_repeated_owners(metadata: Obj, context: RequestContext) -> None:
    """Of owner references that are the same, one stays (apiserver's dedupOwnerReferencesAndAddWarning)."""
    owners = metadata.get("ownerReferences") or ()
    kept: list[Obj] = []
    repeated: list[str] = []
    for owner in owners:
        if owner not in kept:
            kept.append(owner)
        elif (uid := str(owner.get("uid") or "")) not in repeated:
            repeated.append(uid)
    if repeated:
        metadata["ownerReferences"] = kept
        context.warn([_REPEATED_OWNERS + ", ".join(repeated)])


_REPEATED_OWNERS = (
    ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject "
    "such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: "
)


def accept_new(kind: Kind, namespace: str, name: str, obj: Obj, context: RequestContext) -> None:
    """Take an object that is to be created, in place. `name` is the URL's, mostly empty. Raises 400."""
    decode(kind, obj, context)
    meta.check_identity(obj["metadata"], name, namespace)
    if obj["metadata"].get("resourceVersion") and not context.dry_run:
        raise errors.bad_request("resourceVersion should not be set on objects to be created")


def named(kind: Kind, obj: Obj, base: str) -> Obj:
    """A copy of an object with a name of its own, and what is there by default because of that."""
    made: Obj = copy(obj)
    made["metadata"]["name"] = meta.generate_name(base)
    kind.strategy.default(made)
    return made


def accept_changed(kind: Kind, current: Stored, obj: Obj, context: RequestContext) -> None:
    """Take what is to replace `current`, in place. Raises 400, 409 for another object or version, 422."""
    decode(kind, obj, context)
    if not obj["metadata"].get("name"):
        text = f"the name of the object ({current.key.name} based on URL) was undeterminable: name must be provided"
        raise errors.bad_request(text)
    meta.check_identity(obj["metadata"], current.key.name, current.key.namespace)
    _check_version(kind, obj["metadata"], current)
    kind.strategy.default(obj)


def decode_mutated(kind: Kind, subresource: str, obj: Obj, context: RequestContext) -> None:
    """Check and prune what admission made of the object of a request, in place. Raises 400."""
    schema = SPOKEN.get(subresource)
    if schema is None:
        decode(kind, obj, replace(context, field_validation="Ignore"))
    else:
        schema.decode(obj)


def accept_mutated(kind: Kind, namespace: str, name: str, subresource: str, obj: Obj, context: RequestContext) -> None:
    """Take what admission made of the object of a request, in place. Raises 400."""
    decode_mutated(kind, subresource, obj, context)
    if subresource not in SPOKEN:
        meta.check_identity(obj["metadata"], name, namespace)
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


def validate(kind: Kind, obj: Obj, old: Obj | None, context: RequestContext, subresource: str = "") -> None:
    """Raises 422 with everything that is wrong; `old` is given on update. What is accepted may earn warnings."""
    causes = kind.strategy.validate_all(obj, old, subresource)
    context.warn(() if causes else kind.strategy.warnings(obj, old))
    if causes:
        raise errors.invalid(kind.resource.group, kind.resource.kind, obj["metadata"].get("name") or "", causes)
