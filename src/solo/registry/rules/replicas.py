"""The numbers of pods in the status of the kinds that keep pods running: what is wrong with them."""

from __future__ import annotations

from typing import Any

from kube.machinery.errors import Cause, cause
from solo.registry.rules.amounts import negative

Obj = dict[str, Any]

_SETS = ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration")
_COUNTS = {
    "Deployment": (
        "observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas",
        "unavailableReplicas", "collisionCount",
    ),
    "ReplicaSet": _SETS,
    "ReplicationController": _SETS,
    "StatefulSet": (
        "replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas", "observedGeneration",
        "collisionCount",
    ),
    "DaemonSet": (
        "currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady", "observedGeneration",
        "updatedNumberScheduled", "numberAvailable", "numberUnavailable", "collisionCount",
    ),
}  # fmt: skip
_PARTS = {
    "Deployment": ("updatedReplicas", "readyReplicas", "availableReplicas"),
    "ReplicaSet": ("fullyLabeledReplicas", "readyReplicas", "availableReplicas"),
    "ReplicationController": ("fullyLabeledReplicas", "readyReplicas", "availableReplicas"),
    "StatefulSet": ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"),
}
"""What `replicas` counts, too."""


def status_causes(kind: str, status: Obj, old: Obj) -> list[Cause]:
    """What is wrong with the status of a kind after a write to it."""
    causes = negative(status, _COUNTS[kind], "status")
    for key in _PARTS.get(kind, ()):
        if _count(status, key) > _count(status, "replicas"):
            causes.append(_excess(status, key, "cannot be greater than status.replicas"))
    if kind in _PARTS and _count(status, "availableReplicas") > _count(status, "readyReplicas"):
        ready = "status.readyReplicas" if kind == "StatefulSet" else "readyReplicas"
        causes.append(_excess(status, "availableReplicas", f"cannot be greater than {ready}"))
    if "collisionCount" in _COUNTS[kind] and _count(status, "collisionCount") < _count(old, "collisionCount"):
        causes.append(_excess(status, "collisionCount", "cannot be decremented"))
    return causes


def _count(status: Obj, key: str) -> int:
    return int(status.get(key) or 0)


def _excess(status: Obj, key: str, detail: str) -> Cause:
    return cause("FieldValueInvalid", f"status.{key}", detail, str(_count(status, key)))
