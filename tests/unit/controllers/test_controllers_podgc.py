"""Pods that no agent ends. The controller alone, told of changes by hand."""

import asyncio
import types

import pytest

from kube.client.queue import WorkQueue
from kube.machinery.resources import NAMESPACES, NODES, PODS
from solo.controllers import podgc
from unit.controllers.fake_api import FakeApi

PLACE = ("ns", "pod")


@pytest.fixture
def api():
    fake = FakeApi()
    fake.serve(NODES)
    fake.put(NAMESPACES, "ns")
    return fake


@pytest.fixture
def clock(monkeypatch):
    made = types.SimpleNamespace(now=1000.0)
    monkeypatch.setattr(podgc.time, "monotonic", lambda: made.now)
    return made


@pytest.fixture
def queue():
    return WorkQueue()


@pytest.fixture
def collector(api, clock, queue):
    watches = types.SimpleNamespace(subscribe=lambda resource, handler: None)
    return podgc.PodCollector(api, watches, queue, "me")


def put(api, node, **metadata):
    return api.put(PODS, "pod", "ns", spec={"nodeName": node} if node else {}, metadata=metadata)


async def test_a_pod_of_a_node_that_is_gone_for_some_time_fails_and_goes(api, collector, clock):
    put(api, "ghost", finalizers=["example.org/hold"])
    assert await collector.reconcile(PLACE) == podgc.QUARANTINE_SECONDS
    clock.now += 39
    assert await collector.reconcile(PLACE) == 1
    assert "deletionTimestamp" not in api.find(PODS, "pod", "ns")["metadata"]
    clock.now += 1
    assert await collector.reconcile(PLACE) is None
    pod = api.find(PODS, "pod", "ns")
    assert pod["status"]["phase"] == "Failed" and pod["metadata"]["deletionTimestamp"]
    (condition,) = pod["status"]["conditions"]
    assert (condition["type"], condition["reason"]) == ("DisruptionTarget", "DeletionByPodGC")
    assert condition["message"] == "PodGC: node no longer exists"
    writes = api.writes
    await collector.reconcile(PLACE)
    assert api.writes == writes, "what waits for a finalizer is not written again and again"


async def test_a_node_that_comes_back_keeps_its_pods(api, collector, clock):
    put(api, "other")
    assert await collector.reconcile(PLACE)
    clock.now += 39
    collector._on_node("ADDED", {"metadata": {"name": "other"}}, None)
    clock.now += 10
    # It was gone again before that was looked at: the time counts anew.
    assert await collector.reconcile(PLACE) == podgc.QUARANTINE_SECONDS
    api.put(NODES, "other")
    clock.now += 100
    assert await collector.reconcile(PLACE) is None
    assert "deletionTimestamp" not in api.find(PODS, "pod", "ns")["metadata"]


async def test_pods_of_the_own_node_stay_whatever_becomes_of_its_object(api, collector, clock, queue):
    pod = put(api, "me")
    collector._on_node("ADDED", {"metadata": {"name": "me"}}, None)
    collector._on_pod("ADDED", pod, None)
    collector._on_node("DELETED", {"metadata": {"name": "me"}}, None)
    assert len(queue) == 0
    for _ in range(3):
        assert await collector.reconcile(PLACE) is None
        clock.now += 100
    assert "deletionTimestamp" not in api.find(PODS, "pod", "ns")["metadata"]


async def test_a_deleted_pod_that_was_never_on_a_node_fails(api, collector):
    put(api, "", finalizers=["example.org/hold"], deletionTimestamp="2026-01-01T00:00:00Z")
    await collector.reconcile(PLACE)
    assert api.find(PODS, "pod", "ns")["status"] == {"phase": "Failed", "conditions": []}


async def test_a_pod_that_waits_for_a_node_is_left_alone(api, collector):
    put(api, "")
    assert await collector.reconcile(PLACE) is None
    assert "status" not in api.find(PODS, "pod", "ns")


async def test_pods_are_looked_at_when_their_node_goes(api, collector, queue):
    collector._on_node("ADDED", {"metadata": {"name": "other"}}, None)
    pod = put(api, "other")
    collector._on_pod("ADDED", pod, None)
    assert len(queue) == 0
    collector._on_node("DELETED", {"metadata": {"name": "other"}}, None)
    assert await asyncio.wait_for(queue.get(), 5) == PLACE
    collector._on_pod("DELETED", pod, pod)
    collector._on_node("DELETED", {"metadata": {"name": "other"}}, None)
    assert len(queue) == 0
