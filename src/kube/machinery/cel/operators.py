"""Operators, and what is selected of a value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from kube.machinery.cel.conversions import checked_span, checked_time, in_range, unsigned
from kube.machinery.cel.values import (
    NONE,
    CelError,
    Duration,
    MapList,
    Optional,
    SetList,
    Timestamp,
    UInt,
    compare,
    contains,
    equal,
    is_number,
    no_overload,
)


def select(value: Any, name: str, plain: str) -> Any:
    """`value.name`; `plain` is the name that it stands for, of a field whose name is no identifier."""
    if isinstance(value, Mapping):
        if name in value:
            return value[name]
        if plain in value:
            return value[plain]
        raise CelError(f"no such key: {plain}")
    if isinstance(value, Optional):
        if not value.present:
            return NONE
        return index_of(value, plain if plain in (value.value or ()) else name, optional=True)
    found: Mapping[str, Any] = getattr(value, "cel_fields", {})
    if name in found:
        return found[name]
    raise no_overload()


def index_of(value: Any, key: Any, *, optional: bool) -> Any:
    """`value[key]`, or `value[?key]` and `value.?key`, which are optionals."""
    if isinstance(value, Optional):
        return index_of(value.value, key, optional=True) if value.present else NONE
    if isinstance(value, list):
        return _element(value, key, optional=optional)
    if isinstance(value, Mapping):
        return _entry(value, key, optional=optional)
    raise no_overload()


def _element(value: list[Any], key: Any, *, optional: bool) -> Any:
    if isinstance(key, float) and key.is_integer():
        key = int(key)
    if isinstance(key, bool) or not isinstance(key, int):
        raise CelError(f"unsupported index type '{type(key).__name__}' in list")
    if 0 <= key < len(value):
        return Optional(value[key], True) if optional else value[key]
    if optional:
        return NONE
    raise CelError(f"index out of bounds: {int(key)}")


def _entry(value: Mapping[Any, Any], key: Any, *, optional: bool) -> Any:
    found = key
    if key not in value and isinstance(key, str):
        from kube.machinery.cel.escape import unescape

        found = unescape(key) if optional else key
    if found in value and isinstance(found, bool) is isinstance(key, bool):
        return Optional(value[found], True) if optional else value[found]
    if optional:
        return NONE
    raise CelError(f"no such key: {key}")


def add(left: Any, right: Any) -> Any:
    if is_number(left) and is_number(right):
        return _numbers(left, right, lambda a, b: a + b)
    if (isinstance(left, str) and isinstance(right, str)) or (isinstance(left, bytes) and isinstance(right, bytes)):
        return left + right  # type: ignore[operator]
    if isinstance(left, list) and isinstance(right, list):
        return _joined(left, right)
    if isinstance(left, Timestamp) and isinstance(right, Duration):
        return checked_time(left.nanos + right.nanos)
    if isinstance(left, Duration) and isinstance(right, Timestamp):
        return checked_time(left.nanos + right.nanos)
    if isinstance(left, Duration) and isinstance(right, Duration):
        return checked_span(left.nanos + right.nanos)
    raise no_overload()


def _joined(left: list[Any], right: list[Any]) -> list[Any]:
    if isinstance(left, MapList):
        merged = {left.key_of(item): item for item in left}
        merged.update((left.key_of(item), item) for item in right)
        return left.like(merged.values())
    if isinstance(left, SetList):
        return SetList([*left, *(item for item in right if not contains(left, item))])
    return [*left, *right]


def subtract(left: Any, right: Any) -> Any:
    if is_number(left) and is_number(right):
        return _numbers(left, right, lambda a, b: a - b)
    if isinstance(left, Timestamp) and isinstance(right, Timestamp):
        return checked_span(left.nanos - right.nanos)
    if isinstance(left, Timestamp) and isinstance(right, Duration):
        return checked_time(left.nanos - right.nanos)
    if isinstance(left, Duration) and isinstance(right, Duration):
        return checked_span(left.nanos - right.nanos)
    raise no_overload()


def _numbers(left: Any, right: Any, operation: Callable[[Any, Any], Any]) -> Any:
    """Arithmetic on two numbers of one type."""
    if type(left) is not type(right):
        raise no_overload()
    if isinstance(left, float):
        return operation(left, right)
    value = operation(int(left), int(right))
    return unsigned(value) if isinstance(left, UInt) else in_range(value)


def multiply(left: Any, right: Any) -> Any:
    if not (is_number(left) and is_number(right)):
        raise no_overload()
    return _numbers(left, right, lambda a, b: a * b)


def divide(left: Any, right: Any) -> Any:
    if not (is_number(left) and is_number(right)):
        raise no_overload()
    if isinstance(left, float) and isinstance(right, float):
        if right:
            return left / right
        return math.nan if not left or math.isnan(left) else math.copysign(math.inf, left) * math.copysign(1, right)
    if type(left) is type(right) and not right:
        raise CelError("division by zero")
    return _numbers(left, right, _quotient)


def _quotient(left: int, right: int) -> int:
    """Towards zero."""
    value = abs(left) // abs(right)
    return value if (left < 0) == (right < 0) else -value


def remainder(left: Any, right: Any) -> Any:
    if not (is_number(left) and is_number(right)) or isinstance(left, float):
        raise no_overload()
    if type(left) is type(right) and not right:
        raise CelError("modulus by zero")
    return _numbers(left, right, lambda a, b: a - _quotient(a, b) * b)


def negate(value: Any) -> Any:
    if isinstance(value, float):
        return -value
    if isinstance(value, Duration):
        return checked_span(-value.nanos)
    if isinstance(value, (bool, UInt)) or not isinstance(value, int):
        raise no_overload()
    return in_range(-value)


def invert(value: Any) -> bool:
    if not isinstance(value, bool):
        raise no_overload()
    return not value


def within(value: Any, holder: Any) -> bool:
    if isinstance(holder, list):
        return contains(holder, value)
    if isinstance(holder, Mapping):
        return value in holder
    raise no_overload()


OPERATORS: dict[str, Callable[..., Any]] = {
    "_==_": equal,
    "_!=_": lambda left, right: not equal(left, right),
    "_<_": lambda left, right: compare(left, right) < 0,
    "_<=_": lambda left, right: compare(left, right) <= 0,
    "_>_": lambda left, right: compare(left, right) > 0,
    "_>=_": lambda left, right: compare(left, right) >= 0,
    "_+_": add,
    "_-_": subtract,
    "_*_": multiply,
    "_/_": divide,
    "_%_": remainder,
    "-_": negate,
    "!_": invert,
    "@in": within,
}
