from __future__ import annotations

from typing import Any

import pytest

from kube.machinery.schema import compile_schema
from kube.machinery.schema.rules import uses_old_self

Json = dict[str, Any]


def causes(spec_schema: Json, spec: Any, old: Any = None, root: list[Json] | None = None) -> list[tuple[str, str, str]]:
    schema: Json = {"type": "object", "properties": {"spec": spec_schema}}
    if root:
        schema["x-kubernetes-validations"] = root
    obj = {"metadata": {"name": "a"}, "spec": spec}
    before = None if old is None else {"metadata": {"name": "a"}, "spec": old}
    return [(c.reason, c.field, c.message) for c in compile_schema(schema).validate(obj, before)]


def with_rule(**rule: Any) -> Json:
    integer = {"type": "integer"}
    return {
        "type": "object",
        "properties": {"n": integer, "max": integer, "ratio": {"type": "number"}, "x-y": integer},
        "x-kubernetes-validations": [rule],
    }


def test_broken_rule() -> None:
    rule = with_rule(rule="self.n <= self.max", message="replicas above max")
    assert causes(rule, {"n": 11, "max": 10}) == [("FieldValueInvalid", "spec", "Invalid value: replicas above max")]
    assert causes(rule, {"n": 1, "max": 10}) == []


def test_message_defaults_to_the_rule() -> None:
    assert causes(with_rule(rule="self.n < 1 "), {"n": 1})[0][2] == "Invalid value: failed rule: self.n < 1"


def test_message_expression_wins_and_falls_back() -> None:
    rule = {"rule": "self.n < 1", "message": "plain", "messageExpression": "'got %d'.format([self.n])"}
    assert causes(with_rule(**rule), {"n": 1})[0][2] == "Invalid value: got 1"
    rule["messageExpression"] = "self.nope"
    assert causes(with_rule(**rule), {"n": 1})[0][2] == "Invalid value: plain"


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("FieldValueForbidden", "Forbidden: no"),
        ("FieldValueRequired", "Required value: no"),
        ("FieldValueDuplicate", "Duplicate value"),
    ],
)
def test_reason_and_field_path(reason: str, message: str) -> None:
    rule = with_rule(rule="false", message="no", reason=reason, fieldPath=".n")
    assert causes(rule, {"n": 1}) == [(reason, "spec.n", message)]


def test_rules_of_the_root_see_the_name() -> None:
    rule = {"rule": "self.metadata.name == 'vmruntime'", "message": "there is one"}
    assert causes({"type": "object"}, {}, root=[rule]) == [
        ("FieldValueInvalid", "<nil>", "Invalid value: there is one")
    ]


def test_runtime_errors_are_reported() -> None:
    assert (
        causes(with_rule(rule="self.n > 0"), {})[0][2]
        == 'Invalid value: "object": no such key: n evaluating rule: self.n > 0'
    )


def test_numbers_are_doubles() -> None:
    assert causes(with_rule(rule="self.ratio * 1.5 < 2.0"), {"ratio": 1}) == []


def test_escaped_names() -> None:
    assert causes(with_rule(rule="self.x__dash__y == 3"), {"x-y": 3}) == []


def test_transition_rule_needs_an_old_value() -> None:
    rule = with_rule(rule="self.n >= oldSelf.n", message="cannot shrink")
    assert causes(rule, {"n": 1}) == []
    assert causes(rule, {"n": 1}, {"n": 2}) == [("FieldValueInvalid", "spec", "Invalid value: cannot shrink")]
    assert causes(rule, {"n": 3}, {"n": 2}) == []


def test_optional_old_self_is_evaluated_on_create() -> None:
    rule = with_rule(rule="oldSelf.hasValue() || self.n == 0", optionalOldSelf=True, message="starts at 0")
    assert [message for _, _, message in causes(rule, {"n": 1})] == ["Invalid value: starts at 0"]
    assert causes(rule, {"n": 5}, {"n": 1}) == []


def test_unchanged_values_are_not_judged_again() -> None:
    rule = with_rule(rule="self.n < 1")
    assert causes(rule, {"n": 5}, {"n": 5}) == []
    assert len(causes(rule, {"n": 5}, {"n": 6})) == 1


def test_list_elements_are_compared_by_key_only_in_maps() -> None:
    item = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "size": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.size >= oldSelf.size", "message": "shrunk"}],
    }
    keyed = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    old = {"disks": [{"name": "a", "size": 2}, {"name": "b", "size": 2}]}
    new = {"disks": [{"name": "b", "size": 1}, {"name": "c", "size": 1}]}
    spec = {"type": "object", "properties": {"disks": {"type": "array", "items": item, **keyed}}}
    assert causes(spec, new, old) == [("FieldValueInvalid", "spec.disks[0]", "Invalid value: shrunk")]
    spec["properties"]["disks"] = {"type": "array", "items": item}
    assert causes(spec, new, old) == []


def test_map_values_are_named_in_brackets() -> None:
    value = {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 0", "message": "m"}]}
    assert causes({"type": "object", "additionalProperties": value}, {"a": 0})[0][1] == "spec[a]"


def test_endless_rules_are_stopped() -> None:
    rule = {"rule": "self.all(a, self.all(b, a != b + 1000000))"}
    spec = {"type": "array", "items": {"type": "integer"}, "x-kubernetes-validations": [rule]}
    (cause,) = causes(spec, list(range(500)))
    assert "no further validation rules will be run due to call cost exceeds limit for rule" in cause[2]


@pytest.mark.parametrize(
    ("expression", "uses"),
    [("self.a == oldSelf.a", True), ("self.oldSelf == 1", False), ("self == 'oldSelf'", False), ("oldSelfish", False)],
)
def test_uses_old_self(expression: str, uses: bool) -> None:
    assert uses_old_self(expression) is uses


def test_formats_are_types() -> None:
    formats = {"when": "date-time", "day": "date", "long": "duration", "data": "byte"}
    schema = {
        "type": "object",
        "properties": {name: {"type": "string", "format": form} for name, form in formats.items()},
        "x-kubernetes-validations": [
            {"rule": "!has(self.when) || self.when < timestamp('2020-01-01T00:00:00Z')"},
            {"rule": "self.day.getFullYear() == 2021"},
            {"rule": "self.long > duration('1m')", "messageExpression": "'not ' + string(self.long)"},
            {"rule": "size(self.data) == 3"},
        ],
    }
    compiled = compile_schema(schema, embedded_root=False)
    good = {"when": "2019-12-31T23:00:00-00:30", "day": "2021-02-03", "long": "1h", "data": "YWJj"}
    assert compiled.validate(good) == []
    bad = {"when": "2020-01-01T00:00:00+00:00", "day": "2022-02-03", "long": "3s", "data": "YWI="}
    assert [cause.message.partition(": ")[2] for cause in compiled.validate(bad)] == [
        "failed rule: !has(self.when) || self.when < timestamp('2020-01-01T00:00:00Z')",
        "failed rule: self.day.getFullYear() == 2021",
        "not 3s",
        "failed rule: size(self.data) == 3",
    ]


def test_duplicates_that_were_there_are_tolerated() -> None:
    schema = {
        "type": "object",
        "properties": {"s": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}},
    }
    compiled = compile_schema(schema, embedded_root=False)
    assert compiled.validate({"s": ["a", "a", "b"]}, {"s": ["a", "a"]}) == []
    assert len(compiled.validate({"s": ["a", "a"]}, {"s": ["a"]})) == 1


def test_all_rules_of_an_object_share_a_budget() -> None:
    rules = [{"rule": f"self.all(x, self.all(y, x + y >= -{number}))"} for number in range(12)]
    node = {"type": "array", "items": {"type": "integer"}, "x-kubernetes-validations": rules}
    schema = compile_schema({"type": "object", "properties": {"x": node}})
    assert schema.validate({"x": list(range(340))}) == []
    (problem,) = schema.validate({"x": list(range(360))})
    assert (problem.field, problem.message) == (
        "x",
        'Invalid value: "array": validation failed due to running out of cost budget, '
        "no further validation rules will be run",
    )


def test_an_error_counts_even_for_an_unchanged_value() -> None:
    node = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.n > 0"}],
    }
    schema = compile_schema({"type": "object", "properties": {"x": node}})
    assert [found.field for found in schema.validate({"x": {}}, {"x": {}})] == ["x"]
    assert schema.validate({"x": {"n": 0}}, {"x": {"n": 0}}) == []


def test_sets_and_maps_are_compared_without_their_order() -> None:
    of_map = {"type": "object", "properties": {"k": {"type": "string"}}}
    lists = {
        "s": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "m": {
            "type": "array",
            "items": of_map,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["k"],
        },
    }
    rules = [{"rule": "self.s == oldSelf.s && self.m == oldSelf.m"}]
    node = {"type": "object", "properties": lists, "x-kubernetes-validations": rules}
    schema = compile_schema({"type": "object", "properties": {"x": node}})
    old = {"x": {"s": ["a", "b"], "m": [{"k": "1"}, {"k": "2"}]}}
    assert schema.validate({"x": {"s": ["b", "a"], "m": [{"k": "2"}, {"k": "1"}]}}, old) == []
    assert len(schema.validate({"x": {"s": ["b"], "m": []}}, old)) == 1
