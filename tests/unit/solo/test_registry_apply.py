"""Who owns which field, and server-side apply."""

from __future__ import annotations

import pytest

from kube.machinery.errors import StatusError
from solo.registry.context import RequestContext
from solo.registry.objects import copy
from solo.registry.registry import Applied
from unit.solo.conftest import ADMIN, meta, pod, with_


def owners(obj):
    """Who owns what, as {(manager, operation, subresource): fields}."""
    entries = obj["metadata"].get("managedFields") or []
    return {(item["manager"], item["operation"], item.get("subresource", "")): item["fieldsV1"] for item in entries}


async def apply(world, obj, manager, namespace="ns", group="", subresource="", force=False, allow=lambda: None):
    name, kind = obj["metadata"]["name"], world.catalog.by_kind(obj["apiVersion"], obj["kind"])
    applied = Applied(obj, force, subresource, allow)
    result = await world.registry.apply(kind, namespace, name, applied, RequestContext(ADMIN, manager=manager))
    return result if isinstance(result, dict) else result.obj


def config(**data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}


async def test_writers_come_to_own_what_they_change(world):
    made = await world.create("configmaps", {"metadata": {"name": "a"}, "data": {"x": "1"}}, "ns", manager="one")
    assert owners(made) == {("one", "Update", ""): {"f:data": {".": {}, "f:x": {}}}}
    changed = await world.registry.update(
        world.kind("configmaps"),
        "ns",
        "a",
        with_(made, data={"x": "1", "y": "2"}),
        RequestContext(ADMIN, manager="two"),
    )
    assert owners(changed.obj)["two", "Update", ""] == {"f:data": {"f:y": {}}}
    again = await world.change("configmaps", "a", lambda present: copy(present), "ns")
    assert again["metadata"]["resourceVersion"] == changed.obj["metadata"]["resourceVersion"]
    assert owners(again) == owners(changed.obj)


async def test_status_has_books_of_its_own(world):
    await world.create("pods", pod(), "ns", manager="creator")
    changed = await world.change(
        "pods", "p", lambda present: {**copy(present), "status": {"phase": "Running"}}, "ns", subresource="status"
    )
    assert owners(changed)["solo", "Update", "status"]["f:status"] == {"f:phase": {}}
    assert "f:spec" in owners(changed)["creator", "Update", ""]


async def test_an_empty_list_resets_the_books(world):
    await world.create("configmaps", {"metadata": {"name": "a"}, "data": {"x": "1"}}, "ns")
    changed = await world.change("configmaps", "a", meta(managedFields=[{}], labels={"a": "b"}), "ns")
    assert owners(changed) == {}


async def test_apply_creates_changes_and_removes(world):
    made = await apply(world, config(x="1", y="2"), "me")
    assert made["metadata"]["uid"]
    assert owners(made) == {("me", "Apply", ""): {"f:data": {"f:x": {}, "f:y": {}}}}
    same = await apply(world, config(x="1", y="2"), "me")
    assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert (await apply(world, config(x="3"), "me"))["data"] == {"x": "3"}


async def test_apply_conflicts_name_the_manager(world):
    await apply(world, config(x="1"), "me")
    with pytest.raises(StatusError) as refused:
        await apply(world, config(x="2"), "you")
    assert refused.value.code == 409
    assert 'conflict with "me": .data.x' in refused.value.message
    forced = await apply(world, config(x="2"), "you", force=True)
    assert set(owners(forced)) == {("you", "Apply", "")}


async def test_apply_needs_leave_to_create_and_something_to_give_a_status(world):
    def refuse():
        raise StatusError(403, "Forbidden", "no")

    with pytest.raises(StatusError, match="no"):
        await apply(world, config(x="1"), "me", allow=refuse)
    with pytest.raises(StatusError) as refused:
        await apply(world, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}, "me", subresource="status")
    assert refused.value.code == 404
    with pytest.raises(StatusError) as refused:
        await apply(world, {**config(), "metadata": {"name": "a", "uid": "u"}}, "me")
    assert "uid mismatch" in refused.value.message


async def test_what_is_applied_is_validated(world):
    with pytest.raises(StatusError) as refused:
        await apply(world, {**config(), "metadata": {"name": "a", "labels": {"a b": "c"}}}, "me")
    assert refused.value.code == 422
    with pytest.raises(StatusError) as refused:
        await apply(world, {**config(), "nonsense": 1}, "me")
    assert "field not declared in schema" in refused.value.message
