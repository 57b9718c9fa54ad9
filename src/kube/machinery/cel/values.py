"""What CEL's values are in Python, and what can be asked of any of them.

null, bool, string, bytes, double, list and map are Python's own; int is `int` and uint is `UInt`.
A type is a `CelType`. Values of Kubernetes' libraries are objects with a `cel_type`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MIN_INT, MAX_INT, MAX_UINT = -(2**63), 2**63 - 1, 2**64 - 1
NANOS = 1_000_000_000


class CelError(Exception):
    """An expression that does not compile or whose evaluation failed; the text is the message."""


class UInt(int):
    """An unsigned integer."""


@dataclass(frozen=True, slots=True)
class CelType:
    """A type as a value: `type(1) == int`."""

    name: str


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """A time, in nanoseconds since 1970."""

    nanos: int


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A span of time in nanoseconds."""

    nanos: int


@dataclass(frozen=True, slots=True)
class Optional:
    """A value that may be absent."""

    value: Any = None
    present: bool = False


NONE = Optional()


class SetList(list[Any]):
    """A list with `x-kubernetes-list-type: set`: its order does not count, and a sum has each element once."""


class MapList(list[Any]):
    """A list with `x-kubernetes-list-type: map`: elements are told apart by `keys`."""

    keys: tuple[str, ...] = ()

    def key_of(self, element: Any) -> tuple[Any, ...]:
        """What an element is known by."""
        if not isinstance(element, dict):
            raise no_overload()
        return tuple(_hashable(element.get(key)) for key in self.keys)

    def like(self, elements: Iterable[Any]) -> MapList:
        """Another list of the same kind."""
        made = MapList(elements)
        made.keys = self.keys
        return made


_TYPE_NAMES: dict[type, str] = {
    type(None): "null_type",
    bool: "bool",
    int: "int",
    UInt: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    SetList: "list",
    MapList: "list",
    dict: "map",
    Timestamp: "google.protobuf.Timestamp",
    Duration: "google.protobuf.Duration",
    Optional: "optional_type",
    CelType: "type",
}
TYPES = {name: CelType(name) for name in ("bool", "int", "uint", "double", "string", "bytes", "list", "map", "type")}
TYPES |= {name: CelType(name) for name in _TYPE_NAMES.values()}


def type_name(value: Any) -> str:
    """The name of a value's type."""
    return _TYPE_NAMES.get(type(value)) or str(getattr(value, "cel_type", "dyn"))


def no_overload() -> CelError:
    """The error of an operation that the types of its operands do not have."""
    return CelError("no such overload")


def is_number(value: Any) -> bool:
    """Whether a value is an int, a uint or a double."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def size_of(value: Any) -> int:
    """What cost is reckoned by: the length of what has one, else 1."""
    if isinstance(value, (str, list, dict)):
        return len(value)
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, Optional) and value.present:
        return size_of(value.value)
    return int(getattr(value, "cel_size", 1))


def equal(left: Any, right: Any) -> bool:
    """CEL's equality: numbers by their value whatever their type, anything else only within its type."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return left == right
    if isinstance(left, list) and isinstance(right, list):
        return _equal_lists(left, right)
    if isinstance(left, dict) and isinstance(right, dict):
        return len(left) == len(right) and all(key in right and equal(left[key], right[key]) for key in left)
    if isinstance(left, Optional) and isinstance(right, Optional):
        return left.present == right.present and equal(left.value, right.value)
    return type(left) is type(right) and bool(left == right)


def _equal_lists(left: list[Any], right: list[Any]) -> bool:
    if len(left) != len(right):
        return False
    if isinstance(left, MapList):
        others = {left.key_of(item): item for item in right}
        return len(others) == len(left) and all(
            (key := left.key_of(item)) in others and equal(item, others[key]) for item in left
        )
    if isinstance(left, SetList):
        return all(any(equal(item, other) for other in right) for item in left) and all(
            any(equal(item, other) for other in left) for item in right
        )
    return all(equal(item, other) for item, other in zip(left, right, strict=True))


def contains(items: list[Any], value: Any) -> bool:
    """Whether a list has an element that equals a value."""
    return any(equal(item, value) for item in items)


def _hashable(value: Any) -> Any:
    return repr(value) if isinstance(value, (list, dict)) else (type(value).__name__, value)


def compare(left: Any, right: Any) -> int:
    """-1, 0 or 1. Raises CelError for values that have no order."""
    numbers = is_number(left) and is_number(right)
    if not numbers and (type(left) is not type(right) or not isinstance(left, _ORDERED)):
        raise no_overload()
    if (isinstance(left, float) and math.isnan(left)) or (isinstance(right, float) and math.isnan(right)):
        raise CelError("NaN values cannot be ordered")
    return -1 if left < right else int(left > right)


_ORDERED = (bool, str, bytes, Timestamp, Duration)


def plain(value: Any) -> Any:
    """A value as JSON. Raises CelError for one that has no such form."""
    if value is None or isinstance(value, (bool, str, float)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (Timestamp, Duration, bytes)):
        from kube.machinery.cel.conversions import to_text

        return to_text(value)
    raise CelError("the result has no JSON form")
