"""JSON patch: the examples of RFC 6902, appendix A, what kube-apiserver does differently, and the limits."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube.machinery.errors import StatusError
from kube.machinery.patch import json as json_module
from kube.machinery.patch import json_patch


@pytest.mark.parametrize(
    ("doc", "operations", "result"),
    [
        pytest.param(
            {"foo": "bar"},
            [{"op": "add", "path": "/baz", "value": "qux"}],
            {"baz": "qux", "foo": "bar"},
            id="A.1 add a member",
        ),
        pytest.param(
            {"foo": ["bar", "baz"]},
            [{"op": "add", "path": "/foo/1", "value": "qux"}],
            {"foo": ["bar", "qux", "baz"]},
            id="A.2 add an array element",
        ),
        pytest.param(
            {"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}, id="A.3 remove a member"
        ),
        pytest.param(
            {"foo": ["bar", "qux", "baz"]},
            [{"op": "remove", "path": "/foo/1"}],
            {"foo": ["bar", "baz"]},
            id="A.4 remove an array element",
        ),
        pytest.param(
            {"baz": "qux", "foo": "bar"},
            [{"op": "replace", "path": "/baz", "value": "boo"}],
            {"baz": "boo", "foo": "bar"},
            id="A.5 replace",
        ),
        pytest.param(
            {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
            [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
            {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
            id="A.6 move a value",
        ),
        pytest.param(
            {"foo": ["all", "grass", "cows", "eat"]},
            [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
            {"foo": ["all", "cows", "eat", "grass"]},
            id="A.7 move an array element",
        ),
        pytest.param(
            {"baz": "qux", "foo": ["a", 2, "c"]},
            [{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}],
            {"baz": "qux", "foo": ["a", 2, "c"]},
            id="A.8 test",
        ),
        pytest.param(
            {"foo": "bar"},
            [{"op": "add", "path": "/child", "value": {"grandchild": {}}}],
            {"foo": "bar", "child": {"grandchild": {}}},
            id="A.10 add a nested member",
        ),
        pytest.param(
            {"foo": "bar"},
            [{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}],
            {"foo": "bar", "baz": "qux"},
            id="A.11 unrecognized elements are ignored",
        ),
        pytest.param(
            {"/": 9, "~1": 10},
            [{"op": "test", "path": "/~01", "value": 10}, {"op": "replace", "path": "/~1", "value": 8}],
            {"/": 8, "~1": 10},
            id="A.14 ~ escapes",
        ),
        pytest.param(
            {"foo": ["bar"]},
            [{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}],
            {"foo": ["bar", ["abc", "def"]]},
            id="A.16 append an array",
        ),
        pytest.param({"a": 1}, [], {"a": 1}, id="no operation"),
        pytest.param({"a": 1}, [{"op": "add", "path": "/a", "value": 2}], {"a": 2}, id="add replaces"),
        pytest.param({"a": [1]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2]}, id="add at the end"),
        pytest.param({"a": [1]}, [{"op": "add", "path": "/a/-1", "value": 2}], {"a": [1, 2]}, id="add from the end"),
        pytest.param({"a": [1, 2]}, [{"op": "remove", "path": "/a/-2"}], {"a": [2]}, id="remove from the end"),
        pytest.param({"a": [1]}, [{"op": "replace", "path": "/a/0", "value": 2}], {"a": [2]}, id="replace an item"),
        pytest.param({}, [{"op": "replace", "path": "/a", "value": 2}], {"a": 2}, id="replace what is absent"),
        pytest.param({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}, id="replace all"),
        pytest.param({"a": 1}, [{"op": "add", "path": "", "value": {"b": 2}}], {"b": 2}, id="add all"),
        pytest.param({"a": 1}, [{"op": "test", "path": "", "value": {"a": 1}}], {"a": 1}, id="test all"),
        pytest.param({"a": 1}, [{"op": "test", "path": "/b", "value": None}], {"a": 1}, id="absent is null"),
        pytest.param({"a": 1}, [{"op": "test", "path": "/a", "value": 1.0}], {"a": 1}, id="numbers by value"),
        pytest.param({"": 1}, [{"op": "replace", "path": "/", "value": 2}], {"": 2}, id="empty key"),
        pytest.param(
            {"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": 1}, "c": {"b": 1}}, id="copy"
        ),
        pytest.param({"a": 1}, [{"op": "move", "from": "/a", "path": "/a"}], {"a": 1}, id="move in place"),
        pytest.param(
            {"a": {"b": {"c": 1}}}, [{"op": "move", "from": "/a/b", "path": "/a"}], {"a": {"c": 1}}, id="move upwards"
        ),
    ],
)
def test_applied(doc, operations, result):
    before = copy.deepcopy((doc, operations))
    assert json_patch(doc, operations) == result
    assert (doc, operations) == before


@pytest.mark.parametrize(
    ("operation", "problem"),
    [
        ({"op": "test", "path": "/s", "value": "bar"}, "testing value /s failed: test failed"),
        ({"op": "test", "path": "/n", "value": "10"}, "testing value /n failed"),
        ({"op": "test", "path": "/t", "value": 1}, "testing value /t failed"),
        ({"op": "test", "path": "/l", "value": [1]}, "testing value /l failed"),
        ({"op": "test", "path": "/l/7", "value": None}, "Unable to access invalid index: 7"),
        ({"op": "test", "path": "/x/y", "value": None}, "doc is missing path: /x"),
        ({"op": "add", "path": "/x/y", "value": 1}, "doc is missing path: /x"),
        ({"op": "add", "path": "/s/y", "value": 1}, "doc is missing path: /s/y"),
        ({"op": "add", "path": "/l/4", "value": 1}, "Unable to access invalid index: 4"),
        ({"op": "add", "path": "/l/x", "value": 1}, "'x' in /l/x is not an array index"),
        ({"op": "add", "path": "/l/01", "value": 1}, "'01' in /l/01 is not an array index"),
        ({"op": "add", "path": "/l/1e0", "value": 1}, "is not an array index"),
        ({"op": "add", "path": "/a"}, "it has no 'value'"),
        ({"op": "add", "path": "a", "value": 1}, "is not a JSON pointer"),
        ({"op": "add", "path": "/a~2", "value": 1}, "is not a JSON pointer"),
        ({"op": "add", "value": 1}, "it has no 'path'"),
        ({"op": "replace", "path": "/l/-", "value": 1}, "'-' in /l/- is not an array index"),
        ({"op": "replace", "path": "/x/y", "value": 1}, "doc is missing path: /x"),
        ({"op": "replace", "path": "/s/y", "value": 1}, "doc is missing path: /s/y"),
        ({"op": "replace", "path": "", "value": 1}, "no object"),
        ({"op": "remove", "path": "/x"}, "doc is missing path: /x"),
        ({"op": "remove", "path": "/l/-4"}, "Unable to access invalid index: -4"),
        ({"op": "remove", "path": "/a~1b/c~0d"}, "doc is missing path: /a~1b"),
        ({"op": "remove", "path": ""}, "cannot be removed"),
        ({"op": "move", "from": "/x", "path": "/y"}, "doc is missing path: /x"),
        ({"op": "move", "from": "/x", "path": "/x"}, "doc is missing path: /x"),
        ({"op": "move", "from": "/o", "path": "/o/p"}, "/o cannot be moved into itself"),
        ({"op": "move", "path": "/y"}, "it has no 'from'"),
        ({"op": "copy", "from": "/x", "path": "/y"}, "doc is missing path: /x"),
        ({"op": "foo", "path": "/y"}, "Unexpected kind: foo"),
        ({"path": "/y"}, "Unexpected kind: unknown"),
    ],
)
def test_a_failing_operation_fails_all(operation, problem):
    doc = {"s": "baz", "n": 10, "t": True, "l": [1, 2, 3], "o": {"p": 1}}
    before = copy.deepcopy(doc)
    with pytest.raises(StatusError) as caught:
        json_patch(doc, [{"op": "add", "path": "/done", "value": 1}, operation])
    error = caught.value
    assert (error.code, error.reason) == (422, "Invalid")
    assert error.message == "the server rejected our request due to an error in our request"
    assert problem in error.to_status()["details"]["causes"][0]["message"]
    assert doc == before


@pytest.mark.parametrize(
    "operations",
    [None, {}, {"op": "add"}, "x", [1], [[]], [{"op": 1, "path": ""}], [{"op": "add", "path": None, "value": 1}]],
)
def test_malformed(operations):
    with pytest.raises(StatusError) as caught:
        json_patch({}, operations)
    assert caught.value.code == 400


def test_operations_are_limited():
    operations = [{"op": "test", "path": "", "value": {}}] * 10_000
    assert json_patch({}, operations) == {}
    with pytest.raises(StatusError) as caught:
        json_patch({}, [*operations, operations[0]])
    assert caught.value.code == 413
    assert caught.value.message == "The allowed maximum operations in a JSON patch is 10000, got 10001"


def test_copies_cannot_outgrow_the_memory():
    double = [{"op": "copy", "from": "/a", "path": "/b"}, {"op": "move", "from": "/b", "path": "/a/-"}]
    with pytest.raises(StatusError) as caught:
        json_patch({"a": ["x" * 1000]}, double * 100)
    assert caught.value.code == 422
    (cause,) = caught.value.to_status()["details"]["causes"]
    assert f"exceeding the limit {json_module.MAX_COPIED_BYTES}" in cause["message"]


def test_copies_and_values_are_independent():
    value = {"b": [1]}
    operations = [
        {"op": "add", "path": "/a", "value": value},
        {"op": "copy", "from": "/a", "path": "/c"},
        {"op": "add", "path": "/a/b/-", "value": 2},
    ]
    assert json_patch({}, operations) == {"a": {"b": [1, 2]}, "c": {"b": [1]}}
    assert value == {"b": [1]}


TOKENS = st.sampled_from(["a", "b", "0", "1", "-", "-1"])
POINTERS = st.lists(TOKENS, max_size=3).map(lambda tokens: "".join(f"/{token}" for token in tokens))
VALUES = st.recursive(
    st.one_of(st.none(), st.integers(0, 2)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)),
    max_leaves=8,
)
OPERATIONS = st.fixed_dictionaries(
    {
        "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]),
        "path": POINTERS,
        "from": POINTERS,
        "value": VALUES,
    }
)


@given(st.dictionaries(st.sampled_from("ab"), VALUES, max_size=2), st.lists(OPERATIONS, max_size=5))
def test_inputs_never_change_and_only_status_errors_come_out(doc, operations):
    before = json.dumps([doc, operations])
    try:
        result = json_patch(doc, operations)
    except StatusError as error:
        assert error.code == 422
    else:
        result["scrambled"] = [scramble(child) for child in result.values()]
    assert json.dumps([doc, operations]) == before


def scramble(value):
    if isinstance(value, list):
        value.append([scramble(child) for child in value])
    elif isinstance(value, dict):
        value["scrambled"] = [scramble(child) for child in value.values()]
