"""Label selectors in objects that keep one for later (apimachinery `ValidateLabelSelector`)."""

from __future__ import annotations

from typing import Any

from kube.machinery import names, objectmeta
from kube.machinery.errors import Cause, cause
from solo.registry.objects import quote

Obj = dict[str, Any]


def validate_label_selector(selector: Obj, field: str) -> list[Cause]:
    """What is wrong with a `metav1.LabelSelector`; an empty one is good."""
    causes = objectmeta.validate_labels(selector.get("matchLabels") or {}, f"{field}.matchLabels")
    for index, expression in enumerate(selector.get("matchExpressions") or []):
        causes += _expression(expression, f"{field}.matchExpressions[{index}]")
    return causes


def _expression(expression: Obj, field: str) -> list[Cause]:
    operator, key = expression.get("operator") or "", expression.get("key") or ""
    values = expression.get("values") or []
    causes = []
    if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
        detail = "not a valid selector operator"
        causes.append(cause("FieldValueInvalid", f"{field}.operator", detail, quote(operator)))
    elif operator in ("In", "NotIn") and not values:
        detail = "must be specified when `operator` is 'In' or 'NotIn'"
        causes.append(cause("FieldValueRequired", f"{field}.values", detail))
    elif operator in ("Exists", "DoesNotExist") and values:
        detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
        causes.append(cause("FieldValueForbidden", f"{field}.values", detail))
    causes += [cause("FieldValueInvalid", f"{field}.key", text, quote(key)) for text in names.qualified_name(key)]
    for index, value in enumerate(values):
        place = f"{field}.values[{index}]"
        causes += [cause("FieldValueInvalid", place, text, quote(value)) for text in names.label_value(value)]
    return causes
