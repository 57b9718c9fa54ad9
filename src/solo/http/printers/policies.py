"""Printers of what has a say in how the server answers: admission policies and webhooks, API services."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from solo.http.printers.columns import UNSET, Printer, columns, created, name_of
from solo.registry.objects import dig

Obj = dict[str, Any]


def _validating(obj: Obj) -> list[Any]:
    return [name_of(obj), len(dig(obj, "spec", "validations") or []), _param_kind(obj), created(obj)]


def _mutating(obj: Obj) -> list[Any]:
    return [name_of(obj), len(dig(obj, "spec", "mutations") or []), _param_kind(obj), created(obj)]


def _param_kind(obj: Obj) -> str:
    kind = dig(obj, "spec", "paramKind")
    return f"{kind.get('apiVersion')}/{kind.get('kind')}" if kind else UNSET


def _binding(obj: Obj) -> list[Any]:
    return [name_of(obj), dig(obj, "spec", "policyName") or "", _param(obj), created(obj)]


def _param(obj: Obj) -> str:
    """What a binding gives its policy: an object, of any namespace if it names none, or those of a selector."""
    reference = dig(obj, "spec", "paramRef") or {}
    if reference.get("name"):
        return f"{reference.get('namespace') or '*'}/{reference['name']}"
    selector = reference.get("selector")
    return UNSET if selector is None else _go_selector(selector)


def _go_selector(selector: Mapping[str, Any]) -> str:
    """A label selector as Go's generated `LabelSelector.String` writes it."""
    labels = "".join(f"{key}: {value}," for key, value in sorted((selector.get("matchLabels") or {}).items()))
    expressions = "".join(
        f"LabelSelectorRequirement{{Key:{item.get('key')},Operator:{item.get('operator')},"
        f"Values:[{' '.join(item.get('values') or [])}],}},"
        for item in selector.get("matchExpressions") or []
    )
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{labels}}},"
        f"MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )


def _webhooks(obj: Obj) -> list[Any]:
    return [name_of(obj), len(obj.get("webhooks") or []), created(obj)]


def _api_service(obj: Obj) -> list[Any]:
    service = dig(obj, "spec", "service")
    place = f"{service.get('namespace')}/{service.get('name')}" if service else "Local"
    return [name_of(obj), place, _available(obj), created(obj)]


def _available(obj: Obj) -> str:
    conditions = dig(obj, "status", "conditions") or []
    found = next((each for each in conditions if each.get("type") == "Available"), {"status": "Unknown"})
    status, reason = str(found.get("status")), found.get("reason")
    return f"{status} ({reason})" if reason and status != "True" else status


_ADMISSION = "admissionregistration.k8s.io"
_BINDING = Printer(columns("Name|PolicyName|ParamRef|Age"), _binding)
_WEBHOOKS = Printer(columns("Name|Webhooks:integer|Age"), _webhooks)

PRINTERS: dict[str, Printer] = {
    f"validatingadmissionpolicies.{_ADMISSION}": Printer(
        columns("Name|Validations:integer|ParamKind|Age"), _validating
    ),
    f"validatingadmissionpolicybindings.{_ADMISSION}": _BINDING,
    f"mutatingadmissionpolicies.{_ADMISSION}": Printer(columns("Name|Mutations:integer|ParamKind|Age"), _mutating),
    f"mutatingadmissionpolicybindings.{_ADMISSION}": _BINDING,
    f"validatingwebhookconfigurations.{_ADMISSION}": _WEBHOOKS,
    f"mutatingwebhookconfigurations.{_ADMISSION}": _WEBHOOKS,
    "apiservices.apiregistration.k8s.io": Printer(columns("Name|Service|Available|Age"), _api_service),
}
