"""Validation rules in a schema: `x-kubernetes-validations`, CEL expressions over `self` and `oldSelf`.

As apiextensions' pkg/apiserver/schema/cel: a rule that names `oldSelf` is a transition rule, evaluated only where there
is a corresponding old value (or with optionalOldSelf); other rules do not complain about a value that did not change.
Programs are compiled at the first object that reaches them and kept with the schema.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kube.machinery.cel import CelCompileError, CelCostError, CelError, Program, compile_cel
from kube.machinery.cel.costs import PER_OBJECT, Meter
from kube.machinery.cel.values import NONE, Optional, plain
from kube.machinery.errors import Cause, cause
from kube.machinery.schema.common import MISSING, NO_PATH
from kube.machinery.schema.converter import compile_converter
from kube.machinery.schema.listtypes import ListCorrelation
from kube.machinery.schema.values import same, show

Node = dict[str, Any]
Converter = Callable[[Any], Any]

VARIABLES = ("self", "oldSelf")
MAX_MESSAGE_BYTES = 5 * 1024
_STRING_LITERAL = re.compile(r"""r?("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')""")
_OLD_SELF = re.compile(r"(?<![\w.])oldSelf\b")


class OutOfBudget(Exception):
    """No further rule is to be evaluated; why is among the errors."""


@dataclass(slots=True)
class Evaluation:
    """The evaluation of all rules on one object: what is found, and what it may still cost."""

    errors: list[Cause] = field(default_factory=list)
    budget: int = PER_OBJECT

    def stop(self, problem: Cause) -> OutOfBudget:
        """The last error, and what to raise after it."""
        self.errors.append(problem)
        return OutOfBudget()


# value, old value or MISSING, whether the nearest comparable parent is unchanged, path, evaluation
RuleChecker = Callable[[Any, Any, bool, str, Evaluation], None]


def uses_old_self(expression: str) -> bool:
    """Whether a rule is a transition rule."""
    return _OLD_SELF.search(_STRING_LITERAL.sub('""', expression)) is not None


def compile_rule(expression: str) -> Program:
    """The program of a rule's expression or messageExpression. Raises CelCompileError."""
    return compile_cel(expression, VARIABLES)


class Rule:
    """One rule of one schema node."""

    def __init__(self, spec: dict[str, Any], node: Node) -> None:
        self._spec = spec
        self._type = str(node.get("type") or "")
        self._expression = str(spec.get("rule") or "")
        self._optional = bool(spec.get("optionalOldSelf"))
        self.transition = uses_old_self(self._expression)
        field_path = str(spec.get("fieldPath") or "")
        self._suffix = re.sub(r"\['([^']*)'\]", r"[\1]", field_path)

    def check(self, value: Any, old: Any, shown: Any, path: str, evaluation: Evaluation) -> tuple[Cause | None, bool]:
        """The cause if the rule is not kept, and whether it counts for an unchanged value, too.

        `value` and `old` are converted, `shown` is the value as it was. Raises OutOfBudget.
        """
        if self.transition and old is MISSING and not self._optional:
            return None, False
        meter = Meter()
        try:
            result = self._run(self._expression, self._activation(value, old), meter, path, evaluation)
        except CelCompileError as error:
            return self._typed(path, f"rule compile error: compilation failed: {error}"), True
        except CelCostError as error:
            text = "no further validation rules will be run due to call cost exceeds limit for rule"
            raise evaluation.stop(self._typed(path, f"'{error}': {text}: {self._label()}")) from None
        except CelError as error:
            return self._typed(path, self._runtime_error(str(error))), True
        if result is True:
            return None, False
        return self._failed(path, value, old, shown, evaluation), self.transition

    def _run(self, expression: str, activation: dict[str, Any], meter: Meter, path: str, evaluation: Evaluation) -> Any:
        program = compile_rule(expression)
        try:
            return program.run(activation, meter)
        finally:
            self._pay(meter, path, evaluation)

    def _pay(self, meter: Meter, path: str, evaluation: Evaluation) -> None:
        if meter.cost > evaluation.budget:
            raise evaluation.stop(self.out_of_budget(path))
        evaluation.budget -= meter.cost

    def out_of_budget(self, path: str) -> Cause:
        """That the rules of an object cost too much together."""
        text = "validation failed due to running out of cost budget, no further validation rules will be run"
        return self._typed(path, text)

    def _activation(self, value: Any, old: Any) -> dict[str, Any]:
        if self._optional:
            return {"self": value, "oldSelf": NONE if old is MISSING else Optional(old, True)}
        return {"self": value} if old is MISSING else {"self": value, "oldSelf": old}

    def _label(self) -> str:
        return str(self._spec.get("message") or self._expression).strip()

    def _runtime_error(self, text: str) -> str:
        if text.startswith("no such overload"):
            hint = "call arguments did not match a supported operator, function or macro signature for rule"
            return f"'{text}': {hint}: {self._label()}"
        return f"{text} evaluating rule: {self._label()}"

    def _typed(self, path: str, detail: str) -> Cause:
        """A problem with the evaluation, in which the value's type stands for the value."""
        return cause("FieldValueInvalid", path or NO_PATH, detail, show(self._type))

    def _failed(self, path: str, value: Any, old: Any, shown: Any, evaluation: Evaluation) -> Cause:
        where = f"{path}{self._suffix}".lstrip(".") or NO_PATH
        detail = self._message(path, value, old, evaluation)
        reason = self._spec.get("reason") or "FieldValueInvalid"
        compound = self._type in ("object", "array")
        if reason == "FieldValueDuplicate":
            return cause(reason, where) if compound else cause(reason, where, value=show(shown))
        if reason in ("FieldValueForbidden", "FieldValueRequired") or compound:
            return cause(reason, where, detail)
        return cause("FieldValueInvalid", where, detail, show(shown))

    def _message(self, path: str, value: Any, old: Any, evaluation: Evaluation) -> str:
        expression = self._spec.get("messageExpression")
        if expression:
            activation = {"self": value} if old is MISSING else {"self": value, "oldSelf": old}
            text = self._evaluate_message(expression, activation, path, evaluation)
            if text and "\n" not in text and len(text.encode()) <= MAX_MESSAGE_BYTES:
                return text
        message = str(self._spec.get("message") or "").strip()
        return message or f"failed rule: {self._expression.strip()}"

    def _evaluate_message(self, expression: str, activation: dict[str, Any], path: str, evaluation: Evaluation) -> str:
        meter = Meter()
        try:
            text = plain(compile_rule(expression).run(activation, meter))
        except CelCostError:
            label = str(self._spec.get("messageExpression") or "").strip()
            text = (
                f"no further validation rules will be run due to call cost exceeds limit for messageExpression: {label}"
            )
            raise evaluation.stop(self._typed(path, text)) from None
        except CelError:
            text = ""
        if meter.cost > evaluation.budget:
            detail = "messageExpression evaluation failed due to running out of cost budget"
            raise evaluation.stop(self._typed(path, detail))
        evaluation.budget -= meter.cost
        return text.strip() if isinstance(text, str) else ""


def run_rules(check: RuleChecker, value: Any, old: Any, path: str = "") -> list[Cause]:
    """What the rules at and below a value at `path` say."""
    evaluation = Evaluation()
    with contextlib.suppress(OutOfBudget):
        check(value, old, False, path, evaluation)
    return evaluation.errors


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

        def check(value: Any, old: Any, unchanged: bool, path: str, evaluation: Evaluation) -> None:
            if not isinstance(value, list):
                return
            if isinstance(old, list):
                unchanged = same(old, value)
            find = correlation.index(old) if is_map and isinstance(old, list) else None
            for index, element in enumerate(value):
                before = find(element, MISSING) if find is not None else MISSING
                each(element, before, unchanged, f"{path}[{index}]", evaluation)

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

        def check(value: Any, old: Any, unchanged: bool, path: str, evaluation: Evaluation) -> None:
            if not isinstance(value, dict):
                return
            before: dict[str, Any] = old if granular and isinstance(old, dict) else {}
            if isinstance(old, dict) and not granular:
                unchanged = same(old, value)
            for name, below in properties.items():
                if name in value:
                    where = f"{path}.{name}" if path else name
                    below(value[name], before.get(name, MISSING), unchanged, where, evaluation)
            if extra is not None:
                for name, child in value.items():
                    if name not in properties:
                        extra(child, before.get(name, MISSING), unchanged, f"{path}[{name}]", evaluation)

        return check


def _both(checkers: list[RuleChecker]) -> RuleChecker:
    def check(value: Any, old: Any, unchanged: bool, path: str, evaluation: Evaluation) -> None:
        for checker in checkers:
            checker(value, old, unchanged, path, evaluation)

    return check


def _own_rules(rules: list[Rule], convert: Converter | None) -> RuleChecker:
    def check(value: Any, old: Any, unchanged: bool, path: str, evaluation: Evaluation) -> None:
        if value is None:
            return
        if evaluation.budget <= 0:
            raise evaluation.stop(rules[0].out_of_budget(path))
        before = MISSING if old is None else old
        own = value
        if convert is not None:
            own = convert(value)
            before = before if before is MISSING else convert(before)
        kept: bool | None = None
        for rule in rules:
            failure, always = rule.check(own, before, value, path, evaluation)
            if failure is None:
                continue
            if kept is None:
                kept = unchanged if old is MISSING else same(old, value)
            if always or not kept:
                evaluation.errors.append(failure)

    return check
