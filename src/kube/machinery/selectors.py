"""Label and field selectors: parsing, validation and matching.

Grammar, precedence and error texts are those of k8s.io/apimachinery `labels.Parse` and `fields.ParseSelector`. Errors
are ValueError; the server wraps them into a 400.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kube.machinery.names import label_value, qualified_name

_BINARY_OPERATORS = "in, notin, =, ==, !=, gt, lt"
_SYMBOLS = ("==", "!=", "=", "!", "(", ")", ",", ">", "<")
_TOKEN = re.compile(r"[ \t\r\n]*(==|!=|[=!(),<>]|[^=!(),<> \t\r\n]+)")
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_DICT_OPERATORS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label. `operator`: in, notin, =, ==, !=, exists, !, gt or lt (as `selection.Operator`)."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "in" | "=" | "==":
                return value is not None and value in self.values
            case "notin" | "!=":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
        if value is None or not _INTEGER.fullmatch(value):
            return False
        left, right = int(value), int(self.values[0])
        return left > right if self.operator == "gt" else left < right

    def __str__(self) -> str:
        match self.operator:
            case "exists":
                return self.key
            case "!":
                return f"!{self.key}"
            case "in" | "notin":
                return f"{self.key} {self.operator} ({','.join(sorted(self.values))})"
        return f"{self.key}{ {'gt': '>', 'lt': '<'}.get(self.operator, self.operator) }{self.values[0]}"


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All requirements must hold. `nothing` is the selector of an absent LabelSelector, which selects no object."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        if self.nothing:
            return False
        present = labels or {}
        return all(requirement.matches(present) for requirement in self.requirements)

    @property
    def everything(self) -> bool:
        """Whether it restricts nothing."""
        return not self.nothing and not self.requirements

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements)


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """`requirements` are (path, "=" or "!=", value); a field that is absent reads as the empty string."""

    requirements: tuple[tuple[str, str, str], ...] = ()

    def matches(self, get: Callable[[str], str]) -> bool:
        return all((get(path) == value) is (operator == "=") for path, operator, value in self.requirements)

    def __str__(self) -> str:
        return ",".join(f"{path}{operator}{_escape(value)}" for path, operator, value in self.requirements)


def parse_label_selector(text: str) -> LabelSelector:
    """`a=b,c!=d,e in (f,g),h notin (),i,!j,k>1`. Empty text selects everything. Raises ValueError."""
    requirements = sorted(_Parser(text).parse(), key=lambda requirement: requirement.key)
    return LabelSelector(tuple(requirements))


def label_selector_from_dict(selector: Mapping[str, Any] | None) -> LabelSelector:
    """A `metav1.LabelSelector` object. None selects nothing, an empty one everything. Raises ValueError."""
    if selector is None:
        return LabelSelector(nothing=True)
    requirements = [_requirement(key, "=", [value]) for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        operator = expression.get("operator", "")
        if operator not in _DICT_OPERATORS:
            raise ValueError(f"{_quote(operator)} is not a valid label selector operator")
        values = list(expression.get("values") or ())
        requirements.append(_requirement(expression.get("key", ""), _DICT_OPERATORS[operator], values))
    requirements.sort(key=lambda requirement: requirement.key)
    return LabelSelector(tuple(requirements))


def parse_field_selector(text: str) -> FieldSelector:
    """`metadata.name=x,status.phase!=Running`; backslash escapes `,`, `=` and itself in values. Raises ValueError."""
    requirements: list[tuple[str, str, str]] = []
    for term in sorted(_split_terms(text)):
        if not term:
            continue
        found = re.match(r"(.*?)(!=|==|=)(.*)", term, re.DOTALL)
        if found is None:
            raise ValueError(f"invalid selector: '{text}'; can't understand '{term}'")
        path, operator, value = found.groups()
        requirements.append((path, "!=" if operator == "!=" else "=", _unescape(value)))
    return FieldSelector(tuple(requirements))


class _Parser:
    """Recursive descent over the tokens; the empty string is the end of the text."""

    def __init__(self, text: str) -> None:
        self._tokens = [*_tokens(text), ""]
        self._position = 0

    def parse(self) -> Iterator[Requirement]:
        while self._peek():
            if not _is_identifier(self._peek()) and self._peek() != "!":
                raise ValueError(f"found '{self._peek()}', expected: !, identifier, or 'end of string'")
            try:
                requirement = self._requirement()
            except ValueError as error:
                raise ValueError(f"unable to parse requirement: {error}") from None
            yield requirement
            separator = self._take()
            if not separator:
                return
            if separator != ",":
                raise ValueError(f"found '{separator}', expected: ',' or 'end of string'")
            if not _is_identifier(self._peek()) and self._peek() != "!":
                raise ValueError(f"found '{self._peek()}', expected: identifier after ','")

    def _peek(self) -> str:
        return self._tokens[self._position]

    def _take(self) -> str:
        token = self._tokens[self._position]
        # The end stays where it is, however often it is taken.
        self._position = min(self._position + 1, len(self._tokens) - 1)
        return token

    def _requirement(self) -> Requirement:
        negated = self._peek() == "!"
        if negated:
            self._take()
        key = self._take()
        if not _is_identifier(key):
            raise ValueError(f"found '{key}', expected: identifier")
        _check_key(key, "<nil>")
        if self._peek() in ("", ","):
            return _requirement(key, "!" if negated else "exists", [])
        operator = self._take()
        if negated or operator not in ("in", "notin", "=", "==", "!=", ">", "<"):
            raise ValueError(f"found '{operator}', expected: {_BINARY_OPERATORS}")
        values = self._values() if operator in ("in", "notin") else [self._exact_value()]
        return _requirement(key, {">": "gt", "<": "lt"}.get(operator, operator), values)

    def _exact_value(self) -> str:
        if self._peek() in ("", ","):
            return ""
        token = self._take()
        if not _is_identifier(token):
            raise ValueError(f"found '{token}', expected: identifier")
        return token

    def _values(self) -> list[str]:
        """`(a,,b)`: values may be empty, between any two commas or parentheses."""
        token = self._take()
        if token != "(":
            raise ValueError(f"found '{token}' expected: '('")
        values: set[str] = set()
        current = ""
        while (token := self._take()) != ")":
            if token == ",":
                values.add(current)
                current = ""
            elif current:
                raise ValueError(f"found '{token}', expected: ',' or ')'")
            elif _is_identifier(token):
                current = token
            else:
                raise ValueError(f"found '{token}', expected: ',', ')' or identifier")
        values.add(current)
        return sorted(values)


def _tokens(text: str) -> Iterator[str]:
    position, end = 0, len(text.rstrip(" \t\r\n"))
    while position < end:
        found = _TOKEN.match(text, position)
        if found is None:
            raise ValueError(f"found '{text[position]}', expected: !, identifier, or 'end of string'")
        position = found.end()
        yield found[1]


def _is_identifier(token: str) -> bool:
    return bool(token) and token not in _SYMBOLS


def _requirement(key: str, operator: str, values: list[str]) -> Requirement:
    """A checked requirement (`labels.NewRequirement`)."""
    _check_key(key, "key")
    problem = ""
    if operator in ("in", "notin") and not values:
        problem = "for 'in', 'notin' operators, values set can't be empty"
    elif operator in ("exists", "!") and values:
        problem = "values set must be empty for exists and does not exist"
    if problem:
        raise ValueError(f"values: Invalid value: {json.dumps(values, ensure_ascii=False)}: {problem}")
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise ValueError(f"values[{index}]: Invalid value: {json.dumps(value)}: must be a string")
        if operator in ("gt", "lt") and not _INTEGER.fullmatch(value):
            text = "for 'Gt', 'Lt' operators, the value must be an integer"
            raise ValueError(f"values[{index}]: Invalid value: {_quote(value)}: {text}")
        if errors := label_value(value):
            raise ValueError(f"values[{index}][{key}]: Invalid value: {_quote(value)}: {'; '.join(errors)}")
    return Requirement(key, operator, tuple(values))


def _check_key(key: str, path: str) -> None:
    errors = qualified_name(key)
    if errors:
        raise ValueError(f"{path}: Invalid value: {_quote(key)}: {'; '.join(errors)}")


def _quote(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _split_terms(text: str) -> Iterable[str]:
    """Split at commas that no backslash escapes."""
    return re.findall(r"(?:[^\\,]|\\.|\\$)+", text, re.DOTALL)


def _unescape(value: str) -> str:
    out: list[str] = []
    position = 0
    while position < len(value):
        character = value[position]
        if character == "\\":
            character = value[position + 1 : position + 2]
            if character not in ("\\", ",", "="):
                raise ValueError(f"invalid field selector: invalid escape sequence: \\{character}")
            position += 1
        elif character in ",=":
            raise ValueError(f"invalid field selector: unescaped character in value: {character}")
        out.append(character)
        position += 1
    return "".join(out)


def _escape(value: str) -> str:
    return re.sub(r"([\\,=])", r"\\\1", value)
