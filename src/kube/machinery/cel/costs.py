"""What evaluating an expression costs (cel-go's interpreter/runtimecost.go, apiserver's pkg/cel/library/cost.go).

A unit is about one operation; texts cost a tenth of their length each time that they are gone through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kube.machinery.cel.values import CelError, size_of

PER_CALL = 1_000_000
"""Of one evaluation of one expression."""
PER_OBJECT = 10_000_000
"""Of all rules on one object."""
LIST, MAP = 10, 30
CHECK = 350_000

COST_EXCEEDED = "operation cancelled: actual cost limit exceeded"


class CelCostError(CelError):
    """The evaluation did more work than is allowed."""


class Meter:
    """What evaluations have cost, and what one of them may."""

    __slots__ = ("cost", "limit")

    def __init__(self, limit: int = PER_CALL) -> None:
        self.cost = 0
        self.limit = limit


Arguments = Sequence[Any]
CallCost = Callable[[Arguments, Any], int]


def _tenth(size: int) -> int:
    return -(-size // 10)


def _quarter(size: int) -> int:
    return -(-size // 4)


def _traversal(value: Any) -> int:
    if isinstance(value, (str, bytes)):
        return len(value) // 10
    if isinstance(value, list):
        return sum(map(_traversal, value))
    if isinstance(value, dict):
        return sum(_traversal(key) + _traversal(item) for key, item in value.items())
    return 1


def _of_text(factor: int = 1) -> CallCost:
    return lambda given, _: _tenth(size_of(given[0]) * factor)


def _pattern(given: Arguments, _: Any) -> int:
    return _tenth(1 + size_of(given[0])) * _quarter(size_of(given[1]))


def _validate(given: Arguments, _: Any) -> int:
    return _tenth(1 + size_of(given[1])) * _quarter(int(given[0].max_regex_size))


def _comparison(given: Arguments, _: Any) -> int:
    return _tenth(min(size_of(given[0]), size_of(given[1])))


def _order(given: Arguments, result: Any) -> int:
    return _comparison(given, result) if isinstance(given[0], (str, bytes)) else 1


def _sum(given: Arguments, _: Any) -> int:
    return _tenth(size_of(given[0]) + size_of(given[1])) if isinstance(given[0], (str, bytes)) else 1


def _within(given: Arguments, _: Any) -> int:
    return size_of(given[1]) if isinstance(given[1], list) else 1


def _contains(given: Arguments, _: Any) -> int:
    return _tenth(size_of(given[0])) * _tenth(size_of(given[1]))


def _conversion(given: Arguments, _: Any) -> int:
    return _tenth(size_of(given[0])) if isinstance(given[0], (str, bytes)) else 1


def _address(given: Arguments, _: Any) -> int:
    return _tenth(len(given[0])) if isinstance(given[0], str) else 1


def _holds_address(given: Arguments, _: Any) -> int:
    own, other = size_of(given[0]), size_of(given[1])
    return _tenth(2 * own) + (_tenth(other) if isinstance(given[1], str) else 0)


def _holds_network(given: Arguments, result: Any) -> int:
    return _holds_address(given, result) + _tenth(size_of(given[0])) + 1


def _selector(given: Arguments, _: Any) -> int:
    size = size_of(given[1])
    return LIST + _tenth(size) + -(-size // 2) * 50


COSTS: dict[str, CallCost] = {
    **dict.fromkeys(("_==_", "_!=_"), _comparison),
    **dict.fromkeys(("_<_", "_<=_", "_>_", "_>=_"), _order),
    "_+_": _sum,
    "@in": _within,
    **dict.fromkeys(("startsWith", "endsWith"), lambda given, _: _tenth(size_of(given[1]))),
    "contains": _contains,
    **dict.fromkeys(("matches", "find", "findAll"), _pattern),
    **dict.fromkeys(("string", "bytes"), _conversion),
    **dict.fromkeys(("strings.quote", "format"), _of_text()),
    **dict.fromkeys(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"), lambda given, _: _traversal(given[0])),
    **dict.fromkeys(("url", "lowerAscii", "upperAscii", "substring", "trim", "jsonpatch.escapeKey"), _of_text()),
    **dict.fromkeys(("replace", "split", "ip.isCanonical"), _of_text(2)),
    "join": lambda _, result: _tenth(size_of(result) * 2),
    **dict.fromkeys(("cidr", "isIP", "isCIDR", "quantity", "isQuantity", "semver", "isSemver"), _of_text()),
    "ip": _address,
    "containsIP": _holds_address,
    "containsCIDR": _holds_network,
    "validate": _validate,
    **dict.fromkeys(("fieldSelector", "labelSelector"), _selector),
    "check": lambda _given, _result: CHECK,
}
