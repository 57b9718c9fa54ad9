"""Quotas, limit ranges, priorities and disruption budgets: what new pods get, and what is refused."""

from __future__ import annotations

import pytest

from solo.auth.user import MASTERS, User
from solo.registry.bootstrap import SYSTEM
from solo.registry.builtins import builtin_kinds
from solo.registry.catalog import Catalog
from solo.registry.context import RequestContext
from solo.registry.evictions import evict
from solo.registry.limits import LimitAdmission
from solo.registry.priorities import PriorityAdmission
from solo.registry.registry import Registry
from solo.store import Key, Store
from unit.solo.conftest import refused

ADMIN = User("admin", (MASTERS,))


class World:
    def __init__(self, store):
        self.store = store
        self.catalog = Catalog(store, builtin_kinds(lambda: ("node", {})))
        self.registry = Registry(store, self.catalog)
        priorities, limits = PriorityAdmission(store), LimitAdmission(store)
        for plugin in (priorities, limits):
            self.registry.add_mutation(plugin)
            self.registry.add_admission(plugin)

    async def create(self, plural, name, namespace="ns", group="", **body):
        kind = self.catalog.lookup(group, "v1", plural)
        obj = {"metadata": {"name": name, **body.pop("metadata", {})}, **body}
        return (await self.registry.create(kind, namespace, "", obj, RequestContext(ADMIN))).obj

    async def pod(self, name, resources=None, **spec):
        containers = [{"name": "c", "image": "host", "resources": resources or {}}]
        return await self.create("pods", name, spec={"containers": containers, **spec}, metadata={"labels": {"a": "b"}})

    async def status(self, plural, name, status, group=""):
        kind = self.catalog.lookup(group, "v1", plural)
        context = RequestContext(SYSTEM)
        change = lambda obj: {**obj, "status": {**obj.get("status", {}), **status}}  # noqa: E731
        await self.registry.update(kind, "ns", name, change, context, subresource="status")

    async def evict(self, name):
        kind = self.catalog.lookup("", "v1", "pods")
        eviction = {"metadata": {"name": name}, "deleteOptions": {"gracePeriodSeconds": 0}}
        await evict(self.registry, kind, "ns", name, eviction, RequestContext(ADMIN))


@pytest.fixture
async def world(tmp_path):
    store = Store.open(tmp_path / "state.db")
    world = World(store)
    await world.create("namespaces", "ns", "")
    yield world
    await store.close()


async def test_limit_ranges_fill_in_and_bound(world):
    item = {"type": "Container", "default": {"cpu": "200m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "500m"}}
    await world.create("limitranges", "l", spec={"limits": [item]})
    pod = await world.pod("one")
    assert pod["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}}
    assert "cpu request for container c" in pod["metadata"]["annotations"]["kubernetes.io/limit-ranger"]
    problem = await refused(world.pod("two", {"limits": {"cpu": "1"}}))
    assert "maximum cpu usage per Container is 500m, but limit is 1" in problem.message
    ratio = {"type": "Container", "maxLimitRequestRatio": {"memory": "2"}}
    await world.create("limitranges", "r", spec={"limits": [ratio]})
    problem = await refused(
        world.pod("three", {"requests": {"cpu": "1m", "memory": "2Mi"}, "limits": {"cpu": "1m", "memory": "30Mi"}})
    )
    assert "memory max limit to request ratio per Container is 2, but provided ratio is 15.000000" in problem.message
    problem = await refused(world.pod("four", {"limits": {"memory": "0"}, "requests": {"memory": "0"}}))
    assert "is 2, but no request is specified or request is 0" in problem.message
    claim = {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}
    await world.create("limitranges", "s", spec={"limits": [claim]})
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    problem = await refused(world.create("persistentvolumeclaims", "c", spec=wanted))
    assert "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi" in problem.message


async def test_priorities(world):
    group = "scheduling.k8s.io"
    await world.create("priorityclasses", "high", "", group, value=1000, preemptionPolicy="Never")
    spec = (await world.pod("one", priorityClassName="high"))["spec"]
    assert (spec["priority"], spec["preemptionPolicy"]) == (1000, "Never")
    assert (await world.pod("two"))["spec"]["priority"] == 0
    assert (
        "no PriorityClass with name none was found" in (await refused(world.pod("x", priorityClassName="none"))).message
    )
    assert (await refused(world.pod("x", priority=5))).code == 403
    await world.create("priorityclasses", "usual", "", group, value=7, globalDefault=True)
    assert (await world.pod("three"))["spec"]["priority"] == 7
    second = world.create("priorityclasses", "other", "", group, value=8, globalDefault=True)
    assert "already marked as default" in (await refused(second)).message


async def test_evictions_keep_to_the_budget(world):
    await world.pod("one")
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    await world.status("pods", "one", ready)
    budget = {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}
    await world.create("poddisruptionbudgets", "b", group="policy", spec=budget)
    early = await refused(world.evict("one"))
    assert (early.code, early.details["retryAfterSeconds"]) == (429, 10)
    status = {"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1}
    await world.status("poddisruptionbudgets", "b", status, "policy")
    problem = await refused(world.evict("one"))
    assert problem.details["causes"][0] == {
        "reason": "DisruptionBudget",
        "message": "The disruption budget b needs 1 healthy pods and has 1 currently",
    }
    await world.status("poddisruptionbudgets", "b", {"disruptionsAllowed": 1}, "policy")
    await world.evict("one")
    left = world.store.get(Key("poddisruptionbudgets.policy", "ns", "b")).obj["status"]
    assert left["disruptionsAllowed"] == 0 and "one" in left["disruptedPods"]
    assert world.store.get(Key("pods", "ns", "one")) is None
