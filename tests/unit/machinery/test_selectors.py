"""Label and field selectors: grammar, matching and the texts of errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube.machinery.selectors import (
    LabelSelector,
    Requirement,
    label_selector_from_dict,
    parse_field_selector,
    parse_label_selector,
)


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("", {}, True),
        ("  ", {"a": "b"}, True),
        ("a=b", {"a": "b"}, True),
        ("a=b", {"a": "c"}, False),
        ("a==b", {"a": "b"}, True),
        ("a=", {"a": ""}, True),
        ("a=", {}, False),
        ("a!=b", {}, True),
        ("a!=b", {"a": "b"}, False),
        ("a", {"a": ""}, True),
        ("a", {}, False),
        ("!a", {}, True),
        ("! a", {"a": "x"}, False),
        ("a in (b, c)", {"a": "c"}, True),
        ("a in (b,c)", {"a": "d"}, False),
        ("a in ()", {"a": ""}, True),
        ("a in (b,)", {"a": ""}, True),
        ("a in (,b)", {"a": ""}, True),
        ("a in (in,notin)", {"a": "notin"}, True),
        ("in in (in)", {"in": "in"}, True),
        ("a notin (b,c)", {}, True),
        ("a notin (b,c)", {"a": "b"}, False),
        ("a>1", {"a": "2"}, True),
        ("a>1", {"a": "x"}, False),
        ("a<1", {"a": "0"}, True),
        ("a<1", {}, False),
        ("example.com/x=y,!b , c in (d)", {"example.com/x": "y", "c": "d"}, True),
        ("example.com/x=y,!b,c in (d)", {"example.com/x": "y", "c": "d", "b": ""}, False),
    ],
)
def test_label_selectors_match(text, labels, matches):
    assert parse_label_selector(text).matches(labels) is matches


def test_an_object_without_labels_is_like_one_with_none():
    assert parse_label_selector("!a").matches(None)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a in", "unable to parse requirement: found '', expected: '('"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("!a=b", "unable to parse requirement: found '=', expected: in, notin, =, ==, !=, gt, lt"),
        ("a=(", "unable to parse requirement: found '(', expected: identifier"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("=", "found '=', expected: !, identifier, or 'end of string'"),
        ("a=b,", "found '', expected: identifier after ','"),
        ("a=b c=d", "found 'c', expected: ',' or 'end of string'"),
        (
            "a>x",
            "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must",
        ),
    ],
)
def test_label_selectors_refused(text, error):
    with pytest.raises(ValueError) as caught:
        parse_label_selector(text)
    assert str(caught.value).replace("found '' expected", "found '', expected").startswith(error)


def test_bad_keys_and_values_are_worded_as_kubernetes_words_them():
    with pytest.raises(ValueError, match=r'^unable to parse requirement: <nil>: Invalid value: "a%b": name part must'):
        parse_label_selector("a%b=c")
    with pytest.raises(ValueError, match=r'values\[0\]\[a\]: Invalid value: "-c": a valid label must be an empty'):
        parse_label_selector("a=-c")


def test_selectors_print_in_a_canonical_form():
    text = str(parse_label_selector("z in (b,a),!y,x,w==v,u>3,t notin (s)"))
    assert text == "t notin (s),u>3,w==v,x,!y,z in (a,b)"
    assert parse_label_selector(text) == parse_label_selector("z in (a,b),!y,x,w==v,u>3,t notin (s)")


LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["", "1", "2", "x"]), max_size=3)
REQUIREMENTS = st.one_of(
    st.builds(Requirement, st.sampled_from("abc"), st.sampled_from(["exists", "!"])),
    st.builds(
        lambda key, operator, value: Requirement(key, operator, (value,)),
        st.sampled_from("abc"),
        st.sampled_from(["=", "==", "!=", "gt", "lt"]),
        st.sampled_from(["1", "2"]),
    ),
    st.builds(
        lambda key, operator, values: Requirement(key, operator, tuple(sorted(values))),
        st.sampled_from("abc"),
        st.sampled_from(["in", "notin"]),
        st.sets(st.sampled_from(["1", "2", "x"]), min_size=1),
    ),
)


@given(st.lists(REQUIREMENTS, max_size=4), LABELS)
def test_a_printed_selector_selects_the_same(requirements, labels):
    selector = LabelSelector(tuple(requirements))
    assert parse_label_selector(str(selector)).matches(labels) == selector.matches(labels)


def test_selector_objects():
    selector = label_selector_from_dict(
        {
            "matchLabels": {"app": "x"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["a", "b"]},
                {"key": "old", "operator": "DoesNotExist"},
            ],
        }
    )
    assert selector.matches({"app": "x", "tier": "b"})
    assert not selector.matches({"app": "x", "tier": "c"})
    assert not selector.matches({"app": "x", "tier": "b", "old": ""})
    assert str(selector) == "app=x,!old,tier in (a,b)"


def test_an_absent_selector_selects_nothing_and_an_empty_one_everything():
    assert not label_selector_from_dict(None).matches({"a": "b"})
    assert not label_selector_from_dict(None).everything
    assert label_selector_from_dict({}).matches({"a": "b"})
    assert label_selector_from_dict({"matchLabels": None}).everything


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ({"key": "a", "operator": "Gt", "values": ["1"]}, '"Gt" is not a valid label selector operator'),
        ({"key": "a", "operator": "In"}, "for 'in', 'notin' operators, values set can't be empty"),
        ({"key": "a", "operator": "Exists", "values": ["1"]}, "values set must be empty for exists"),
        ({"key": "a b", "operator": "Exists"}, 'key: Invalid value: "a b": name part must'),
        ({"key": "a", "operator": "In", "values": [1]}, "must be a string"),
    ],
)
def test_selector_objects_refused(expression, error):
    with pytest.raises(ValueError, match=error.replace("(", r"\(")):
        label_selector_from_dict({"matchExpressions": [expression]})


def test_field_selectors():
    selector = parse_field_selector("status.phase!=Failed,metadata.name=x,spec.nodeName==")
    assert selector.requirements == (
        ("metadata.name", "=", "x"),
        ("spec.nodeName", "=", ""),
        ("status.phase", "!=", "Failed"),
    )
    values = {"metadata.name": "x", "status.phase": "Running"}
    assert selector.matches(lambda path: values.get(path, ""))
    values["status.phase"] = "Failed"
    assert not selector.matches(lambda path: values.get(path, ""))
    assert parse_field_selector("").matches(lambda path: "")


def test_field_selector_values_may_be_escaped():
    selector = parse_field_selector(r"a=b\,c\=d\\e,f=g")
    assert selector.requirements == (("a", "=", r"b,c=d\e"), ("f", "=", "g"))
    assert parse_field_selector(str(selector)) == selector


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a", "invalid selector: 'a'; can't understand 'a'"),
        ("x=y,a", "invalid selector: 'x=y,a'; can't understand 'a'"),
        (r"a=\b", r"invalid field selector: invalid escape sequence: \b"),
        ("a=b\\", "invalid field selector: invalid escape sequence: \\"),
        ("a=b=c", "invalid field selector: unescaped character in value: ="),
    ],
)
def test_field_selectors_refused(text, error):
    with pytest.raises(ValueError) as caught:
        parse_field_selector(text)
    assert str(caught.value) == error
