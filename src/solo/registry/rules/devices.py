"""Kinds of dynamic resource allocation (resource.k8s.io), as objects: nothing hands out devices on one machine.

Rules of `registry/resource` and `apis/resource/validation`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kube.machinery.errors import Cause, cause
from solo.registry.objects import child, dig, quote_json
from solo.registry.rules.core import StatusObjectStrategy
from solo.registry.strategy import ALL_METADATA, METADATA_FIELDS, BuiltinStrategy

Obj = dict[str, Any]


class DeviceClassStrategy(BuiltinStrategy):
    """DeviceClasses."""

    tracks_generation = True
    returns_deleted = True

    def default(self, obj: Obj) -> None:
        child(obj, "spec")


class ClaimStrategy(StatusObjectStrategy):
    """ResourceClaims: what is asked for cannot change; what was found is their status."""

    returns_deleted = True
    kept_by_status = ALL_METADATA

    def default(self, obj: Obj) -> None:
        _default_claim(child(obj, "spec"))

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        return _claim_causes(obj["spec"], "spec") + _frozen(obj, old)


class TemplateStrategy(BuiltinStrategy):
    """ResourceClaimTemplates, which cannot change."""

    returns_deleted = True

    def default(self, obj: Obj) -> None:
        _default_claim(child(child(obj, "spec"), "spec"))

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        return _claim_causes(obj["spec"]["spec"], "spec.spec") + _frozen(obj, old)


class SliceStrategy(BuiltinStrategy):
    """ResourceSlices: the devices of a driver on a node."""

    tracks_generation = True
    returns_deleted = True
    fields: Mapping[str, tuple[str, ...]] = {
        **METADATA_FIELDS,
        "spec.driver": ("spec", "driver"),
        "spec.nodeName": ("spec", "nodeName"),
    }

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        spec = obj.get("spec") or {}
        causes = [] if spec.get("driver") else [cause("FieldValueRequired", "spec.driver")]
        pool = spec.get("pool") or {}
        if not pool.get("name"):
            causes.append(cause("FieldValueRequired", "spec.pool.name"))
        if (pool.get("resourceSliceCount") or 0) < 1:
            detail = "must be greater than zero"
            value = str(pool.get("resourceSliceCount") or 0)
            causes.append(cause("FieldValueInvalid", "spec.pool.resourceSliceCount", detail, value))
        where = [key for key in ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection") if spec.get(key)]
        if len(where) != 1:
            kind = "FieldValueInvalid" if where else "FieldValueRequired"
            detail = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
            causes.append(cause(kind, "spec", detail, quote_json(where) if where else ""))
        if old is not None:
            causes += [
                cause("FieldValueInvalid", f"spec.{key}", "field is immutable", quote_json(spec.get(key)))
                for key in ("driver", "nodeName")
                if spec.get(key) != old["spec"].get(key)
            ]
            if pool.get("name") != dig(old, "spec", "pool", "name"):
                value = quote_json(pool.get("name"))
                causes.append(cause("FieldValueInvalid", "spec.pool.name", "field is immutable", value))
        return causes


def _requests(spec: Obj) -> Iterator[tuple[str, Obj]]:
    """The requests for devices with their fields: each names one exactly, or several of which the first will do."""
    for index, request in enumerate(dig(spec, "devices", "requests") or []):
        field = f"devices.requests[{index}]"
        if request.get("exactly") is not None:
            yield f"{field}.exactly", request["exactly"]
        for number, choice in enumerate(request.get("firstAvailable") or []):
            yield f"{field}.firstAvailable[{number}]", choice


def _default_claim(spec: Obj) -> None:
    for _, request in _requests(spec):
        request["allocationMode"] = request.get("allocationMode") or "ExactCount"
        if request["allocationMode"] == "ExactCount" and not request.get("count"):
            request["count"] = 1


def _claim_causes(spec: Obj, field: str) -> list[Cause]:
    causes = []
    for index, request in enumerate(dig(spec, "devices", "requests") or []):
        if (request.get("exactly") is None) != (not request.get("firstAvailable")):
            continue
        detail = "exactly one of `exactly` or `firstAvailable` is required"
        causes.append(cause("FieldValueRequired", f"{field}.devices.requests[{index}]", detail))
    for place, request in _requests(spec):
        if not request.get("deviceClassName"):
            causes.append(cause("FieldValueRequired", f"{field}.{place}.deviceClassName"))
    return causes


def _frozen(obj: Obj, old: Obj | None) -> list[Cause]:
    if old is None or obj["spec"] == old["spec"]:
        return []
    return [cause("FieldValueInvalid", "spec", "field is immutable", quote_json(obj["spec"]))]
