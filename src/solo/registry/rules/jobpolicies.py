"""When a Job counts as failed or as done before all its pods are (batch `validatePodFailurePolicy` and its kin)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from kube.machinery import names
from kube.machinery.errors import Cause, cause
from solo.registry.objects import quote, quote_json
from solo.registry.rules.amounts import negative, too_many
from solo.registry.rules.fieldchecks import one_of

Obj = dict[str, Any]

_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_OPERATORS = ("In", "NotIn")
_STATUSES = ("False", "True", "Unknown")
_MAX_RULES = 20
_MAX_PATTERNS = 20
_MAX_EXIT_CODES = 255
_MAX_INDEXES_LENGTH = 64 * 1024


def default_failure_policy(spec: Obj) -> None:
    """A condition of pods is met by True where it does not say by what."""
    for rule in (spec.get("podFailurePolicy") or {}).get("rules") or []:
        for pattern in rule.get("onPodConditions") or []:
            if not pattern.get("status"):
                pattern["status"] = "True"


def failure_policy_causes(spec: Obj, field: str) -> Iterator[Cause]:
    """What is wrong with a podFailurePolicy; `field` is the spec's."""
    rules, place = spec["podFailurePolicy"].get("rules") or [], f"{field}.podFailurePolicy.rules"
    if len(rules) > _MAX_RULES:
        yield too_many(len(rules), _MAX_RULES, place)
    pod = spec["template"]["spec"]
    containers = {each.get("name") for key in ("containers", "initContainers") for each in pod.get(key) or []}
    for index, rule in enumerate(rules):
        yield from _rule(spec, rule, f"{place}[{index}]", containers)


def _rule(spec: Obj, rule: Obj, field: str, containers: set[str]) -> Iterator[Cause]:
    action = rule.get("action") or ""
    if action == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
        detail = "requires the backoffLimitPerIndex to be set"
        yield cause("FieldValueInvalid", f"{field}.action", detail, quote(action))
    else:
        yield from _choice(action, _ACTIONS, f"{field}.action")
    codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions") or []
    if codes is not None:
        yield from _exit_codes(codes, f"{field}.onExitCodes", containers)
    if conditions:
        yield from _conditions(conditions, f"{field}.onPodConditions")
    if codes is not None and conditions:
        detail = "specifying both OnExitCodes and OnPodConditions is not supported"
        yield cause("FieldValueInvalid", field, detail)
    if codes is None and not conditions:
        yield cause("FieldValueInvalid", field, "specifying one of OnExitCodes and OnPodConditions is required")


def _choice(value: str, choices: tuple[str, ...], field: str) -> Iterator[Cause]:
    if not value:
        listed = " ".join(quote(choice) for choice in choices)
        yield cause("FieldValueRequired", field, f"valid values: [{listed}]")
    elif value not in choices:
        yield one_of(field, value, choices)


def _conditions(patterns: list[Obj], field: str) -> Iterator[Cause]:
    if len(patterns) > _MAX_PATTERNS:
        yield too_many(len(patterns), _MAX_PATTERNS, field)
    for index, pattern in enumerate(patterns):
        type_ = pattern.get("type") or ""
        for text in names.qualified_name(type_):
            yield cause("FieldValueInvalid", f"{field}[{index}].type", text, quote(type_))
        yield from _choice(pattern.get("status") or "", _STATUSES, f"{field}[{index}].status")


def _exit_codes(codes: Obj, field: str, containers: set[str]) -> Iterator[Cause]:
    operator, values, name = codes.get("operator") or "", codes.get("values") or [], codes.get("containerName")
    yield from _choice(operator, _OPERATORS, f"{field}.operator")
    if name is not None and name not in containers:
        detail = "must be one of the container or initContainer names in the pod template"
        yield cause("FieldValueInvalid", f"{field}.containerName", detail, quote(name))
    place = f"{field}.values"
    if not values:
        yield cause("FieldValueInvalid", place, "at least one value is required", quote_json(values))
    elif len(values) > _MAX_EXIT_CODES:
        yield too_many(len(values), _MAX_EXIT_CODES, place)
    seen: set[int] = set()
    for index, value in enumerate(values):
        if operator == "In" and value == 0:
            yield cause("FieldValueInvalid", f"{place}[{index}]", "must not be 0 for the In operator", "0")
        if value in seen:
            yield cause("FieldValueDuplicate", f"{place}[{index}]", value=str(value))
        seen.add(value)
    if any(one > other for one, other in pairwise(values)):
        yield cause("FieldValueInvalid", place, "must be ordered", quote_json(values))


def success_policy_causes(spec: Obj, field: str) -> Iterator[Cause]:
    """What is wrong with the successPolicy of an Indexed Job; `field` is the spec's."""
    rules, place = spec["successPolicy"].get("rules") or [], f"{field}.successPolicy.rules"
    if not rules:
        detail = "at least one rules must be specified when the successPolicy is specified"
        yield cause("FieldValueRequired", place, detail)
    if len(rules) > _MAX_RULES:
        yield too_many(len(rules), _MAX_RULES, place)
    completions = spec.get("completions")
    for index, rule in enumerate(rules if completions is not None else []):
        yield from _success_rule(rule, int(completions or 0), f"{place}[{index}]")


def _success_rule(rule: Obj, completions: int, field: str) -> Iterator[Cause]:
    count, indexes, total = rule.get("succeededCount"), rule.get("succeededIndexes"), 0
    if count is None and indexes is None:
        detail = "at least one of succeededCount or succeededIndexes must be specified"
        yield cause("FieldValueRequired", field, detail)
    if indexes is not None:
        place = f"{field}.succeededIndexes"
        if len(indexes.encode()) > _MAX_INDEXES_LENGTH:
            yield cause("FieldValueTooLong", place, f"may not be more than {_MAX_INDEXES_LENGTH} bytes")
        try:
            total = _count_indexes(indexes, completions)
        except ValueError as problem:
            detail = f"error parsing succeededIndexes: {problem}"
            yield cause("FieldValueInvalid", place, detail, quote(indexes))
    if count is None:
        return
    yield from negative(rule, ("succeededCount",), field)
    if count > completions:
        detail = f"must be less than or equal to {completions} (the number of specified completions)"
        yield cause("FieldValueInvalid", f"{field}.succeededCount", detail, str(count))
    if indexes is not None and count > total:
        what = "the number of indexes in the specified succeededIndexes field"
        detail = f"must be less than or equal to {total} ({what})"
        yield cause("FieldValueInvalid", f"{field}.succeededCount", detail, str(count))


def _count_indexes(text: str, completions: int) -> int:
    """How many indexes `0,2-4` names. Raises ValueError."""
    total, last = 0, None
    for part in text.split(",") if text else ():
        ends = part.split("-")
        if len(ends) > 2:
            rule = "an index interval can have at most two parts separated by '-'"
            raise ValueError(f"the fragment {quote(part)} violates the requirement that {rule}")
        first, *rest = [_index(end, completions) for end in ends]
        if rest and first >= rest[0]:
            raise ValueError(f"non-increasing order, previous: {first}, current: {rest[0]}")
        if last is not None and last >= first:
            raise ValueError(f"non-increasing order, previous: {last}, current: {first}")
        last = rest[0] if rest else first
        total += last - first + 1
    return total


def _index(text: str, completions: int) -> int:
    if not re.fullmatch("[+]?[0-9]{1,18}", text):
        raise ValueError(f"cannot convert string to integer for index: {quote(text)}")
    if int(text) >= completions:
        raise ValueError(f"too large index: {quote(text)}")
    return int(text)
