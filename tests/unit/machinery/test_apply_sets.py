"""Sets of fields: FieldsV1, the algebra, and the order of elements."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube.machinery.apply.elements import key_element, parse_element, show_path, sort_key, value_element
from kube.machinery.apply.fieldset import FieldSet

ELEMENTS = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', 'k:{"name":"y"}', 'v:"s"', "v:1", "i:0"])
PATHS = st.lists(ELEMENTS, min_size=1, max_size=3).map(tuple)
SETS = st.sets(PATHS, max_size=8)


def paths(fields):
    return set(fields.paths())


@given(SETS, SETS)
def test_algebra_is_that_of_sets_of_paths(left, right):
    one, two = FieldSet.of(left), FieldSet.of(right)
    assert paths(one) == left
    assert paths(one.union(two)) == left | right
    assert paths(one.intersection(two)) == left & right
    assert paths(one.difference(two)) == left - right
    assert paths(one.recursive_difference(two)) == {
        path for path in left if not any(path[: len(gone)] == gone for gone in right)
    }
    assert paths(one.leaves()) == {
        path for path in left if not any(len(path) < len(other) and other[: len(path)] == path for other in left)
    }
    assert all(one.has(path) == (path in left) for path in left | right)


@given(SETS, SETS)
def test_operations_change_nothing_and_leave_no_empty_nodes(left, right):
    one, two = FieldSet.of(left), FieldSet.of(right)
    for made in (one.union(two), one.intersection(two), one.difference(two), one.recursive_difference(two)):
        assert bool(made) == bool(paths(made))
    assert (paths(one), paths(two)) == (left, right)


@given(SETS)
def test_fields_v1_round_trip(wanted):
    fields = FieldSet.of(wanted)
    assert FieldSet.from_fields_v1(json.loads(json.dumps(fields.to_fields_v1()))) == fields


def test_fields_v1_as_kubernetes_writes_it():
    fields = FieldSet.of([("f:b",), ("f:a", 'k:{"name":"x"}'), ("f:a", 'k:{"name":"x"}', "f:name"), ("f:c", 'v:"t"')])
    assert json.dumps(fields.to_fields_v1()) == json.dumps(
        {"f:a": {'k:{"name":"x"}': {".": {}, "f:name": {}}}, "f:b": {}, "f:c": {'v:"t"': {}}}
    )


def test_elements_are_written_in_order():
    names = ["i:10", "i:9", "v:true", 'v:"a"', "v:2", "v:10", 'k:{"port":10}', 'k:{"port":9}', "f:b", "f:a"]
    assert sorted(names, key=sort_key) == [
        "f:a",
        "f:b",
        'k:{"port":9}',
        'k:{"port":10}',
        "v:2",
        "v:10",
        'v:"a"',
        "v:true",
        "i:9",
        "i:10",
    ]


def test_equal_elements_are_equal_text():
    assert key_element({"port": 80, "name": "a"}) == 'k:{"name":"a","port":80}'
    assert parse_element('k:{"port": 80.0, "name":"a"}') == 'k:{"name":"a","port":80}'
    assert value_element(1.0) == value_element(1) == "v:1"
    assert value_element(True) == "v:true"
    assert value_element("a<b&é") == 'v:"a\\u003cb\\u0026é"'
    assert parse_element("v:" + json.dumps("é")) == value_element("é")
    assert value_element("x" * 5000) == parse_element('v:"' + "x" * 5000 + '"')


def test_unknown_kinds_of_elements_are_dropped():
    assert paths(FieldSet.from_fields_v1({"z:new": {"f:a": {}}, "f:a": {}})) == {("f:a",)}
    assert not FieldSet.from_fields_v1(None)


@pytest.mark.parametrize("fields", [{"": {}}, {"fa": {}}, {"v:{": {}}, {"k:1": {}}, {"i:x": {}}, {"f:a": 1}, []])
def test_malformed_fields_are_refused(fields):
    with pytest.raises(ValueError):
        FieldSet.from_fields_v1(fields)


def test_paths_are_shown_as_in_messages():
    path = ("f:spec", "f:ports", 'k:{"containerPort":80,"protocol":"TCP"}', 'v:"x"', "v:true", "i:0", "f:a.b")
    assert show_path(path) == '.spec.ports[containerPort=80,protocol="TCP"][="x"][=true][0].a.b'
