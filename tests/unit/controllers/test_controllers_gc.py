"""Garbage collection, with all controllers at work."""

import asyncio
import time
import types

import pytest

from kube.client.queue import WorkQueue
from kube.machinery.resources import (
    CLUSTERROLES,
    CONFIGMAPS,
    CRDS,
    EVENTS,
    NAMESPACES,
    PODS,
)
from solo.controllers.gc import GarbageCollector
from unit.controllers.fake_api import WIDGETS, FakeApi, owned_by, settle, until


async def test_gc_background_takes_the_whole_tree_quickly(api):
    root = api.put(CONFIGMAPS, "root", "ns")
    middle = api.put(CONFIGMAPS, "middle", "ns", metadata=owned_by(root))
    for number in range(20):
        api.put(PODS, f"leaf-{number}", "ns", metadata=owned_by(middle))
    await settle(api)
    assert len(api.names(PODS, "ns")) == 20
    started = time.monotonic()
    await api.delete(CONFIGMAPS, "root", "ns", "Background")
    await until(lambda: not api.names(PODS, "ns") and not api.find(CONFIGMAPS, "middle", "ns"))
    assert time.monotonic() - started < 4


async def test_gc_takes_what_comes_after_its_owner_has_gone(api):
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "gone", "uid": "uid-gone"}}
    api.put(PODS, "late", "ns", metadata=owned_by(owner))
    await until(lambda: not api.names(PODS, "ns"))


async def test_gc_is_not_deceived_by_an_owner_of_the_same_name(api):
    first = api.put(CONFIGMAPS, "root", "ns")
    api.put(PODS, "pod", "ns", metadata=owned_by(first))
    await api.delete(CONFIGMAPS, "root", "ns")
    api.put(CONFIGMAPS, "root", "ns")
    await until(lambda: not api.names(PODS, "ns"))
    assert api.find(CONFIGMAPS, "root", "ns")


async def test_gc_looks_for_an_owner_in_each_namespace_by_itself(api):
    """That an owner is absent from one namespace says nothing about another."""
    owner = api.put(CONFIGMAPS, "real", "ns")
    gone = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "gone", "uid": "uid-gone"}}
    api.put(NAMESPACES, "other")
    api.put(PODS, "stray", "other", metadata=owned_by(owner, gone))
    await until(lambda: not api.names(PODS, "other"))
    api.put(PODS, "good", "ns", metadata=owned_by(owner, gone))
    await until(lambda: len(api.find(PODS, "good", "ns")["metadata"]["ownerReferences"]) == 1)
    await settle(api)
    assert "deletionTimestamp" not in api.find(PODS, "good", "ns")["metadata"]


@pytest.mark.parametrize("wrong", [{"name": "else"}, {"kind": "ServiceAccount"}])
async def test_gc_takes_what_names_its_owner_wrongly(api, wrong):
    owner = api.put(CONFIGMAPS, "real", "ns")
    await settle(api)
    reference = owned_by(owner)["ownerReferences"][0]
    api.put(PODS, "good", "ns", metadata={"ownerReferences": [reference]})
    api.put(PODS, "stray", "ns", metadata={"ownerReferences": [{**reference, **wrong}]})
    await until(lambda: api.names(PODS, "ns") == ["good"])


async def test_gc_tells_of_an_owner_in_another_namespace(api):
    owner = api.put(CONFIGMAPS, "real", "ns")
    api.put(NAMESPACES, "other")
    await settle(api)
    api.put(PODS, "stray", "other", metadata=owned_by(owner))
    await until(lambda: not api.names(PODS, "other"))
    (name,) = api.names(EVENTS, "other")
    event = api.find(EVENTS, name, "other")
    uid = owner["metadata"]["uid"]
    text = f'ownerRef [v1/ConfigMap, namespace: other, name: real, uid: {uid}] does not exist in namespace "other"'
    assert (event["reason"], event["message"]) == ("OwnerRefInvalidNamespace", text)


async def test_gc_keeps_what_is_not_namespaced_though_its_owner_is(api):
    owner = api.put(CONFIGMAPS, "real", "ns")
    gone = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "gone", "uid": "uid-gone"}}
    api.put(CLUSTERROLES, "role", metadata=owned_by(owner, gone))
    await settle(api)
    await api.delete(CONFIGMAPS, "real", "ns")
    await settle(api)
    assert len(api.find(CLUSTERROLES, "role")["metadata"]["ownerReferences"]) == 2


async def test_gc_keeps_what_is_set_free_while_it_looks(api):
    """Between the look at the owners and the deletion, somebody adopts the object."""
    gone = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "gone", "uid": "uid-gone"}}
    delete = api.delete

    async def late(resource, name, *arguments, **options):
        if name == "pod":
            api.edit(PODS, "pod", "ns", metadata={"ownerReferences": None})
        return await delete(resource, name, *arguments, **options)

    api.delete = late
    api.put(PODS, "pod", "ns", metadata=owned_by(gone))
    await until(lambda: "ownerReferences" not in api.find(PODS, "pod", "ns")["metadata"])
    await settle(api)
    assert "deletionTimestamp" not in api.find(PODS, "pod", "ns")["metadata"]


async def test_gc_keeps_what_has_another_owner(api):
    one, two = api.put(CONFIGMAPS, "one", "ns"), api.put(CONFIGMAPS, "two", "ns")
    api.put(PODS, "pod", "ns", metadata=owned_by(one, two))
    await api.delete(CONFIGMAPS, "one", "ns")
    await until(lambda: len(api.find(PODS, "pod", "ns")["metadata"]["ownerReferences"]) == 1)
    await settle(api)
    assert api.find(PODS, "pod", "ns")["metadata"]["ownerReferences"][0]["name"] == "two"


async def test_gc_orphans(api):
    root = api.put(CONFIGMAPS, "root", "ns")
    api.put(PODS, "pod", "ns", metadata=owned_by(root))
    await settle(api)
    await api.delete(CONFIGMAPS, "root", "ns", "Orphan")
    await until(lambda: not api.find(CONFIGMAPS, "root", "ns"))
    await settle(api)
    assert api.find(PODS, "pod", "ns")["metadata"]["ownerReferences"] == []


async def test_gc_foreground_waits_for_blocking_dependents(api):
    root = api.put(CONFIGMAPS, "root", "ns")
    api.put(PODS, "pod", "ns", metadata={**owned_by(root, block=True), "finalizers": ["example.com/hold"]})
    await settle(api)
    await api.delete(CONFIGMAPS, "root", "ns", "Foreground")
    await until(lambda: api.find(PODS, "pod", "ns")["metadata"].get("deletionTimestamp"))
    await settle(api)
    assert api.find(CONFIGMAPS, "root", "ns")
    api.edit(PODS, "pod", "ns", metadata={"finalizers": None})
    await until(lambda: not api.find(CONFIGMAPS, "root", "ns"))


async def test_gc_foreground_circle_ends(api):
    one = api.put(CONFIGMAPS, "one", "ns")
    two = api.put(CONFIGMAPS, "two", "ns", metadata=owned_by(one, block=True))
    api.edit(CONFIGMAPS, "one", "ns", metadata=owned_by(two, block=True))
    await settle(api)
    await api.delete(CONFIGMAPS, "one", "ns", "Foreground")
    await until(lambda: not api.find(CONFIGMAPS, "one", "ns") and not api.find(CONFIGMAPS, "two", "ns"))


async def test_gc_follows_custom_resources_as_they_appear(api):
    api.serve(WIDGETS)
    widget = api.put(WIDGETS, "w", "ns")
    api.put(PODS, "pod", "ns", metadata=owned_by(widget))
    await settle(api)
    assert api.find(PODS, "pod", "ns")
    await api.delete(WIDGETS, "w", "ns")
    await until(lambda: not api.names(PODS, "ns"))


async def test_gc_does_nothing_when_the_owners_kind_is_not_served(api):
    api.serve(WIDGETS)
    widget = api.put(WIDGETS, "w", "ns")
    api.put(PODS, "pod", "ns", metadata=owned_by(widget))
    await settle(api)
    del api.resources[WIDGETS.group_resource]
    api.put(CRDS, "something")
    await settle(api)
    api.edit(PODS, "pod", "ns", metadata={"labels": {"a": "b"}})
    await settle(api)
    assert api.find(PODS, "pod", "ns")


async def test_gc_believes_the_api_and_not_its_memory():
    """An owner was let go with its dependents set free, but that news has not come yet."""
    api = FakeApi()
    api.put(NAMESPACES, "ns")
    watches = types.SimpleNamespace(observe_all=lambda observer: None)
    queue = WorkQueue()
    collector = GarbageCollector(api, watches, queue)
    root = api.put(CONFIGMAPS, "root", "ns")
    pod = api.put(PODS, "pod", "ns", metadata=owned_by(root))
    collector._observe(CONFIGMAPS, "ADDED", root, None)
    collector._observe(PODS, "ADDED", pod, None)
    api.edit(PODS, "pod", "ns", metadata={"ownerReferences": None})
    collector._observe(CONFIGMAPS, "DELETED", await api.delete(CONFIGMAPS, "root", "ns"), root)
    assert await asyncio.wait_for(queue.get(), 30) == pod["metadata"]["uid"]
    await collector.reconcile(pod["metadata"]["uid"])
    assert api.find(PODS, "pod", "ns")
