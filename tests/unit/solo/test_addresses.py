"""Addresses and node ports of Services: each is one Service's, also while it is only on its way."""

from __future__ import annotations

import asyncio
import copy

import pytest

from kube.machinery.errors import StatusError
from solo.registry.addresses import ServiceAddresses
from solo.registry.bootstrap import SYSTEM, ensure_service_addresses
from solo.registry.builtins import builtin_kinds
from solo.registry.catalog import Catalog
from solo.registry.context import RequestContext
from solo.registry.registry import Registry
from solo.store import Key, Store


def service(name, **spec):
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


@pytest.fixture
async def registry(tmp_path):
    store = Store.open(tmp_path / "state.db")
    made = Registry(store, Catalog(store, builtin_kinds(lambda: ("node", {}))))
    made.add_allocation(ServiceAddresses(store))
    await made.create(made.catalog.lookup("", "v1", "namespaces"), "", "", {"metadata": {"name": "ns"}}, ask())
    cidr = {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.0.0.0/29"]}}
    await made.create(made.catalog.lookup("networking.k8s.io", "v1", "servicecidrs"), "", "", cidr, ask())
    yield made
    await store.close()


def ask(**context):
    return RequestContext(SYSTEM, **context)


async def create(registry, obj, **context):
    made = await registry.create(registry.catalog.lookup("", "v1", "services"), "ns", "", obj, ask(**context))
    return (made if isinstance(made, dict) else made.obj)["spec"]["clusterIP"]


async def test_until_the_range_is_full(registry):
    given = {await create(registry, service(f"s{number}")) for number in range(6)}
    assert given == {f"10.0.0.{number}" for number in range(1, 7)}
    with pytest.raises(StatusError, match="range is full"):
        await create(registry, service("more"))
    await create(registry, service("headless", clusterIP="None"))
    await registry.store.delete(Key("services", "ns", "s0"), None)
    assert await create(registry, service("more")) in given


async def test_services_whose_names_are_generated(registry):
    unnamed = service("")
    unnamed["metadata"] = {"generateName": "s-"}
    given = {await create(registry, copy.deepcopy(unnamed)) for _ in range(6)}
    assert len(given) == 6
    with pytest.raises(StatusError, match=r'"s-.{5}" is invalid: spec.clusterIPs'):
        await create(registry, unnamed)


async def test_of_two_at_once_one_gets_it(registry):
    asked = (create(registry, service(name, clusterIP="10.0.0.2")) for name in ("a", "b"))
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert "10.0.0.2" in outcomes
    (refusal,) = (outcome for outcome in outcomes if outcome != "10.0.0.2")
    assert "provided IP is already allocated" in str(refusal)


async def test_a_dry_run_keeps_nothing(registry):
    assert await create(registry, service("a", clusterIP="10.0.0.2"), dry_run=True) == "10.0.0.2"
    assert await create(registry, service("b", clusterIP="10.0.0.2")) == "10.0.0.2"


async def test_older_services_get_an_address(registry):
    old = {"apiVersion": "v1", "kind": "Service", **service("old", type="ClusterIP", clusterIP="")}
    old["metadata"] |= {"namespace": "ns", "uid": "u"}
    await registry.store.create(Key("services", "ns", "old"), old)
    await ensure_service_addresses(registry)
    assert registry.store.get(Key("services", "ns", "old")).obj["spec"]["clusterIP"].startswith("10.0.0.")
