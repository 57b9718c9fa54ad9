"""MutatingAdmissionPolicy: what becomes of an object, and of a policy that fails."""

from __future__ import annotations

import pytest

from kube.machinery.errors import StatusError
from solo.auth.rbac import Authorizer
from solo.auth.user import MASTERS, User
from solo.registry.builtins import builtin_kinds
from solo.registry.catalog import Catalog
from solo.registry.context import RequestContext
from solo.registry.mutating_policies import MutatingPolicies
from solo.registry.registry import Registry
from solo.store import Store

GROUP = "admissionregistration.k8s.io"
RULE = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["configmaps", "pods"]}


class World:
    def __init__(self, store):
        self.catalog = Catalog(store, builtin_kinds(lambda: ("node", {})))
        self.registry = Registry(store, self.catalog)
        self.registry.add_mutation(MutatingPolicies(store, self.catalog, self.registry.views, Authorizer(store)))

    async def create(self, plural, obj, namespace="", group=""):
        kind = self.catalog.lookup(group, "v1", plural)
        context = RequestContext(User("admin", (MASTERS,)))
        return (await self.registry.create(kind, namespace, "", obj, context)).obj

    async def policy(self, name, *mutations, binding=None, **spec):
        body = {"matchConstraints": {"resourceRules": [RULE]}, "mutations": list(mutations), **spec}
        await self.create("mutatingadmissionpolicies", {"metadata": {"name": name}, "spec": body}, group=GROUP)
        bound = {"metadata": {"name": name}, "spec": {"policyName": name, **(binding or {})}}
        await self.create("mutatingadmissionpolicybindings", bound, group=GROUP)

    async def configmap(self, **rest):
        return await self.create("configmaps", {"metadata": {"name": "a"}, **rest}, "ns")


@pytest.fixture
async def world(tmp_path):
    store = Store.open(tmp_path / "state.db")
    world = World(store)
    await world.create("namespaces", {"metadata": {"name": "ns"}})
    yield world
    await store.close()


def applied(expression):
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def patched(expression):
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


async def test_configurations_and_patches_follow_each_other(world):
    await world.policy(
        "p",
        applied('Object{data: {"b": variables.word}}'),
        patched('[JSONPatch{op: "add", path: "/data/c", value: object.data.b + "!"}]'),
        variables=[{"name": "word", "expression": "object.metadata.name + 'x'"}],
    )
    assert (await world.configmap(data={"a": "1"}))["data"] == {"a": "1", "b": "ax", "c": "ax!"}


async def test_lists_are_merged_by_their_keys(world):
    sidecar = 'Object.spec.containers{name: "side", image: "host", command: ["true"]}'
    await world.policy("p", applied("Object{spec: Object.spec{containers: [" + sidecar + "]}}"))
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "main", "image": "host"}]}}
    made = await world.create("pods", pod, "ns")
    assert [each["name"] for each in made["spec"]["containers"]] == ["main", "side"]
    assert made["spec"]["containers"][1]["imagePullPolicy"] == "Always"  # defaulted like any other


async def test_conditions_and_reinvocation(world):
    once = applied('Object{data: {"count": string(int(object.data.count) + 1)}}')
    await world.policy(
        "a",
        once,
        reinvocationPolicy="IfNeeded",
        matchConditions=[{"name": "c", "expression": "has(object.data.count)"}],
    )
    await world.policy("b", applied('Object{data: {"other": "1"}}'))
    assert (await world.configmap(data={"count": "1"}))["data"] == {"count": "3", "other": "1"}


async def test_a_failing_policy(world):
    await world.policy("p", patched('[JSONPatch{op: "remove", path: "/data/none"}]'))
    with pytest.raises(StatusError, match="policy 'p' with binding 'p' denied request") as problem:
        await world.configmap(data={"a": "1"})
    assert problem.value.code == 403


async def test_a_failing_policy_that_may(world):
    await world.policy("p", applied("Object{data: object.none}"), failurePolicy="Ignore")
    assert (await world.configmap(data={"a": "1"}))["data"] == {"a": "1"}


@pytest.mark.parametrize("mutation", [{"patchType": "Odd"}, applied(""), applied("Object{"), patched("1 +")])
async def test_a_broken_policy_is_refused(world, mutation):
    with pytest.raises(StatusError) as problem:
        await world.policy("p", mutation)
    assert problem.value.code == 422
