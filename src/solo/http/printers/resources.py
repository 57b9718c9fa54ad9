"""Printers of what a cluster gives out: storage, devices, addresses, limits, shares of the server."""

from __future__ import annotations

from typing import Any

from solo.http.printers.columns import (
    NONE,
    UNSET,
    Printer,
    columns,
    containers_of,
    created,
    first_of,
    joined,
    labels_text,
    name_of,
)
from solo.registry.objects import dig

Obj = dict[str, Any]

_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}


def access_modes(modes: list[str] | None) -> str:
    """Access modes of volumes in short, always in the same order."""
    return joined((short for mode, short in _MODES.items() if mode in (modes or [])), "")


def _volume(obj: Obj) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    claim = spec.get("claimRef") or {}
    return [
        name_of(obj),
        dig(spec, "capacity", "storage") or "",
        access_modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy") or "",
        "Terminating" if dig(obj, "metadata", "deletionTimestamp") else status.get("phase") or "",
        f"{claim.get('namespace')}/{claim.get('name')}" if claim else "",
        spec.get("storageClassName") or "",
        spec.get("volumeAttributesClassName") or UNSET,
        status.get("reason") or "",
        created(obj),
        spec.get("volumeMode") or UNSET,
    ]


def _driver(obj: Obj) -> list[Any]:
    spec = obj.get("spec") or {}
    audiences = [request.get("audience") or "" for request in spec.get("tokenRequests") or []]
    flags = [bool(spec.get(key)) for key in ("attachRequired", "podInfoOnMount", "storageCapacity")]
    modes = joined(spec.get("volumeLifecycleModes") or [])
    return [
        name_of(obj), *flags, joined(audiences, UNSET), bool(spec.get("requiresRepublish")), modes, created(obj)
    ]  # fmt: skip


def _node_drivers(obj: Obj) -> list[Any]:
    return [name_of(obj), len(dig(obj, "spec", "drivers") or []), created(obj)]


def _capacity(obj: Obj) -> list[Any]:
    return [name_of(obj), obj.get("storageClassName") or "", obj.get("capacity") or UNSET]


def _attachment(obj: Obj) -> list[Any]:
    spec = obj.get("spec") or {}
    volume = dig(spec, "source", "persistentVolumeName") or ""
    attached = bool(dig(obj, "status", "attached"))
    return [name_of(obj), spec.get("attacher"), volume, spec.get("nodeName"), attached, created(obj)]


def _attributes_class(obj: Obj) -> list[Any]:
    return [name_of(obj), obj.get("driverName") or "", created(obj)]


def _claim(obj: Obj) -> list[Any]:
    status, deleted = obj.get("status") or {}, bool(dig(obj, "metadata", "deletionTimestamp"))
    allocated = status.get("allocation") is not None
    states = {
        "deleted": deleted,
        "pending": not allocated and not deleted,
        "allocated": allocated,
        "reserved": allocated and bool(status.get("reservedFor")),
    }
    return [name_of(obj), ",".join(state for state, given in states.items() if given), created(obj)]


def _slice(obj: Obj) -> list[Any]:
    spec = obj.get("spec") or {}
    node = spec.get("nodeName") or (UNSET if not spec.get("allNodes") else "<all>")
    return [name_of(obj), node, spec.get("driver") or "", dig(spec, "pool", "name") or "", created(obj)]


def _range(obj: Obj) -> list[Any]:
    return [name_of(obj), joined(dig(obj, "spec", "cidrs") or [], ""), created(obj)]


def _template(obj: Obj) -> list[Any]:
    template = obj.get("template") or {}
    labels = labels_text(dig(template, "metadata", "labels"))
    return [name_of(obj), *containers_of(template.get("spec") or {}), labels]


def _priority_level(obj: Obj) -> list[Any]:
    spec = obj.get("spec") or {}
    part = spec.get("limited") or {}
    queuing = dig(part, "limitResponse", "queuing") or {}
    shares = part.get("nominalConcurrencyShares")
    lengths = [queuing.get(key, NONE) for key in ("queues", "handSize", "queueLengthLimit")]
    return [name_of(obj), spec.get("type") or "", NONE if shares is None else shares, *lengths, created(obj)]


def _autoscaler(obj: Obj) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    reference = spec.get("scaleTargetRef") or {}
    return [
        name_of(obj),
        f"{reference.get('kind')}/{reference.get('name')}",
        first_of([_target(metric) for metric in spec.get("metrics") or []], 2, ", ") or NONE,
        str(spec["minReplicas"]) if spec.get("minReplicas") is not None else UNSET,
        spec.get("maxReplicas") or 0,
        status.get("currentReplicas") or 0,
        created(obj),
    ]


def _target(metric: Obj) -> str:
    """What a metric should be. What it is nobody measures here."""
    type_ = metric.get("type") or ""
    part = metric.get(type_[:1].lower() + type_[1:]) or {}
    target = part.get("target") or {}
    wanted = next((target[key] for key in ("averageValue", "value") if target.get(key)), "<auto>")
    if type_ in ("External", "Object") and target.get("averageValue"):
        wanted += " (avg)"
    if target.get("averageUtilization") is not None:
        wanted = f"{target['averageUtilization']}%"
    name = f"{part.get('name')}: " if type_ in ("Resource", "ContainerResource") else ""
    return f"{name}<unknown>/{wanted}"


_STORAGE, _NETWORK, _DEVICES = "storage.k8s.io", "networking.k8s.io", "resource.k8s.io"

PRINTERS: dict[str, Printer] = {
    "persistentvolumes": Printer(
        columns(
            "Name|Capacity|Access Modes|Reclaim Policy|Status|Claim|StorageClass|VolumeAttributesClass|Reason|Age",
            wide="VolumeMode",
        ),
        _volume,
    ),
    f"csidrivers.{_STORAGE}": Printer(
        columns(
            "Name|AttachRequired:boolean|PodInfoOnMount:boolean|StorageCapacity:boolean|TokenRequests|"
            "RequiresRepublish:boolean|Modes|Age"
        ),
        _driver,
    ),
    f"csinodes.{_STORAGE}": Printer(columns("Name|Drivers:integer|Age"), _node_drivers),
    f"csistoragecapacities.{_STORAGE}": Printer(columns("Name|StorageClassName|Capacity"), _capacity),
    f"volumeattachments.{_STORAGE}": Printer(columns("Name|Attacher|PV|Node|Attached:boolean|Age"), _attachment),
    f"volumeattributesclasses.{_STORAGE}": Printer(columns("Name|DriverName|Age"), _attributes_class),
    f"resourceclaims.{_DEVICES}": Printer(columns("Name|State|Age"), _claim),
    f"resourceslices.{_DEVICES}": Printer(columns("Name|Node|Driver|Pool|Age"), _slice),
    f"servicecidrs.{_NETWORK}": Printer(columns("Name|CIDRs|Age"), _range),
    "podtemplates": Printer(columns("Name|Containers|Images|Pod Labels"), _template),
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": Printer(
        columns("Name|Type|NominalConcurrencyShares|Queues|HandSize|QueueLengthLimit|Age"), _priority_level
    ),
    "horizontalpodautoscalers.autoscaling": Printer(
        columns("Name|Reference|Targets|MinPods|MaxPods|Replicas|Age"), _autoscaler
    ),
}
