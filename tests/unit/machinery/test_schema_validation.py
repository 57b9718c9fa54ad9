"""Messages and causes as a kube-apiserver 1.36 gave them for the same requests."""

from __future__ import annotations

from typing import Any

import pytest

from kube.machinery.schema import compile_schema

NOT_CHECKED = (
    "<nil>",
    "Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation",
)


def field_schema(field: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"spec": {"type": "object", "properties": {"x": field}}}}


def errors(field: dict[str, Any], value: Any, *old: Any) -> list[tuple[str, str]]:
    schema = compile_schema(field_schema(field))
    before = {"spec": {"x": old[0]}} if old else None
    return [(cause.field, cause.message) for cause in schema.validate({"spec": {"x": value}}, before)]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ({"type": "integer"}, "two", 'Invalid value: "string": spec.x in body must be of type integer: "string"'),
        ({"type": "integer"}, True, 'Invalid value: "boolean": spec.x in body must be of type integer: "boolean"'),
        ({"type": "string"}, None, 'Invalid value: "null": spec.x in body must be of type string: "null"'),
        (
            {"x-kubernetes-int-or-string": True},
            True,
            'Invalid value: "boolean": spec.x in body must be of type integer,string: "boolean"',
        ),
        (
            {"type": "string", "enum": ["raw", "qcow2"]},
            "vmdk",
            'Unsupported value: "vmdk": supported values: "raw", "qcow2"',
        ),
        ({"type": "string", "maxLength": 5}, "toolong", "Too long: may not be more than 5 bytes"),
        (
            {"type": "string", "minLength": 1},
            "",
            'Invalid value: "": spec.x in body should be at least 1 chars long',
        ),
        (
            {"type": "string", "pattern": "^[a-z]+$"},
            "A",
            "Invalid value: \"A\": spec.x in body should match '^[a-z]+$'",
        ),
        (
            {"type": "string", "pattern": "^a$"},
            "a\n",
            "Invalid value: \"a\\n\": spec.x in body should match '^a$'",
        ),
        (
            {"type": "integer", "minimum": 0},
            -1,
            "Invalid value: -1: spec.x in body should be greater than or equal to 0",
        ),
        (
            {"type": "number", "maximum": 1.5, "exclusiveMaximum": True},
            1.5,
            "Invalid value: 1.5: spec.x in body should be less than 1.5",
        ),
        ({"type": "integer", "multipleOf": 4}, 6, "Invalid value: 6: spec.x in body should be a multiple of 4"),
        (
            {"type": "array", "maxItems": 2, "items": {"type": "string"}},
            ["a", "b", "c"],
            "Too many: 3: must have at most 2 items",
        ),
        (
            {"type": "array", "minItems": 1, "items": {"type": "string"}},
            [],
            "Invalid value: 0: spec.x in body should have at least 1 items",
        ),
        (
            {"type": "object", "minProperties": 1, "additionalProperties": {"type": "string"}},
            {},
            "Invalid value: 0: spec.x in body should have at least 1 properties",
        ),
        (
            {"type": "string", "format": "date-time"},
            "yesterday",
            'Invalid value: "yesterday": spec.x in body must be of type date-time: "yesterday"',
        ),
    ],
)
def test_message(field: dict[str, Any], value: Any, message: str) -> None:
    assert errors(field, value) == [("spec.x", message)]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date-time", "2024-02-29T10:00:00.5Z", "2024-02-30T10:00:00Z"),
        ("date", "2024-02-29", "2023-02-29"),
        ("byte", "YWI=", "***"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
        ("ipv4", "10.0.0.1", "10.0.0.256"),
        ("ipv6", "fe80::1", "fe80::g"),
        ("cidr", "10.0.0.0/8", "10.0.0.0"),
        ("mac", "52:54:00:12:34:56", "52:54:00:12:34"),
        ("duration", "1h30m", "soon"),
        ("hostname", "a.example.com", "-a.example.com"),
        ("uri", "https://example.com/x", "not a uri"),
    ],
)
def test_formats(name: str, good: str, bad: str) -> None:
    field = {"type": "string", "format": name}
    assert errors(field, good) == []
    assert [path for path, _ in errors(field, bad)] == ["spec.x"]


def test_unknown_format_is_not_checked() -> None:
    assert errors({"type": "string", "format": "color-of-the-sky"}, "!") == []


def test_integer_formats_bound_values() -> None:
    text = 'Invalid value: "": Checked value must be of type integer with format int32 in spec.x'
    assert errors({"type": "integer", "format": "int32"}, 2**31) == [("<nil>", text)]
    assert errors({"type": "integer", "format": "int64"}, 2**31) == []
    assert len(errors({"type": "integer"}, 2**63)) == 1


def test_whole_floats_are_integers_and_integers_are_numbers() -> None:
    assert errors({"type": "integer"}, 2.0) == []
    assert errors({"type": "number"}, 2) == []
    assert errors({"type": "integer"}, 2.5) == [
        ("spec.x", 'Invalid value: "number": spec.x in body must be of type integer: "number"'),
        ("<nil>", 'Invalid value: "": Checked value must be of type integer (default format) in spec.x'),
    ]


def test_nullable() -> None:
    assert errors({"type": "string", "nullable": True, "enum": ["a"]}, None) == []


def test_required_names_the_missing_field() -> None:
    schema = compile_schema({"type": "object", "required": ["spec"], "properties": {"spec": {"type": "object"}}})
    (cause,) = schema.validate({})
    assert (cause.reason, cause.field, cause.message) == ("FieldValueRequired", "spec", "Required value")


def test_all_errors_are_reported_and_rules_are_not_evaluated_then() -> None:
    schema = compile_schema(
        {
            "type": "object",
            "properties": {
                "spec": {
                    "type": "object",
                    "required": ["color"],
                    "properties": {"color": {"type": "string"}, "n": {"type": "integer", "minimum": 0}},
                    "x-kubernetes-validations": [{"rule": "self.n < 10"}],
                }
            },
        }
    )
    found = [(cause.field, cause.message) for cause in schema.validate({"spec": {"n": -1}})]
    assert [field for field, _ in found] == ["spec.n", "spec.color", "<nil>"]
    assert found[-1] == NOT_CHECKED


@pytest.mark.parametrize(
    ("field", "value", "summary"),
    [
        (
            {"type": "object", "properties": {"a": {}, "b": {}}, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
            {},
            '"spec.x" must validate one and only one schema (oneOf). Found none valid',
        ),
        (
            {"type": "object", "properties": {"a": {}, "b": {}}, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
            {"a": 1, "b": 1},
            '"spec.x" must validate one and only one schema (oneOf). Found 2 valid alternatives',
        ),
        (
            {"type": "integer", "anyOf": [{"minimum": 10}, {"maximum": 0}]},
            5,
            '"spec.x" must validate at least one schema (anyOf)',
        ),
        (
            {"type": "integer", "allOf": [{"minimum": 10}, {"maximum": 0}]},
            5,
            '"spec.x" must validate all the schemas (allOf). None validated',
        ),
        ({"type": "string", "not": {"enum": ["a"]}}, "a", '"spec.x" must not validate the schema (not)'),
    ],
)
def test_combinations(field: dict[str, Any], value: Any, summary: str) -> None:
    assert ("<nil>", f'Invalid value: "": {summary}') in errors(field, value)


def test_combination_holds() -> None:
    field = {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}
    assert errors(field, 1) == errors(field, "1") == []


def test_sets_and_maps_are_unique() -> None:
    tags = {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}
    assert errors(tags, ["a", "b", "a", "a"]) == [("spec.x[2]", 'Duplicate value: "a"')]
    item = {"type": "object", "properties": {"name": {"type": "string"}}}
    named = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": item,
    }
    assert errors(named, [{"name": "x"}, {"name": "x"}]) == [("spec.x[1]", 'Duplicate value: {"name":"x"}')]
    assert errors(named, [{"name": "x"}, {"name": "y"}]) == []


def test_unchanged_parts_are_not_reported_on_update() -> None:
    field = {"type": "string", "enum": ["a"]}
    assert errors(field, "b", "b") == []
    assert len(errors(field, "b", "c")) == 1


def test_true_is_not_one_on_update() -> None:
    assert len(errors({"type": "integer"}, True, 1)) == 1


def test_embedded_resources_name_their_type() -> None:
    field = {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}
    assert errors(field, {"apiVersion": "v1"}) == [("spec.x.kind", "Required value")]
