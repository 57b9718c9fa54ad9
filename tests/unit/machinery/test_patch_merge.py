"""JSON merge patch: the vectors of RFC 7386, appendix A, and its laws."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube.machinery.errors import StatusError
from kube.machinery.patch import merge_patch


@pytest.mark.parametrize(
    ("doc", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        # The RFC's vectors on documents that are no objects, one level down.
        ({"x": ["a", "b"]}, {"x": ["c", "d"]}, {"x": ["c", "d"]}),
        ({"x": {"a": "b"}}, {"x": ["c"]}, {"x": ["c"]}),
        ({"x": {"a": "foo"}}, {"x": None}, {}),
        ({"x": {"a": "foo"}}, {"x": "bar"}, {"x": "bar"}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({"x": [1, 2]}, {"x": {"a": "b", "c": None}}, {"x": {"a": "b"}}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        # As kube-apiserver: null is no member of an object wherever the object is, but an item of a list it may be.
        ({}, {"a": [{"b": None}, None]}, {"a": [{}, None]}),
    ],
)
def test_vectors(doc, patch, result):
    assert merge_patch(doc, patch) == result


@pytest.mark.parametrize("patch", [None, [], "x", 1, [{"op": "add"}]])
def test_a_patch_that_is_no_object_is_malformed(patch):
    with pytest.raises(StatusError) as caught:
        merge_patch({"a": 1}, patch)
    assert caught.value.code == 400


def test_deep_nesting_is_the_clients_error():
    patch: dict = {}
    for _ in range(5000):
        patch = {"a": patch}
    with pytest.raises(StatusError) as caught:
        merge_patch({}, patch)
    assert caught.value.code == 400
    assert "nested too deeply" in caught.value.message


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(0, 3), st.sampled_from(["", "x"]))
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


@given(OBJECTS, OBJECTS)
def test_inputs_stay_and_the_result_shares_nothing(doc, patch):
    doc_before, patch_before = copy.deepcopy(doc), copy.deepcopy(patch)
    result = merge_patch(doc, patch)
    assert (doc, patch) == (doc_before, patch_before)
    scramble(result)
    assert (doc, patch) == (doc_before, patch_before)


@given(OBJECTS, OBJECTS)
def test_a_patch_twice_is_a_patch_once(doc, patch):
    once = merge_patch(doc, patch)
    assert merge_patch(once, patch) == once


@given(OBJECTS)
def test_the_empty_patch_changes_nothing(doc):
    assert merge_patch(doc, {}) == doc


@given(OBJECTS, st.sampled_from("abc"))
def test_null_removes(doc, key):
    assert merge_patch(doc, {key: None}) == {name: value for name, value in doc.items() if name != key}


def scramble(value):
    """Change every container below `value` in place."""
    children = list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, list) else []
    for child in children:
        scramble(child)
    if isinstance(value, dict):
        value["scrambled"] = True
    elif isinstance(value, list):
        value.append("scrambled")
