"""Pods: defaults, placement on the one node, what may change after creation, graceful deletion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kube.machinery.durations import now_rfc3339
from kube.machinery.errors import Cause, cause
from kube.machinery.placement import node_selected
from kube.machinery.quantity import parse_quantity
from solo.registry.objects import child, copy, dig
from solo.registry.rules.podspec import default_pod_spec, validate_pod_spec
from solo.registry.rules.podwarnings import name_warnings, pod_warnings
from solo.registry.strategy import METADATA_FIELDS, BuiltinStrategy

Obj = dict[str, Any]

_IMMUTABLE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_TOLERATION_SECONDS = 300
_LEAST_GRACE = 1
"""Seconds. What a negative grace period stands for."""

SCHEDULER = "default-scheduler"


class PodStrategy(BuiltinStrategy):
    """Rules of pods. `node` gives the one node's name and labels, to place pods whose nodeSelector allows it."""

    has_status = True
    tracks_generation = True
    returns_deleted = True
    kept_by_status = ("ownerReferences",)
    fields: Mapping[str, tuple[str, ...]] = {
        **METADATA_FIELDS,
        "spec.nodeName": ("spec", "nodeName"),
        "spec.restartPolicy": ("spec", "restartPolicy"),
        "spec.schedulerName": ("spec", "schedulerName"),
        "spec.serviceAccountName": ("spec", "serviceAccountName"),
        "spec.hostNetwork": ("spec", "hostNetwork"),
        "status.phase": ("status", "phase"),
        "status.podIP": ("status", "podIP"),
        "status.nominatedNodeName": ("status", "nominatedNodeName"),
    }

    def __init__(self, definition: str, node: Callable[[], tuple[str, Mapping[str, str]]]) -> None:
        super().__init__("", "v1", "Pod", definition, namespaced=True)
        self._node = node

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        default_pod_spec(spec)
        spec.setdefault("enableServiceLinks", True)

    def prepare_create(self, obj: Obj) -> None:
        spec = obj["spec"]
        spec.setdefault("priority", 0)
        spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
        if not spec.get("serviceAccountName"):
            spec["serviceAccountName"] = spec["serviceAccount"] = "default"
        _tolerate(spec)
        obj["status"] = {"phase": "Pending", "qosClass": qos_class(spec)}
        name, labels = self._node()
        if spec.get("schedulingGates"):
            obj["status"]["conditions"] = [_gated()]
        elif not spec.get("nodeName") and spec["schedulerName"] == SCHEDULER and node_selected(spec, labels, name):
            # Others wait for `solo.controllers.scheduling`, which looks again when nodes change.
            spec["nodeName"] = name

    def prepare_subresource(self, subresource: str, obj: Obj, old: Obj) -> None:
        """`/binding` brings the node and the condition that says so; that is no new generation."""
        if subresource != "binding":
            super().prepare_subresource(subresource, obj, old)

    def prepare_status(self, obj: Obj, old: Obj) -> None:
        super().prepare_status(obj, old)
        status = child(obj, "status")
        status.setdefault("phase", dig(old, "status", "phase") or "Pending")
        status.setdefault("qosClass", dig(old, "status", "qosClass") or qos_class(obj["spec"]))

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        if old is not None and obj["spec"] == old["spec"]:
            return []  # So that metadata can be written of what an older version let pass.
        causes = validate_pod_spec(obj["spec"], "spec")
        if old is None and obj["spec"].get("ephemeralContainers"):
            detail = "cannot be set on create"
            causes.append(cause("FieldValueForbidden", "spec.ephemeralContainers", detail))
        if old is not None and _frozen(obj["spec"], old["spec"]) != _frozen(old["spec"], old["spec"]):
            causes.append(cause("FieldValueForbidden", "spec", _IMMUTABLE))
        if old is not None:
            before = [gate["name"] for gate in old["spec"].get("schedulingGates") or []]
            added = [gate for gate in obj["spec"].get("schedulingGates") or [] if gate.get("name") not in before]
            causes += [
                cause(
                    "FieldValueForbidden", "spec.schedulingGates", f"only deletion is allowed, not {gate.get('name')}"
                )
                for gate in added
            ]
        return causes

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        if old is not None:  # as pods are mostly changed by programs, and often
            return []
        return name_warnings(obj, "the Pod's hostname") + pod_warnings(obj["spec"], "spec")

    def deletion_grace(self, obj: Obj, requested: int | None) -> int | None:
        """A pod that runs nowhere, or no longer, goes at once (registry/core/pod `CheckGracefulDelete`)."""
        grace = requested
        if grace is None:
            grace = int(dig(obj, "spec", "terminationGracePeriodSeconds") or 0)
        if not dig(obj, "spec", "nodeName") or dig(obj, "status", "phase") in ("Succeeded", "Failed"):
            grace = 0
        return grace if grace >= 0 else _LEAST_GRACE


def _gated() -> Obj:
    return {
        "type": "PodScheduled",
        "status": "False",
        "lastTransitionTime": now_rfc3339(),
        "reason": "SchedulingGated",
        "message": "Scheduling is blocked due to non-empty scheduling gates",
    }


def _tolerate(spec: Obj) -> None:
    """What admission plugin DefaultTolerationSeconds adds."""
    tolerations = spec.setdefault("tolerations", [])
    for state in ("not-ready", "unreachable"):
        key = f"node.kubernetes.io/{state}"
        if not any(item.get("key") in (key, None, "") for item in tolerations):
            tolerations.append(
                {
                    "key": key,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": _TOLERATION_SECONDS,
                }
            )


def _frozen(spec: Obj, old: Obj) -> Obj:
    """The part of a spec that cannot change once the pod exists; `old` is what it was."""
    frozen: Obj = copy(spec)
    if old["terminationGracePeriodSeconds"] < 0 and spec["terminationGracePeriodSeconds"] == _LEAST_GRACE:
        frozen["terminationGracePeriodSeconds"] = old["terminationGracePeriodSeconds"]
    for key in ("activeDeadlineSeconds", "schedulingGates", "tolerations"):
        frozen.pop(key, None)
    for key in ("containers", "initContainers"):
        for container in frozen.get(key) or []:
            container.pop("image", None)
    return frozen


def qos_class(spec: Obj) -> str:
    """Guaranteed, Burstable or BestEffort, as kubelets classify (`GetPodQOS`)."""
    any_set = False
    guaranteed = True
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        resources = container.get("resources") or {}
        limits, requests = _compute(resources.get("limits")), _compute(resources.get("requests"))
        any_set = any_set or bool(limits or requests)
        if set(limits) != {"cpu", "memory"} or any(requests.get(key, limits[key]) != limits[key] for key in limits):
            guaranteed = False
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _compute(amounts: Obj | None) -> dict[str, Any]:
    found = {}
    for name, value in (amounts or {}).items():
        if name in ("cpu", "memory"):
            try:
                number = parse_quantity(value)
            except ValueError:
                continue  # validation names it
            if number:
                found[name] = number
    return found
