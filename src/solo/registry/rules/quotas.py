"""ResourceQuotas and LimitRanges as objects; `solo.registry.quota` and `solo.registry.limits` enforce them."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from kube.machinery import names
from kube.machinery.errors import Cause, cause
from kube.machinery.quantity import parse_quantity
from solo.registry.objects import child, quote
from solo.registry.rules.core import StatusObjectStrategy
from solo.registry.rules.fieldchecks import invalid
from solo.registry.rules.resourcechecks import (
    amount_causes,
    container_resource,
    overcommitted,
    quota_resource,
    resource_name,
    standard_quota,
)
from solo.registry.strategy import BuiltinStrategy

Obj = dict[str, Any]

_AMOUNTS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")
_DEFAULTS = ("default", "defaultRequest")
_LIMIT_TYPES = ("Container", "PersistentVolumeClaim", "Pod")
_TITLES = {"min": "min", "max": "max", "default": "default", "defaultRequest": "default request"}
# The lesser, the greater, of which of them it is said if they are not, and whose value is shown.
_ORDER = (
    ("min", "max", "min", "min"),
    ("min", "defaultRequest", "defaultRequest", "defaultRequest"),
    ("defaultRequest", "max", "defaultRequest", "defaultRequest"),
    ("defaultRequest", "default", "defaultRequest", "defaultRequest"),
    ("min", "default", "default", "min"),
    ("default", "max", "default", "max"),
)
_PLAIN_SCOPES = ("Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "CrossNamespacePodAffinity")
_SCOPES = (*_PLAIN_SCOPES, "PriorityClass", "VolumeAttributesClass")
_OF_PODS = ("Terminating", "NotTerminating", "NotBestEffort", "PriorityClass", "CrossNamespacePodAffinity")
_POD_COUNT = ("pods",)
_POD_AMOUNTS = (*_POD_COUNT, "cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory")


class QuotaStrategy(StatusObjectStrategy):
    """ResourceQuotas: amounts are quantities, scopes cannot change."""

    returns_deleted = True

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        spec = obj["spec"]
        if old is not None and spec == old["spec"]:
            return []  # So that metadata can be written of what an older version let pass.
        causes = []
        for name, amount in (spec.get("hard") or {}).items():
            field = f"spec.hard[{name}]"
            causes += quota_resource(name, field) + amount_causes(name, amount, field)
        causes += _scope_causes(spec)
        if old is not None and set(spec.get("scopes") or []) != set(old["spec"].get("scopes") or []):
            causes.append(invalid("spec.scopes", spec.get("scopes"), "field is immutable"))
        return causes


def _scope_causes(spec: Obj) -> Iterator[Cause]:
    """Of which pods it is, in the one way and in the other."""
    scopes = spec.get("scopes") or []
    for scope in scopes:
        yield from _scope(scope, spec, "spec.scopes", "spec.scopes", scopes)
    yield from _conflicts(scopes, "spec.scopes", scopes)
    if spec.get("scopeSelector") is None:
        return
    field, selector = "spec.scopeSelector.matchExpressions", spec["scopeSelector"]
    expressions = selector.get("matchExpressions") or []
    for item in expressions:
        yield from _scope(item.get("scopeName") or "", spec, f"{field}.scopeName", field, selector)
        yield from _expression(item, field)
    yield from _conflicts([item.get("scopeName") for item in expressions], field, scopes)


def _scope(scope: str, spec: Obj, field: str, whole: str, value: Any) -> Iterator[Cause]:
    """Whether there is such a scope, and whether all that is limited can be of it."""
    if scope not in _SCOPES:
        yield invalid(field, value if field == whole else scope, "unsupported scope")
    allowed = {"BestEffort": _POD_COUNT}.get(scope, _POD_AMOUNTS if scope in _OF_PODS else None)
    for name in sorted(spec.get("hard") or {}):
        if allowed is not None and standard_quota(name) and name not in allowed:
            yield invalid(whole, value, "unsupported scope applied to resource")


def _expression(item: Obj, field: str) -> Iterator[Cause]:
    operator, values = item.get("operator") or "", item.get("values") or []
    if item.get("scopeName") in _PLAIN_SCOPES and operator != "Exists":
        detail = (
            "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, "
            "ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or "
            "ResourceQuotaScopeCrossNamespacePodAffinity"
        )
        yield invalid(f"{field}.operator", operator, detail)
    if operator in ("In", "NotIn"):
        if not values:
            detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
            yield cause("FieldValueRequired", f"{field}.values", detail)
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
            yield invalid(f"{field}.values", values, detail)
    else:
        yield invalid(f"{field}.operator", operator, "not a valid selector operator")


def _conflicts(scopes: list[Any], field: str, value: Any) -> Iterator[Cause]:
    for scope in ("BestEffort", "Terminating"):
        if {scope, f"Not{scope}"} <= set(scopes):
            yield invalid(field, value, "conflicting scopes")


class LimitRangeStrategy(BuiltinStrategy):
    """LimitRanges: what is not given of a container's limits follows from what is (`SetDefaults_LimitRangeItem`)."""

    creates_on_update = True

    def default(self, obj: Obj) -> None:
        for item in child(obj, "spec").get("limits") or []:
            if item.get("type") != "Container":
                continue
            for source, target in (("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")):
                for name, amount in (item.get(source) or {}).items():
                    child(item, target).setdefault(name, amount)

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        if old is not None and obj["spec"] == old["spec"]:
            return []  # So that metadata can be written of what an older version let pass.
        causes: list[Cause] = []
        seen: set[str] = set()
        for index, item in enumerate(obj["spec"].get("limits") or []):
            field, type_ = f"spec.limits[{index}]", item.get("type") or ""
            causes += _type_causes(type_, f"{field}.type")
            if type_ in seen:
                causes.append(cause("FieldValueDuplicate", f"{field}.type", value=quote(type_)))
            seen.add(type_)
            causes += _limit_causes(item, type_, field)
        return causes


def _type_causes(type_: str, field: str) -> list[Cause]:
    causes = [invalid(field, type_, text) for text in names.qualified_name(type_)]
    if not causes and "/" not in type_ and type_ not in _LIMIT_TYPES:
        causes.append(invalid(field, type_, "must be a standard limit type or fully qualified"))
    return causes


def _limit_causes(item: Obj, type_: str, field: str) -> Iterator[Cause]:
    named = container_resource if type_ in ("Container", "Pod") else resource_name
    found: dict[str, dict[str, Decimal]] = {part: {} for part in _AMOUNTS}
    for part in _AMOUNTS:
        amounts = item.get(part) or {}
        if type_ == "Pod" and part in _DEFAULTS:
            if amounts:
                yield cause("FieldValueForbidden", f"{field}.{part}", "may not be specified when `type` is 'Pod'")
            continue
        for name, amount in amounts.items():
            place = f"{field}.{part}[{name}]"
            yield from named(name, place)
            try:
                found[part][name] = parse_quantity(amount)
            except ValueError as problem:
                yield cause("FieldValueInvalid", place, str(problem), quote(str(amount)))
    if type_ == "PersistentVolumeClaim" and "storage" not in {*found["min"], *found["max"]}:
        detail = "either minimum or maximum storage value is required, but neither was provided"
        yield cause("FieldValueRequired", f"{field}.limits", detail)
    for name in sorted({name for amounts in found.values() for name in amounts}):
        yield from _order_causes(name, {part: found[part].get(name) for part in _AMOUNTS}, item, field)


def _order_causes(name: str, amounts: dict[str, Decimal | None], item: Obj, field: str) -> Iterator[Cause]:
    """min, defaultRequest, default and max have to stand in that order, and more."""
    for lesser, greater, part, shown in _ORDER:
        least, most = amounts[lesser], amounts[greater]
        if least is not None and most is not None and least > most:
            # A default is called otherwise where it is the bound of the default request.
            title = "default limit" if part == "defaultRequest" and greater == "default" else _TITLES[greater]
            detail = f"{_TITLES[lesser]} value {item[lesser][name]} is greater than {title} value {item[greater][name]}"
            yield invalid(f"{field}.{part}[{name}]", str(item[shown][name]), detail)
    ratio = amounts["maxLimitRequestRatio"]
    if ratio is not None and ratio < 1:
        given = str(item["maxLimitRequestRatio"][name])
        yield invalid(f"{field}.maxLimitRequestRatio[{name}]", given, f"ratio {given} is less than 1")
    default, asked = amounts["default"], amounts["defaultRequest"]
    if not overcommitted(name) and default is not None and asked is not None and default != asked:
        given, wanted = str(item["default"][name]), str(item["defaultRequest"][name])
        detail = f"default value {given} must equal to defaultRequest value {wanted} in {name}"
        yield invalid(f"{field}.defaultRequest[{name}]", wanted, detail)
