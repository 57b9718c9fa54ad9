"""Validating a value against an OpenAPI schema, with the errors of kube-apiserver.

A schema is compiled once into closures; children are compiled when a value first reaches them, which keeps large and
recursive schemas cheap. What is checked, in which order and in which words follows kube-openapi's
pkg/validation/validate and, for the words, apiextensions' kubeOpenAPIResultToFieldErrors.

On an update, errors in parts that did not change are not reported ("ratcheting", KEP-4008): a subtree that equals its
old value is skipped.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

from kube.machinery.errors import Cause, cause
from kube.machinery.goregex import RegexError, compile_go_regex
from kube.machinery.schema.combinations import all_of, any_of, none_of, one_of
from kube.machinery.schema.common import MISSING, NO_PATH, Check, Node, Validator, type_names
from kube.machinery.schema.formats import FLOAT_MAX, INTEGER_BOUNDS, find_format, is_known
from kube.machinery.schema.listtypes import ListCorrelation
from kube.machinery.schema.values import json_type, same, show, show_number

_PYTHON_TYPES: dict[str, set[type]] = {
    "string": {str},
    "integer": {int},
    "number": {int, float},
    "boolean": {bool},
    "object": {dict},
    "array": {list},
}


def _python_types(node: Node) -> set[type]:
    """The classes whose every value has a type that the schema allows."""
    names = type_names(node) or tuple(_PYTHON_TYPES)
    return set().union(*(_PYTHON_TYPES.get(name, set()) for name in names))


class ValidatorCompiler:
    """Compiles the schema nodes of one schema, each once."""

    def __init__(self) -> None:
        self._memo: dict[int, Validator] = {}

    def compile(self, node: Node) -> Validator:
        """A closure that appends a cause for everything in a value that the schema does not allow."""
        found = self._memo.get(id(node))
        if found is None:
            found = self._memo[id(node)] = self._compile(node)
        return found

    def _compile(self, node: Node) -> Validator:
        type_check = _type_check(node)
        common = _enum_check(node)
        combined = [*self._combinations(node)]
        by_kind: dict[type, list[Check]] = {
            str: [*_string_checks(node)],
            int: [*_number_checks(node)],
            float: [*_number_checks(node)],
            list: [*_array_checks(node)],
            bool: [],
            dict: [],
        }
        children: dict[type, Validator] = {}
        if isinstance(node.get("items"), dict):
            children[list] = self._items(node)
        object_checks = self._object(node)
        if object_checks is not None:
            children[dict] = object_checks

        unconditional: frozenset[type] = frozenset()
        if not combined and common is None:
            plain = {kind for kind, checks in by_kind.items() if not checks and kind not in children}
            unconditional = frozenset(plain & _python_types(node))

        def validate(value: Any, old: Any, path: str, errors: list[Cause]) -> None:
            if type(value) in unconditional or (old is not MISSING and old == value and same(old, value)):
                return
            type_check(value, path, errors)
            if value is not None:
                for check in combined:
                    check(value, path, errors)
                kind = type(value)
                child = children.get(kind)
                if child is not None:
                    child(value, old, path, errors)
                for check in by_kind[kind]:
                    check(value, path, errors)
            if common is not None:
                common(value, path, errors)

        return validate

    def _items(self, node: Node) -> Validator:
        item: Node = node["items"]
        correlation = ListCorrelation(node)
        compiled: list[Validator] = []

        def validate(value: Any, old: Any, path: str, errors: list[Cause]) -> None:
            if not compiled:
                compiled.append(self.compile(item))
            each = compiled[0]
            if isinstance(old, list):
                find = correlation.index(old)
                for index, element in enumerate(value):
                    each(element, find(element, MISSING), f"{path}[{index}]", errors)
            else:
                for index, element in enumerate(value):
                    each(element, MISSING, f"{path}[{index}]", errors)

        return validate

    def _object(self, node: Node) -> Validator | None:
        properties: dict[str, Node] = node.get("properties") or {}
        required: list[str] = node.get("required") or []
        extra = node.get("additionalProperties")
        low, high = node.get("minProperties"), node.get("maxProperties")
        counted = low is not None or high is not None
        if not (properties or required or counted or extra is False or isinstance(extra, dict)):
            return None
        known = _Compiled(properties, self.compile)
        granular = node.get("x-kubernetes-map-type", "granular") == "granular"

        def validate(value: Any, old: Any, path: str, errors: list[Cause]) -> None:
            if low is not None and len(value) < low:
                errors.append(_invalid(path, len(value), f"should have at least {low} properties"))
                return
            if high is not None and len(value) > high:
                errors.append(_too_many(path, len(value), high))
                return
            before: dict[str, Any] = old if granular and isinstance(old, dict) else _NOTHING
            for key, child in value.items():
                check = known[key]
                if check is not None:
                    check(child, before.get(key, MISSING), f"{path}.{key}" if path else key, errors)
                elif isinstance(extra, dict):
                    self.compile(extra)(child, before.get(key, MISSING), f"{path}.{key}", errors)
                elif extra is False:
                    errors.append(_invalid(path, key, "is a forbidden property", subject=f"{path}.{key}"))
            if required:
                errors.extend(_required(path, key) for key in required if key not in value)

        return validate

    def _combinations(self, node: Node) -> Iterable[Check]:
        if node.get("anyOf"):
            yield any_of([self.compile(sub) for sub in node["anyOf"]])
        if node.get("oneOf"):
            yield one_of([self.compile(sub) for sub in node["oneOf"]])
        if node.get("allOf"):
            yield all_of([self.compile(sub) for sub in node["allOf"]])
        if isinstance(node.get("not"), dict):
            yield none_of(self.compile(node["not"]))


_NOTHING: dict[str, Any] = {}


class _Compiled(dict[str, "Validator | None"]):
    """Validators of an object's properties, compiled at first use; None for a property that is not declared."""

    def __init__(self, properties: dict[str, Node], compile_node: Callable[[Node], Validator]) -> None:
        super().__init__()
        self._properties = properties
        self._compile = compile_node

    def __missing__(self, key: str) -> Validator | None:
        node = self._properties.get(key)
        if node is None:
            return None  # not stored: keys of untrusted objects must not pile up here
        found = self[key] = self._compile(node)
        return found


def _invalid(path: str, value: Any, text: str, subject: str | None = None) -> Cause:
    return cause("FieldValueInvalid", path or NO_PATH, f"{subject or path} in body {text}", show(value))


def _too_many(path: str, actual: int, limit: int) -> Cause:
    unit = "item" if limit == 1 else "items"
    return cause("FieldValueTooMany", path or NO_PATH, f"must have at most {limit} {unit}", str(actual))


def _required(path: str, key: str, detail: str = "") -> Cause:
    return cause("FieldValueRequired", f"{path}.{key}" if path else key, detail)


def _type_error(path: str, wanted: str, got: str) -> Cause:
    text = f"{path} in body must be of type {wanted}: {show(got)}"
    return cause("FieldValueTypeInvalid", path or NO_PATH, text, show(got))


def _type_check(node: Node) -> Check:
    types = type_names(node)
    nullable = bool(node.get("nullable"))
    wanted, wanted_format = ",".join(types), _number_format(node)

    def check(value: Any, path: str, errors: list[Cause]) -> None:
        got = json_type(value)
        if got in types or not types or (value is None and nullable):
            return
        if got == "integer" and "number" in types:
            return
        if got == "number" and "integer" in types and abs(value) < _EXACT and value == int(value):
            return
        if wanted_format and got not in ("null", "string", "array"):
            errors.append(_type_error(path, wanted_format, "float64" if got == "number" else ""))
        else:
            errors.append(_type_error(path, wanted, got))

    return check


_EXACT = 2.0**53
"""From here on a float is not known to be a whole number."""


def _number_format(node: Node) -> str:
    name, declared = node.get("format") or "", node.get("type")
    return name if declared in ("integer", "number") and is_known(name, declared) else ""


def _enum_check(node: Node) -> Check | None:
    values = node.get("enum")
    if not values:
        return None
    supported = ", ".join(show(value if isinstance(value, str) else show(value)) for value in values)

    def check(value: Any, path: str, errors: list[Cause]) -> None:
        if value is None and node.get("nullable"):
            return
        if not any(same(value, allowed) for allowed in values):
            errors.append(
                cause("FieldValueNotSupported", path or NO_PATH, f"supported values: {supported}", show(value))
            )

    return check


def _string_checks(node: Node) -> Iterable[Check]:
    longest, shortest, pattern = node.get("maxLength"), node.get("minLength"), node.get("pattern")
    if longest is not None or shortest is not None or pattern:
        matches = _matcher(pattern) if pattern else None

        def check(value: str, path: str, errors: list[Cause]) -> None:
            if longest is not None and len(value) > longest:
                errors.append(cause("FieldValueTooLong", path or NO_PATH, f"may not be more than {longest} bytes"))
            elif shortest is not None and len(value) < shortest:
                errors.append(_invalid(path, value, f"should be at least {shortest} chars long"))
            elif matches is not None and not matches(value):
                errors.append(_invalid(path, value, f"should match '{pattern}'"))

        yield check
    has_format, name = find_format(node), node.get("format")
    if has_format is not None:

        def check_format(value: str, path: str, errors: list[Cause]) -> None:
            if not has_format(value):
                text = f"{path} in body must be of type {name}: {show(value)}"
                errors.append(cause("FieldValueTypeInvalid", path or NO_PATH, text, show(value)))

        yield check_format


def _matcher(pattern: str) -> Callable[[str], bool]:
    try:
        compiled = compile_go_regex(pattern)
    except RegexError:
        return lambda _: False  # as kube-openapi does; a pattern like this is refused when the CRD is created
    return compiled.test


_LIMITS: list[tuple[str, str, Callable[[Any, Any], bool], str, Callable[[Any, Any], bool], str]] = [
    ("maximum", "exclusiveMaximum", operator.gt, "less than or equal to", operator.ge, "less than"),
    ("minimum", "exclusiveMinimum", operator.lt, "greater than or equal to", operator.le, "greater than"),
]


def _number_checks(node: Node) -> Iterable[Check]:
    if node.get("type") == "integer":
        yield _range_check(node.get("format") or "")
    elif node.get("type") == "number" and node.get("format") == "float":
        yield _check_float
    step = node.get("multipleOf")
    if step:
        yield _multiple_check(step)
    for keyword, exclusive, outside, text, outside_strictly, text_strictly in _LIMITS:
        limit = node.get(keyword)
        if limit is not None:
            strict = bool(node.get(exclusive))
            yield _limit_check(limit, outside_strictly if strict else outside, text_strictly if strict else text)


def _multiple_check(step: float) -> Check:
    def check(value: Any, path: str, errors: list[Cause]) -> None:
        if isinstance(value, int) and isinstance(step, int):
            fits = value % step == 0
        else:
            ratio = value / step
            fits = abs(ratio - round(ratio)) < 1e-9
        if not fits:
            errors.append(_invalid(path, value, f"should be a multiple of {show_number(step)}"))

    return check


def _limit_check(limit: float, outside: Callable[[Any, Any], bool], text: str) -> Check:
    shown = show_number(limit)

    def check(value: Any, path: str, errors: list[Cause]) -> None:
        if outside(value, limit):
            errors.append(_invalid(path, value, f"should be {text} {shown}"))

    return check


def _range_check(name: str) -> Check:
    low, high = INTEGER_BOUNDS.get(name, INTEGER_BOUNDS["int64"])
    shown = f"with format {name}" if name else "(default format)"

    def check(value: Any, path: str, errors: list[Cause]) -> None:
        if not low <= value <= high or value != int(value):
            text = f"Checked value must be of type integer {shown} in {path}"
            errors.append(cause("FieldValueInvalid", NO_PATH, text, '""'))

    return check


def _check_float(value: Any, path: str, errors: list[Cause]) -> None:
    if abs(value) > FLOAT_MAX:
        text = f"Checked value must be of type number with format float in {path}"
        errors.append(cause("FieldValueInvalid", NO_PATH, text, '""'))


def _array_checks(node: Node) -> Iterable[Check]:
    low, high, unique = node.get("minItems"), node.get("maxItems"), node.get("uniqueItems")
    if low is None and high is None and not unique:
        return

    def check(value: list[Any], path: str, errors: list[Cause]) -> None:
        if low is not None and len(value) < low:
            errors.append(_invalid(path, len(value), f"should have at least {low} items"))
        if high is not None and len(value) > high:
            errors.append(_too_many(path, len(value), high))
        if unique and len({show(item) for item in value}) < len(value):
            text = f"{path} in body shouldn't contain duplicates"
            errors.append(cause("FieldValueInvalid", path or NO_PATH, text, '""'))

    yield check
