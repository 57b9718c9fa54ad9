"""Laws of the pure parts, against models that are too simple to be wrong."""

from __future__ import annotations

import copy
import string
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fuzz.effort import effort
from kube.machinery.apply import FieldManager, compile_type
from kube.machinery.errors import StatusError
from kube.machinery.jsonpath import compile_jsonpath
from kube.machinery.patch import json_patch, merge_patch
from kube.machinery.quantity import parse_quantity
from kube.machinery.selectors import parse_field_selector, parse_label_selector

WORDS = st.text("ab/~01.é", max_size=3)
LEAVES = st.none() | st.booleans() | st.integers(-3, 3) | WORDS
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3))
DOCUMENTS = st.dictionaries(WORDS, VALUES, max_size=4)


def without_nulls(value):
    """What a patch puts in whole: kube-apiserver takes nulls out of objects, in lists too, but not out of lists."""
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def rfc7386(target, patch):
    """The pseudo code of RFC 7386, section 2."""
    if not isinstance(patch, dict):
        return without_nulls(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = rfc7386(result.get(name), value)
    return result


@effort(150)
@given(DOCUMENTS, DOCUMENTS)
def test_merge_patch_is_that_of_the_rfc(document, patch):
    assert merge_patch(document, patch) == rfc7386(document, patch)


def difference(before, after, path=""):
    """A JSON patch from one document to the other, by the simplest means."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before.keys() | after.keys():
            place = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
            if key not in after:
                yield {"op": "remove", "path": place}
            elif key not in before:
                yield {"op": "add", "path": place, "value": after[key]}
            else:
                yield from difference(before[key], after[key], place)
    elif isinstance(before, list) and isinstance(after, list):
        common = min(len(before), len(after))
        for index in range(common):
            yield from difference(before[index], after[index], f"{path}/{index}")
        yield from ({"op": "remove", "path": f"{path}/{common}"} for _ in before[common:])
        yield from ({"op": "add", "path": f"{path}/-", "value": value} for value in after[common:])
    elif type(before) is not type(after) or before != after:
        yield {"op": "replace", "path": path, "value": after}


@effort(150)
@given(DOCUMENTS, DOCUMENTS)
def test_json_patch_reaches_every_document(before, after):
    assert json_patch(before, list(difference(before, after))) == after


@effort(100)
@given(DOCUMENTS, st.data())
def test_json_patch_test_agrees_with_equality(document, data):
    assume(document)
    key = data.draw(st.sampled_from(sorted(document)))
    value = data.draw(st.just(document[key]) | VALUES)
    place = f"/{key.replace('~', '~0').replace('/', '~1')}"
    operations = [{"op": "test", "path": place, "value": value}]
    if not list(difference(document[key], value)):
        assert json_patch(document, operations) == document
    else:
        with pytest.raises(StatusError):
            json_patch(document, operations)


LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["", "x", "y", "7", "-1"]), max_size=3)
TERM = st.tuples(
    st.sampled_from("abc"),
    st.sampled_from(["=", "==", "!=", "in", "notin", "exists", "absent", ">", "<"]),
    st.lists(st.sampled_from(["x", "y", "7", "3"]), min_size=1, max_size=3),
)


def written(key, operator, values):
    if operator in ("in", "notin"):
        return f"{key} {operator} ({','.join(values)})"
    if operator in (">", "<"):
        return f"{key}{operator}5"
    return {"exists": key, "absent": f"!{key}"}.get(operator, f"{key}{operator}{values[0]}")


def holds(labels, key, operator, values):
    value = labels.get(key)
    if operator in ("exists", "absent"):
        return (value is not None) is (operator == "exists")
    if operator in (">", "<"):
        return value in ("7", "-1") and (int(value) > 5) is (operator == ">")
    wanted = values if operator.endswith("in") else values[:1]
    return (value in wanted) is (operator in ("=", "==", "in"))


@effort(200)
@given(st.lists(TERM, max_size=4), LABELS)
def test_a_label_selector_selects_what_it_says(terms, labels):
    selector = parse_label_selector(",".join(written(*term) for term in terms))
    assert selector.matches(labels) is all(holds(labels, *term) for term in terms)
    assert parse_label_selector(str(selector)) == selector


@effort(100)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b.c"]), st.sampled_from(["=", "!="]), st.text(max_size=5)), max_size=3)
)
def test_a_field_selector_is_printed_and_read_back(terms):
    from kube.machinery.selectors import FieldSelector

    selector = FieldSelector(tuple(sorted(set(terms))))
    assert set(parse_field_selector(str(selector)).requirements) == set(selector.requirements)


@effort(300)
@given(st.text(string.ascii_letters + string.digits + " !=<>(),.'\\\"[]{}*:@?-/é\x00", max_size=24))
def test_parsers_refuse_with_a_value_error_or_not_at_all(text):
    for parse in (parse_label_selector, parse_field_selector, compile_jsonpath, parse_quantity):
        try:
            parse(text)
        except ValueError:
            pass


@effort(200)
@given(st.text(".[]'*:?(@=1-)ab \\\"", min_size=1, max_size=14), DOCUMENTS)
def test_json_paths_find_something_or_refuse(text, document):
    try:
        found = compile_jsonpath(f"{{{text}}}").find(document)
    except ValueError:
        return
    assert isinstance(found, list)


@effort(100)
@given(
    st.integers(-(10**6), 10**6),
    st.sampled_from(["", "m", "k", "M", "Ki", "Gi", "n", "e3", "E-2"]),
    st.integers(0, 999),
)
def test_quantities_order_as_their_numbers(number, suffix, fraction):
    factors = {"m": "0.001", "k": "1000", "M": "1000000", "Ki": "1024", "Gi": str(1024**3), "n": "1e-9"}
    factor = Decimal(factors.get(suffix, "1")) * {"e3": Decimal(1000), "E-2": Decimal("0.01")}.get(suffix, 1)
    value = Decimal(f"{number}.{fraction:03}")
    # Rounded up (away from zero) to nano.
    assert abs(parse_quantity(f"{number}.{fraction:03}{suffix}") - value * factor) < Decimal("1e-9")


DATA = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["1", "2"]), max_size=4)
MAP = {"type": "object", "properties": {"data": {"type": "object", "additionalProperties": {"type": "string"}}}}


@effort(150)
@given(st.lists(st.tuples(st.sampled_from(["one", "two", "three"]), DATA), min_size=1, max_size=6))
def test_who_applies_owns_and_what_nobody_applies_any_more_goes(steps):
    """Forced applies: an object holds what the last appliers of it want, and each removes only what it owned alone."""
    books = FieldManager(compile_type(MAP), "v1", "Map")
    live, wants = None, {}
    for manager, data in steps:
        wanted = {"apiVersion": "v1", "kind": "Map", "metadata": {"name": "m"}, "data": data}
        before = copy.deepcopy(live)
        live, seen = books.apply(live, wanted, manager, force=True, now="2026-01-01T00:00:00Z"), live
        assert seen == before
        assert books.apply(live, wanted, manager, force=False, now="2027-01-01T00:00:00Z") == live
        owned = {
            other: {key: value for key, value in theirs.items() if data.get(key, value) == value}
            for other, theirs in wants.items()
            if other != manager
        }
        wants = {**owned, manager: data}
        assert live.get("data", {}) == {key: value for theirs in wants.values() for key, value in theirs.items()}
