"""What policies and webhooks are about: rules, selectors and match conditions, with their defaults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kube.machinery import names
from kube.machinery.errors import Cause, cause
from solo.registry.objects import quote, quote_json
from solo.registry.rules.expressions import Scope, check_expression
from solo.registry.rules.fieldchecks import among, label_selector

Obj = dict[str, Any]

_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_MOST_CONDITIONS = 64


def default_match(match: Obj, rules: str = "resourceRules") -> None:
    """Fill in the defaults of what is matched, in place."""
    match.setdefault("matchPolicy", "Equivalent")
    match.setdefault("namespaceSelector", {})
    match.setdefault("objectSelector", {})
    for key in (rules, "excludeResourceRules"):
        for rule in match.get(key) or []:
            rule.setdefault("scope", "*")


def validate_match_resources(match: Obj, field: str) -> list[Cause]:
    """The `MatchResources` of a policy or of a binding."""
    causes = among(f"{field}.matchPolicy", match.get("matchPolicy"), ("Equivalent", "Exact"))
    causes += validate_selectors(match, field)
    for key in ("resourceRules", "excludeResourceRules"):
        for index, rule in enumerate(match.get(key) or []):
            place = f"{field}.{key}[{index}]"
            causes += _resource_names(rule.get("resourceNames") or [], f"{place}.resourceNames")
            causes += validate_rule(rule, place)
    return causes


def validate_selectors(match: Obj, field: str) -> list[Cause]:
    """The selectors of namespaces and objects."""
    return [
        found
        for key in ("namespaceSelector", "objectSelector")
        for found in label_selector(match.get(key) or {}, f"{field}.{key}")
    ]


def validate_rule(rule: Obj, field: str) -> list[Cause]:
    """One rule: operations on resources."""
    operations, place = rule.get("operations") or [], f"{field}.operations"
    causes = _wildcard_alone(operations, place, "operations")
    for index, operation in enumerate(operations):
        causes += among(f"{place}[{index}]", operation, _OPERATIONS)
    causes += _wildcard_alone(rule.get("apiGroups") or [], f"{field}.apiGroups", "API groups")
    versions, place = rule.get("apiVersions") or [], f"{field}.apiVersions"
    causes += _wildcard_alone(versions, place, "API versions")
    causes += [cause("FieldValueRequired", f"{place}[{index}]") for index, item in enumerate(versions) if not item]
    causes += _resources(rule.get("resources") or [], f"{field}.resources")
    return causes + among(f"{field}.scope", rule.get("scope", "*"), ("*", "Cluster", "Namespaced"))


def validate_conditions(conditions: Sequence[Obj], field: str, scope: Scope) -> list[Cause]:
    """Match conditions: named expressions that give a bool."""
    causes = []
    if len(conditions) > _MOST_CONDITIONS:
        detail = f"must have at most {_MOST_CONDITIONS} items"
        causes.append(cause("FieldValueTooMany", field, detail, str(len(conditions))))
    seen = set()
    for index, condition in enumerate(conditions):
        name, place = condition.get("name") or "", f"{field}[{index}]"
        expression = (condition.get("expression") or "").strip()
        if expression:
            causes += check_expression(expression, f"{place}.expression", scope, ("bool",))
        else:
            causes.append(cause("FieldValueRequired", f"{place}.expression"))
        if not name:
            causes.append(cause("FieldValueRequired", f"{place}.name"))
            continue
        for text in names.qualified_name(name):
            causes.append(cause("FieldValueInvalid", f"{place}.name", text, quote(name)))
        if name in seen:
            causes.append(cause("FieldValueDuplicate", f"{place}.name", "", quote(name)))
        seen.add(name)
    return causes


def _wildcard_alone(items: Sequence[str], field: str, what: str) -> list[Cause]:
    if not items:
        return [cause("FieldValueRequired", field)]
    if len(items) > 1 and "*" in items:
        detail = f"if '*' is present, must not specify other {what}"
        return [cause("FieldValueInvalid", field, detail, quote_json(items))]
    return []


def _resource_names(listed: Sequence[str], field: str) -> list[Cause]:
    causes = []
    for index, name in enumerate(listed):
        place = f"{field}[{index}]"
        causes += [cause("FieldValueInvalid", place, text, quote(name)) for text in names.path_segment(name)]
        if name in listed[:index]:
            causes.append(cause("FieldValueDuplicate", place, "", quote(name)))
    return causes


def _resources(resources: Sequence[str], field: str) -> list[Cause]:
    if not resources:
        return [cause("FieldValueRequired", field)]
    causes = []
    covering: set[str] = set()  # those before that have a wildcard on one side of the slash
    for index, item in enumerate(resources):
        if not item:
            causes.append(cause("FieldValueRequired", f"{field}[{index}]"))
        resource, slash, subresource = item.partition("/")
        if not slash:
            continue
        for pattern in (f"{resource}/*", f"*/{subresource}"):
            if pattern in covering:
                detail = f"if '{pattern}' is present, must not specify {item}"
                causes.append(cause("FieldValueInvalid", f"{field}[{index}]", detail, quote(item)))
        if "*" in (resource, subresource):
            covering.add(item)
    if "*/*" in resources and len(resources) > 1:
        detail = "if '*/*' is present, must not specify other resources"
        causes.append(cause("FieldValueInvalid", field, detail, quote_json(resources)))
    if "*" in resources and any(item and item != "*" and "/" not in item for item in resources):
        detail = "if '*' is present, must not specify other resources without subresources"
        causes.append(cause("FieldValueInvalid", field, detail, quote_json(resources)))
    return causes
