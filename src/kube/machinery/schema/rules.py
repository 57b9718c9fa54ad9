"""Validation rules in a schema: `x-kubernetes-validations`, CEL expressions over `self` and `oldSelf`.

As apiextensions' pkg/apiserver/schema/cel: a rule that names `oldSelf` is a transition rule, evaluated only where there
is a corresponding old value (or with optionalOldSelf); other rules do not complain about a value that did not change.
Programs are compiled at the first object that reaches them and kept with the schema.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

from kube.machinery.cel import CelCompileError, CelCostError, CelError, Program, compile_cel
from kube.machinery.errors import Cause, cause
from kube.machinery.schema.celtypes import with_times
from kube.machinery.schema.common import MISSING, NO_PATH, type_names
from kube.machinery.schema.listtypes import ListCorrelation
from kube.machinery.schema.values import same

Node = dict[str, Any]
# value, old value or MISSING, whether the nearest comparable parent is unchanged, path, errors
RuleChecker = Callable[[Any, Any, bool, str, list[Cause]], None]
Converter = Callable[[Any], Any]

VARIABLES = ("self", "oldSelf")
_OPTIONAL_VARIABLES = ("self", "oldSelfValue", "oldSelfPresent")
MAX_MESSAGE_BYTES = 5 * 1024
_STRING_LITERAL = re.compile(r"""r?("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')""")
_OLD_SELF = re.compile(r"(?<![\w.])oldSelf\b")


def uses_old_self(expression: str) -> bool:
    """Whether a rule is a transition rule."""
    return _OLD_SELF.search(_STRING_LITERAL.sub('""', expression)) is not None


def compile_rule(rule: dict[str, Any], expression: str) -> Program:
    """The program of a rule's expression or messageExpression. Raises CelCompileError."""
    if rule.get("optionalOldSelf"):
        old = "oldSelfPresent ? optional.of(oldSelfValue) : optional.none()"
        return compile_cel(f"cel.bind(oldSelf, {old}, ({expression}\n))", _OPTIONAL_VARIABLES)
    return compile_cel(expression, VARIABLES)


def compile_for_cost(rule: dict[str, Any], expression: str) -> Program:
    """The program of an expression as it is written, for reckoning its cost. Raises CelCompileError."""
    try:
        return compile_cel(expression, VARIABLES)
    except CelCompileError:
        return compile_rule(rule, expression)


class Rule:
    """One rule of one schema node."""

    def __init__(self, spec: dict[str, Any], node: Node) -> None:
        self._spec = spec
        self._node = node
        self._typed: dict[str, str] = {}
        self._expression = str(spec.get("rule") or "")
        self._optional = bool(spec.get("optionalOldSelf"))
        self.transition = uses_old_self(self._expression)
        field_path = str(spec.get("fieldPath") or "")
        self._suffix = re.sub(r"\['([^']*)'\]", r"[\1]", field_path)

    def check(self, value: Any, old: Any, path: str) -> Cause | None:
        """Evaluate for a value (both sides already converted); the cause if the rule is not kept.

        Raises CelCostError: no further rules are to be evaluated.
        """
        if self.transition and old is MISSING and not self._optional:
            return None
        activation = self._activation(value, old)
        try:
            result = self._program(self._expression).evaluate(activation)
        except CelCostError:
            raise
        except CelCompileError as error:
            return _invalid(path, f"rule compile error: {error}")
        except CelError as error:
            return _invalid(path, self._runtime_error(str(error)))
        if result is True:
            return None
        return self._failed(path, activation)

    def _program(self, expression: str) -> Program:
        """The program of one of the rule's expressions. Raises CelCompileError."""
        found = self._typed.get(expression)
        if found is None:  # an oldSelf that is an optional is no time
            found = self._typed[expression] = expression if self._optional else with_times(expression, self._node)
        return compile_rule(self._spec, found)

    def cost_exceeded(self, path: str, error: CelCostError) -> Cause:
        text = "no further validation rules will be run due to call cost exceeds limit for rule"
        return _invalid(path, f"'{error}': {text}: {self._label()}")

    def _activation(self, value: Any, old: Any) -> dict[str, Any]:
        if self._optional:
            present = old is not MISSING
            return {"self": value, "oldSelfValue": old if present else None, "oldSelfPresent": present}
        return {"self": value} if old is MISSING else {"self": value, "oldSelf": old}

    def _label(self) -> str:
        return str(self._spec.get("message") or self._expression).strip()

    def _runtime_error(self, text: str) -> str:
        if text.startswith("no such overload"):
            hint = "call arguments did not match a supported operator, function or macro signature for rule"
            return f"'{text}': {hint}: {self._label()}"
        return f"{text} evaluating rule: {self._label()}"

    def _failed(self, path: str, activation: dict[str, Any]) -> Cause:
        where = f"{path}{self._suffix}".lstrip(".")
        detail = self._message(activation)
        reason = self._spec.get("reason") or "FieldValueInvalid"
        if reason == "FieldValueDuplicate":
            return cause(reason, where or NO_PATH)
        if reason in ("FieldValueForbidden", "FieldValueRequired"):
            return cause(reason, where or NO_PATH, detail)
        return _invalid(where, detail)

    def _message(self, activation: dict[str, Any]) -> str:
        expression = self._spec.get("messageExpression")
        if expression:
            try:
                text = self._program(expression).evaluate(activation)
            except CelError:
                text = None
            if isinstance(text, str):
                text = text.strip()
                if text and "\n" not in text and len(text.encode()) <= MAX_MESSAGE_BYTES:
                    return text
        message = str(self._spec.get("message") or "").strip()
        return message or f"failed rule: {self._expression.strip()}"


def _invalid(path: str, detail: str) -> Cause:
    return cause("FieldValueInvalid", path or NO_PATH, detail)


class RuleCompiler:
    """Compiles the rules of a schema; nodes without any compile to None and are never visited."""

    def compile(self, node: Node) -> RuleChecker | None:
        """A closure that evaluates the rules at and below a value."""
        rules = [Rule(spec, node) for spec in node.get("x-kubernetes-validations") or ()]
        below = [checker for checker in (self._items(node), self._fields(node)) if checker is not None]
        if not rules:
            return below[0] if len(below) == 1 else None if not below else _both(below)
        own = _own_rules(rules, compile_converter(node))
        return _both([own, *below]) if below else own

    def _items(self, node: Node) -> RuleChecker | None:
        items = node.get("items")
        each = self.compile(items) if isinstance(items, dict) else None
        if each is None:
            return None
        correlation = ListCorrelation(node)
        is_map = node.get("x-kubernetes-list-type") == "map"

        def check(value: Any, old: Any, unchanged: bool, path: str, errors: list[Cause]) -> None:
            if not isinstance(value, list):
                return
            if isinstance(old, list):
                unchanged = same(old, value)
            find = correlation.index(old) if is_map and isinstance(old, list) else None
            for index, element in enumerate(value):
                before = find(element, MISSING) if find is not None else MISSING
                each(element, before, unchanged, f"{path}[{index}]", errors)

        return check

    def _fields(self, node: Node) -> RuleChecker | None:
        properties: dict[str, RuleChecker] = {}
        for name, child in (node.get("properties") or {}).items():
            compiled = self.compile(child)
            if compiled is not None:
                properties[name] = compiled
        extra_node = node.get("additionalProperties")
        extra = self.compile(extra_node) if isinstance(extra_node, dict) else None
        if not properties and extra is None:
            return None
        granular = node.get("x-kubernetes-map-type", "granular") == "granular"

        def check(value: Any, old: Any, unchanged: bool, path: str, errors: list[Cause]) -> None:
            if not isinstance(value, dict):
                return
            before: dict[str, Any] = old if granular and isinstance(old, dict) else {}
            if isinstance(old, dict) and not granular:
                unchanged = same(old, value)
            for name, below in properties.items():
                if name in value:
                    where = f"{path}.{name}" if path else name
                    below(value[name], before.get(name, MISSING), unchanged, where, errors)
            if extra is not None:
                for name, child in value.items():
                    if name not in properties:
                        extra(child, before.get(name, MISSING), unchanged, f"{path}[{name}]", errors)

        return check


def _both(checkers: list[RuleChecker]) -> RuleChecker:
    def check(value: Any, old: Any, unchanged: bool, path: str, errors: list[Cause]) -> None:
        for checker in checkers:
            checker(value, old, unchanged, path, errors)

    return check


def _own_rules(rules: list[Rule], convert: Converter | None) -> RuleChecker:
    def check(value: Any, old: Any, unchanged: bool, path: str, errors: list[Cause]) -> None:
        if value is None:
            return
        before = MISSING if old is None else old
        own = value
        if convert is not None:
            own = convert(value)
            before = before if before is MISSING else convert(before)
        for rule in rules:
            try:
                failure = rule.check(own, before, path)
            except CelCostError as error:
                errors.append(rule.cost_exceeded(path, error))
                return
            if failure is None:
                continue
            kept = unchanged if old is MISSING else same(old, value)
            if rule.transition or not kept:
                errors.append(failure)

    return check


def _bytes(value: Any) -> Any:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else value
    except ValueError:
        return value  # the format's own check has reported it


def compile_converter(node: Node) -> Converter | None:
    """A function from a JSON value to what CEL sees of it; None where they are the same.

    A field of type number is a double to CEL even if it holds a whole number, and one of format byte is bytes.
    """
    types = type_names(node)
    if types == ("number",):
        return lambda value: float(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if types == ("string",) and node.get("format") == "byte":
        return _bytes
    fields = {}
    for name, child in (node.get("properties") or {}).items():
        convert = compile_converter(child)
        if convert is not None:
            fields[name] = convert
    items, extra = node.get("items"), node.get("additionalProperties")
    of_items = compile_converter(items) if isinstance(items, dict) else None
    of_extra = compile_converter(extra) if isinstance(extra, dict) else None
    if not fields and of_items is None and of_extra is None:
        return None

    def convert_value(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: converter(child) if (converter := fields.get(key, of_extra)) is not None else child
                for key, child in value.items()
            }
        if isinstance(value, list) and of_items is not None:
            return [of_items(element) for element in value]
        return value

    return convert_value
