"""What expressions gave, and what they cost, in upstream's apiextensions-apiserver 1.36 with cel-go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kube.machinery.cel import CelCostError, CelError, compile_cel
from kube.machinery.cel.costs import PER_CALL, Meter
from kube.machinery.schema.converter import compile_converter

RECORDED = json.loads((Path(__file__).parent / "cel_answers.json").read_text())
CONVERT = compile_converter(RECORDED["schema"])


@pytest.mark.parametrize("answer", RECORDED["answers"], ids=lambda answer: answer["expression"])
def test_answer(answer: dict[str, str]) -> None:
    assert CONVERT is not None
    self = CONVERT(RECORDED["value"])
    program = compile_cel(f"'%s'.format([{answer['expression']}])", ("self", "oldSelf"))
    if "text" in answer:
        assert program.evaluate({"self": self}).strip() == answer["text"]
    else:
        with pytest.raises(CelError) as problem:
            program.evaluate({"self": self})
        assert str(problem.value) == answer["error"]


def numbers(count: int) -> list[int]:
    return list(range(count))


def texts(count: int) -> list[str]:
    return [f"s{index:04d}" for index in range(count)]


@pytest.mark.parametrize(
    ("expression", "make", "first"),
    [
        ("self.all(x, self.all(y, x + y >= 0))", numbers, 378),
        ("self.all(x, self.exists(y, x == y))", numbers, 533),
        ("self.all(x, self.exists(y, x == y))", texts, 533),
        ("self.all(x, self.all(y, x.startsWith('s')))", texts, 447),
        ("self.all(x, self.all(y, size(x) > 0 && (x + y).size() > 1))", texts, 302),
        ("self.map(x, self.map(y, x)).size() >= 0", numbers, 277),
        ("self.all(x, self.filter(y, y == x).size() == 1)", numbers, 575),
        ("self.all(x, self.exists_one(y, y == x))", numbers, 577),
        ("self.all(i, x, self.all(j, y, x + y >= 0))", numbers, 378),
        ("self.all(x, self.all(y, [x, y].size() == 2))", numbers, 243),
        ("self.all(x, self.all(y, {'a': x}.size() == 1))", numbers, 167),
        ("self.all(x, self.all(y, [1, 2].size() == 2))", numbers, 447),
        ("self.all(x, self.all(y, {'a': 1}.size() == 1))", numbers, 447),
        ("self.all(x, self.all(y, x in [1, 2, 3] || true))", numbers, 500),
        ("self.all(x, self.all(y, x in [x] || true))", numbers, 250),
        ("self.all(x, self.all(y, duration('1h') == duration('60m')))", numbers, 500),
        ("self.all(x, self.all(y, string(x) != 'q'))", numbers, 408),
        ("self.all(x, self.all(y, x > y ? true : x <= y))", numbers, 365),
        ("self.all(x, self.all(y, !(x < 0) && -y <= 0))", numbers, 334),
    ],
)
def test_the_first_size_that_costs_too_much(expression: str, make: Any, first: int) -> None:
    program = compile_cel(expression, ("self",))
    meter = Meter()
    program.run({"self": make(first - 1)}, meter)
    assert meter.cost <= PER_CALL
    with pytest.raises(CelCostError, match="operation cancelled: actual cost limit exceeded"):
        program.run({"self": make(first)}, Meter())


def test_an_error_on_one_side_does_not_hide_a_cost_that_is_too_high() -> None:
    program = compile_cel("self.all(x, self.all(y, x + y >= 0)) || true", ("self",))
    with pytest.raises(CelCostError):
        program.run({"self": numbers(400)}, Meter())


def test_what_a_comprehension_makes_is_new_each_time() -> None:
    program = compile_cel("self.transformMap(i, x, x) == self.transformMap(i, x, x) && [].size() == 0", ("self",))
    assert [program.evaluate({"self": [1, 2]}) for _ in range(2)] == [True, True]
