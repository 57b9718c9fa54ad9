"""What the parts of an expression do when they are evaluated: functions of a frame, and how they are made."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kube.machinery.cel.costs import COST_EXCEEDED, PER_CALL, CallCost, CelCostError
from kube.machinery.cel.library import FUNCTIONS
from kube.machinery.cel.values import TYPES, CelError, Optional, UInt, no_overload


class Frame:
    """What one evaluation knows: the variables, and what it has cost.

    Units are added to `cost` where they arise; whether it is too much is looked at by calls and comprehensions.
    """

    __slots__ = ("cost", "limit", "variables")

    def __init__(self, variables: dict[str, Any], limit: int) -> None:
        self.variables = variables
        self.cost = 0
        self.limit = limit

    def spend(self, amount: int) -> None:
        """Count. Raises CelCostError beyond the limit."""
        self.cost += amount
        if self.cost > self.limit:
            raise CelCostError(COST_EXCEEDED)


Evaluator = Callable[[Frame], Any]


class Failed:
    """An accumulator that is an error: a comprehension goes on with it."""

    __slots__ = ("error",)

    def __init__(self, error: CelError) -> None:
        self.error = error


Body = Callable[[Frame, Any], Any]


class Constant:
    """What is the same in each evaluation, and costs nothing."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, _: Frame) -> Any:
        return self.value


def folded(made: Evaluator, of: list[Evaluator]) -> Evaluator:
    """An evaluator as it is, or what it gives if all that it is made of is constant."""
    if not all(isinstance(part, Constant) for part in of):
        return made
    try:
        return Constant(made(Frame({}, PER_CALL)))
    except CelError:
        return made


def is_set(evaluator: Evaluator) -> bool:
    """Is this a constant list of scalars, in which it costs nothing to look for a value?"""
    if not isinstance(evaluator, Constant) or not isinstance(evaluator.value, list):
        return False
    return {type(item) for item in evaluator.value} <= {bool, int, float, str, UInt}


CONVERSIONS = frozenset(("bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint"))
"""What is called once if its argument is a constant."""


def quantified(names: tuple[str, str, str], predicate: Evaluator, *, decisive: bool) -> Body:
    """`all` and `exists` without their accumulator, at the cost that they have with it."""
    first, second, _ = names
    of_condition = 3 if decisive else 2

    def run(frame: Frame, items: Any) -> bool:
        variables = frame.variables
        problem: CelError | None = None
        decided = False
        for one, two in pairs_of(items, two=bool(second)):
            frame.spend(of_condition)
            if decided:
                break
            frame.cost += 1
            variables[first] = one
            if second:
                variables[second] = two
            try:
                value = predicate(frame)
            except CelCostError:
                raise
            except CelError as error:
                problem = problem or error
                continue
            if value is decisive:
                decided = True
            elif not isinstance(value, bool):
                problem = problem or no_overload()
        frame.spend(1)
        if decided:
            return decisive
        if problem is not None:
            raise problem
        return not decisive

    return run


def variable(name: str) -> Evaluator:
    type_ = TYPES.get(name)

    def get(frame: Frame) -> Any:
        frame.cost += 1
        try:
            return frame.variables[name]
        except KeyError:
            if type_ is not None:
                return type_
            raise CelError(f"no such attribute(s): {name}") from None

    return get


def accumulator(name: str) -> Evaluator:
    def get(frame: Frame) -> Any:
        frame.cost += 1
        value = frame.variables[name]
        if value.__class__ is Failed:
            raise value.error
        return value

    return get


def has_field(value: Any, name: str, plain: str) -> bool:
    if isinstance(value, Optional):
        value = value.value
    if isinstance(value, Mapping):
        return name in value or plain in value
    raise no_overload()


def is_given(value: Any) -> bool:
    if not isinstance(value, Optional):
        raise no_overload()
    return value.present


def pairs_of(items: Any, *, two: bool) -> Iterable[tuple[Any, Any]]:
    if isinstance(items, list):
        return enumerate(items) if two else zip(items, items, strict=True)
    if isinstance(items, Mapping):
        return items.items()
    raise no_overload()


def grow(accumulator: str, more: Evaluator) -> Evaluator:
    def add(frame: Frame) -> Any:
        frame.cost += 1
        value = frame.variables[accumulator]
        if value.__class__ is Failed:
            raise value.error
        added = more(frame)
        frame.cost += 1
        if not isinstance(value, list) or not isinstance(added, list):
            raise no_overload()
        value.extend(added)
        return value

    return add


def alternative(name: str, target: Evaluator, other: Evaluator) -> Evaluator:
    """`or` and `orValue` of an optional, whose argument is evaluated only where it is needed."""

    def choose(frame: Frame) -> Any:
        value = target(frame)
        frame.cost += 1
        if not isinstance(value, Optional):
            raise no_overload()
        if value.present:
            return value.value if name == "orValue" else value
        return other(frame)

    return choose


def function(name: str, given: list[Evaluator], cost: CallCost | None) -> Evaluator:
    implementation = FUNCTIONS.get(name)

    def call(frame: Frame, arguments: list[Any]) -> Any:
        if implementation is None:
            raise no_overload()
        try:
            value = implementation(*arguments)
        except CelError:
            frame.spend(1 if cost is None else _cost_of_failure(cost, arguments))
            raise
        except (TypeError, AttributeError):
            raise no_overload() from None
        except ValueError as problem:
            raise CelError(str(problem)) from None
        frame.spend(1 if cost is None else cost(arguments, value))
        return value

    on_integers = ON_INTEGERS.get(name)
    if on_integers is not None:
        return _binary(on_integers, given[0], given[1], call)
    return lambda frame: call(frame, [part(frame) for part in given])


ON_INTEGERS: dict[str, Callable[[int, int], Any]] = {
    "_==_": operator.eq,
    "_!=_": operator.ne,
    "_<_": operator.lt,
    "_<=_": operator.le,
    "_>_": operator.gt,
    "_>=_": operator.ge,
    "_+_": operator.add,
    "_-_": operator.sub,
}
"""Operators on two ints, by which rules mostly work; a sum that is too long goes the way of all others."""
_SAFE = 2**62


def _binary(
    on_integers: Callable[[int, int], Any],
    left: Evaluator,
    right: Evaluator,
    call: Callable[[Frame, list[Any]], Any],
) -> Evaluator:
    def operate(frame: Frame) -> Any:
        one, two = left(frame), right(frame)
        if type(one) is int and type(two) is int and -_SAFE < one < _SAFE and -_SAFE < two < _SAFE:
            frame.cost += 1
            return on_integers(one, two)
        return call(frame, [one, two])

    return operate


def _cost_of_failure(cost: CallCost, arguments: list[Any]) -> int:
    try:
        return cost(arguments, None)
    except (TypeError, AttributeError, IndexError):
        return 1


# ---- logic


def _and(given: list[Evaluator]) -> Evaluator:
    return _decided_by(given, False)


def _or(given: list[Evaluator]) -> Evaluator:
    return _decided_by(given, True)


def _decided_by(given: list[Evaluator], decisive: bool) -> Evaluator:
    left, right = given

    def decide(frame: Frame) -> bool:
        problem: CelError | None = None
        for part in (left, right):
            try:
                value = part(frame)
            except CelCostError:
                raise
            except CelError as error:
                problem = problem or error
                continue
            if value is decisive:
                return bool(decisive)
            if not isinstance(value, bool):
                problem = problem or no_overload()
        if problem is not None:
            raise problem
        return not decisive

    return decide


def ternary(condition: Evaluator, yes: Evaluator, no: Evaluator) -> Evaluator:
    def choose(frame: Frame) -> Any:
        value = condition(frame)
        if not isinstance(value, bool):
            raise no_overload()
        return yes(frame) if value else no(frame)

    return choose


def _not_strictly_false(given: list[Evaluator]) -> Evaluator:
    (part,) = given

    def holds(frame: Frame) -> bool:
        try:
            value = part(frame)
        except CelCostError:
            raise
        except CelError:
            value = True
        frame.cost += 1
        return value is not False

    return holds


LOGIC: dict[str, Callable[[list[Evaluator]], Evaluator]] = {
    "_&&_": _and,
    "_||_": _or,
    "@not_strictly_false": _not_strictly_false,
}
