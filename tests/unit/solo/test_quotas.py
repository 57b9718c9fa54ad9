"""ResourceQuotas: what is held against them, what counts as used, and what their status says."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
from decimal import Decimal

import pytest

from kube.machinery.errors import StatusError
from solo.registry import tallies as module
from solo.registry.bootstrap import SYSTEM
from solo.registry.context import RequestContext
from solo.registry.objects import copy
from solo.registry.quota import QuotaAdmission, QuotaKeeper
from solo.registry.tallies import Tallies
from solo.store import Key, Store
from solo.store.store import OBJECT_BYTES
from unit.solo import conftest
from unit.solo.conftest import refused

PORTS = [{"name": "a", "port": 1}, {"name": "b", "port": 2}]


class World(conftest.World):
    """A registry with quotas, and the quota `q` of the namespace `ns`."""

    def __init__(self, store):
        super().__init__(store)
        self.tallies = Tallies(store)
        self.registry.add_commit_check(QuotaAdmission(store, self.tallies))

    async def create(self, plural, name, namespace="ns", *, dry_run=False, **body):
        return await super().create(plural, {"metadata": {"name": name}, **body}, namespace, dry_run=dry_run)

    async def quota(self, **hard):
        spec = {"hard": {name.replace("__", "/").replace("_", "."): amount for name, amount in hard.items()}}
        return await self.create("resourcequotas", "q", spec=spec)

    async def pod(self, name, resources=None, **spec):
        containers = [{"name": "c", "image": "host", "resources": resources or {}}]
        return await self.create("pods", name, spec={"containers": containers, **spec})

    async def claim(self, name, size):
        """A claim with a volume, so that it can grow."""
        await self.create("persistentvolumeclaims", name, spec=claim(size))
        await self.change("persistentvolumeclaims", name, "status", status={"phase": "Bound"})

    async def change(self, plural, name, subresource="", **parts):
        def change(obj):
            return {**copy(obj), **{part: {**copy(obj.get(part) or {}), **value} for part, value in parts.items()}}

        context = RequestContext(SYSTEM)
        await self.registry.update(self.kind(plural), "ns", name, change, context, subresource=subresource)

    async def delete(self, plural, name):
        await super().delete(plural, name, "ns", grace=0)

    def used(self, tallies=None):
        quota = self.store.get(Key("resourcequotas", "ns", "q"))
        return (tallies or self.tallies).used(quota)


def claim(size):
    return {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}


@pytest.fixture
async def world(tmp_path):
    store = Store.open(tmp_path / "state.db")
    world = World(store)
    await world.create("namespaces", "ns", "")
    yield world
    await store.close()


@contextlib.asynccontextmanager
async def keeping(world):
    task = asyncio.create_task(QuotaKeeper(world.registry, world.tallies).run())
    yield
    task.cancel()


async def shown(world, **wanted):
    """Wait until the status of the quota says this."""
    async with asyncio.timeout(30):
        while world.store.get(Key("resourcequotas", "ns", "q")).obj.get("status", {}).get("used") != wanted:
            await asyncio.sleep(0.01)


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
    await world.change("pods", "one", "status", status={"phase": "Succeeded"})
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


async def test_a_create_that_fails_frees_what_it_asked_for(world):
    await world.quota(count__configmaps="2")
    await world.create("configmaps", "a")
    assert (await refused(world.create("configmaps", "a"))).reason == "AlreadyExists"
    too_large = world.create("configmaps", "b", data={"k": "\u0001" * (OBJECT_BYTES // 6)})
    assert (await refused(too_large)).code == 413
    await world.create("configmaps", "b", dry_run=True)
    await world.create("configmaps", "b")
    assert (await refused(world.create("configmaps", "c"))).code == 403
    assert (await refused(world.create("configmaps", "c", dry_run=True))).code == 403
    await world.delete("configmaps", "b")
    await world.create("configmaps", "c")


async def test_changes_of_services_and_claims_are_held(world):
    await world.quota(services_loadbalancers="1", services_nodeports="3", requests_storage="3Gi")
    await world.create("services", "one", spec={"type": "LoadBalancer", "ports": PORTS})
    await world.create("services", "two", spec={"ports": PORTS})
    problem = await refused(world.change("services", "two", spec={"type": "LoadBalancer"}))
    part = "services.loadbalancers={0},services.nodeports={1}"
    parts = (part.format(1, 2), part.format(1, 2), part.format(1, 3))
    text = "exceeded quota: q, requested: {}, used: {}, limited: {}".format(*parts)
    assert problem.message == f'services "two" is forbidden: {text}'
    balanced = {"allocateLoadBalancerNodePorts": None, "externalTrafficPolicy": None}
    await world.change("services", "one", spec={"type": "ClusterIP", **balanced})
    await world.change("services", "two", spec={"type": "LoadBalancer"})
    await world.claim("c", "1Gi")
    await world.change("persistentvolumeclaims", "c", spec=claim("3Gi"))
    problem = await refused(world.change("persistentvolumeclaims", "c", spec=claim("4Gi")))
    assert (
        "requested: requests.storage=1Gi, used: requests.storage=3Gi, limited: requests.storage=3Gi" in problem.message
    )
    await world.change("resourcequotas", "q", spec={"hard": {"requests.storage": "1Gi"}})
    await world.change("persistentvolumeclaims", "c", metadata={"labels": {"a": "b"}})
    await world.change("persistentvolumeclaims", "c", spec=claim("2Gi"))


async def test_changes_at_once_share_a_quota(world):
    await world.quota(requests_storage="8Gi")
    for number in range(4):
        await world.claim(f"c{number}", "1Gi")
    grown = [world.change("persistentvolumeclaims", f"c{number}", spec=claim("3Gi")) for number in range(4)]
    results = await asyncio.gather(*grown, return_exceptions=True)
    assert sum(isinstance(each, StatusError) for each in results) == 2
    assert world.used() == {"requests.storage": Decimal(8 * 2**30)}


@pytest.mark.parametrize("size", ["-1Gi", "0", 1e300])
async def test_a_claim_asks_for_something(world, size):
    problem = await refused(world.claim("c", size))
    assert problem.code == 422 and "spec.resources[storage]: Invalid value" in problem.message


async def test_a_pod_asks_for_nothing_negative(world):
    problem = await refused(world.pod("p", {"requests": {"cpu": "-1"}}))
    assert "resources.requests[cpu]: Invalid value" in problem.message


async def test_sums_are_those_of_a_new_count(world):
    """Whatever happens to the objects and the quota, and to quantities that no float could tell apart."""
    steps = random.Random(5)
    names = ("requests.storage", "persistentvolumeclaims", "count/services", "services.nodeports")
    await world.create("resourcequotas", "q", spec={"hard": dict.fromkeys(names, "1e250")})
    for _ in range(150):
        name = f"n{steps.randrange(6)}"
        act = steps.choice((
            lambda name: world.claim(name, steps.choice(("1n", "1e200", "3Gi"))),
            lambda name: world.create("services", name, spec={"type": "NodePort", "ports": PORTS}),
            lambda name: world.change("persistentvolumeclaims", name, spec=claim(steps.choice(("5m", "7e199")))),
            lambda name: world.change("services", name, spec={"type": steps.choice(("ClusterIP", "NodePort"))}),
            lambda name: world.delete("persistentvolumeclaims", name),
            lambda name: world.delete("services", name),
            lambda _: world.change(
                "resourcequotas", "q", spec={"hard": dict.fromkeys(steps.sample(names, 3), "1e250")}
            ),
        ))  # fmt: skip
        with contextlib.suppress(StatusError):
            await act(name)
        assert world.used() == world.used(Tallies(world.store))


async def test_a_question_does_not_count_what_is_there(world, monkeypatch):
    await world.quota(count__configmaps="1000")
    await asyncio.gather(*(world.create("configmaps", f"a{number}") for number in range(200)))
    counted, usage_of = [], module.usage_of
    monkeypatch.setattr(module, "usage_of", lambda obj, resource: counted.append(obj) or usage_of(obj, resource))
    await world.create("configmaps", "b")
    assert len(counted) <= 2
    assert world.used() == {"count/configmaps": Decimal(201)}


async def test_nobody_listens_for_quotas_that_are_gone(world):
    await world.quota(count__secrets="5", count__configmaps="5")
    world.used()
    assert world.store._listeners["secrets"]
    await world.change("resourcequotas", "q", spec={"hard": {"count/configmaps": "5"}})
    world.used()
    assert not world.store._listeners["secrets"] and world.store._listeners["configmaps"]
    await world.delete("resourcequotas", "q")
    assert not world.store._listeners["configmaps"]


async def test_the_status_of_a_quota(world):
    async with keeping(world):
        hard = {"pods": "5", "memory": "1Gi", "services.nodeports": "2", "requests.storage": "10Gi"}
        await world.create("resourcequotas", "q", spec={"hard": hard})
        await world.pod("one", {"requests": {"memory": "256Mi"}})
        await world.create("services", "s", spec={"type": "NodePort", "ports": PORTS})
        await world.claim("c", "1Gi")
        wanted = {"pods": "1", "memory": "256Mi", "services.nodeports": "2", "requests.storage": "1Gi"}
        await shown(world, **wanted)
        assert world.store.get(Key("resourcequotas", "ns", "q")).obj["status"]["hard"] == hard
        await world.delete("pods", "one")
        await shown(world, **{**wanted, "pods": "0", "memory": "0"})


async def test_a_status_that_a_kill_left_behind_is_put_right(world, tmp_path):
    async with keeping(world):
        await world.quota(configmaps="5")
        await world.create("configmaps", "a")
        await shown(world, configmaps="1")
    await world.create("configmaps", "b")
    shutil.copytree(tmp_path, tmp_path / "copy")
    again = World(Store.open(tmp_path / "copy" / "state.db"))
    async with keeping(again):
        await shown(again, configmaps="2")
    await again.store.close()
