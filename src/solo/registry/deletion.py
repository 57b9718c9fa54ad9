"""Deletion in steps: grace periods, finalizers, propagation (apiserver `rest.BeforeDelete` and generic store)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from kube.machinery import errors
from kube.machinery.durations import rfc3339
from solo.registry.context import DeleteOptions
from solo.registry.kinds import Kind
from solo.registry.objects import copy
from solo.registry.strategy import Strategy
from solo.store import Stored

Obj = dict[str, Any]

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
_BY_POLICY = {"Orphan": [ORPHAN], "Foreground": [FOREGROUND], "Background": []}


def check_preconditions(kind: Kind, current: Stored, options: DeleteOptions) -> None:
    """Raises 409 when the object is not the one that the caller means."""
    name = current.key.name
    uid = current.obj["metadata"].get("uid")
    group_kind = f"{kind.resource.kind}.{kind.resource.group}" if kind.resource.group else kind.resource.kind
    if options.uid is not None and options.uid != uid:
        raise errors.conflict(
            group_kind,
            name,
            f"the UID in the precondition ({options.uid}) does not match the UID in record ({uid}). "
            "The object might have been deleted and then recreated",
        )
    if options.resource_version is not None and options.resource_version != str(current.rv):
        raise errors.conflict(
            group_kind,
            name,
            f"the ResourceVersion in the precondition ({options.resource_version}) does not match the "
            f"ResourceVersion in record ({current.rv}). The object might have been modified",
        )


def mark(strategy: Strategy, current: Obj, options: DeleteOptions) -> Obj:
    """The object as it stands after a request to delete it; a copy where it differs from `current`."""
    obj: Obj = copy(current)
    metadata = obj["metadata"]
    _set_propagation(metadata, options.propagation, strategy.default_propagation)
    grace = strategy.deletion_grace(obj, options.grace) or 0
    already = metadata.get("deletionTimestamp")
    if already and grace >= int(metadata.get("deletionGracePeriodSeconds") or 0):
        return obj
    until = datetime.now(UTC) + timedelta(seconds=grace)
    metadata["deletionTimestamp"] = rfc3339(until)
    if strategy.records_deletion:
        metadata["deletionGracePeriodSeconds"] = grace
        if metadata.get("generation") and not already:
            metadata["generation"] += 1
    strategy.begin_deletion(obj)
    return obj


def _set_propagation(metadata: Obj, wanted: str | None, default: str) -> None:
    """Give the finalizer that stands for the policy: what is asked for, else what there is already, else the kind's."""
    finalizers = metadata.get("finalizers") or []
    others = [name for name in finalizers if name not in (ORPHAN, FOREGROUND)]
    policy = wanted if wanted is not None or len(others) < len(finalizers) else default
    if not policy:
        return
    metadata["finalizers"] = others + _BY_POLICY[policy]
    if not metadata["finalizers"]:
        del metadata["finalizers"]


def complete(strategy: Strategy, obj: Obj) -> bool:
    """Whether a marked object may go now: nobody has to end it any more and no finalizer holds it."""
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp"):
        return False
    return not metadata.get("deletionGracePeriodSeconds") and strategy.removable(obj)
