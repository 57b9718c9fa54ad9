"""The syntax tree of a compiled expression, macros expanded, read from its encoding (cel-spec `checked.proto`)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kube.machinery.cel.values import UInt
from kube.machinery.protobuf.wire import BYTES, fields, varint

_CHECKED_EXPR = 4
_CONST, _IDENT, _SELECT, _CALL, _LIST, _STRUCT, _LOOP = range(3, 10)


@dataclass(frozen=True, slots=True)
class Const:
    """A literal; `size` is the length of a string or of bytes, 1 of anything else."""

    size: int
    is_text: bool
    value: Any = None


@dataclass(frozen=True, slots=True)
class Ident:
    name: str


@dataclass(frozen=True, slots=True)
class Select:
    """`operand.field`, or `has(operand.field)`."""

    operand: Expr
    field: str
    presence: bool


@dataclass(frozen=True, slots=True)
class Call:
    function: str
    target: Expr | None
    arguments: Sequence[Expr]


@dataclass(frozen=True, slots=True)
class Collection:
    """A list, or a map whose keys and values are the elements in turn.

    `optional` has the places of the elements, or of the map's entries, that are written with `?`.
    """

    elements: Sequence[Expr]
    is_map: bool
    optional: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Loop:
    """A comprehension: what `all`, `exists`, `map` and `filter` are made of."""

    variable: str
    second: str
    accumulator: str
    over: Expr
    initial: Expr
    condition: Expr
    step: Expr
    result: Expr


Expr = Const | Ident | Select | Call | Collection | Loop


def read_checked(data: bytes) -> Expr:
    """The tree of a serialized expression (an Any that holds a CheckedExpr). Raises ValueError."""
    body = _messages(memoryview(data)).get(2, [memoryview(b"")])[0]
    found = _messages(body).get(_CHECKED_EXPR)
    if not found:
        raise ValueError("no expression")
    return _expr(found[0])


def _messages(data: memoryview) -> dict[int, list[memoryview]]:
    """The fields of a message that are messages, strings or bytes."""
    found: dict[int, list[memoryview]] = {}
    for number, wire_type, value in fields(data):
        if wire_type == BYTES and isinstance(value, memoryview):
            found.setdefault(number, []).append(value)
    return found


def _numbers(data: memoryview) -> dict[int, int]:
    return {number: value for number, _, value in fields(data) if isinstance(value, int)}


def _text(parts: dict[int, list[memoryview]], number: int) -> str:
    return bytes(parts[number][0]).decode() if number in parts else ""


def _expr(data: memoryview) -> Expr:
    parts = _messages(data)
    kind = next((number for number in parts if _CONST <= number <= _LOOP), None)
    if kind is None:
        return Const(1, is_text=False)
    body = parts[kind][0]
    inner = _messages(body)
    if kind == _CONST:
        return _const(inner, body)
    if kind == _IDENT:
        return Ident(_text(inner, 1))
    if kind == _SELECT:
        return Select(_expr(inner[1][0]), _text(inner, 2), bool(_numbers(body).get(3)))
    if kind == _CALL:
        target = _expr(inner[1][0]) if 1 in inner else None
        return Call(_text(inner, 2), target, [_expr(item) for item in inner.get(3, ())])
    if kind == _LIST:
        return Collection([_expr(item) for item in inner.get(1, ())], False, frozenset(_places(body)))
    if kind == _STRUCT:
        return _struct(inner.get(2, []))
    return Loop(
        _text(inner, 1), _text(inner, 8), _text(inner, 3), *(_expr(inner[number][0]) for number in (2, 4, 5, 6, 7))
    )


def _places(body: memoryview) -> Iterator[int]:
    """The optional elements of a list, packed or not."""
    for number, _, value in fields(body):
        if number == 2 and isinstance(value, int):
            yield value
        elif number == 2 and isinstance(value, memoryview):
            place = 0
            while place < len(value):
                index, place = varint(value, place)
                yield index


def _struct(entries: list[memoryview]) -> Collection:
    parts = [_messages(item) for item in entries]
    elements = [_expr(item[key][0]) for item in parts for key in (3, 4) if key in item]
    optional = [index for index, item in enumerate(entries) if _numbers(item).get(5)]
    return Collection(elements, True, frozenset(optional))


_TEXT, _BYTES_VALUE, _DOUBLE = 6, 7, 5


def _const(inner: dict[int, list[memoryview]], body: memoryview) -> Const:
    if _TEXT in inner:
        text = _text(inner, _TEXT)
        return Const(len(text), True, text)
    if _BYTES_VALUE in inner:
        data = bytes(inner[_BYTES_VALUE][0])
        return Const(len(data), True, data)
    for number, _, value in fields(body):
        if number == _DOUBLE and isinstance(value, memoryview):
            return Const(1, False, struct.unpack("<d", value)[0])
        if isinstance(value, int):
            return Const(1, False, _number(number, value))
    return Const(1, False)


def _number(kind: int, value: int) -> Any:
    if kind == 2:
        return bool(value)
    if kind == 3:
        return value - 2**64 if value >= 2**63 else value
    return UInt(value) if kind == 4 else None
