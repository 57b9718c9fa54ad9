"""Quotas, limit ranges, priorities and disruption budgets: what new pods get, and what is refused."""

from __future__ import annotations

import asyncio

import pytest

from kube.machinery.errors import StatusError
from solo.auth.user import MASTERS, User
from solo.registry.bootstrap import SYSTEM
from solo.registry.builtins import builtin_kinds
from solo.registry.catalog import Catalog
from solo.registry.context import DeleteOptions, RequestContext
from solo.registry.evictions import evict
from solo.registry.limits import LimitAdmission
from solo.registry.priorities import PriorityAdmission
from solo.registry.quota import QuotaAdmission, QuotaKeeper
from solo.registry.registry import Registry
from solo.store import Key, Store

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
        self.registry.add_admission(QuotaAdmission(store))

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
        await evict(self.registry, kind, "ns", name, DeleteOptions(grace=0), RequestContext(ADMIN))


@pytest.fixture
async def world(tmp_path):
    store = Store.open(tmp_path / "state.db")
    world = World(store)
    await world.create("namespaces", "ns", "")
    yield world
    await store.close()


async def refused(action) -> StatusError:
    with pytest.raises(StatusError) as problem:
        await action
    return problem.value


async def test_a_quota_is_not_exceeded(world):
    await world.create("resourcequotas", "q", spec={"hard": {"pods": "2", "requests.cpu": "1"}})
    await world.pod("one", {"requests": {"cpu": "700m"}})
    problem = await refused(world.pod("two", {"requests": {"cpu": "400m"}}))
    assert problem.code == 403
    text = "exceeded quota: q, requested: requests.cpu=400m, used: requests.cpu=700m, limited: requests.cpu=1"
    assert problem.message == f'pods "two" is forbidden: {text}'
    missing = await refused(world.pod("two"))
    assert "failed quota: q: must specify requests.cpu for: c" in missing.message
    await world.pod("two", {"requests": {"cpu": "300m"}})
    assert "used: pods=2, limited: pods=2" in (await refused(world.pod("three", {"requests": {"cpu": "0"}}))).message
    await world.status("pods", "one", {"phase": "Succeeded"})
    await world.pod("three", {"requests": {"cpu": "0"}})


async def test_creates_at_once_share_a_quota(world):
    await world.create("resourcequotas", "q", spec={"hard": {"count/configmaps": "3"}})
    results = await asyncio.gather(
        *(world.create("configmaps", f"c{number}") for number in range(8)), return_exceptions=True
    )
    assert sum(isinstance(each, dict) for each in results) == 3


async def test_quota_scopes(world):
    await world.create("resourcequotas", "q", spec={"hard": {"pods": "0"}, "scopes": ["BestEffort"]})
    assert (await refused(world.pod("best"))).code == 403
    await world.pod("burst", {"requests": {"cpu": "1"}})


async def test_the_status_of_a_quota(world):
    keeper = asyncio.create_task(QuotaKeeper(world.registry).run())
    try:
        hard = {"pods": "5", "memory": "1Gi", "services.nodeports": "2", "requests.storage": "10Gi"}
        await world.create("resourcequotas", "q", spec={"hard": hard})
        await world.pod("one", {"requests": {"memory": "256Mi"}})
        ports = [{"name": "a", "port": 1}, {"name": "b", "port": 2}]
        await world.create("services", "s", spec={"type": "NodePort", "ports": ports})
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        await world.create("persistentvolumeclaims", "c", spec=claim)
        wanted = {"pods": "1", "memory": "256Mi", "services.nodeports": "2", "requests.storage": "1Gi"}
        async with asyncio.timeout(30):
            while world.store.get(Key("resourcequotas", "ns", "q")).obj.get("status", {}).get("used") != wanted:
                await asyncio.sleep(0.01)
        assert world.store.get(Key("resourcequotas", "ns", "q")).obj["status"]["hard"] == hard
    finally:
        keeper.cancel()


async def test_limit_ranges_fill_in_and_bound(world):
    item = {"type": "Container", "default": {"cpu": "200m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "500m"}}
    await world.create("limitranges", "l", spec={"limits": [item]})
    pod = await world.pod("one")
    assert pod["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}}
    assert "cpu request for container c" in pod["metadata"]["annotations"]["kubernetes.io/limit-ranger"]
    problem = await refused(world.pod("two", {"limits": {"cpu": "1"}}))
    assert "maximum cpu usage per Container is 500m, but limit is 1" in problem.message
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
