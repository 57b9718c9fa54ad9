"""What a JSON value is and how Kubernetes prints it in a message about a field.

Objects here are what a JSON parser yields: dict, list, str, int, float, bool and None.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

_TYPE_NAMES: dict[type, str] = {
    str: "string",
    int: "integer",
    bool: "boolean",
    dict: "object",
    list: "array",
    float: "number",
    type(None): "null",
}


def json_type(value: Any) -> str:
    """The OpenAPI type name of a JSON value."""
    return _TYPE_NAMES[type(value)]


def show(value: Any) -> str:
    """A value as `field.Error` prints it: strings quoted, compounds as compact JSON with sorted keys."""
    if isinstance(value, float):
        return show_number(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def show_number(value: float) -> str:
    """A number as Go's `%v` prints it: no trailing `.0`, an exponent for very large and small ones."""
    if not isinstance(value, float):
        return str(value)
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    if not isinstance(exponent, int):
        return {"F": "+Inf", "n": "NaN"}.get(str(exponent), str(value))
    place = len(digits) + exponent - 1
    if -4 <= place < 6 and value:
        return f"{value:.{max(-exponent, 0)}f}"
    if not value:
        return "0"
    rest = "".join(map(str, digits[1:]))
    return f"{'-' if sign else ''}{digits[0]}{'.' if rest else ''}{rest}e{place:+03d}"


def same(left: Any, right: Any) -> bool:
    """Deep equality that tells true from 1, as Go does and Python does not."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def copy_json(value: Any) -> Any:
    """A deep copy of a JSON value (`copy.deepcopy` is ten times slower)."""
    if isinstance(value, dict):
        return {key: copy_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copy_json(item) for item in value]
    return value
