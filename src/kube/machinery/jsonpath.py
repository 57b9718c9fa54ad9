"""JSONPath as CRD printer columns, selectable fields of CRDs and `kubectl wait` use it.

One expression, without kubectl's templates (`{range}`, text around braces). Dotted fields with escaped dots, quoted
keys, `*`, indexes and slices (negative ones too), unions, `..` and filters are understood. Evaluation never fails:
whatever the object lacks selects nothing, as `AllowMissingKeys` makes it in client-go. Unlike client-go, `['a.b']` is
the key `a.b` and not the path `a` then `b`. A path is a chain of steps, each a function from values to values.
"""

from __future__ import annotations

import operator
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

# Inside a filter a field also ends where an operator or the closing parenthesis begins.
_FIELD = re.compile(r"(?:\\.|[^\\ \t\r\n.,\[\]$@{}'\"])+", re.DOTALL)
_FILTER_FIELD = re.compile(r"(?:\\.|[^\\ \t\r\n.,\[\]$@{}'\"()=!<>])+", re.DOTALL)
_INDEX = re.compile(r"(-?[0-9]{1,9})?(?:(:)(-?[0-9]{1,9})?(?::([0-9]{1,9})?)?)?")
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_MAX_TEXT = 4096
_MAX_DEPTH = 16
# Expressions come with custom resources: a chain of unions or `..` must not multiply its values without bound.
_MAX_VALUES = 10_000

_Step = Callable[[Iterable[Any]], Iterator[Any]]


@dataclass(frozen=True, slots=True)
class JSONPath:
    """A compiled expression."""

    text: str
    _steps: tuple[_Step, ...]

    def find(self, obj: Any) -> list[Any]:
        """Every value that the path selects, in document order; an empty list when it selects nothing."""
        return _walk(self._steps, obj)

    def __str__(self) -> str:
        return self.text


def compile_jsonpath(text: str) -> JSONPath:
    """`.spec.x`, `$.spec.x`, `{.spec.x}` or `spec.x`. Raises ValueError that says what is wrong and where."""
    if len(text) > _MAX_TEXT:
        raise ValueError(f"the path is longer than {_MAX_TEXT} characters")
    body = text.strip()
    if body.startswith("{") and body.endswith("}"):
        body = body[1:-1].strip()
    if not body:
        raise ValueError("the path is empty")
    parser = _Parser(body)
    steps = parser.path(_FIELD)
    parser.expect_end()
    return JSONPath(text, steps)


class _Parser:
    """Recursive descent over one expression; `position` is the next character."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._depth = 0

    def path(self, field: re.Pattern[str]) -> tuple[_Step, ...]:
        """Steps up to the first character that no step begins with."""
        steps: list[_Step] = []
        if not (self._accept("$") or self._accept("@")) and not self._at(".") and not self._at("["):
            steps.append(_field(self._name(field)))
        while True:
            if self._accept(".."):
                steps.append(_descend)
                if not self._at("[") and self._position < len(self._text):
                    steps.append(self._field_or_wildcard(field))
            elif self._accept("."):
                steps.append(self._field_or_wildcard(field))
            elif self._accept("["):
                steps.append(self._bracket())
            else:
                return tuple(steps)

    def expect_end(self) -> None:
        if self._position < len(self._text):
            found = self._text[self._position]
            raise ValueError(f"unrecognized character {found!r} at position {self._position}")

    def _field_or_wildcard(self, field: re.Pattern[str]) -> _Step:
        return _wildcard if self._accept("*") else _field(self._name(field))

    def _name(self, field: re.Pattern[str]) -> str:
        found = field.match(self._text, self._position)
        if found is None:
            raise ValueError(f"expected a field name at position {self._position}")
        self._position = found.end()
        return _unescape(found[0])

    def _bracket(self) -> _Step:
        if self._accept("?("):
            step = self._filter()
            self._expect("]", "unterminated filter")
            return step
        members: list[_Step] = []
        while True:
            self._spaces()
            members.append(self._member())
            self._spaces()
            if not self._accept(","):
                break
        self._expect("]", "unterminated array")
        return members[0] if len(members) == 1 else _union(members)

    def _member(self) -> _Step:
        if self._accept("*"):
            return _wildcard
        if self._at("'") or self._at('"'):
            return _field(self._quoted())
        found = _INDEX.match(self._text, self._position)
        if found is None or not found[0]:
            raise ValueError(f"invalid array index at position {self._position}")
        self._position = found.end()
        start, colon, stop, step = found.groups()
        if not colon:
            return _index(int(start))
        if step and int(step) == 0:
            raise ValueError("a slice's step must be greater than 0")
        return _slice(slice(*(int(part) if part else None for part in (start, stop, step))))

    def _filter(self) -> _Step:
        """The inside of `?( )`: an operand that must exist, or two operands and an operator."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ValueError(f"filters are nested more than {_MAX_DEPTH} levels deep")
        left = self._operand()
        self._spaces()
        if self._accept(")"):
            self._depth -= 1
            return _exists(left)
        compare = next((_OPERATORS[name] for name in _OPERATORS if self._accept(name)), None)
        if compare is None:
            raise ValueError(f"unrecognized filter operator at position {self._position}")
        right = self._operand()
        self._spaces()
        self._expect(")", "unterminated filter")
        self._depth -= 1
        return _comparison(left, compare, right)

    def _operand(self) -> tuple[_Step, ...]:
        self._spaces()
        if self._at("'") or self._at('"'):
            return (_constant(self._quoted()),)
        number = _NUMBER.match(self._text, self._position)
        if number is not None:
            self._position = number.end()
            return (_constant(int(number[0]) if number[0].lstrip("+-").isdigit() else float(number[0])),)
        for word, value in (("true", True), ("false", False)):
            if self._accept(word):
                return (_constant(value),)
        return self.path(_FILTER_FIELD)

    def _quoted(self) -> str:
        quote = self._text[self._position]
        found = re.compile(rf"{quote}((?:\\.|[^\\{quote}])*){quote}", re.DOTALL).match(self._text, self._position)
        if found is None:
            raise ValueError("unterminated quoted string")
        self._position = found.end()
        return _unescape(found[1])

    def _at(self, token: str) -> bool:
        return self._text.startswith(token, self._position)

    def _accept(self, token: str) -> bool:
        if not self._at(token):
            return False
        self._position += len(token)
        return True

    def _expect(self, token: str, problem: str) -> None:
        if not self._accept(token):
            raise ValueError(f"{problem}: expected {token!r} at position {self._position}")

    def _spaces(self) -> None:
        while self._accept(" "):
            pass


def _walk(steps: Sequence[_Step], obj: Any) -> list[Any]:
    # A list after each step: a long path as nested generators would exhaust the interpreter's stack.
    values = [obj]
    for step in steps:
        values = list(islice(step(values), _MAX_VALUES))
    return values


def _field(name: str) -> _Step:
    def step(values: Iterable[Any]) -> Iterator[Any]:
        return (value[name] for value in values if isinstance(value, dict) and name in value)

    return step


def _wildcard(values: Iterable[Any]) -> Iterator[Any]:
    return (child for value in values for child in _children(value))


def _descend(values: Iterable[Any]) -> Iterator[Any]:
    """Every object and list that is not empty, parents before their children."""
    pending = deque(values)
    while pending:
        value = pending.popleft()
        children = list(_children(value))
        if children:
            yield value
            pending.extendleft(reversed(children))


def _index(index: int) -> _Step:
    def step(values: Iterable[Any]) -> Iterator[Any]:
        return (value[index] for value in values if isinstance(value, list) and -len(value) <= index < len(value))

    return step


def _slice(part: slice) -> _Step:
    def step(values: Iterable[Any]) -> Iterator[Any]:
        return (item for value in values if isinstance(value, list) for item in value[part])

    return step


def _union(members: Sequence[_Step]) -> _Step:
    def step(values: Iterable[Any]) -> Iterator[Any]:
        found = list(values)
        return (item for member in members for item in member(found))

    return step


def _constant(constant: Any) -> _Step:
    def step(values: Iterable[Any]) -> Iterator[Any]:
        return (constant for _ in values)

    return step


def _exists(left: Sequence[_Step]) -> _Step:
    return _select(lambda item: bool(_walk(left, item)))


def _comparison(left: Sequence[_Step], compare: Callable[[Any, Any], bool], right: Sequence[_Step]) -> _Step:
    def matches(item: Any) -> bool:
        lefts, rights = _walk(left, item), _walk(right, item)
        if len(lefts) != 1 or len(rights) != 1:
            return False
        kind = _kind(lefts[0])
        return bool(kind) and kind == _kind(rights[0]) and compare(lefts[0], rights[0])

    return _select(matches)


def _select(matches: Callable[[Any], bool]) -> _Step:
    def step(values: Iterable[Any]) -> Iterator[Any]:
        return (item for value in values if isinstance(value, list) for item in value if matches(item))

    return step


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _kind(value: Any) -> str:
    """Only scalars of one kind compare; True is no number."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else ""


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
