"""ResourceQuotas and LimitRanges as objects; `solo.registry.quota` and `solo.registry.limits` enforce them."""

from __future__ import annotations

from typing import Any

from kube.machinery.errors import Cause, cause
from kube.machinery.quantity import parse_quantity
from solo.registry.objects import child, quote, quote_json
from solo.registry.rules.core import StatusObjectStrategy
from solo.registry.strategy import BuiltinStrategy

Obj = dict[str, Any]

_AMOUNTS = ("min", "max", "default", "defaultRequest", "maxLimitRequestRatio")


class QuotaStrategy(StatusObjectStrategy):
    """ResourceQuotas: amounts are quantities, scopes cannot change."""

    returns_deleted = True

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        spec = obj["spec"]
        causes = []
        for name, amount in (spec.get("hard") or {}).items():
            causes += _quantity(amount, f"spec.hard[{name}]")
        if old is not None and spec.get("scopes") != old["spec"].get("scopes"):
            causes.append(
                cause("FieldValueInvalid", "spec.scopes", "field is immutable", quote_json(spec.get("scopes")))
            )
        return causes


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
        causes: list[Cause] = []
        for index, item in enumerate(obj["spec"].get("limits") or []):
            field = f"spec.limits[{index}]"
            if not item.get("type"):
                causes.append(cause("FieldValueRequired", f"{field}.type"))
            for part in _AMOUNTS:
                for name, amount in (item.get(part) or {}).items():
                    causes += _quantity(amount, f"{field}.{part}[{name}]")
            if not causes:
                causes += _ordered(item, field)
        return causes


def _quantity(amount: Any, field: str) -> list[Cause]:
    try:
        value = parse_quantity(amount)
    except ValueError as problem:
        return [cause("FieldValueInvalid", field, str(problem), quote(str(amount)))]
    if value < 0:
        return [cause("FieldValueInvalid", field, "must be greater than or equal to 0", quote(str(amount)))]
    return []


def _ordered(item: Obj, field: str) -> list[Cause]:
    """min, defaultRequest, default and max have to stand in that order."""
    causes = []
    order = ("min", "defaultRequest", "default", "max")
    for position, lesser in enumerate(order):
        for greater in order[position + 1 :]:
            for name, amount in (item.get(lesser) or {}).items():
                bound = (item.get(greater) or {}).get(name)
                if bound is not None and parse_quantity(amount) > parse_quantity(bound):
                    detail = f"{lesser} value {amount} is greater than {greater} value {bound}"
                    causes.append(cause("FieldValueInvalid", f"{field}.{lesser}[{name}]", detail, quote(str(amount))))
    return causes
