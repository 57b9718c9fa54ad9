"""Checks of numbers and percentages that the kinds with pods share (apps `validation.go`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from kube.machinery.errors import Cause, cause
from solo.registry.objects import quote

Obj = dict[str, Any]

NEGATIVE = "must be greater than or equal to 0"
_DIGITS = 19
_LOT = 2**63 - 1
_PERCENT = re.compile("[0-9]+%")
_NO_PERCENT = (
    "a valid percent string must be a numeric string followed by an ending '%' "
    "(e.g. '1%' or '93%', regex used for validation is '[0-9]+%')"
)


def negative(part: Obj, keys: Iterable[str], field: str) -> list[Cause]:
    """Those of some numbers, where they are given, that are below 0."""
    return [
        cause("FieldValueInvalid", f"{field}.{key}", NEGATIVE, str(part[key]))
        for key in keys
        if part.get(key) is not None and part[key] < 0
    ]


def too_many(count: int, limit: int, field: str) -> Cause:
    """A list that is longer than lists of its kind may be."""
    return cause("FieldValueTooMany", field, f"must have at most {limit} items", str(count))


def count_or_percent(value: int | str, field: str) -> Iterator[Cause]:
    """What is neither a number from 0 on nor a percentage."""
    if isinstance(value, str):
        if not _PERCENT.fullmatch(value):
            yield cause("FieldValueInvalid", field, _NO_PERCENT, quote(value))
    elif value < 0:
        yield cause("FieldValueInvalid", field, NEGATIVE, str(value))


def over_all(value: int | str, field: str) -> Iterator[Cause]:
    """A percentage of more than everything."""
    if isinstance(value, str) and _PERCENT.fullmatch(value) and amount(value) > 100:
        yield cause("FieldValueInvalid", field, "must not be greater than 100%", quote(value))


def amount(value: int | str) -> int:
    """The number in a count or a percentage, as checks compare it; 0 for a string that is neither."""
    if not isinstance(value, str):
        return value
    digits = value.removesuffix("%") if _PERCENT.fullmatch(value) else value
    found = re.fullmatch("([-+]?)0*([0-9]*)", digits)
    if found is None or not found[2]:
        return 0
    # More digits than a number has here are a lot; Python would refuse to read very many.
    size = int(found[2]) if len(found[2]) < _DIGITS else _LOT
    return -size if found[1] == "-" else size
