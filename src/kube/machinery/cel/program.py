"""Compiling and evaluating expressions, and the errors of both in cel-go's words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from kube.machinery.cel.costs import CelCostError, Meter
from kube.machinery.cel.environment import environment, typed_environment
from kube.machinery.cel.evaluators import Evaluator, Frame
from kube.machinery.cel.interpreter import compile_expression
from kube.machinery.cel.syntax import Expr, read_checked
from kube.machinery.cel.values import CelError, plain


class CelCompileError(CelError):
    """The expression is not valid CEL: `ERROR: <input>:1:5: ...` with a caret, as cel-go writes it."""


_COMPILE_NOISE = re.compile(r"^INVALID_ARGUMENT: | \[INVALID_ARGUMENT\]$")


class Program:
    """A compiled expression; immutable, so it may be shared and cached."""

    def __init__(self, expression: str, compiled: Any, result_type: str) -> None:
        self.expression = expression
        self.result_type = result_type
        """Name of the static type (`BOOL`, `STRING`, `DYN` when it depends on the data)."""
        self._compiled = compiled
        self._evaluator: Evaluator | None = None

    def evaluate(self, activation: Mapping[str, Any]) -> Any:
        """The value for these variables, as plain Python. Variables hold JSON values, or what `values` has.

        Raises CelError: `no such key: x`, `no such overload`, `division by zero`, ...; CelCostError when it is too
        much work.
        """
        return plain(self.run(activation, Meter()))

    def run(self, activation: Mapping[str, Any], meter: Meter) -> Any:
        """The value itself; what it costs is counted by the meter. Raises as `evaluate`."""
        if self._evaluator is None:
            self._evaluator = compile_expression(self.syntax())
        frame = Frame(dict(activation), meter.limit)
        try:
            value = self._evaluator(frame)
            frame.spend(0)
            return value
        except RecursionError:
            raise CelError("the expression or its values are nested too deeply") from None
        finally:
            meter.cost += frame.cost

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
        raise CelCompileError(_COMPILE_NOISE.sub("", str(error))) from None


__all__ = ["CelCompileError", "CelCostError", "CelError", "Program", "check_types", "compile_cel"]
