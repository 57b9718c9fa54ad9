"""The plain kinds: namespaces, events, leases, claims, priorities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kube.machinery import errors, names
from kube.machinery.errors import Cause, cause
from kube.machinery.quantity import parse_quantity
from solo.registry.forms import Renamed
from solo.registry.objects import child, dig, quote, quote_json
from solo.registry.rules.placementchecks import taint_causes
from solo.registry.strategy import METADATA_FIELDS, BuiltinStrategy, keep

Obj = dict[str, Any]

IMMORTAL_NAMESPACES = frozenset({"default", "kube-system", "kube-public"})
NAME_LABEL = "kubernetes.io/metadata.name"


class NamespaceStrategy(BuiltinStrategy):
    """Namespaces: deletion waits for `spec.finalizers`, which the namespace controller takes away (`/finalize`)."""

    has_status = True
    returns_deleted = True
    records_deletion = False
    fields: Mapping[str, tuple[str, ...]] = {**METADATA_FIELDS, "status.phase": ("status", "phase")}

    def validate_name(self, name: str) -> list[str]:
        return names.dns1123_label(name)

    def default(self, obj: Obj) -> None:
        if name := dig(obj, "metadata", "name"):
            child(obj["metadata"], "labels")[NAME_LABEL] = name

    def prepare_create(self, obj: Obj) -> None:
        obj["spec"] = {"finalizers": ["kubernetes"]}
        obj["status"] = {"phase": "Active"}

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        super().prepare_update(obj, old)
        keep(obj, old, "spec")

    def prepare_subresource(self, subresource: str, obj: Obj, old: Obj) -> None:
        """`/finalize` writes `spec.finalizers`."""
        wanted = dig(obj, "spec", "finalizers") or []
        self.prepare_update(obj, old)
        obj["spec"] = {**(old.get("spec") or {}), "finalizers": wanted}

    def begin_deletion(self, obj: Obj) -> None:
        obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}

    def removable(self, obj: Obj) -> bool:
        return super().removable(obj) and not dig(obj, "spec", "finalizers")

    def refuse_deletion(self, obj: Obj) -> None:
        name = obj["metadata"]["name"]
        if name in IMMORTAL_NAMESPACES:
            raise errors.forbidden("namespaces", name, "this namespace may not be deleted")


class ServiceAccountStrategy(BuiltinStrategy):
    """Service accounts: nothing but metadata matters; DELETE answers with the object."""

    returns_deleted = True


class EventStrategy(BuiltinStrategy):
    """Events: about an object in their own namespace."""

    creates_on_update = True
    fields: Mapping[str, tuple[str, ...]] = {
        **METADATA_FIELDS,
        "involvedObject.kind": ("involvedObject", "kind"),
        "involvedObject.namespace": ("involvedObject", "namespace"),
        "involvedObject.name": ("involvedObject", "name"),
        "involvedObject.uid": ("involvedObject", "uid"),
        "involvedObject.apiVersion": ("involvedObject", "apiVersion"),
        "involvedObject.resourceVersion": ("involvedObject", "resourceVersion"),
        "involvedObject.fieldPath": ("involvedObject", "fieldPath"),
        "reason": ("reason",),
        "reportingComponent": ("reportingComponent",),
        "source": ("source", "component"),
        "type": ("type",),
    }

    def selectable(self, obj: Obj, field: str) -> str:
        # Clients of events.k8s.io/v1 only say who reports.
        found = super().selectable(obj, field)
        return super().selectable(obj, "reportingComponent") if field == "source" and not found else found

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        namespace = dig(obj, "involvedObject", "namespace") or "default"
        if namespace != obj["metadata"].get("namespace"):
            return [
                cause(
                    "FieldValueInvalid",
                    "involvedObject.namespace",
                    "does not match event.namespace",
                    quote(dig(obj, "involvedObject", "namespace") or ""),
                )
            ]
        return []


# The fields that events.k8s.io/v1 calls differently than core/v1 (apis/events/v1/conversion.go).
EVENT_FORM = Renamed(
    {
        "note": "message",
        "regarding": "involvedObject",
        "reportingController": "reportingComponent",
        "deprecatedSource": "source",
        "deprecatedFirstTimestamp": "firstTimestamp",
        "deprecatedLastTimestamp": "lastTimestamp",
        "deprecatedCount": "count",
    }
)
_EVENT_LIMITS = {"reportingInstance": 128, "action": 128, "reason": 128, "note": 1024}


class NewEventStrategy(EventStrategy):
    """Events of events.k8s.io/v1, which must say who reports what, and when (core `validation/events.go`)."""

    fields: Mapping[str, tuple[str, ...]] = {
        **METADATA_FIELDS,
        **{
            name.replace("involvedObject", "regarding"): path
            for name, path in EventStrategy.fields.items()
            if path[0] == "involvedObject"
        },
        "reason": ("reason",),
        "reportingController": ("reportingComponent",),
        "type": ("type",),
    }

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        if old is not None:
            return []
        causes = []
        if not obj.get("eventTime"):
            causes.append(cause("FieldValueRequired", "eventTime"))
        if not obj.get("reportingController"):
            causes.append(cause("FieldValueRequired", "reportingController"))
        for key, limit in _EVENT_LIMITS.items():
            value = obj.get(key) or ""
            if not value and key != "note":
                causes.append(cause("FieldValueRequired", key))
            elif len(value.encode()) > limit:
                detail = f"can have at most {limit} characters"
                causes.append(cause("FieldValueInvalid", key, detail, quote(value)))
        if obj.get("type") not in ("Normal", "Warning"):
            causes.append(cause("FieldValueInvalid", "type", "has invalid value: ", quote(obj.get("type") or "")))
        namespace = dig(obj, "regarding", "namespace") or ""
        if (namespace or "default") != obj["metadata"].get("namespace"):
            detail = "does not match event.namespace"
            causes.append(cause("FieldValueInvalid", "regarding.namespace", detail, quote(namespace)))
        return causes


class LeaseStrategy(BuiltinStrategy):
    """Leases (coordination/v1)."""

    creates_on_update = True
    allow_unconditional_update = False

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        spec = obj.get("spec") or {}
        causes = []
        if "leaseDurationSeconds" in spec and spec["leaseDurationSeconds"] <= 0:
            value = str(spec["leaseDurationSeconds"])
            causes.append(cause("FieldValueInvalid", "spec.leaseDurationSeconds", "must be greater than 0", value))
        if "leaseTransitions" in spec and spec["leaseTransitions"] < 0:
            value = str(spec["leaseTransitions"])
            detail = "must be greater than or equal to 0"
            causes.append(cause("FieldValueInvalid", "spec.leaseTransitions", detail, value))
        return causes


class NodeStrategy(BuiltinStrategy):
    """Nodes."""

    has_status = True
    fields: Mapping[str, tuple[str, ...]] = {**METADATA_FIELDS, "spec.unschedulable": ("spec", "unschedulable")}

    def default(self, obj: Obj) -> None:
        child(obj, "spec")

    def prepare_create(self, obj: Obj) -> None:
        """The agent registers its node with the first status, so that one is kept."""
        child(obj, "status")

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        taints = obj["spec"].get("taints") or []
        if old is not None and taints == (dig(old, "spec", "taints") or []):
            return []  # So that other fields can be written of what an older version let pass.
        # kube-apiserver, too, names this place.
        return list(taint_causes(taints, "metadata.taints"))

    def selectable(self, obj: Obj, field: str) -> str:
        return super().selectable(obj, field) or ("false" if field == "spec.unschedulable" else "")


class StatusObjectStrategy(BuiltinStrategy):
    """A kind with a status that some controller outside writes; defaults come from a table."""

    has_status = True
    defaults: Mapping[str, Any] = {}

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        for key, value in self.defaults.items():
            spec.setdefault(key, value)


class GenerationStrategy(StatusObjectStrategy):
    """The same, with generations."""

    tracks_generation = True


class SpecStrategy(BuiltinStrategy):
    """A kind without status whose spec has generations."""

    tracks_generation = True


class RevisionStrategy(BuiltinStrategy):
    """ControllerRevisions: history, which cannot change."""

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        if old is not None and obj.get("data") != old.get("data"):
            return [cause("FieldValueInvalid", "data", "field is immutable", quote_json(obj.get("data")))]
        return []


class ClaimStrategy(StatusObjectStrategy):
    """PersistentVolumeClaims, as objects."""

    returns_deleted = True
    defaults: Mapping[str, Any] = {"volumeMode": "Filesystem"}

    def prepare_create(self, obj: Obj) -> None:
        obj["status"] = {"phase": "Pending"}

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        asked = dig(obj, "spec", "resources", "requests", "storage")
        if asked is None or asked == dig(old, "spec", "resources", "requests", "storage"):
            return []
        try:
            wrong = "" if parse_quantity(asked) > 0 else "must be greater than zero"
        except ValueError as problem:
            wrong = str(problem)
        return [cause("FieldValueInvalid", "spec.resources[storage]", wrong, quote(str(asked)))] if wrong else []


_SYSTEM_PRIORITIES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
_MAX_PRIORITY = 1_000_000_000


class PriorityClassStrategy(BuiltinStrategy):
    """PriorityClasses: the value cannot change; the highest ones and the prefix `system-` are the system's."""

    tracks_generation = True

    def default(self, obj: Obj) -> None:
        obj.setdefault("value", 0)
        obj.setdefault("preemptionPolicy", "PreemptLowerPriority")

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        causes = []
        name, value = obj["metadata"].get("name") or "", obj["value"]
        if name.startswith("system-"):
            if _SYSTEM_PRIORITIES.get(name) != value:
                detail = "priority class names with 'system-' prefix are reserved for system use only"
                causes.append(cause("FieldValueForbidden", "metadata.name", detail))
        elif value > _MAX_PRIORITY:
            detail = f"maximum allowed value of a user defined priority is {_MAX_PRIORITY}"
            causes.append(cause("FieldValueForbidden", "value", detail))
        if old is not None:
            causes += [
                cause("FieldValueForbidden", key, "may not be changed in an update.")
                for key in ("value", "preemptionPolicy")
                if obj.get(key) != old.get(key)
            ]
        return causes

    def refuse_deletion(self, obj: Obj) -> None:
        name = obj["metadata"]["name"]
        if name in _SYSTEM_PRIORITIES:
            raise errors.forbidden(
                "priorityclasses.scheduling.k8s.io", name, "this is a system priority class and cannot be deleted"
            )


def system_priorities() -> list[Obj]:
    """The PriorityClasses that every cluster has."""
    return [
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": f"Used for system critical pods that must {what}.",
        }
        for (name, value), what in zip(
            _SYSTEM_PRIORITIES.items(),
            (
                "not be moved from their current node",
                "run in the cluster, but can be moved to another node if necessary",
            ),
            strict=True,
        )
    ]
