"""What rules may cost: the estimate when a definition is written."""

from __future__ import annotations

from typing import Any

import pytest

from kube.machinery.cel import compile_cel
from kube.machinery.schema import check_schema
from kube.machinery.schema.cost import MAX, max_items, min_size, rule_cost

TEXT: dict[str, Any] = {"type": "string"}
INTS = {"type": "array", "items": {"type": "integer"}}


def cost(expression: str, node: dict[str, Any]) -> int:
    return rule_cost(compile_cel(expression, ("self", "oldSelf")).syntax(), node)


@pytest.mark.parametrize(
    ("node", "most"),
    [
        ({**INTS, "maxItems": 7}, 7),
        (INTS, (3 * 1024 * 1024 - 2) // 2),
        ({"type": "object", "additionalProperties": TEXT}, (3 * 1024 * 1024 - 2) // 8),
        ({**TEXT, "maxLength": 5}, 20),
        ({**TEXT, "format": "date-time"}, 29),
        ({**TEXT, "enum": ["a", "long"]}, 4),
        ({"type": "object", "properties": {}}, 0),
    ],
)
def test_sizes(node: dict[str, Any], most: int) -> None:
    assert max_items(node) == most


def test_an_object_takes_what_its_required_fields_take() -> None:
    node = {
        "type": "object",
        "required": ["ab", "c"],
        "properties": {"ab": TEXT, "c": {"type": "integer", "default": 1}},
    }
    assert min_size(node) == 2 + 2 + 2 + 4


def test_costs_grow_with_what_is_declared() -> None:
    node = {"type": "object", "properties": {"a": {**INTS, "maxItems": 10}, "s": {**TEXT, "maxLength": 25}}}
    once = cost("self.a.all(x, x > 0)", node)
    assert 10 * 3 < once < 10 * 10
    assert cost("self.a.all(x, self.a.all(y, x == y))", node) > 9 * once
    assert cost("self.s == 'x'", node) == 2 + 1, "no more is compared than the shorter text"
    assert cost("self.s.contains(self.s)", node) == 4 + 10 * 10 + 0
    assert cost("has(self.s)", node) == 1


def test_what_is_not_declared_may_be_of_any_size() -> None:
    assert cost("self.x.all(y, y == 1)", {"type": "object", "x-kubernetes-preserve-unknown-fields": True}) == MAX


def problems(**spec: Any) -> list[str]:
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": spec}}}
    return [f"{item.field}: {item.message}" for item in check_schema(schema, "schema")]


def test_a_rule_below_a_list_counts_for_every_element() -> None:
    item = {**TEXT, "maxLength": 1000, "x-kubernetes-validations": [{"rule": "self.matches('^[a-z]+$')"}]}
    assert problems(f={"type": "array", "maxItems": 10, "items": item}) == []
    (found,) = problems(f={"type": "array", "maxItems": 20000, "items": item})
    assert found.startswith(
        "schema.properties[spec].properties[f].items.x-kubernetes-validations[0].rule: Forbidden: "
        "estimated rule cost exceeds budget by factor of "
    )
    assert found.endswith(
        "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings "
        "are declared)"
    )


def test_many_rules_together_may_be_too_much() -> None:
    item = {**TEXT, "maxLength": 1000, "x-kubernetes-validations": [{"rule": "self.matches('^[a-z]+$')"}]}
    found = problems(**{f"f{number}": {"type": "array", "maxItems": 8000, "items": item} for number in range(20)})
    total = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget"
    assert found[-1].startswith(f"schema: Forbidden: {total}")
    assert "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema" in found[0]
