"""Kinds that describe a cluster to whoever runs it, as objects: storage drivers, run times, requests."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from kube.machinery import names
from kube.machinery.durations import now_rfc3339
from kube.machinery.errors import Cause, cause
from solo.registry.objects import child, dig, quote, quote_json
from solo.registry.rules.core import GenerationStrategy, StatusObjectStrategy
from solo.registry.strategy import ALL_METADATA, METADATA_FIELDS, BuiltinStrategy, keep

Obj = dict[str, Any]

_MAX_PRECEDENCE = 10_000


class ReturningStrategy(BuiltinStrategy):
    """A plain kind whose DELETE answers with the object."""

    returns_deleted = True


class DriverStrategy(ReturningStrategy):
    """CSIDrivers."""

    tracks_generation = True

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        spec.setdefault("attachRequired", True)
        spec.setdefault("fsGroupPolicy", "ReadWriteOnceWithFSType")
        spec.setdefault("volumeLifecycleModes", ["Persistent"])
        for key in ("podInfoOnMount", "requiresRepublish", "seLinuxMount", "storageCapacity"):
            spec.setdefault(key, False)


class AttachmentStrategy(StatusObjectStrategy):
    """VolumeAttachments: what is attached where cannot change."""

    returns_deleted = True
    kept_by_status = ALL_METADATA

    def prepare_create(self, obj: Obj) -> None:
        obj["status"] = {"attached": False}

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        spec = obj["spec"]
        causes = [cause("FieldValueRequired", f"spec.{key}") for key in ("attacher", "nodeName") if not spec.get(key)]
        if old is not None and spec != old.get("spec"):
            causes.append(cause("FieldValueInvalid", "spec", "field is immutable", quote_json(spec)))
        return causes


class AttributesClassStrategy(ReturningStrategy):
    """VolumeAttributesClasses: neither driver nor parameters can change."""

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        causes = [] if obj.get("driverName") else [cause("FieldValueRequired", "driverName")]
        if old is not None and any(obj.get(key) != old.get(key) for key in ("driverName", "parameters")):
            causes.append(cause("FieldValueForbidden", "parameters", "updates to parameters are forbidden."))
        return causes


class RuntimeClassStrategy(BuiltinStrategy):
    """RuntimeClasses: the handler cannot change."""

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        handler = obj.get("handler") or ""
        if not handler:
            return [cause("FieldValueRequired", "handler")]
        causes = [cause("FieldValueInvalid", "handler", text, quote(handler)) for text in names.dns1123_label(handler)]
        if old is not None and handler != old.get("handler"):
            causes.append(cause("FieldValueInvalid", "handler", "field is immutable", quote(handler)))
        return causes


class AddressStrategy(BuiltinStrategy):
    """IPAddresses: named by the address, and always somebody's."""

    tracks_generation = True

    def validate_name(self, name: str) -> list[str]:
        wrong = names.ip_address(name)
        if wrong:
            return wrong
        canonical = str(ipaddress.ip_address(name))
        return [] if canonical == name else [f"must be in canonical form ({quote(canonical)})"]

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        reference = dig(obj, "spec", "parentRef")
        if not reference:
            return [cause("FieldValueRequired", "spec.parentRef")]
        return [
            cause("FieldValueRequired", f"spec.parentRef.{key}")
            for key in ("resource", "name")
            if not reference.get(key)
        ]


class SigningRequestStrategy(StatusObjectStrategy):
    """CertificateSigningRequests: the request cannot change; `/approval` writes the conditions that judge it."""

    fields: Mapping[str, tuple[str, ...]] = {**METADATA_FIELDS, "spec.signerName": ("spec", "signerName")}

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        spec = obj["spec"]
        causes = [
            cause("FieldValueRequired", f"spec.{key}")
            for key in ("request", "signerName", "usages")
            if not spec.get(key)
        ]
        seconds = spec.get("expirationSeconds")
        if seconds is not None and seconds < 600:
            detail = "may not specify a duration less than 600 seconds (10 minutes)"
            causes.append(cause("FieldValueInvalid", "spec.expirationSeconds", detail, str(seconds)))
        return causes

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        super().prepare_update(obj, old)
        keep(obj, old, "spec")

    def prepare_status(self, obj: Obj, old: Obj) -> None:
        """Conditions that approve or deny are not the signer's to write."""
        super().prepare_status(obj, old)
        status = child(obj, "status")
        sent, present = (dig(each, "status", "conditions") or [] for each in (obj, old))
        if _judging(sent) != _judging(present):
            sent = [item for item in sent if item.get("type") not in _JUDGEMENTS] + _judging(present)
        status.pop("conditions", None)
        if sent:
            status["conditions"] = _timed(sent, present)

    def prepare_subresource(self, subresource: str, obj: Obj, old: Obj) -> None:
        conditions = _timed(dig(obj, "status", "conditions") or [], dig(old, "status", "conditions") or [])
        super().prepare_status(obj, old)
        obj["status"] = {**(old.get("status") or {}), **({"conditions": conditions} if conditions else {})}

    def validate_status(self, obj: Obj, old: Obj) -> list[Cause]:
        types = {item.get("type") for item in dig(obj, "status", "conditions") or []}
        if {"Approved", "Denied"} <= types:
            detail = "Approved and Denied conditions are mutually exclusive"
            return [cause("FieldValueInvalid", "status.conditions", detail, quote("Denied"))]
        return []


_JUDGEMENTS = ("Approved", "Denied")


def _judging(conditions: list[Obj]) -> list[Obj]:
    return [item for item in conditions if item.get("type") in _JUDGEMENTS]


def _timed(conditions: list[Obj], present: list[Obj]) -> list[Obj]:
    """Conditions with the times at which they were written and became what they are."""
    now = now_rfc3339()
    before = {item.get("type"): item for item in present}
    timed = []
    for item in conditions:
        old = before.get(item.get("type"), {})
        since = old.get("lastTransitionTime") if old.get("status") == item.get("status") else None
        timed.append({"lastUpdateTime": now, "lastTransitionTime": since or now, **item})
    return timed


class FlowSchemaStrategy(GenerationStrategy):
    """FlowSchemas, as objects: nothing is queued on one machine."""

    kept_by_status = ALL_METADATA

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        spec["matchingPrecedence"] = spec.get("matchingPrecedence") or 1000  # Go clients write 0 where none is set

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        spec = obj["spec"]
        causes = []
        precedence = spec["matchingPrecedence"]
        if not 1 <= precedence <= _MAX_PRECEDENCE:
            detail = f"must be between 1 and {_MAX_PRECEDENCE}"
            causes.append(cause("FieldValueInvalid", "spec.matchingPrecedence", detail, str(precedence)))
        elif precedence == 1 and obj["metadata"].get("name") != "exempt":
            detail = "only the schema named 'exempt' may have matchingPrecedence 1"
            causes.append(cause("FieldValueInvalid", "spec.matchingPrecedence", detail, "1"))
        if not dig(spec, "priorityLevelConfiguration", "name"):
            detail = "must reference a priority level"
            causes.append(cause("FieldValueRequired", "spec.priorityLevelConfiguration.name", detail))
        return causes


class PriorityLevelStrategy(GenerationStrategy):
    """PriorityLevelConfigurations, as objects."""

    kept_by_status = ALL_METADATA

    def default(self, obj: Obj) -> None:
        super().default(obj)
        spec = obj["spec"]
        if spec.get("type") == "Exempt":
            exempt = child(spec, "exempt")
            exempt.setdefault("nominalConcurrencyShares", 0)
            exempt.setdefault("lendablePercent", 0)
        limited = spec.get("limited")
        if isinstance(limited, dict):
            limited.setdefault("nominalConcurrencyShares", 30)
            limited.setdefault("lendablePercent", 0)
            queuing = dig(limited, "limitResponse", "queuing")
            if isinstance(queuing, dict):
                for key, value in (("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)):
                    queuing[key] = queuing.get(key) or value

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        spec = obj["spec"]
        kind = spec.get("type") or ""
        if kind not in ("Exempt", "Limited"):
            detail = 'supported values: "Exempt", "Limited"'
            return [cause("FieldValueNotSupported", "spec.type", detail, quote(kind))]
        if kind == "Limited" and not spec.get("limited"):
            detail = "must not be empty when type is Limited"
            return [cause("FieldValueRequired", "spec.limited", detail)]
        return []


def mandatory_schemas() -> list[Obj]:
    """The FlowSchemas that every cluster has."""
    everything = {"apiGroups": ["*"], "clusterScope": True, "namespaces": ["*"], "resources": ["*"], "verbs": ["*"]}
    urls = {"nonResourceURLs": ["*"], "verbs": ["*"]}

    def schema(name: str, precedence: int, groups: list[str], **spec: Any) -> Obj:
        rule = {
            "resourceRules": [everything],
            "nonResourceRules": [urls],
            "subjects": [{"kind": "Group", "group": {"name": group}} for group in groups],
        }
        level = {"priorityLevelConfiguration": {"name": name}}
        body = {"matchingPrecedence": precedence, "rules": [rule], **level, **spec}
        return {"apiVersion": _FLOW, "kind": "FlowSchema", "metadata": {"name": name, **_AUTO}, "spec": body}

    return [
        schema("exempt", 1, ["system:masters"]),
        schema(
            "catch-all",
            _MAX_PRECEDENCE,
            ["system:unauthenticated", "system:authenticated"],
            distinguisherMethod={"type": "ByUser"},
        ),
    ]


def mandatory_levels() -> list[Obj]:
    """The PriorityLevelConfigurations that every cluster has."""
    limited = {"nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}}
    specs: dict[str, Obj] = {"exempt": {"type": "Exempt"}, "catch-all": {"type": "Limited", "limited": limited}}
    return [
        {
            "apiVersion": _FLOW,
            "kind": "PriorityLevelConfiguration",
            "metadata": {"name": name, **_AUTO},
            "spec": spec,
        }
        for name, spec in specs.items()
    ]


_FLOW = "flowcontrol.apiserver.k8s.io/v1"
_AUTO: Obj = {"annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}}
