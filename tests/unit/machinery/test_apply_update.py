"""The books of creates, updates and patches, and the way from client-side to server-side apply."""

from __future__ import annotations

import copy
import json

import pytest

from kube.machinery import builtin
from kube.machinery.apply import (
    FieldManager,
    check_field_manager,
    check_force,
    compile_type,
    decode_managed_fields,
    encode_managed_fields,
    manager_name,
)
from kube.machinery.errors import StatusError

NOW, LATER = "2026-01-02T03:04:05Z", "2026-01-02T03:04:06Z"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
STRING = {"type": "string"}
NOTE = {
    "type": "object",
    "properties": {
        "spec": {"type": "object", "additionalProperties": STRING},
        "list": {"type": "array", "x-kubernetes-list-type": "set", "items": STRING},
        "status": {"type": "object", "properties": {"phase": STRING}},
    },
}
KIND = compile_type(NOTE)
NOTES = FieldManager(KIND, "example.com/v1", "Note", reset_fields=[("status",)])


def note(meta=None, **rest):
    return {"apiVersion": "example.com/v1", "kind": "Note", "metadata": {"name": "n", **(meta or {})}, **rest}


def books(obj):
    return [
        (entry["operation"], entry["manager"], entry.get("time"), entry["fieldsV1"])
        for entry in obj["metadata"].get("managedFields", [])
    ]


def update(live, manager="editor", now=NOW, **rest):
    before = copy.deepcopy(live)
    new = {**live, **rest} if live else note(**rest)
    new["metadata"] = {**new["metadata"]}
    made = NOTES.update(live, new, manager, now=now)
    assert live == before
    return made


def test_a_create_owns_what_it_sets_containers_included():
    made = NOTES.update(None, note({"labels": {"a": "b"}}, spec={"x": "1"}), "creator", now=NOW)
    fields = {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {".": {}, "f:x": {}}}
    assert books(made) == [("Update", "creator", NOW, fields)]


def test_structures_of_builtin_kinds_are_no_fields_of_their_own():
    kind = compile_type(builtin.openapi_v3_schema("io.k8s.api.apps.v1.Deployment"))
    deployments = FieldManager(kind, "apps/v1", "Deployment", reset_fields=[("status",)])
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "host"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    made = deployments.update(
        None,
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec},
        "kubectl",
        now=NOW,
    )
    container = {'k:{"name":"c"}': {".": {}, "f:image": {}, "f:name": {}}}
    assert books(made)[0][3] == {
        "f:spec": {
            "f:replicas": {},
            "f:selector": {},
            "f:template": {
                "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
                "f:spec": {"f:containers": container},
            },
        }
    }


def test_ownership_moves_to_whoever_changes_a_field():
    live = update(None, "one", spec={"x": "1", "y": "1"})
    live = update(live, "two", LATER, spec={"x": "2", "y": "1", "z": "1"})
    assert books(live) == [
        ("Update", "one", NOW, {"f:spec": {".": {}, "f:y": {}}}),
        ("Update", "two", LATER, {"f:spec": {"f:x": {}, "f:z": {}}}),
    ]


def test_removed_fields_belong_to_nobody():
    live = update(update(None, "one", spec={"x": "1"}), "two", spec={"y": "1"})
    assert books(live) == [
        ("Update", "one", NOW, {"f:spec": {}}),
        ("Update", "two", NOW, {"f:spec": {"f:y": {}}}),
    ]


def test_an_update_that_changes_nothing_leaves_the_books_alone():
    live = update(None, spec={"x": "1"})
    assert update(live, "other", LATER) == live
    assert update(live, "editor", LATER) == live


def test_a_further_change_of_the_same_manager_is_the_same_entry():
    live = update(update(None, spec={"x": "1"}), now=LATER, spec={"x": "1", "y": "2"})
    assert books(live) == [("Update", "editor", LATER, {"f:spec": {".": {}, "f:x": {}, "f:y": {}}})]


def test_updates_take_fields_from_appliers():
    live = NOTES.apply(None, note(spec={"x": "1", "y": "1"}), "one", force=False, now=NOW)
    live = update(live, spec={"x": "2", "y": "1"})
    assert books(live) == [
        ("Apply", "one", NOW, {"f:spec": {"f:y": {}}}),
        ("Update", "editor", NOW, {"f:spec": {"f:x": {}}}),
    ]


def test_status_belongs_to_writers_of_the_subresource():
    status = FieldManager(KIND, "example.com/v1", "Note", subresource="status", reset_fields=[("spec",)])
    live = update(None, spec={"x": "1"}, status={"phase": "a"})
    assert books(live) == [("Update", "editor", NOW, {"f:spec": {".": {}, "f:x": {}}})]
    live = status.update(live, {**live, "spec": {}, "status": {"phase": "b"}}, "editor", now=LATER)
    entries = live["metadata"]["managedFields"]
    assert [(entry.get("subresource"), entry["fieldsV1"]) for entry in entries] == [
        (None, {"f:spec": {".": {}, "f:x": {}}}),
        ("status", {"f:status": {"f:phase": {}}}),
    ]


def test_objects_without_books_get_some_at_the_first_apply():
    live = note({"uid": "u"}, spec={"x": "1", "y": "1"})
    assert update(live, spec={"x": "2", "y": "1"})["metadata"] == {"name": "n", "uid": "u"}
    with pytest.raises(StatusError) as refused:
        NOTES.apply(live, note(spec={"x": "2"}), "one", force=False, now=NOW)
    assert refused.value.message == (
        'Apply failed with 1 conflict: conflict with "before-first-apply" using example.com/v1: .spec.x'
    )
    live = NOTES.apply(live, note(spec={"x": "2"}), "one", force=True, now=NOW)
    assert books(live) == [
        ("Apply", "one", NOW, {"f:spec": {"f:x": {}}}),
        ("Update", "before-first-apply", NOW, {"f:spec": {".": {}, "f:y": {}}}),
    ]


def test_clients_may_write_the_books_reset_them_or_forget_them():
    live = update(None, spec={"x": "1"})
    entry = {"manager": "m", "operation": "Apply", "apiVersion": "example.com/v1", "fieldsType": "FieldsV1"}
    given = {**entry, "fieldsV1": {"f:spec": {"f:x": {}}}}
    written = NOTES.update(live, note({"managedFields": [given]}, spec={"x": "1"}), "editor", now=LATER)
    assert written["metadata"]["managedFields"] == [given]
    for empty in ([], [{}]):
        reset = NOTES.update(live, note({"managedFields": empty}, spec={"x": "1"}), "editor", now=LATER)
        assert "managedFields" not in reset["metadata"]
    for forgotten in (None, [{"operation": "x"}], "nonsense", [{**given, "fieldsV1": {"bad": {}}}]):
        kept = NOTES.update(live, note({"managedFields": forgotten}, spec={"x": "1"}), "editor", now=LATER)
        assert kept["metadata"]["managedFields"] == live["metadata"]["managedFields"]


def test_a_subresource_does_not_write_the_books_directly():
    status = FieldManager(KIND, "example.com/v1", "Note", subresource="status", reset_fields=[("spec",)])
    live = update(None, spec={"x": "1"})
    made = status.update(live, note({"managedFields": []}, spec={"x": "1"}), "editor", now=LATER)
    assert made["metadata"]["managedFields"] == live["metadata"]["managedFields"]


def test_at_most_ten_entries_of_updates():
    live = update(None, "m00", spec={"k00": "1"})
    for index in range(1, 14):
        name = f"{index:02d}"
        live = update(live, f"m{name}", f"2026-01-02T03:04:{name}Z", spec={**live["spec"], f"k{name}": "1"})
    entries = books(live)
    assert len(entries) == 10
    ancient = [entry for entry in entries if entry[1] == "ancient-changes"]
    assert len(ancient) == 1
    together = set().union(*(entry[3]["f:spec"].keys() for entry in entries))
    assert together == {".", *(f"f:k{index:02d}" for index in range(14))}
    assert entries[-1][1] == "m13"


def test_lists_that_cannot_be_compared_leave_the_books_alone():
    live = update(None, spec={"x": "1"})
    made = update(live, spec={"x": "2"}, list=[{"not": "a scalar"}], now=LATER)
    assert made["metadata"]["managedFields"] == live["metadata"]["managedFields"]


def test_sets_with_duplicates_may_be_written_by_updates_and_applied_to():
    live = update(None, "one", list=["a", "a", "b"])
    live = update(live, "two", list=["a", "b"])
    live = NOTES.apply(live, note(list=["c"]), "three", force=False, now=NOW)
    assert live["list"] == ["a", "b", "c"]


def test_entries_are_sorted_by_operation_time_and_name():
    entry = {"apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:a": {}}}
    entries = [
        {**entry, "manager": "b", "operation": "Update", "time": NOW},
        {**entry, "manager": "a", "operation": "Update", "time": LATER},
        {**entry, "manager": "a", "operation": "Update", "time": NOW, "subresource": "status"},
        {**entry, "manager": "z", "operation": "Apply", "time": LATER},
    ]
    order = [3, 2, 0, 1]
    assert encode_managed_fields(decode_managed_fields(entries)) == [entries[index] for index in order]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"operation": "Merge"}, "operation must be `Apply` or `Update`"),
        ({"apiVersion": ""}, "apiVersion must not be empty"),
        ({"fieldsType": ""}, "missing fieldsType in managed fields entry 0"),
        ({"fieldsType": "V2"}, 'invalid fieldsType "V2" in managed fields entry 0'),
        ({"manager": 1}, "manager must be a string"),
    ],
)
def test_malformed_entries_are_refused(change, problem):
    entry = {"manager": "m", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", **change}
    with pytest.raises(ValueError, match=problem):
        decode_managed_fields([entry])


def client_side_applied(last, **live):
    text = json.dumps(note(**last))
    return NOTES.update(None, note({"annotations": {LAST_APPLIED: text}}, **live), "kubectl-client-side-apply", now=NOW)


def test_kubectl_takes_over_what_it_applied_on_the_client_side():
    live = client_side_applied({"spec": {"x": "1"}}, spec={"x": "1"})
    with pytest.raises(StatusError):
        NOTES.apply(live, note(spec={"x": "2"}), "other", force=False, now=LATER)
    live = NOTES.apply(live, note(spec={"x": "2"}), "kubectl", force=False, now=LATER)
    assert live["spec"] == {"x": "2"}
    assert json.loads(live["metadata"]["annotations"][LAST_APPLIED]) == note(spec={"x": "2"})


def test_kubectl_does_not_take_what_somebody_changed_since():
    live = client_side_applied({"spec": {"x": "1", "y": "1"}}, spec={"x": "1", "y": "1"})
    live = update(live, spec={"x": "changed", "y": "1"})
    with pytest.raises(StatusError) as refused:
        NOTES.apply(live, note(spec={"x": "2", "y": "2"}), "kubectl", force=False, now=LATER)
    assert [cause["field"] for cause in refused.value.details["causes"]] == [".spec.x"]


@pytest.mark.parametrize("text", ["", "not json", "[]", '{"apiVersion":"v2"}'])
def test_a_useless_annotation_excuses_nothing(text):
    live = NOTES.update(None, note({"annotations": {LAST_APPLIED: text}}, spec={"x": "1"}), "editor", now=NOW)
    with pytest.raises(StatusError):
        NOTES.apply(live, note(spec={"x": "2"}), "kubectl", force=False, now=LATER)


def test_an_annotation_that_grows_too_large_is_dropped():
    live = client_side_applied({"spec": {"x": "1"}}, spec={"x": "1"})
    live = NOTES.apply(live, note(spec={"x": "2" * 300_000}), "kubectl", force=False, now=LATER)
    assert LAST_APPLIED not in live["metadata"]["annotations"]


def test_names_of_managers():
    assert manager_name("me", "kubectl/v1.36 (linux)") == "me"
    assert manager_name("", "kubectl/v1.36 (linux)") == "kubectl"
    assert manager_name("", "") == ""
    assert len(manager_name("", "é" * 200).encode()) == 128
    made = NOTES.update(None, note(spec={"x": "1"}), "", now=NOW)
    assert books(made)[0][1] == "unknown"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("x" * 129, "fieldManager: Too long: may not be more than 128 bytes"),
        ("a\nb", 'fieldManager: Invalid value: "a\\nb": invalid character U+000A (at position 1)'),
    ],
)
def test_bad_names_of_managers(name, problem):
    with pytest.raises(StatusError) as refused:
        check_field_manager(name, "UpdateOptions")
    assert refused.value.message == f'UpdateOptions.meta.k8s.io "" is invalid: {problem}'


def test_only_apply_can_be_forced():
    check_force(False, "PatchOptions")
    with pytest.raises(StatusError) as refused:
        check_force(True, "PatchOptions")
    assert refused.value.details["causes"][0]["message"] == "Forbidden: may not be specified for non-apply patch"
