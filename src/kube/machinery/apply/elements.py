"""Path elements: one step from an object to a value inside it, in the text form of FieldsV1.

    f:replicas              the member `replicas` of an object
    k:{"name":"x"}          the item of a list whose keys have these values
    v:"a"                   the item of a set
    i:0                     the item at an index

Canonical text stands for the element everywhere in this package: equal elements are equal strings. The format is
that of structured-merge-diff's fieldpath/serialize-pe.go, so sets written by other servers are read as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Any

_HTML = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)  # Go's JSON encoders escape these in strings

SortKey = tuple[int, Any]

_SHORT = 200  # characters; longer elements are rare, and a cache of them would have no bound worth the name


def field_element(name: str) -> str:
    """The element of an object's member."""
    return "f:" + name


def key_element(keys: Mapping[str, Any]) -> str:
    """The element of a list item that is identified by the values of some of its fields."""
    pairs = ",".join(f"{_text(name)}:{_json(keys[name])}" for name in sorted(keys))
    return f"k:{{{pairs}}}"


def value_element(value: Any) -> str:
    """The element of a scalar in a list that is a set."""
    return "v:" + _json(value)


def parse_element(text: str) -> str | None:
    """The canonical form of an element; None for a type of element that a later version may know.

    Raises ValueError if it is malformed.
    """
    return _parse_short(text) if len(text) <= _SHORT else _parse(text)


def _parse(text: str) -> str | None:
    if len(text) < 2 or text[1] != ":":
        raise ValueError(f"missing colon: {text}" if len(text) > 1 else "key must be 2 characters long:")
    kind, rest = text[0], text[2:]
    if kind == "f":
        return text
    if kind == "k":
        keys = json.loads(rest)
        if not isinstance(keys, dict):
            raise ValueError(f"a key must be an object: {text}")
        return key_element(keys)
    if kind == "v":
        return value_element(json.loads(rest))
    if kind == "i":
        return f"i:{int(rest)}"
    return None


def sort_key(element: str) -> SortKey:
    """Elements in Kubernetes' order: fields, keys, values, indexes; numbers before strings before booleans."""
    return _short_sort_key(element) if len(element) <= _SHORT else _sort_key(element)


def _sort_key(element: str) -> SortKey:
    kind, rest = element[0], element[2:]
    if kind == "f":
        return 0, rest
    if kind == "k":
        return 1, tuple((name, _rank(value)) for name, value in json.loads(rest).items())
    if kind == "v":
        return 2, _rank(json.loads(rest))
    return 3, int(rest)


def show_element(element: str) -> str:
    """How a path is printed in messages: `.replicas`, `[name="x"]`, `[="a"]`, `[0]`."""
    kind, rest = element[0], element[2:]
    if kind == "f":
        return "." + rest
    if kind == "k":
        return "[" + ",".join(f"{name}={_show(value)}" for name, value in json.loads(rest).items()) + "]"
    return f"[={_show(json.loads(rest))}]" if kind == "v" else f"[{rest}]"


def show_path(path: tuple[str, ...]) -> str:
    """A path as in `.spec.items[name="x"].v`."""
    return "".join(map(show_element, path))


def _text(value: str) -> str:
    if value.isalnum():
        return f'"{value}"'
    return encode_basestring(value).translate(_HTML)


def _json(value: Any) -> str:
    if value.__class__ is str:
        return _text(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))  # 1.0 and 1 are the same number, and Go writes both as 1
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).translate(_HTML)


def _rank(value: Any) -> tuple[int, Any]:
    if isinstance(value, bool):
        return 2, value
    if isinstance(value, int | float):
        return 0, value
    if isinstance(value, str):
        return 1, value
    return 3, _json(value)


def _show(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


_parse_short = lru_cache(maxsize=4096)(_parse)
_short_sort_key = lru_cache(maxsize=4096)(_sort_key)
