"""Merging applied configurations: types, order, what is removed, what is refused."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kube.machinery import builtin
from kube.machinery.apply import FieldManager, compile_type
from kube.machinery.apply.compare import compare
from kube.machinery.apply.fieldset import FieldSet
from kube.machinery.apply.typed import merge
from kube.machinery.errors import StatusError

NOW, LATER = "2026-01-02T03:04:05Z", "2026-01-02T03:04:06Z"
STRING = {"type": "string"}
ITEM = {"type": "object", "properties": {"name": STRING, "v": STRING, "more": {"type": "object"}}}
THING = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "a": STRING,
                "n": {"type": "integer"},
                "b": {"type": "boolean"},
                "atomicList": {"type": "array", "items": STRING},
                "atomicMap": {
                    "type": "object",
                    "x-kubernetes-map-type": "atomic",
                    "additionalProperties": STRING,
                },
                "labels": {"type": "object", "additionalProperties": STRING},
                "set": {"type": "array", "x-kubernetes-list-type": "set", "items": STRING},
                "items": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": ITEM,
                },
                "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "port": {"x-kubernetes-int-or-string": True},
                "sub": {"type": "object", "properties": {"x": STRING, "y": STRING}},
                "when": {"type": "string", "format": "date-time"},
            },
        },
        "status": {"type": "object", "properties": {"phase": STRING}},
    },
}
KIND = compile_type(THING)
MANAGER = FieldManager(KIND, "example.com/v1", "Thing", reset_fields=[("status",)])


def thing(**spec):
    return {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t", "namespace": "n"}, "spec": spec}


def apply(live, manager="one", force=False, now=NOW, **spec):
    before = copy.deepcopy(live)
    made = MANAGER.apply(live, thing(**spec), manager, force=force, now=now)
    assert live == before
    return made


def owned(obj):
    return {entry["manager"]: entry["fieldsV1"].get("f:spec") for entry in obj["metadata"].get("managedFields", [])}


@pytest.mark.parametrize(
    ("live", "applied", "merged"),
    [
        (["a", "b", "c"], ["a", "b"], ["a", "b", "c"]),
        (["a"], ["b"], ["a", "b"]),
        (["a", "b"], ["b", "a"], ["b", "a"]),
        (["a", "b", "x"], ["b", "a", "y"], ["b", "x", "a", "y"]),
        (["b"], ["a", "b", "c"], ["a", "b", "c"]),
        (["x", "b", "z"], ["a", "b", "c"], ["x", "a", "b", "z", "c"]),
        (["a", "b"], [], ["a", "b"]),
        (["a", "b"], None, ["a", "b"]),
        (["a", "a", "b"], ["c"], ["a", "a", "b", "c"]),
        ([], ["a"], ["a"]),
        ([], None, None),
    ],
)
def test_order_of_merged_sets(live, applied, merged):
    assert merge(KIND, thing(set=live), thing(set=applied))["spec"]["set"] == merged


@pytest.mark.parametrize(
    ("name", "live", "applied", "merged"),
    [
        ("atomicList", ["a", "b"], ["c"], ["c"]),
        ("atomicList", ["a", "b"], [], []),
        ("atomicMap", {"a": "1"}, {"b": "2"}, {"b": "2"}),
        ("labels", {"a": "1"}, {"b": "2"}, {"a": "1", "b": "2"}),
        ("labels", {"a": "1"}, {}, {"a": "1"}),
        ("labels", {}, None, None),
        ("any", {"x": {"y": 1}, "l": [1]}, {"x": {"z": 2}, "l": [2]}, {"x": {"y": 1, "z": 2}, "l": [2]}),
        ("port", 80, "http", "http"),
        ("n", 1, 1.5, 1.5),
        ("b", False, True, True),
        (
            "items",
            [{"name": "x", "v": "1"}, {"name": "y"}],
            [{"name": "x", "more": {"k": 1}}],
            [{"name": "x", "v": "1", "more": {"k": 1}}, {"name": "y"}],
        ),
    ],
)
def test_merge_follows_the_type(name, live, applied, merged):
    assert merge(KIND, thing(**{name: live}), thing(**{name: applied}))["spec"][name] == merged


def test_what_is_applied_no_more_is_removed():
    live = apply(None, a="1", labels={"x": "1", "y": "1"}, sub={"x": "1"}, items=[{"name": "i", "v": "1"}])
    live["spec"]["n"] = 5  # nobody's
    live = apply(live, a="1", labels={"y": "1"})
    assert live["spec"] == {"a": "1", "n": 5, "labels": {"y": "1"}}
    assert owned(live) == {"one": {"f:a": {}, "f:labels": {"f:y": {}}}}


def test_an_unowned_neighbour_goes_with_the_container_and_stays_with_an_owned_one():
    live = apply(None, sub={"x": "1"}, a="1")
    live["spec"]["sub"]["y"] = "default"
    assert apply(live, a="1")["spec"] == {"a": "1"}

    live = MANAGER.update(live, {**live, "spec": {**live["spec"], "sub": {"x": "1", "y": "2"}}}, "other", now=NOW)
    assert apply(live, a="1")["spec"] == {"a": "1", "sub": {"y": "2"}}


def test_shared_fields_stay_until_the_last_owner_gives_them_up():
    live = apply(apply(None, a="1", b=True), "two", a="1")
    live = apply(live, "one", b=True)
    assert live["spec"] == {"a": "1", "b": True}
    live = apply(live, "two", set=["s"])
    assert live["spec"] == {"b": True, "set": ["s"]}
    assert owned(live) == {"one": {"f:b": {}}, "two": {"f:set": {'v:"s"': {}}}}


def test_a_forced_list_item_moves_and_the_rest_stays():
    live = apply(None, items=[{"name": "x", "v": "1"}, {"name": "y", "v": "1"}])
    live = apply(live, "two", force=True, items=[{"name": "x", "v": "2"}])
    assert live["spec"]["items"] == [{"name": "x", "v": "2"}, {"name": "y", "v": "1"}]
    whole = {".": {}, "f:name": {}, "f:v": {}}
    assert owned(live) == {
        "one": {"f:items": {'k:{"name":"x"}': {".": {}, "f:name": {}}, 'k:{"name":"y"}': whole}},
        "two": {"f:items": {'k:{"name":"x"}': whole}},
    }


def test_an_empty_container_that_is_applied_is_kept():
    live = apply(None, labels={"x": "1"})
    live = apply(live, labels={})
    assert live["spec"] == {"labels": {}}
    assert owned(live) == {"one": {"f:labels": {}}}


def test_nobody_owns_an_empty_list_of_items():
    live = apply(None, a="1", set=[])
    assert owned(live) == {"one": {"f:a": {}}}


def test_atomic_fields_conflict_as_a_whole():
    live = apply(None, atomicMap={"a": "1"}, atomicList=["a"])
    with pytest.raises(StatusError) as refused:
        apply(live, "two", atomicMap={"b": "1"}, atomicList=["a"])
    assert [cause["field"] for cause in refused.value.details["causes"]] == [".spec.atomicMap"]


def test_conflicts_name_updaters_with_version_and_subresource():
    status = FieldManager(KIND, "example.com/v1", "Thing", subresource="status", reset_fields=[("spec",)])
    live = MANAGER.update(None, thing(a="1"), "kubectl-client-side-apply", now=NOW)
    with pytest.raises(StatusError) as refused:
        apply(live, a="2")
    assert refused.value.message == (
        'Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using example.com/v1: .spec.a'
    )
    live = status.update(live, {**live, "status": {"phase": "x"}}, "node", now=NOW)
    applied = {**thing(), "status": {"phase": "y"}}
    with pytest.raises(StatusError) as refused:
        status.apply(live, applied, "one", force=False, now=NOW)
    assert refused.value.details["causes"][0]["message"] == (
        'conflict with "node" with subresource "status" using example.com/v1'
    )


def test_the_same_value_is_no_conflict():
    live = MANAGER.update(None, thing(a="1", n=1), "editor", now=NOW)
    live = apply(live, a="1", now=LATER)
    assert owned(live) == {"one": {"f:a": {}}, "editor": {".": {}, "f:a": {}, "f:n": {}}}


def test_status_is_not_owned_by_appliers_of_the_main_resource():
    live = MANAGER.apply(None, {**thing(a="1"), "status": {"phase": "x"}}, "one", force=False, now=NOW)
    assert live["metadata"]["managedFields"][0]["fieldsV1"] == {"f:spec": {"f:a": {}}}


def test_metadata_is_owned_but_for_what_identifies():
    applied = thing(a="1")
    applied["metadata"] |= {"labels": {"l": "1"}, "finalizers": ["x/y"], "uid": "u", "resourceVersion": "1"}
    live = MANAGER.apply(None, applied, "one", force=False, now=NOW)
    assert live["metadata"]["managedFields"][0]["fieldsV1"]["f:metadata"] == {
        "f:finalizers": {'v:"x/y"': {}},
        "f:labels": {"f:l": {}},
    }


def test_an_apply_that_changes_nothing_keeps_the_time():
    live = apply(None, a="1")
    assert apply(live, a="1", now=LATER) == live
    assert apply(live, a="2", now=LATER)["metadata"]["managedFields"][0]["time"] == LATER


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"foo": 1}, ".spec.foo: field not declared in schema"),
        ({"items": [{"name": "x", "q": 1}]}, '.spec.items[name="x"].q: field not declared in schema'),
        ({"items": [{"name": "a"}, {"name": "a"}]}, '.spec.items: duplicate entries for key [name="a"]'),
        ({"set": ["a", "a"]}, '.spec.set: duplicate entries for key [="a"]'),
        ({"atomicList": ["a", 1]}, ".spec.atomicList[1]: expected string, got &value.valueUnstructured{Value:1}"),
        ({"n": "x"}, ".spec.n: expected numeric (int or float), got string"),
        ({"b": "x"}, ".spec.b: expected boolean, got &{x}"),
        ({"items": {}}, ".spec.items: expected list, got &{map[]}"),
        ({"sub": ["x", True]}, ".spec.sub: expected map, got &{[x true]}"),
        ({"when": [1]}, ".spec.when: expected any scalar, got &{[1]}"),
        ({"set": [None]}, ".spec.set: element 0: associative list without keys has an element that's an explicit null"),
        (
            {"items": [{"v": "1"}]},
            '.spec.items: element 0: associative list with keys has an element that omits key field "name"'
            " (and doesn't have default value)",
        ),
        (
            {"items": [{"name": "a"}, {"name": "a"}], "n": "x"},
            'errors:\n  .spec.items: duplicate entries for key [name="a"]\n'
            "  .spec.n: expected numeric (int or float), got string",
        ),
    ],
)
def test_configurations_that_do_not_fit_are_refused_in_kubernetes_words(spec, problem):
    with pytest.raises(StatusError) as refused:
        apply(None, **spec)
    assert (refused.value.code, refused.value.reason) == (500, "")
    assert refused.value.message == (
        f"failed to create typed patch object (n/t; example.com/v1, Kind=Thing): {problem}"
    )


def test_another_type_of_object_is_refused():
    with pytest.raises(StatusError) as refused:
        MANAGER.apply(None, {"apiVersion": "v1", "kind": "Secret"}, "one", force=False, now=NOW)
    assert refused.value.message == "invalid object type: /v1, Kind=Secret"
    assert refused.value.code == 400


def test_too_deep_nesting_is_the_clients_error():
    deep: dict = {}
    for _ in range(5000):
        deep = {"x": deep}
    with pytest.raises(StatusError) as refused:
        apply(None, any=deep)
    assert refused.value.code == 400


def test_a_schema_that_became_atomic_moves_ownership_to_the_whole():
    granular = {"type": "object", "additionalProperties": STRING}
    root = {"type": "object", "properties": {"m": granular}}
    before = FieldManager(compile_type(root), "v1", "X")
    live = before.apply(None, {"apiVersion": "v1", "kind": "X", "m": {"a": "1"}}, "one", force=False, now=NOW)
    atomic = {"type": "object", "properties": {"m": {**granular, "x-kubernetes-map-type": "atomic"}}}
    after = FieldManager(compile_type(atomic), "v1", "X")
    with pytest.raises(StatusError) as refused:
        after.apply(live, {"apiVersion": "v1", "kind": "X", "m": {"b": "1"}}, "two", force=False, now=NOW)
    assert refused.value.details["causes"][0]["field"] == ".m"


def test_builtin_types_have_their_merge_keys_and_defaults():
    pods = FieldManager(compile_type(builtin.openapi_v3_schema("io.k8s.api.core.v1.Pod")), "v1", "Pod")
    container = {"name": "c", "image": "host", "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": 1}}}
    applied = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [container]}}
    live = pods.apply(None, applied, "one", force=False, now=NOW)
    assert live["metadata"]["managedFields"][0]["fieldsV1"] == {
        "f:spec": {
            "f:containers": {
                'k:{"name":"c"}': {
                    ".": {},
                    "f:image": {},
                    "f:name": {},
                    "f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}},
                    "f:resources": {"f:limits": {"f:cpu": {}}},
                }
            }
        }
    }


VALUES = st.sampled_from(["1", "2"])
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "a": VALUES,
        "labels": st.dictionaries(st.sampled_from("xyz"), VALUES, max_size=2),
        "atomicList": st.lists(VALUES, max_size=2),
        "set": st.lists(VALUES, unique=True, min_size=1, max_size=2),
        "items": st.lists(
            st.fixed_dictionaries({"name": VALUES}, optional={"v": VALUES}),
            unique_by=lambda item: item["name"],
            min_size=1,  # nobody owns an empty list whose items are merged
            max_size=2,
        ),
        "any": st.dictionaries(st.sampled_from("xy"), st.lists(VALUES, max_size=1) | VALUES, max_size=2),
        "sub": st.fixed_dictionaries({}, optional={"x": VALUES, "y": VALUES}),
    },
)


@settings(deadline=None, max_examples=60)
@given(SPECS, SPECS)
def test_applying_twice_is_applying_once(first, second):
    live = apply(apply(None, **first), **second)
    assert apply(live, now=LATER, **second) == live


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["one", "two", "three"]), SPECS), min_size=2, max_size=5))
def test_forced_applies_of_several_managers(steps):
    live = None
    last = {}
    for manager, spec in steps:
        live = apply(live, manager, force=True, **spec)
        last[manager] = spec
        # What was applied is there, and everybody's claims are true.
        assert merge(KIND, live, thing(**spec)) == live
        assert not compare(KIND, live, merge(KIND, live, thing(**spec))).modified
        for entry in live["metadata"].get("managedFields", []):
            assert FieldSet.from_fields_v1(entry["fieldsV1"]).to_fields_v1() == entry["fieldsV1"]
    everything = [apply(None, **spec)["spec"] for spec in last.values()]
    assert set(live["spec"]) <= {name for spec in everything for name in spec}


@settings(deadline=None, max_examples=60)
@given(SPECS, SPECS)
def test_comparing_with_a_change_finds_just_the_change(before, after):
    old, new = thing(**before), thing(**after)
    found, back = compare(KIND, old, new), compare(KIND, new, old)
    assert (found.added, found.modified, found.removed) == (back.removed, back.modified, back.added)
    assert not compare(KIND, old, copy.deepcopy(old)).modified


def test_an_item_goes_with_what_an_updater_put_into_it():
    live = apply(None, items=[{"name": "a"}, {"name": "b", "v": "1"}])
    changed = [{"name": "a"}, {"name": "b", "v": "1", "more": {"x": 1}}]
    live = MANAGER.update(live, {**live, "spec": {"items": changed}}, "controller", now=NOW)
    live = apply(live, items=[{"name": "a"}])
    assert live["spec"] == {"items": [{"name": "a"}]}
    assert set(owned(live)) == {"one"}


def test_null_gives_a_structure_up_but_not_what_others_have_in_it():
    live = apply(None, sub={"x": "1"})
    assert apply(live, sub=None)["spec"] == {"sub": None}
    live = MANAGER.update(live, {**live, "spec": {"sub": {"x": "1", "y": "2"}}}, "controller", now=NOW)
    assert apply(live, sub=None)["spec"] == {"sub": {"y": "2"}}


def test_items_that_are_there_twice_are_owned_as_one():
    twice = [{"name": "a", "v": "1"}, {"name": "a", "v": "2"}, {"name": "b", "v": "3"}]
    live = MANAGER.update(None, thing(items=twice), "updater", now=NOW)
    whole = {".": {}, "f:name": {}, "f:v": {}}
    assert owned(live)["updater"]["f:items"] == {".": {}, 'k:{"name":"a"}': {}, 'k:{"name":"b"}': whole}

    assert apply(live, a="1")["spec"]["items"] == twice
    with pytest.raises(StatusError) as refused:
        apply(live, items=[{"name": "a", "v": "2"}])
    assert [cause["field"] for cause in refused.value.details["causes"]] == ['.spec.items[name="a"]']
    live = apply(live, force=True, items=[{"name": "a", "v": "2"}])
    assert live["spec"]["items"] == [{"name": "a", "v": "2"}, {"name": "b", "v": "3"}]

    live = MANAGER.update(live, thing(items=twice), "again", now=NOW)
    assert owned(live)["again"] == {"f:items": {'k:{"name":"a"}': {}}}
    assert "one" not in owned(live)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats(allow_nan=False) | st.sampled_from(["a", "b", ""]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "v", "", "x"]), inner, max_size=2)
    ),
    max_leaves=6,
)
ANYTHING = st.dictionaries(st.sampled_from(sorted(THING["properties"]["spec"]["properties"])), JSON, max_size=3)


@settings(deadline=None, max_examples=150)
@given(ANYTHING, ANYTHING, ANYTHING)
def test_whatever_is_sent_is_taken_or_refused(before, after, applied):
    live = MANAGER.update(None, thing(**before), "one", now=NOW)
    live = MANAGER.update(live, {**live, "spec": after}, "two", now=NOW)
    assert live["spec"] == after
    try:
        made = apply(live, "three", force=True, **applied)
    except StatusError as refused:
        assert refused.message
    else:
        assert apply(made, "three", now=LATER, **applied) == made
