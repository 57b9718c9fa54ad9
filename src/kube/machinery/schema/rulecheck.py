"""The rules of a schema (`x-kubernetes-validations`) when a definition is written: are they complete, do they compile,
and can their evaluation be afforded (apiextensions' ValidateCustomResourceDefinitionOpenAPISchema)?
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

from kube.machinery.cel import CelCompileError, Program
from kube.machinery.errors import Cause, cause
from kube.machinery.schema import cost
from kube.machinery.schema.celtypes import undefined_field, with_root_fields
from kube.machinery.schema.fieldpath import FieldPathError, schema_at
from kube.machinery.schema.rules import compile_rule, uses_old_self
from kube.machinery.schema.values import show

Node = dict[str, Any]

_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_HELP = (
    "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are "
    "declared)"
)
_EXPENSIVE_SHOWN = 4


@dataclass(slots=True)
class Total:
    """What all rules of a schema cost together, and the dearest of them."""

    cost: int = 0
    dearest: list[tuple[int, str]] = field(default_factory=list)

    def add(self, path: str, amount: int) -> None:
        """Count an expression's cost."""
        self.cost = min(self.cost + amount, cost.MAX)
        self.dearest = sorted([*self.dearest, (amount, path)], reverse=True)[:_EXPENSIVE_SHOWN]

    def problems(self, path: str) -> list[Cause]:
        """What to say if it is too much."""
        if self.cost <= cost.TOTAL_LIMIT:
            return []
        text = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
        causes = [cause("FieldValueForbidden", place, text) for _, place in self.dearest]
        name = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
        return [*causes, cause("FieldValueForbidden", path, _too_dear(name, self.cost, cost.TOTAL_LIMIT))]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a node is: whether it is the whole object, how often it may be there (None: no bound), and the path of the
    list above it whose elements cannot be told apart between two versions of an object."""

    whole_object: bool
    times: int | None
    uncorrelatable: str = ""

    def without_old(self, path: str) -> Surroundings:
        """The same below a path from which on there are no old values; the highest such path counts."""
        return self if self.uncorrelatable else replace(self, uncorrelatable=path)


def check_texts(rule: Node, node: Node, place: str, errors: list[Cause]) -> None:
    """Append what is wrong with a rule before it is compiled."""
    expression, message = str(rule.get("rule") or ""), str(rule.get("message") or "")
    if not expression.strip():
        errors.append(cause("FieldValueRequired", f"{place}.rule", "rule is not specified"))
    elif message and not message.strip():
        text = "must be non-empty if specified"
        errors.append(cause("FieldValueInvalid", f"{place}.message", text, show(message)))
    elif _lines(message):
        text = "must not contain line breaks"
        errors.append(cause("FieldValueInvalid", f"{place}.message", text, show(message)))
    elif _lines(expression) and not message.strip():
        text = "message must be specified if rule contains line breaks"
        errors.append(cause("FieldValueRequired", f"{place}.message", text))
    expression = str(rule.get("messageExpression") or "")
    if expression and not expression.strip():
        text = "messageExpression must be non-empty if specified"
        errors.append(cause("FieldValueRequired", f"{place}.messageExpression", text))
    reason = rule.get("reason")
    if reason is not None and reason not in _REASONS:
        text = f"supported values: {', '.join(map(show, _REASONS))}"
        errors.append(cause("FieldValueNotSupported", f"{place}.reason", text, show(reason)))
    _check_field_path(rule, node, f"{place}.fieldPath", errors)


def _check_field_path(rule: Node, node: Node, place: str, errors: list[Cause]) -> None:
    path = str(rule.get("fieldPath") or "")
    if not path:
        return
    texts = []
    if not path.strip():
        texts.append("must be non-empty if specified")
    if "\n" in path or "\r" in path:
        texts.append("must not contain line breaks")
    try:
        schema_at(path, node)
    except FieldPathError:
        texts.append("must be a valid path")
    errors.extend(cause("FieldValueInvalid", place, text, show(path)) for text in texts)


def _lines(text: str) -> bool:
    return "\n" in text.strip() or "\r" in text.strip()


def check_expressions(
    rule: Node, node: Node, place: str, where: Surroundings, total: Total, errors: list[Cause]
) -> None:
    """Append what is wrong with a rule's expressions."""
    expression = str(rule["rule"])
    if not rule.get("optionalOldSelf"):  # there, oldSelf is an optional and has methods instead of fields
        problem = undefined_field(expression, node, whole_object=where.whole_object)
        if problem:
            errors.append(_not_compiled(rule, f"{place}.rule", f"compilation failed: {problem}"))
            return
    try:
        program = _compiled(expression, "BOOL")
    except CelCompileError as error:
        errors.append(_not_compiled(rule, f"{place}.rule", f"compilation failed: {error}"))
        return
    except _WrongResult as error:
        errors.append(_not_compiled(rule, f"{place}.rule", f"cel expression {error}"))
        return
    shown = with_root_fields(node) if where.whole_object else node
    often = where.times if where.times is not None else cost.unbounded_cardinality(node)
    _check_cost(program, shown, often, f"{place}.rule", "estimated rule cost", total, errors)
    if rule.get("messageExpression"):
        message = str(rule["messageExpression"])
        try:
            program = _compiled(message, "STRING")
        except CelCompileError as error:
            text = f"messageExpression compilation failed: {error}"
            errors.append(_not_compiled(rule, f"{place}.messageExpression", text))
        except _WrongResult as error:
            text = f"messageExpression {error}"
            errors.append(_not_compiled(rule, f"{place}.messageExpression", text))
        else:
            name = "estimated messageExpression cost"
            _check_cost(program, shown, 1, f"{place}.messageExpression", name, total, errors)
    if uses_old_self(expression):
        if where.uncorrelatable:
            text = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {where.uncorrelatable}"
            errors.append(cause("FieldValueInvalid", f"{place}.rule", text, show(expression)))
    elif rule.get("optionalOldSelf") is not None:
        text = "may not be set if oldSelf is not used in rule"
        errors.append(cause("FieldValueInvalid", f"{place}.optionalOldSelf", text, show(rule["optionalOldSelf"])))


class _WrongResult(Exception):
    """An expression whose value has another type than is wanted."""


def _compiled(expression: str, wanted: str) -> Program:
    """The program of an expression. Raises CelCompileError, _WrongResult."""
    program = compile_rule(expression)
    if program.result_type not in (wanted, "DYN"):
        raise _WrongResult(f"must evaluate to a {wanted.lower()}")
    return program


def _check_cost(
    program: Program, node: Node, often: int, place: str, name: str, total: Total, errors: list[Cause]
) -> None:
    amount = cost.times(cost.rule_cost(program.syntax(), node), often)
    total.add(place, amount)
    if amount > cost.RULE_LIMIT:
        errors.append(cause("FieldValueForbidden", place, _too_dear(name, amount, cost.RULE_LIMIT)))


def _too_dear(name: str, amount: int, limit: int) -> str:
    factor = amount / limit
    shown = "more than 100x" if factor > 100 else f"{factor:f}x" if factor < 1.5 else f"{factor:.1f}x"
    return f"{name} exceeds budget by factor of {shown} {_HELP}"


def _not_compiled(rule: Node, place: str, text: str) -> Cause:
    return cause("FieldValueInvalid", place, text, _show_rule(rule))


def _show_rule(rule: Node) -> str:
    """A rule as Go prints the structure, with `<`, `>` and `&` escaped as its JSON encoder does."""
    fields = {
        "Rule": rule.get("rule", ""),
        "Message": rule.get("message", ""),
        "MessageExpression": rule.get("messageExpression", ""),
        "Reason": rule.get("reason"),
        "FieldPath": rule.get("fieldPath", ""),
        "OptionalOldSelf": rule.get("optionalOldSelf"),
    }
    text = "{" + ",".join(f"{show(name)}:{show(value)}" for name, value in fields.items()) + "}"
    return re.sub(r"[<>&]", lambda match: f"\\u{ord(match[0]):04x}", text)
