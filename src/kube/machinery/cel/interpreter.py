"""Evaluating an expression: its syntax tree is compiled into closures once, and each evaluation is metered.

Semantics are cel-go's, as Kubernetes configures it: numbers of different types compare, `&&` and `||` forgive an error
on one side if the other one decides, an error inside a comprehension is an error of the whole.
"""

from __future__ import annotations

from copy import copy
from typing import Any

from kube.machinery.cel.costs import COSTS, LIST, MAP, CelCostError
from kube.machinery.cel.escape import unescape
from kube.machinery.cel.evaluators import (
    CONVERSIONS,
    LOGIC,
    Body,
    Constant,
    Evaluator,
    Failed,
    Frame,
    accumulator,
    alternative,
    folded,
    function,
    grow,
    has_field,
    is_given,
    is_set,
    pairs_of,
    quantified,
    ternary,
    variable,
)
from kube.machinery.cel.library import NAMESPACED
from kube.machinery.cel.operators import index_of, select
from kube.machinery.cel.syntax import Call, Collection, Const, Expr, Ident, Loop, Select
from kube.machinery.cel.values import CelError


def compile_expression(expression: Expr) -> Evaluator:
    """A function that evaluates an expression. It raises CelError."""
    return _Compiler(frozenset(), frozenset()).of(expression)


class _Compiler:
    def __init__(self, accumulators: frozenset[str], growing: frozenset[str]) -> None:
        self._accumulators = accumulators
        self._growing = growing
        """Accumulators that are lists of their comprehension's own, which may grow in place."""

    def of(self, expression: Expr) -> Evaluator:
        if isinstance(expression, Const):
            return Constant(expression.value)
        if isinstance(expression, Ident):
            accumulates = expression.name in self._accumulators
            return accumulator(expression.name) if accumulates else variable(expression.name)
        if isinstance(expression, Select):
            return self._select(expression)
        if isinstance(expression, Collection):
            return self._map(expression) if expression.is_map else self._list(expression)
        if isinstance(expression, Loop):
            return self._loop(expression)
        return self._call(expression)

    def _select(self, expression: Select) -> Evaluator:
        operand, name = self.of(expression.operand), expression.field
        plain = unescape(name)
        if expression.presence:
            return lambda frame: has_field(operand(frame), name, plain)

        def get(frame: Frame) -> Any:
            value = operand(frame)
            frame.cost += 1
            return select(value, name, plain)

        return get

    def _list(self, expression: Collection) -> Evaluator:
        parts = [(self.of(item), index in expression.optional) for index, item in enumerate(expression.elements)]

        def make(frame: Frame) -> list[Any]:
            made = []
            for part, optional in parts:
                value = part(frame)
                if not optional:
                    made.append(value)
                elif is_given(value):
                    made.append(value.value)
            frame.spend(LIST)
            return made

        return folded(make, [part for part, _ in parts])

    def _map(self, expression: Collection) -> Evaluator:
        items = [self.of(item) for item in expression.elements]
        pairs = zip(items[::2], items[1::2], strict=True)
        entries = [(key, value, place in expression.optional) for place, (key, value) in enumerate(pairs)]

        def make(frame: Frame) -> dict[Any, Any]:
            made: dict[Any, Any] = {}
            for get_key, get_value, optional in entries:
                key, value = get_key(frame), get_value(frame)
                if optional and not is_given(value):
                    continue
                made[key] = value.value if optional else value
            frame.spend(MAP)
            return made

        return folded(make, items)

    # ---- calls

    def _call(self, call: Call) -> Evaluator:
        name = call.function
        if name == "_?_:_":
            return ternary(self.of(call.arguments[0]), *map(self._branch, call.arguments[1:]))
        if name in LOGIC:
            return LOGIC[name]([self.of(item) for item in call.arguments])
        if name in ("_[_]", "_[?_]", "_?._"):
            return self._index(name, *map(self.of, call.arguments))
        if name == "_+_" and isinstance(call.arguments[0], Ident) and call.arguments[0].name in self._growing:
            return grow(call.arguments[0].name, self.of(call.arguments[1]))
        target = call.target
        if isinstance(target, Ident) and f"{target.name}.{name}" in NAMESPACED:
            name, target = f"{target.name}.{name}", None
        given = [self.of(item) for item in ([target] if target is not None else []) + list(call.arguments)]
        if name in ("or", "orValue"):
            return alternative(name, *given)
        if name == "@in" and is_set(given[1]):
            return function(name, given, lambda _given, _result: 0)
        made = function(name, given, COSTS.get(name))
        return folded(made, given) if name in CONVERSIONS and len(given) == 1 else made

    def _branch(self, expression: Expr) -> Evaluator:
        """A branch of a ternary: a variable, or what is selected of one, is a unit cheaper there."""
        part = self.of(expression)
        selects = isinstance(expression, Ident) or (isinstance(expression, Select) and not expression.presence)
        if not selects and not (isinstance(expression, Call) and expression.function == "_[_]"):
            return part

        def get(frame: Frame) -> Any:
            value = part(frame)
            frame.cost -= 1
            return value

        return get

    def _index(self, name: str, operand: Evaluator, key: Evaluator) -> Evaluator:
        optional = name != "_[_]"

        def get(frame: Frame) -> Any:
            value, wanted = operand(frame), key(frame)
            frame.cost += 1
            return index_of(value, wanted, optional=optional)

        return get

    # ---- comprehensions

    def _loop(self, loop: Loop) -> Evaluator:
        over = self.of(loop.over)
        names = (loop.variable, loop.second, loop.accumulator)
        accumulators, growing = self._accumulators | {loop.accumulator}, self._growing - {loop.accumulator}
        found = quantifier(loop)
        if found is not None:
            decisive, predicate = found
            within = _Compiler(accumulators - {loop.variable, loop.second}, growing)
            body = quantified(names, within.of(predicate), decisive=decisive)
        else:
            if isinstance(loop.initial, Collection) and not loop.initial.is_map:
                growing |= {loop.accumulator}
            body = self._fold(loop, names, _Compiler(accumulators - {loop.variable, loop.second}, growing))

        def run(frame: Frame) -> Any:
            items = over(frame)
            variables = frame.variables
            kept = {name: variables[name] for name in names if name in variables}
            try:
                return body(frame, items)
            finally:
                for name in names:
                    variables.pop(name, None)
                variables.update(kept)

        return run

    def _fold(self, loop: Loop, names: tuple[str, str, str], within: _Compiler) -> Body:
        initial, result = self.of(loop.initial), within.of(loop.result)
        condition, step = within.of(loop.condition), within.of(loop.step)
        always = isinstance(loop.condition, Const) and loop.condition.value is True
        own = isinstance(loop.initial, Collection)
        first, second, running = names

        def run(frame: Frame, items: Any) -> Any:
            variables = frame.variables
            start = initial(frame)
            variables[running] = copy(start) if own else start
            for one, two in pairs_of(items, two=bool(second)):
                variables[first] = one
                if second:
                    variables[second] = two
                if not always and condition(frame) is not True:
                    break
                try:
                    variables[running] = step(frame)
                except CelCostError:
                    raise
                except CelError as error:
                    variables[running] = Failed(error)
                frame.spend(0)
            return result(frame)

        return run


def quantifier(loop: Loop) -> tuple[bool, Expr] | None:
    """Of a comprehension that is `all` (decided by false) or `exists` (by true): what decides it, and the predicate."""
    step, accumulator = loop.step, Ident(loop.accumulator)
    if not isinstance(step, Call) or step.function not in ("_&&_", "_||_") or step.arguments[0] != accumulator:
        return None
    decisive = step.function == "_||_"
    asked: Expr = Call("!_", None, [accumulator]) if decisive else accumulator
    same = loop.condition == Call("@not_strictly_false", None, [asked]) and loop.result == accumulator
    if not same or not isinstance(loop.initial, Const) or loop.initial.value is decisive:
        return None
    return decisive, step.arguments[1]
