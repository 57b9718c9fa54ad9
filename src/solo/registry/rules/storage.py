"""Volumes, claims and classes of storage, as objects: nothing binds or provisions on one machine.

Rules of core `ValidatePersistentVolume` and `ValidatePersistentVolumeClaim`, and of `apis/storage/validation`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from kube.machinery.errors import Cause, cause
from kube.machinery.quantity import parse_quantity
from solo.registry.objects import dig, quote
from solo.registry.rules import core
from solo.registry.rules.podchecks import exactly_one, unsupported
from solo.registry.strategy import BuiltinStrategy

Obj = dict[str, Any]

_ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_VOLUME_MODES = ("Block", "Filesystem")
_POLICIES = ("Delete", "Recycle", "Retain")
_BINDING_MODES = ("Immediate", "WaitForFirstConsumer")
_NO_SOURCE = frozenset(
    {
        "accessModes", "capacity", "claimRef", "mountOptions", "nodeAffinity", "persistentVolumeReclaimPolicy",
        "storageClassName", "volumeAttributesClassName", "volumeMode",
    }
)  # fmt: skip


def _modes(spec: Obj, field: str) -> Iterator[Cause]:
    if not spec.get("accessModes"):
        yield cause("FieldValueRequired", f"{field}.accessModes", "at least 1 access mode is required")
    for mode in spec.get("accessModes") or []:
        if mode not in _ACCESS_MODES:
            yield unsupported(f"{field}.accessModes", mode, _ACCESS_MODES)
    if {"ReadWriteOncePod"} < set(spec.get("accessModes") or []) & set(_ACCESS_MODES):
        detail = "may not use ReadWriteOncePod with other access modes"
        yield cause("FieldValueForbidden", f"{field}.accessModes", detail)
    if spec.get("volumeMode") not in _VOLUME_MODES:
        yield unsupported(f"{field}.volumeMode", spec.get("volumeMode"), _VOLUME_MODES)


class VolumeStrategy(core.StatusObjectStrategy):
    """PersistentVolumes: what they are made of cannot change."""

    returns_deleted = True
    defaults: Mapping[str, Any] = {"volumeMode": "Filesystem", "persistentVolumeReclaimPolicy": "Retain"}

    def prepare_create(self, obj: Obj) -> None:
        obj["status"] = {"phase": "Pending"}

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        spec = obj["spec"]
        causes = list(_modes(spec, "spec"))
        if not dig(spec, "capacity", "storage"):
            causes.append(cause("FieldValueRequired", "spec.capacity"))
        policy = spec["persistentVolumeReclaimPolicy"]
        if policy not in _POLICIES:
            causes.append(unsupported("spec.persistentVolumeReclaimPolicy", policy, _POLICIES))
        sources = {key: spec[key] for key in spec if key not in _NO_SOURCE}
        causes += exactly_one(sources, tuple(sources), "spec", "volume type")
        if old is not None:
            before = {key: old["spec"][key] for key in old["spec"] if key not in _NO_SOURCE}
            if sources != before:
                detail = "spec.persistentvolumesource is immutable after creation"
                causes.append(cause("FieldValueForbidden", "spec.persistentvolumesource", detail))
            if spec["volumeMode"] != old["spec"].get("volumeMode"):
                detail, value = "field is immutable", quote(spec["volumeMode"])
                causes.append(cause("FieldValueInvalid", "spec.volumeMode", detail, value))
        return causes


class ClaimStrategy(core.ClaimStrategy):
    """PersistentVolumeClaims: only what is asked of the volume's size and attributes may change, and a binding."""

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        spec = obj["spec"]
        causes = super().validate(obj, old)
        if old is None or spec != old["spec"]:
            causes += _modes(spec, "spec")
            if not dig(spec, "resources", "requests", "storage"):
                causes.append(cause("FieldValueRequired", "spec.resources[storage]"))
        if old is not None:
            causes += _changes(spec, old["spec"], old.get("status") or {})
        return causes


def _changes(spec: Obj, before: Obj, status: Obj) -> Iterator[Cause]:
    """What of a claim must not change; that its volume grows is only possible once it has one."""
    bound = status.get("phase") == "Bound"
    if _frozen(spec, before, bound=bound) != _frozen(before, before, bound=bound):
        detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName"
        yield cause("FieldValueForbidden", "spec", f"{detail} for bound claims")
    new, old, given = (
        _amount(asked)
        for asked in (
            dig(spec, "resources", "requests", "storage"),
            dig(before, "resources", "requests", "storage"),
            dig(status, "capacity", "storage"),
        )
    )
    if new < old and new <= given:
        detail = "field can not be less than status.capacity"
        yield cause("FieldValueForbidden", "spec.resources.requests.storage", detail)


def _frozen(spec: Obj, old: Obj, *, bound: bool) -> Obj:
    """The part of a claim that cannot change; what was not set may still be (by who binds it)."""
    free = {"resources"} | ({"volumeAttributesClassName"} if bound else set())
    free |= {key for key in ("volumeName", "storageClassName") if not old.get(key)}
    frozen: Obj = {key: value for key, value in spec.items() if key not in free}
    for part in ("limits", "requests"):
        amounts = dig(spec, "resources", part) or {}
        frozen[part] = {
            name: _amount(amount)
            for name, amount in amounts.items()
            if not (bound and part == "requests" and name == "storage")
        }
    return frozen


def _amount(amount: Any) -> Decimal:
    """An amount as a number, because there are several ways to write it; what is none is named elsewhere."""
    try:
        return parse_quantity(amount or "0")
    except ValueError:
        return Decimal(0)


class StorageClassStrategy(BuiltinStrategy):
    """StorageClasses: how volumes come to be cannot change."""

    returns_deleted = True

    def default(self, obj: Obj) -> None:
        obj.setdefault("reclaimPolicy", "Delete")
        obj.setdefault("volumeBindingMode", "Immediate")

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        causes = [] if obj.get("provisioner") else [cause("FieldValueRequired", "provisioner")]
        for key, allowed in (("reclaimPolicy", ("Delete", "Retain")), ("volumeBindingMode", _BINDING_MODES)):
            if obj[key] not in allowed:
                causes.append(unsupported(key, obj[key], allowed))
        if old is not None:
            causes += [
                cause("FieldValueForbidden", key, f"updates to {key} are forbidden.")
                for key in ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode")
                if obj.get(key) != old.get(key)
            ]
        return causes
