"""Writes that others overtake while admission thinks: begun anew on what is there then, and never lost."""

from __future__ import annotations

import asyncio

import pytest

from kube.machinery.errors import StatusError
from solo.auth.user import MASTERS, User
from solo.registry import registry as module
from solo.registry.builtins import builtin_kinds
from solo.registry.bulk import delete_all
from solo.registry.catalog import Catalog
from solo.registry.context import DeleteOptions, RequestContext
from solo.registry.evictions import evict
from solo.registry.objects import copy
from solo.registry.registry import Applied, Registry
from solo.store import Key, Store

ADMIN = User("admin", (MASTERS,))
KEY = Key("configmaps", "ns", "a")


class World:
    """A registry whose admission does what `thoughts` say, one for each time that it is asked about a change."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.registry = Registry(store, Catalog(store, builtin_kinds(lambda: ("node", {}))))
        self.registry.add_admission(self)
        self.kind = self.registry.catalog.lookup("", "v1", "configmaps")
        self.thoughts = []
        self.asked = []

    async def admit(self, attributes):
        if attributes.kind is self.kind:
            self.asked.append((attributes.operation, (attributes.old or {}).get("data")))
            if self.thoughts:
                await self.thoughts.pop(0)()

    async def put(self, value, key="k", **metadata):
        def change(present):
            metadata_ = {**present["metadata"], **metadata}
            return {**copy(present), "metadata": metadata_, "data": {**(present.get("data") or {}), key: value}}

        return (await self.registry.update(self.kind, "ns", "a", change, RequestContext(ADMIN))).obj

    async def create(self):
        obj = {"metadata": {"name": "a"}, "data": {"k": "0"}}
        return (await self.registry.create(self.kind, "ns", "", obj, RequestContext(ADMIN))).obj

    async def delete(self, **options):
        return await self.registry.delete(self.kind, "ns", "a", DeleteOptions(**options), RequestContext(ADMIN))

    async def apply(self, **data):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}
        applied = Applied(body, False, "", lambda: None)
        return (await self.registry.apply(self.kind, "ns", "a", applied, RequestContext(ADMIN, manager="m"))).obj


@pytest.fixture
async def world(tmp_path):
    store = Store.open(tmp_path / "state.db")
    world = World(store)
    namespaces = world.registry.catalog.lookup("", "v1", "namespaces")
    await world.registry.create(namespaces, "", "", {"metadata": {"name": "ns"}}, RequestContext(ADMIN))
    await world.create()
    world.asked.clear()
    yield world
    await store.close()


async def test_a_change_is_made_anew_on_what_is_there_then(world):
    world.thoughts = [lambda: world.put("1", "other")]
    assert (await world.put("2"))["data"] == {"k": "2", "other": "1"}
    assert world.asked == [("UPDATE", {"k": "0"}), ("UPDATE", {"k": "0"}), ("UPDATE", {"k": "0", "other": "1"})]


async def test_a_change_of_a_version_that_is_gone_conflicts(world):
    version = world.store.get(KEY).obj["metadata"]["resourceVersion"]
    world.thoughts = [lambda: world.put("1")]
    with pytest.raises(StatusError) as refused:
        await world.put("2", resourceVersion=version)
    assert refused.value.reason == "Conflict"
    assert world.store.get(KEY).obj["data"] == {"k": "1"}


async def test_a_change_of_what_was_deleted_meanwhile(world):
    world.thoughts = [world.delete]
    with pytest.raises(StatusError) as refused:
        await world.put("2")
    assert refused.value.message == 'configmaps "a" not found'


async def test_a_write_that_is_always_overtaken_ends(world, monkeypatch):
    monkeypatch.setattr(module, "AGAIN_SECONDS", -1.0)
    world.thoughts = [lambda: world.put("1")]
    with pytest.raises(StatusError) as refused:
        await world.put("2")
    assert (refused.value.code, refused.value.reason) == (409, "Conflict")


async def test_a_deletion_is_judged_again_with_the_present_object(world):
    world.thoughts = [lambda: world.put("1")]
    assert (await world.delete()).result.obj["data"] == {"k": "1"}
    assert world.asked[0] == ("DELETE", {"k": "0"}) and world.asked[-1] == ("DELETE", {"k": "1"})


async def test_a_deletion_of_one_version_conflicts(world):
    version = world.store.get(KEY).obj["metadata"]["resourceVersion"]
    world.thoughts = [lambda: world.put("1")]
    with pytest.raises(StatusError) as refused:
        await world.delete(resource_version=version)
    assert refused.value.reason == "Conflict"


async def test_an_apply_follows_what_comes_and_goes(world):
    world.thoughts = [world.delete]
    assert (await world.apply(x="1"))["data"] == {"x": "1"}
    await world.delete()
    world.thoughts = [world.create]
    assert (await world.apply(x="1"))["data"] == {"k": "0", "x": "1"}


async def test_a_create_that_comes_second_is_refused(world):
    await world.delete()
    world.thoughts = [world.create]
    with pytest.raises(StatusError) as refused:
        await world.create()
    assert refused.value.reason == "AlreadyExists"


async def test_changes_at_once_are_computed_once_each(world):
    await asyncio.gather(*(world.put("x", f"k{number}") for number in range(25)))
    assert len(world.store.get(KEY).obj["data"]) == 26
    assert len(world.asked) == 25


@pytest.fixture
async def pod(world):
    """A running pod `a`, whose writes are thought about from now on; a function that changes it."""
    kind = world.kind = world.registry.catalog.lookup("", "v1", "pods")
    spec = {"containers": [{"name": "c", "image": "host"}]}
    obj = {"metadata": {"name": "a", "labels": {"app": "a"}}, "spec": spec}
    await world.registry.create(kind, "ns", "", obj, RequestContext(ADMIN))

    async def change(subresource="", **parts):
        def changed(present):
            return {**copy(present), **{part: {**present[part], **value} for part, value in parts.items()}}

        return await world.registry.update(kind, "ns", "a", changed, RequestContext(ADMIN), subresource=subresource)

    ready = [{"type": "Ready", "status": "True"}]
    await change("status", status={"phase": "Running", "conditions": ready})
    return change


async def test_a_status_keeps_what_came_in_between(world, pod):
    world.thoughts = [lambda: pod(metadata={"labels": {"app": "b"}})]
    stored = await pod("status", status={"message": "m"})
    assert (stored.obj["metadata"]["labels"], stored.obj["status"]["message"]) == ({"app": "b"}, "m")


async def test_the_metadata_that_a_status_may_bring(world, pod):
    owner = {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}
    metadata = {"labels": {"app": "c"}, "annotations": {"a": "b"}, "ownerReferences": [owner]}
    stored = await pod("status", metadata=metadata, status={"message": "m"})
    given = stored.obj["metadata"]
    assert (given["labels"], given["annotations"], "ownerReferences" in given) == ({"app": "c"}, {"a": "b"}, False)


async def test_an_eviction_that_is_overtaken_takes_its_budget_once(world, pod):
    budgets = world.registry.catalog.lookup("policy", "v1", "poddisruptionbudgets")
    obj = {"metadata": {"name": "b"}, "spec": {"minAvailable": 0, "selector": {"matchLabels": {"app": "a"}}}}
    await world.registry.create(budgets, "ns", "", obj, RequestContext(ADMIN))
    status = {"observedGeneration": 1, "disruptionsAllowed": 5, "currentHealthy": 5, "desiredHealthy": 0}
    allow = lambda present: {**copy(present), "status": status}  # noqa: E731
    await world.registry.update(budgets, "ns", "b", allow, RequestContext(ADMIN), subresource="status")
    world.asked.clear()
    world.thoughts = [lambda: pod(metadata={"annotations": {"a": "b"}})]
    eviction = {"metadata": {"name": "a"}, "deleteOptions": {"gracePeriodSeconds": 0}}
    await evict(world.registry, world.kind, "ns", "a", eviction, RequestContext(ADMIN))
    assert world.store.get(Key("pods", "ns", "a")) is None
    assert [operation for operation, _ in world.asked] == ["CREATE", "UPDATE"]
    left = world.store.get(Key("poddisruptionbudgets.policy", "ns", "b")).obj["status"]
    assert left["disruptionsAllowed"] == 4


async def test_a_collection_goes_although_others_write_into_it(world):
    world.thoughts = [lambda: world.put("1")]
    items = world.store.list("configmaps", "ns")[0]
    deleted = await delete_all(world.registry, world.kind, items, DeleteOptions(), RequestContext(ADMIN))
    assert [stored.key for stored in deleted] == [KEY]
    assert world.store.count("configmaps") == 0


async def test_a_dry_run_is_not_overtaken(world):
    world.thoughts = [lambda: world.put("1")]
    put = lambda present: {**copy(present), "data": {"k": "2"}}  # noqa: E731
    shown = await world.registry.update(world.kind, "ns", "a", put, RequestContext(ADMIN, dry_run=True))
    assert shown["data"] == {"k": "2"}
    assert world.store.get(KEY).obj["data"] == {"k": "1"}
