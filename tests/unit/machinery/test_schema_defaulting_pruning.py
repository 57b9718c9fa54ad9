from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kube.machinery.schema import compile_schema
from kube.machinery.schema.values import same

SPEC = {
    "type": "object",
    "properties": {
        "n": {"type": "integer", "default": 1},
        "nested": {"type": "object", "default": {}, "properties": {"deep": {"type": "string", "default": "d"}}},
        "list": {
            "type": "array",
            "items": {"type": "object", "properties": {"bar": {"type": "string"}, "port": {"default": 80}}},
        },
        "map": {
            "type": "object",
            "additionalProperties": {"type": "object", "properties": {"k": {"type": "string", "default": "v"}}},
        },
        "maybe": {"type": "string", "nullable": True},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "template": {
            "type": "object",
            "x-kubernetes-embedded-resource": True,
            "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}}}},
        },
    },
}
SCHEMA = compile_schema({"type": "object", "properties": {"spec": SPEC}})


def defaulted(spec: dict[str, Any]) -> dict[str, Any]:
    obj = {"spec": copy.deepcopy(spec)}
    SCHEMA.default(obj)
    return obj["spec"]


def pruned(spec: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    obj = {"spec": copy.deepcopy(spec)}
    unknown = SCHEMA.prune(obj)
    return unknown, obj["spec"]


def test_defaults_reach_into_defaults_lists_and_maps() -> None:
    found = defaulted({"list": [{}], "map": {"x": {}}})
    assert found == {"n": 1, "nested": {"deep": "d"}, "list": [{"port": 80}], "map": {"x": {"k": "v"}}}


def test_an_absent_object_is_not_created_for_the_defaults_inside() -> None:
    obj: dict[str, Any] = {}
    SCHEMA.default(obj)
    assert obj == {}


def test_defaults_are_not_shared_between_objects() -> None:
    first, second = defaulted({}), defaulted({})
    first["nested"]["deep"] = "changed"
    assert second["nested"]["deep"] == "d"


def test_null_gives_way_to_default_or_absence_unless_nullable() -> None:
    assert defaulted({"n": None, "free": None, "maybe": None}) == {"n": 1, "nested": {"deep": "d"}, "maybe": None}


def test_null_metadata_fields_are_dropped() -> None:
    obj = {"metadata": {"name": "a", "creationTimestamp": None}}
    SCHEMA.default(obj)
    assert obj == {"metadata": {"name": "a"}}


def test_unknown_fields_are_removed_and_named() -> None:
    unknown, spec = pruned({"foo": 1, "list": [{"bar": "x", "baz": 1}], "map": {"x": {"y": 1, "k": "v"}}})
    assert unknown == ["spec.foo", "spec.list[0].baz", "spec.map.x.y"]
    assert spec == {"list": [{"bar": "x"}], "map": {"x": {"k": "v"}}}


def test_preserved_fields_stay() -> None:
    assert pruned({"free": {"a": {"b": [1]}}}) == ([], {"free": {"a": {"b": [1]}}})


def test_type_and_metadata_belong_to_every_object() -> None:
    obj = {"apiVersion": "v1", "kind": "X", "metadata": {"name": "a", "labels": {"l": "1"}, "nmae": "b"}, "other": 1}
    assert SCHEMA.prune(obj) == ["metadata.nmae", "other"]
    assert obj == {"apiVersion": "v1", "kind": "X", "metadata": {"name": "a", "labels": {"l": "1"}}}


def test_embedded_objects_have_type_and_metadata_too() -> None:
    template = {"apiVersion": "v1", "kind": "X", "metadata": {"name": "a", "bad": 1}, "spec": {"a": "x", "b": 1}}
    obj = {"apiVersion": "v1", "kind": "Y", "metadata": {}, "spec": {"template": template}}
    assert SCHEMA.prune(obj) == ["spec.template.spec.b"]
    assert SCHEMA.read_embedded(obj) == ["spec.template.metadata.bad"]
    assert template["metadata"] == {"name": "a"}


@pytest.mark.parametrize(
    "template", [{"apiVersion": 1}, {"kind": None}, {"metadata": "x"}, {"metadata": {"labels": {"a": 1}}}]
)
def test_embedded_objects_must_be_readable(template: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^spec\.template\."):
        SCHEMA.read_embedded({"spec": {"template": template}})


def test_nothing_is_specified_inside_additional_properties_true() -> None:
    schema = compile_schema(
        {"type": "object", "properties": {"m": {"type": "object", "additionalProperties": True}}}, embedded_root=False
    )
    obj = {"m": {"a": {"b": 1}, "c": 1}}
    assert schema.prune(obj) == ["m.a.b"]
    assert obj == {"m": {"a": {}, "c": 1}}


@pytest.mark.parametrize("value", ["text", 3, [1], None])
def test_values_of_another_type_are_left_to_validation(value: Any) -> None:
    obj = {"spec": {"nested": value}}
    assert SCHEMA.prune(obj) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*SPEC["properties"], "z"]), inner),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(JSON)
def test_defaulting_and_pruning_are_idempotent(value: Any) -> None:
    obj = {"spec": value}
    SCHEMA.default(obj)
    SCHEMA.prune(obj)
    once = copy.deepcopy(obj)
    SCHEMA.default(obj)
    assert SCHEMA.prune(obj) == []
    assert same(obj, once)
    SCHEMA.validate(obj)
