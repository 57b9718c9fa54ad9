from __future__ import annotations

from typing import Any

import pytest

from kube.machinery.cel import CelCompileError, CelCostError, CelError, compile_cel

OBJECT = {"a": 1, "list": [3, 1, 2], "text": "abc", "spec": {}, "x-y": "dash", "namespace": "kw"}


def evaluate(expression: str, **variables: Any) -> Any:
    given = variables or {"self": OBJECT}
    return compile_cel(expression, tuple(given)).evaluate(given)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("self.a + 1", 2),
        ("has(self.spec.b)", False),
        ("self.?nope.orValue(5)", 5),
        ("self.list.exists(x, x == 2)", True),
        ("self.list.sum()", 6),
        ("self.list.min() + self.list.max()", 4),
        ("self.list.isSorted()", False),
        ("'abcab'.find('b.')", "bc"),
        ("'abcab'.findAll('a.')", ["ab", "ab"]),
        ("'abcab'.findAll('a.', 1)", ["ab"]),
        ("'%s-%d'.format(['x', 1])", "x-1"),
        ("sets.contains(self.list, [1])", True),
        ("self.x__dash__y + self.__namespace__", "dashkw"),
        ("quantity('1Gi').isGreaterThan(quantity('1M'))", True),
        ("quantity('1Gi') == quantity('1024Mi')", True),
        ("quantity('1500m').add(2).asApproximateFloat()", 3.5),
        ("quantity('2').sub(quantity('500m')).isInteger()", False),
        ("quantity('2k').asInteger()", 2000),
        ("isQuantity('x')", False),
        ("url('https://u@h:8080/p?q=1').getHost()", "h:8080"),
        ("url('https://h:8080/p?q=1').getQuery()['q'][0]", "1"),
        ("isURL('no')", False),
        ("ip('127.0.0.1').isLoopback()", True),
        ("isIP('1.2.3')", False),
        ("ip.isCanonical('2001:DB8::1')", False),
        ("cidr('10.0.0.0/8').containsIP('10.1.2.3')", True),
        ("cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')", True),
        ("cidr('10.1.0.0/8').masked() == cidr('10.0.0.0/8')", True),
    ],
)
def test_value(expression: str, value: Any) -> None:
    assert evaluate(expression) == value


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("self.nope == 1", "no such key: nope"),
        ("self.text + 1 == 2", "no such overload"),
        ("self.text.b", "no such overload"),
        ("1 / (self.a - 1) == 0", "division by zero"),
        ("self.list[9] == 0", "index out of bounds: 9"),
        ("[].max() == 1", "max called on empty list"),
        ("quantity('2').asInteger() == quantity('x').asInteger()", "quantities must match the regular expression"),
    ],
)
def test_runtime_error(expression: str, message: str) -> None:
    with pytest.raises(CelError, match="^" + message.replace("(", r"\(")):
        evaluate(expression)


def test_compile_error_points_at_the_place() -> None:
    with pytest.raises(CelCompileError) as caught:
        compile_cel("object.a == nope", ["object"])
    first = "ERROR: <input>:1:13: undeclared reference to 'nope' (in container '')"
    assert str(caught.value) == f"{first}\n | object.a == nope\n | ............^"


def test_cost_is_limited() -> None:
    with pytest.raises(CelCostError, match="actual cost limit exceeded"):
        evaluate("self.all(a, self.all(b, a <= b + 1000))", self=list(range(600)))


def test_result_without_a_plain_form() -> None:
    with pytest.raises(CelError, match="no JSON form"):
        evaluate("optional.of(1)")


def test_variables_of_an_admission_policy() -> None:
    names = ("object", "oldObject", "request", "params", "namespaceObject", "variables")
    given = {
        "object": {"spec": {"running": True}},
        "oldObject": None,
        "request": {"operation": "CREATE"},
        "params": {"spec": {"enabled": False}, "status": {}},
        "namespaceObject": None,
        "variables": {"off": True},
    }
    program = compile_cel("has(params.status.x) || (oldObject == null && variables.off)", names)
    assert program.evaluate(given) is True
    assert program.result_type == "BOOL"
    assert program.refers_to("variables") == {"off"}
    assert compile_cel("'blocked by ' + request.operation", names).evaluate(given) == "blocked by CREATE"


def test_programs_are_cached_per_variables() -> None:
    assert compile_cel("self.a", ["self"]) is compile_cel("self.a", ("self",))
    with pytest.raises(CelCompileError):
        compile_cel("self.a", ["object"])
