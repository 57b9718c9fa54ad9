"""What is wrong with what a pod says about the nodes it can run on: affinity, tolerations, spread.

Rules of core `validateAffinity`, `ValidateTolerations` and `validateTopologySpreadConstraints`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kube.machinery import names
from kube.machinery.errors import Cause, cause
from solo.registry.objects import quote
from solo.registry.rules.fieldchecks import SET_OPERATORS, invalid, label_selector, label_values, one_of, set_values

Obj = dict[str, Any]

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_POLICIES = ("Honor", "Ignore")
_UNSATISFIABLE = ("DoNotSchedule", "ScheduleAnyway")
_REQUIRED, _PREFERRED = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)
_NO_OPERATOR = "not a valid selector operator"


def affinity_causes(spec: Obj, field: str) -> Iterator[Cause]:
    """Affinity to nodes and to pods."""
    affinity = spec.get("affinity") or {}
    yield from _node_affinity(affinity.get("nodeAffinity") or {}, f"{field}.affinity.nodeAffinity")
    for key in ("podAffinity", "podAntiAffinity"):
        place, terms = f"{field}.affinity.{key}", affinity.get(key) or {}
        for index, term in enumerate(terms.get(_REQUIRED) or []):
            yield from _pod_term(term, f"{place}.{_REQUIRED}[{index}]")
        for index, item in enumerate(terms.get(_PREFERRED) or []):
            yield from _weight(item, f"{place}.{_PREFERRED}[{index}]")
            yield from _pod_term(item.get("podAffinityTerm") or {}, f"{place}.{_PREFERRED}[{index}].podAffinityTerm")


def _weight(item: Obj, field: str) -> Iterator[Cause]:
    weight = item.get("weight") or 0
    if not 1 <= weight <= 100:
        yield invalid(f"{field}.weight", weight, "must be in the range 1-100")


def _node_affinity(affinity: Obj, field: str) -> Iterator[Cause]:
    required = affinity.get(_REQUIRED)
    if required is not None:
        place = f"{field}.{_REQUIRED}.nodeSelectorTerms"
        if not required.get("nodeSelectorTerms"):
            yield cause("FieldValueRequired", place, "must have at least one node selector term")
        for index, term in enumerate(required.get("nodeSelectorTerms") or []):
            yield from _node_term(term, f"{place}[{index}]", any_value=False)
    for index, item in enumerate(affinity.get(_PREFERRED) or []):
        place = f"{field}.{_PREFERRED}[{index}]"
        yield from _weight(item, place)
        yield from _node_term(item.get("preference") or {}, f"{place}.preference", any_value=True)


def _node_term(term: Obj, field: str, *, any_value: bool) -> Iterator[Cause]:
    for index, item in enumerate(term.get("matchExpressions") or []):
        place = f"{field}.matchExpressions[{index}]"
        yield from _node_labels(item, place)
        if not any_value:
            yield from label_values(item.get("values") or [], f"{place}.values")
    for index, item in enumerate(term.get("matchFields") or []):
        yield from _node_fields(item, f"{field}.matchFields[{index}]")


def _node_labels(item: Obj, field: str) -> Iterator[Cause]:
    operator, values, key = item.get("operator") or "", item.get("values") or [], item.get("key") or ""
    if operator in SET_OPERATORS:
        yield from set_values(operator, values, f"{field}.values")
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            detail = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            yield cause("FieldValueRequired", f"{field}.values", detail)
    else:
        yield invalid(f"{field}.operator", operator, _NO_OPERATOR)
    yield from (invalid(f"{field}.key", key, text) for text in names.qualified_name(key))


def _node_fields(item: Obj, field: str) -> Iterator[Cause]:
    operator, values, key = item.get("operator") or "", item.get("values") or [], item.get("key") or ""
    if operator not in ("In", "NotIn"):
        yield invalid(f"{field}.operator", operator, _NO_OPERATOR)
    elif len(values) != 1:
        detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        yield cause("FieldValueRequired", f"{field}.values", detail)
    if key != "metadata.name":
        yield invalid(f"{field}.key", key, "not a valid field selector key")
        return
    for index, value in enumerate(values):
        yield from (invalid(f"{field}.values[{index}]", value, text) for text in names.dns1123_subdomain(value))


def _pod_term(term: Obj, field: str) -> Iterator[Cause]:
    for key in ("labelSelector", "namespaceSelector"):
        yield from label_selector(term.get(key), f"{field}.{key}")
    for namespace in term.get("namespaces") or []:
        yield from (invalid(f"{field}.namespace", namespace, text) for text in names.dns1123_label(namespace))
    for key in ("matchLabelKeys", "mismatchLabelKeys"):
        yield from _label_keys(term, key, field)
    for index, name in enumerate(term.get("matchLabelKeys") or []):
        if name in (term.get("mismatchLabelKeys") or []):
            detail = "exists in both matchLabelKeys and mismatchLabelKeys"
            yield invalid(f"{field}.matchLabelKeys[{index}]", name, detail)
    topology = term.get("topologyKey") or ""
    if not topology:
        yield cause("FieldValueRequired", f"{field}.topologyKey", "can not be empty")
    yield from (invalid(f"{field}.topologyKey", topology, text) for text in names.qualified_name(topology))


def _label_keys(item: Obj, key: str, field: str) -> Iterator[Cause]:
    if item.get(key) and item.get("labelSelector") is None:
        detail = "must not be specified when labelSelector is not set"
        yield cause("FieldValueForbidden", f"{field}.{key}", detail)
        return
    for index, name in enumerate(item.get(key) or []):
        yield from (invalid(f"{field}.{key}[{index}]", name, text) for text in names.qualified_name(name))


def spread_causes(spec: Obj, field: str) -> Iterator[Cause]:
    """How evenly pods have to spread."""
    constraints = spec.get("topologySpreadConstraints") or []
    for index, item in enumerate(constraints):
        place = f"{field}.topologySpreadConstraints[{index}]"
        action, topology = item.get("whenUnsatisfiable") or "", item.get("topologyKey") or ""
        if (item.get("maxSkew") or 0) <= 0:
            yield invalid(f"{place}.maxSkew", item.get("maxSkew") or 0, "must be greater than zero")
        if not topology:
            yield cause("FieldValueRequired", f"{place}.topologyKey", "can not be empty")
        if action not in _UNSATISFIABLE:
            yield one_of(f"{place}.whenUnsatisfiable", action, _UNSATISFIABLE)
        if any(_kind(other) == _kind(item) for other in constraints[index + 1 :]):
            value = quote(f"{{{topology}, {action}}}")
            yield cause("FieldValueDuplicate", f"{place}.{{topologyKey, whenUnsatisfiable}}", value=value)
        yield from _spread_options(item, action, place)


def _kind(item: Obj) -> tuple[str, str]:
    return item.get("topologyKey") or "", item.get("whenUnsatisfiable") or ""


def _spread_options(item: Obj, action: str, field: str) -> Iterator[Cause]:
    domains = item.get("minDomains")
    if domains is not None:
        if domains <= 0:
            yield invalid(f"{field}.minDomains", domains, "must be greater than zero")
        if action != "DoNotSchedule":
            detail = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
            yield invalid(f"{field}.minDomains", domains, detail)
    for key in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
        if item.get(key) is not None and item[key] not in _POLICIES:
            yield one_of(f"{field}.{key}", item[key], _POLICIES)
    yield from _label_keys(item, "matchLabelKeys", field)
    yield from label_selector(item.get("labelSelector"), f"{field}.labelSelector")


def toleration_causes(spec: Obj, field: str) -> Iterator[Cause]:
    """Which taints a pod puts up with."""
    for index, item in enumerate(spec.get("tolerations") or []):
        yield from _toleration(item, f"{field}.tolerations[{index}]")


def _toleration(item: Obj, field: str) -> Iterator[Cause]:
    operator, key, value = item.get("operator") or "", item.get("key") or "", item.get("value") or ""
    effect = item.get("effect") or ""
    yield from (invalid(f"{field}.key", key, text) for text in (names.qualified_name(key) if key else ()))
    if not key and operator != "Exists":
        detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        yield invalid(f"{field}.operator", operator, detail)
    if item.get("tolerationSeconds") is not None and effect != "NoExecute":
        yield invalid(f"{field}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
    if operator in ("", "Equal"):
        wrong = names.label_value(value)
        if wrong:
            yield invalid(f"{field}.operator", value, ";".join(wrong))
    elif operator == "Exists":
        if value:
            yield invalid(f"{field}.operator", value, "value must be empty when `operator` is 'Exists'")
    elif operator not in ("Gt", "Lt"):
        yield one_of(f"{field}.operator", operator, ("Equal", "Exists"))
    if effect and effect not in _EFFECTS:
        yield one_of(f"{field}.effect", effect, _EFFECTS)


def taint_causes(taints: list[Obj], field: str) -> Iterator[Cause]:
    """The taints of a node (core `validateNodeTaints`)."""
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(taints):
        place = f"{field}[{index}]"
        key, value, effect = (taint.get(part) or "" for part in ("key", "value", "effect"))
        yield from (invalid(f"{place}.key", key, text) for text in names.qualified_name(key))
        wrong = names.label_value(value)
        if wrong:
            yield invalid(f"{place}.value", value, ";".join(wrong))
        if not effect:
            yield cause("FieldValueRequired", f"{place}.effect")
        elif effect not in _EFFECTS:
            yield one_of(f"{place}.effect", effect, _EFFECTS)
        if (key, effect) in seen:
            detail = "taints must be unique by key and effect pair"
            shown = f'{{"Key":{quote(key)},"Value":{quote(value)},"Effect":{quote(effect)},"TimeAdded":null}}'
            yield cause("FieldValueDuplicate", place, detail, shown)
        seen.add((key, effect))
