"""Server-side apply against what kube-apiserver 1.36 answered to the same requests, step by step."""

from __future__ import annotations

import pytest

from kube.machinery import builtin
from kube.machinery.apply import FieldManager, check_field_manager, compile_type
from kube.machinery.errors import StatusError

NOW = "2026-01-02T03:04:05Z"
WIDGET = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["color"],
            "properties": {
                "color": {"type": "string", "enum": ["red", "blue"]},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "items": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"type": "string"}, "v": {"type": "string", "nullable": True}},
                    },
                },
                "port": {"x-kubernetes-int-or-string": True},
                "replicas": {"type": "integer", "default": 1},
                "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            },
        },
        "status": {"type": "object", "properties": {"phase": {"type": "string"}, "replicas": {"type": "integer"}}},
    },
}
CONFIG_MAP = compile_type(builtin.openapi_v3_schema("io.k8s.api.core.v1.ConfigMap"))


@pytest.fixture
def maps():
    return FieldManager(CONFIG_MAP, "v1", "ConfigMap")


@pytest.fixture
def widgets():
    return FieldManager(compile_type(WIDGET), "example.com/v1", "Widget", reset_fields=[("status",)])


def config_map(**rest):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ap"}, **rest}


def widget(**spec):
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "ap"}, "spec": spec}


def owned(obj):
    entries = obj["metadata"].get("managedFields", [])
    return {entry["manager"]: entry["fieldsV1"] for entry in entries}


def test_config_map_applied_by_two(maps):
    live = maps.apply(None, config_map(data={"a": "1", "b": "1"}), "one", force=False, now=NOW)
    assert live == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "data": {"a": "1", "b": "1"},
        "metadata": {
            "name": "ap",
            "managedFields": [
                {
                    "manager": "one",
                    "operation": "Apply",
                    "apiVersion": "v1",
                    "time": NOW,
                    "fieldsType": "FieldsV1",
                    "fieldsV1": {"f:data": {"f:a": {}, "f:b": {}}},
                }
            ],
        },
    }

    with pytest.raises(StatusError) as conflict:
        maps.apply(live, config_map(data={"a": "2"}), "two", force=False, now=NOW)
    assert conflict.value.to_status() == {
        "apiVersion": "v1",
        "code": 409,
        "details": {
            "causes": [{"field": ".data.a", "message": 'conflict with "one"', "reason": "FieldManagerConflict"}]
        },
        "kind": "Status",
        "message": 'Apply failed with 1 conflict: conflict with "one": .data.a',
        "metadata": {},
        "reason": "Conflict",
        "status": "Failure",
    }

    live = maps.apply(live, config_map(data={"a": "2"}), "two", force=True, now=NOW)
    assert live["data"] == {"a": "2", "b": "1"}
    assert owned(live) == {"one": {"f:data": {"f:b": {}}}, "two": {"f:data": {"f:a": {}}}}

    live = maps.apply(live, config_map(data={}), "one", force=False, now=NOW)
    assert live["data"] == {"a": "2"}
    assert owned(live) == {"one": {"f:data": {}}, "two": {"f:data": {"f:a": {}}}}


def test_apply_without_manager():
    with pytest.raises(StatusError) as refused:
        check_field_manager("", "PatchOptions", required=True)
    assert refused.value.to_status() == {
        "apiVersion": "v1",
        "code": 422,
        "details": {
            "causes": [
                {
                    "field": "fieldManager",
                    "message": "Required value: is required for apply patch",
                    "reason": "FieldValueRequired",
                }
            ],
            "group": "meta.k8s.io",
            "kind": "PatchOptions",
        },
        "kind": "Status",
        "message": 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
        "metadata": {},
        "reason": "Invalid",
        "status": "Failure",
    }


def test_apply_with_managed_fields(maps):
    applied = config_map()
    applied["metadata"]["managedFields"] = [{"manager": "x", "operation": "Apply", "apiVersion": "v1"}]
    with pytest.raises(StatusError) as refused:
        maps.apply(None, applied, "one", force=False, now=NOW)
    assert (refused.value.code, refused.value.reason) == (400, "BadRequest")
    assert refused.value.message == "metadata.managedFields must be nil"


def test_widget_items_of_three_managers(widgets):
    item_x = {'k:{"name":"x"}': {".": {}, "f:name": {}, "f:v": {}}}
    item_y = {'k:{"name":"y"}': {".": {}, "f:name": {}, "f:v": {}}}
    live = widgets.apply(None, widget(color="red", items=[{"name": "x", "v": "1"}]), "one", force=False, now=NOW)
    assert owned(live) == {"one": {"f:spec": {"f:color": {}, "f:items": item_x}}}
    live["spec"].update(max=10, replicas=1)  # the server's defaults belong to nobody

    live = widgets.apply(live, widget(color="red", items=[{"name": "y", "v": "2"}]), "two", force=False, now=NOW)
    assert live["spec"]["items"] == [{"name": "x", "v": "1"}, {"name": "y", "v": "2"}]
    assert owned(live) == {
        "one": {"f:spec": {"f:color": {}, "f:items": item_x}},
        "two": {"f:spec": {"f:color": {}, "f:items": item_y}},
    }

    with pytest.raises(StatusError) as conflict:
        widgets.apply(live, widget(color="blue", items=[{"name": "x", "v": "9"}]), "three", force=False, now=NOW)
    assert [(cause["field"], cause["message"]) for cause in conflict.value.details["causes"]] == [
        (".spec.color", 'conflict with "one"'),
        (".spec.color", 'conflict with "two"'),
        ('.spec.items[name="x"].v', 'conflict with "one"'),
    ]
    assert conflict.value.message == (
        'Apply failed with 3 conflicts: conflicts with "one":\n- .spec.color\n- .spec.items[name="x"].v\n'
        'conflicts with "two":\n- .spec.color'
    )

    live = widgets.apply(live, widget(color="red"), "two", force=False, now=NOW)
    assert live["spec"]["items"] == [{"name": "x", "v": "1"}]
    assert owned(live)["two"] == {"f:spec": {"f:color": {}}}

    edited = {**live, "spec": {**live["spec"], "replicas": 4}}
    live = widgets.update(live, edited, "editor", now=NOW)
    assert owned(live) == {
        "one": {"f:spec": {"f:color": {}, "f:items": item_x}},
        "two": {"f:spec": {"f:color": {}}},
        "editor": {"f:spec": {"f:replicas": {}}},
    }
    assert [entry["operation"] for entry in live["metadata"]["managedFields"]] == ["Apply", "Apply", "Update"]
