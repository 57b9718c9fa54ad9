"""Writes that others overtake while admission thinks: begun anew on what is there then, and never lost."""

from __future__ import annotations

import asyncio

import pytest

from kube.machinery.errors import StatusError
from solo.auth.user import MASTERS, User
from solo.registry import registry as module
from solo.registry.builtins import builtin_kinds
from solo.registry.catalog import Catalog
from solo.registry.context import DeleteOptions, RequestContext
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
