from __future__ import annotations

from typing import Any

import pytest

from kube.machinery.goregex import RegexError, compile_go_regex
from kube.machinery.schema import check_schema

ROOT = "spec.validation.openAPIV3Schema"


def problems(field: Any, **root: Any) -> list[tuple[str, str]]:
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"f": field}}}, **root}
    return [(cause.field, cause.message) for cause in check_schema(schema, ROOT)]


def at(suffix: str) -> str:
    return f"{ROOT}.properties[spec].properties[f]{suffix}"


@pytest.mark.parametrize(
    "field",
    [
        {"type": "string", "pattern": "^[[:alpha:]]+$"},
        {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        {"x-kubernetes-int-or-string": True, "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}]},
        {"x-kubernetes-preserve-unknown-fields": True},
        {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True},
        {"type": "object", "properties": {"a": {"type": "string"}}, "oneOf": [{"properties": {"a": {"enum": ["x"]}}}]},
        {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
    ],
)
def test_structural(field: dict[str, Any]) -> None:
    assert problems(field) == []


@pytest.mark.parametrize(
    ("field", "where", "message"),
    [
        ({"properties": {}}, ".type", "Required value: must not be empty for specified object fields"),
        ({"type": "array"}, ".items", "Required value: must be specified"),
        (
            {"type": "array", "items": {}},
            ".items.type",
            "Required value: must not be empty for specified array items",
        ),
        (
            {"type": "object", "anyOf": [{"type": "string"}]},
            ".anyOf[0].type",
            "Forbidden: must be empty to be structural",
        ),
        (
            {"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map"},
            ".x-kubernetes-list-map-keys",
            "Required value: must not be empty if x-kubernetes-list-type is map",
        ),
    ],
)
def test_not_structural(field: dict[str, Any], where: str, message: str) -> None:
    assert problems(field) == [(at(where), message)]


def test_root() -> None:
    assert [(c.field, c.message) for c in check_schema({})] == [
        ("type", "Required value: must not be empty at the root")
    ]
    assert problems({"type": "string"}, additionalProperties={"type": "string"})


def test_root_metadata_may_restrict_names_only() -> None:
    def check(metadata: dict[str, Any]) -> list[str]:
        return [c.field for c in check_schema({"type": "object", "properties": {"metadata": metadata}})]

    assert check({"type": "object", "properties": {"name": {"type": "string", "maxLength": 9}}}) == []
    assert check({"type": "object", "properties": {"labels": {"type": "object"}}}) == ["properties[metadata]"]


def test_bad_pattern() -> None:
    (problem,) = problems({"type": "string", "pattern": "a(?=b)"})
    assert problem[0] == at(".pattern")
    assert "must be a valid regular expression, but isn't" in problem[1]


def rule_problems(rule: dict[str, Any]) -> list[tuple[str, str]]:
    field = {"type": "object", "properties": {"n": {"type": "integer"}}, "x-kubernetes-validations": [rule]}
    return problems(field)


def test_rule_on_an_undefined_field() -> None:
    ((field, message),) = rule_problems({"rule": "self.nope > 1"})
    assert field == at(".x-kubernetes-validations[0].rule")
    assert message == (
        'Invalid value: {"Rule":"self.nope \\u003e 1","Message":"","MessageExpression":"","Reason":null,"FieldPath":"",'
        "\"OptionalOldSelf\":null}: compilation failed: ERROR: <input>:1:5: undefined field 'nope'\n"
        " | self.nope > 1\n | ....^"
    )


@pytest.mark.parametrize("rule", ["self.n > 1", "has(self.n)", "self.n == 1 || oldSelf.n < 2", "size(self) > 0"])
def test_good_rules(rule: str) -> None:
    assert rule_problems({"rule": rule, "message": "m"}) == []


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"rule": "self.n +"}, "Syntax error"),
        ({"rule": "1 + 1"}, "must evaluate to a bool"),
        ({"rule": "true", "messageExpression": "1"}, "must evaluate to a string"),
        ({"rule": "true", "message": "two\nlines"}, "must not contain line breaks"),
        ({"rule": " "}, "rule is not specified"),
    ],
)
def test_bad_rules(rule: dict[str, Any], text: str) -> None:
    ((_, message),) = rule_problems(rule)
    assert text in message


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        (r"^\d$", "٣", False),
        (r"\Qa.b\E", "axb", False),
        (r"^[[:digit:]x]+\z", "1x", True),
        (r"(?P<n>a)(?<m>b)", "ab", True),
        (r"^[]a]$", "]", True),
        (r"^[^]a]$", "b", True),
    ],
)
def test_go_patterns(pattern: str, text: str, matches: bool) -> None:
    assert compile_go_regex(pattern).test(text) is matches


def test_no_pattern_takes_for_ever() -> None:
    assert not compile_go_regex("^(a+)+$").test("a" * 100_000 + "!")


def test_nothing_right_behind_a_match_is_none() -> None:
    assert compile_go_regex("a*").find_all("baac") == ["", "aa", ""]


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        (r"(a)\1", r"invalid escape sequence: `\1`"),
        ("(?=a)b", "invalid or unsupported Perl syntax: `(?=`"),
        ("(", "missing closing ): `(`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("[[:nope:]]", "invalid character class range: `[:nope:]`"),
    ],
)
def test_patterns_that_go_refuses(pattern: str, problem: str) -> None:
    with pytest.raises(RegexError) as refused:
        compile_go_regex(pattern)
    assert str(refused.value) == f"error parsing regexp: {problem}"


@pytest.mark.parametrize(
    ("field", "where", "message"),
    [
        ({"type": "null"}, ".type", "Forbidden: type cannot be set to null, use nullable as an alternative"),
        (
            {"type": "string", "x-kubernetes-map-type": "atomic"},
            ".type",
            'Invalid value: "string": must be object if x-kubernetes-map-type is specified',
        ),
        (
            {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}},
            ".items.x-kubernetes-map-type",
            "Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set",
        ),
        ({"type": "object", "default": {"a": 1}}, ".default", 'Invalid value: {"a":1}: must not have unknown fields'),
        (
            {"type": "integer", "maximum": 3, "default": 4},
            ".default",
            "Invalid value: 4:  in body should be less than or equal to 3",
        ),
        (
            {"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}},
            ".items.x-kubernetes-validations[0].rule",
            'Invalid value: "self == oldSelf": oldSelf cannot be used on the uncorrelatable portion of the schema '
            f"within {at('')}",
        ),
        (
            {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 0", "optionalOldSelf": True}]},
            ".x-kubernetes-validations[0].optionalOldSelf",
            "Invalid value: true: may not be set if oldSelf is not used in rule",
        ),
        (
            {"type": "integer", "x-kubernetes-validations": [{"rule": "self\n> 0"}]},
            ".x-kubernetes-validations[0].message",
            "Required value: message must be specified if rule contains line breaks",
        ),
        (
            {"type": "object", "x-kubernetes-validations": [{"rule": "true", "fieldPath": ".no"}]},
            ".x-kubernetes-validations[0].fieldPath",
            'Invalid value: ".no": must be a valid path',
        ),
    ],
)
def test_what_a_definition_must_not_say(field: dict[str, Any], where: str, message: str) -> None:
    assert (at(where), message) in problems(field)
