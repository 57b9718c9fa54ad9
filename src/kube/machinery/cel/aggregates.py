"""Functions on lists, sets, maps and optionals: CEL's own, cel-go's extensions and Kubernetes' list library."""

from __future__ import annotations

from collections.abc import Callable
from functools import cmp_to_key
from itertools import pairwise
from typing import Any

from kube.machinery.cel.operators import add
from kube.machinery.cel.texts import index_of_text, last_index_of_text
from kube.machinery.cel.values import NONE, CelError, Optional, compare, contains, equal, no_overload


def _lists(*values: Any) -> None:
    if not all(isinstance(value, list) for value in values):
        raise no_overload()


# --- Kubernetes' lists


def _is_sorted(items: list[Any]) -> bool:
    _lists(items)
    return all(compare(one, two) <= 0 for one, two in pairwise(items))


def _sum(items: list[Any]) -> Any:
    _lists(items)
    total: Any = None
    for item in items:
        total = item if total is None else add(total, item)
    return 0 if total is None else total


def _extreme(name: str, sign: int) -> Callable[[list[Any]], Any]:
    def pick(items: list[Any]) -> Any:
        _lists(items)
        if not items:
            raise CelError(f"{name} called on empty list")
        chosen = items[0]
        for item in items[1:]:
            if compare(item, chosen) * sign > 0:
                chosen = item
        return chosen

    return pick


def _index_of(holder: Any, value: Any, *offset: int) -> int:
    if not isinstance(holder, list):
        return index_of_text(holder, value, *offset)
    return next((index for index, item in enumerate(holder) if equal(item, value)), -1)


def _last_index_of(holder: Any, value: Any, *offset: int) -> int:
    if not isinstance(holder, list):
        return last_index_of_text(holder, value, *offset)
    return next((index for index in range(len(holder) - 1, -1, -1) if equal(holder[index], value)), -1)


# --- lists


def _distinct(items: list[Any]) -> list[Any]:
    _lists(items)
    made: list[Any] = []
    for item in items:
        if not contains(made, item):
            made.append(item)
    return made


def _flatten(items: list[Any], depth: int = 1) -> list[Any]:
    _lists(items)
    if depth < 0:
        raise CelError("level must be non-negative")
    made: list[Any] = []
    for item in items:
        if isinstance(item, list) and depth:
            made.extend(_flatten(item, depth - 1))
        else:
            made.append(item)
    return made


def _slice(items: list[Any], start: int, end: int) -> list[Any]:
    _lists(items)
    if start < 0 or end < 0:
        raise CelError(f"cannot slice({start}, {end}), negative indexes not supported")
    if start > end:
        raise CelError(f"cannot slice({start}, {end}), start index must be less than or equal to end index")
    if end > len(items):
        raise CelError(f"cannot slice({start}, {end}), list is length {len(items)}")
    return list(items[start:end])


def _ordered(keys: list[Any]) -> list[int]:
    if keys and any(type(key) is not type(keys[0]) for key in keys):
        raise CelError("list elements must have the same type")
    places = list(range(len(keys)))
    places.sort(key=cmp_to_key(lambda one, two: compare(keys[int(one)], keys[int(two)])))  # type: ignore[call-overload]
    return places


def _sort(items: list[Any], keys: list[Any] | None = None) -> list[Any]:
    _lists(items)
    order: list[int] = _ordered(items if keys is None else keys)
    return [items[index] for index in order]


def _range(count: int) -> list[int]:
    return list(range(count))


def _end(place: int) -> Callable[[list[Any]], Optional]:
    def get(items: list[Any]) -> Optional:
        _lists(items)
        return Optional(items[place], True) if items else NONE

    return get


def _reverse(value: Any) -> Any:
    if not isinstance(value, (list, str)):
        raise no_overload()
    return value[::-1]


# --- sets


def _all_in(holder: list[Any], items: list[Any]) -> bool:
    _lists(holder, items)
    return all(contains(holder, item) for item in items)


def _intersects(left: list[Any], right: list[Any]) -> bool:
    _lists(left, right)
    return any(contains(right, item) for item in left)


def _insert(holder: Any, *added: Any) -> Any:
    """A map with one more entry, or with those of another map: the accumulator of a comprehension, its own alone."""
    entries = added[0].items() if len(added) == 1 else [added]
    for key, value in entries:
        if key in holder:
            raise CelError(f"insert failed: key {key} already exists")
        holder[key] = value
    return holder


# --- optionals


def _value(optional: Optional) -> Any:
    if not optional.present:
        raise CelError("optional.none() dereference")
    return optional.value


def _present(value: Any) -> Optional:
    """An optional of a value that is not its type's zero."""
    empty = value is None or value is False or (not isinstance(value, bool) and value in (0, "", b"", [], {}))
    return NONE if empty else Optional(value, True)


COLLECTION_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "isSorted": _is_sorted,
    "sum": _sum,
    "min": _extreme("min", -1),
    "max": _extreme("max", 1),
    "indexOf": _index_of,
    "lastIndexOf": _last_index_of,
    "distinct": _distinct,
    "flatten": _flatten,
    "slice": _slice,
    "sort": _sort,
    "@sortByAssociatedKeys": _sort,
    "lists.range": _range,
    "reverse": _reverse,
    "first": _end(0),
    "last": _end(-1),
    "sets.contains": _all_in,
    "sets.equivalent": lambda left, right: _all_in(left, right) and _all_in(right, left),
    "sets.intersects": _intersects,
    "cel.@mapInsert": _insert,
    "optional.of": lambda value: Optional(value, True),
    "optional.none": lambda: NONE,
    "optional.ofNonZeroValue": _present,
    "hasValue": lambda optional: optional.present,
    "value": _value,
}
