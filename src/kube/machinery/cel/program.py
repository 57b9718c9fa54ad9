"""Compiling and evaluating expressions, and the errors of both in cel-go's words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from kube.machinery.cel.environment import environment, error_type, typed_environment
from kube.machinery.cel.escape import add_aliases, find_aliases
from kube.machinery.cel.syntax import Expr, read_checked


class CelError(Exception):
    """An expression that does not compile or whose evaluation failed; the text is the message."""


class CelCompileError(CelError):
    """The expression is not valid CEL: `ERROR: <input>:1:5: ...` with a caret, as cel-go writes it."""


class CelCostError(CelError):
    """The evaluation took more steps than are allowed."""


COST_EXCEEDED = "operation cancelled: actual cost limit exceeded"

_COMPILE_NOISE = re.compile(r"^INVALID_ARGUMENT: | \[INVALID_ARGUMENT\]$")
_STATUS = re.compile(r"^[A-Z_]+: ")
_TRANSLATIONS: list[tuple[re.Pattern[str], str]] = [
    (re.compile(r'Key not found in map : "(.*)"', re.S), r"no such key: \1"),
    (re.compile(r"Key not found in map : (.*)", re.S), r"no such key: \1"),
    (re.compile(r"No matching overloads found.*", re.S), "no such overload"),
    (re.compile(r"Applying SELECT to non-message type"), "no such overload"),
    (re.compile(r"divide by zero"), "division by zero"),
    (re.compile(r"modulus by zero"), "modulus by zero"),
    (re.compile(r"Index error: index=(-?\d+).*"), r"index out of bounds: \1"),
    (re.compile(r'No value with name "(\w+)" found in Activation'), r"no such attribute(s): \1"),
]


class Program:
    """A compiled expression; immutable, so it may be shared and cached."""

    def __init__(self, expression: str, compiled: Any, result_type: str) -> None:
        self.expression = expression
        self.result_type = result_type
        """Name of the static type (`BOOL`, `STRING`, `DYN` when it depends on the data)."""
        self._compiled = compiled
        self._aliases = find_aliases(expression)

    def evaluate(self, activation: Mapping[str, Any]) -> Any:
        """The value for these variables, as plain Python. Variables hold JSON values only.

        Raises CelError: `no such key: x`, `no such overload`, `division by zero`, ...; CelCostError when it takes
        too many iterations.
        """
        data = dict(activation)
        if self._aliases:
            data = add_aliases(data, self._aliases)
        try:
            value = self._compiled.eval(data=data)
        except RuntimeError as error:
            if "Iteration budget exceeded" in str(error):
                raise CelCostError(COST_EXCEEDED) from None
            raise CelError(_translate(str(error))) from None
        try:
            plain = value.plain_value()
        except TypeError:  # an optional, which claims to be an error, or another type that Python has no form of
            raise CelError("the result has no JSON form") from None
        if value.type() == error_type():
            raise CelError(_translate(plain))
        return plain

    def syntax(self) -> Expr:
        """The expression's syntax tree."""
        return read_checked(self._compiled.serialize())

    def refers_to(self, variable: str) -> frozenset[str]:
        """Fields that the expression selects of a variable (`variables.a`), for providing only what is needed."""
        return frozenset(re.findall(rf"(?<![\w.]){re.escape(variable)}\??\.\??(\w+)", self.expression))


def compile_cel(expression: str, variables: Sequence[str]) -> Program:
    """Compile an expression over variables of any type. Programs are cached. Raises CelCompileError."""
    return _compile(expression, tuple(variables))


@lru_cache(maxsize=2048)
def _compile(expression: str, variables: tuple[str, ...]) -> Program:
    compiled = _compile_in(environment(variables), expression)
    return Program(expression, compiled, compiled.return_type().name())


def check_types(expression: str, variables: Mapping[str, str]) -> None:
    """Check an expression over variables of these types (`dyn`, `int`, `double`, ...). Raises CelCompileError."""
    _compile_in(typed_environment(variables), expression)


def _compile_in(env: Any, expression: str) -> Any:
    try:
        return env.compile(expression)
    except RuntimeError as error:
        raise CelCompileError(_COMPILE_NOISE.sub("", str(error)).replace(" (in container '')", "")) from None


def _translate(text: str) -> str:
    """An evaluation error in cel-go's words."""
    bare = _STATUS.sub("", text, count=1)
    for pattern, replacement in _TRANSLATIONS:
        if pattern.fullmatch(bare):
            return pattern.sub(replacement, bare, count=1)
    return bare
