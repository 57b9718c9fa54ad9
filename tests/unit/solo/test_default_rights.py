"""Default roles and bindings get back at a start what they lack, unless that is not wanted; what was added stays."""

from __future__ import annotations

import pytest

from kube.machinery.resources import CLUSTERROLEBINDINGS, CLUSTERROLES
from solo.auth.user import User
from solo.registry.bootstrap import SYSTEM, ensure_bootstrap_objects
from solo.registry.builtins import builtin_kinds
from solo.registry.catalog import Catalog
from solo.registry.context import DeleteOptions, RequestContext
from solo.registry.default_rights import AUTOUPDATE
from solo.registry.objects import copy
from solo.registry.registry import Registry
from solo.store import Key, Store

OWN = {"verbs": ["get"], "apiGroups": ["example.com"], "resources": ["things"]}


class Cluster:
    def __init__(self, store):
        self.registry = Registry(store, Catalog(store, builtin_kinds(lambda: ("node", {}))))

    async def start(self):
        await ensure_bootstrap_objects(self.registry)

    def get(self, resource, name):
        return self.registry.store.get(Key(resource.group_resource, "", name)).obj

    def kind(self, resource):
        return self.registry.catalog.lookup(resource.group, "v1", resource.plural)

    async def change(self, resource, name, **parts):
        def changed(old):
            return copy({**old, **parts, "metadata": {**old["metadata"], **parts.get("metadata", {})}})

        context = RequestContext(User("admin"))
        await self.registry.update(self.kind(resource), "", name, changed, context)


@pytest.fixture
async def cluster(tmp_path):
    store = Store.open(tmp_path / "state.db")
    cluster = Cluster(store)
    await cluster.start()
    yield cluster
    await store.close()


async def test_a_second_start_writes_nothing(cluster):
    before = cluster.registry.store.revision
    await cluster.start()
    assert cluster.registry.store.revision == before


async def test_rules_come_back_and_those_that_were_added_stay(cluster):
    name = "system:aggregate-to-edit"
    rules = cluster.get(CLUSTERROLES, name)["rules"]
    assert cluster.get(CLUSTERROLES, name)["metadata"]["annotations"] == {AUTOUPDATE: "true"}
    await cluster.change(
        CLUSTERROLES, name, rules=[OWN, rules[0]], metadata={"labels": {"mine": "1"}, "annotations": {}}
    )
    await cluster.start()
    role = cluster.get(CLUSTERROLES, name)
    assert role["rules"] == [OWN, *rules]
    assert role["metadata"]["annotations"] == {AUTOUPDATE: "true"}
    assert role["metadata"]["labels"].items() > {"mine": "1", "kubernetes.io/bootstrapping": "rbac-defaults"}.items()


async def test_a_rule_that_another_covers_is_not_added(cluster):
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    await cluster.change(CLUSTERROLES, "system:aggregate-to-view", rules=[everything])
    await cluster.start()
    assert cluster.get(CLUSTERROLES, "system:aggregate-to-view")["rules"] == [everything]


async def test_an_aggregated_role_gets_its_selector_back(cluster):
    mine = {"matchLabels": {"mine": "1"}}
    selectors = cluster.get(CLUSTERROLES, "view")["aggregationRule"]["clusterRoleSelectors"]
    await cluster.change(CLUSTERROLES, "view", aggregationRule={"clusterRoleSelectors": [mine]}, rules=[OWN])
    await cluster.start()
    view = cluster.get(CLUSTERROLES, "view")
    assert (view["aggregationRule"], view["rules"]) == ({"clusterRoleSelectors": [mine, *selectors]}, [OWN])


async def test_who_turns_it_off_is_left_alone(cluster):
    for resource in (CLUSTERROLES, CLUSTERROLEBINDINGS):
        metadata = {"annotations": {AUTOUPDATE: "false"}}
        await cluster.change(resource, "system:discovery", rules=[], subjects=[], metadata=metadata)
    before = cluster.registry.store.revision
    await cluster.start()
    assert cluster.registry.store.revision == before


async def test_subjects_come_back_and_a_binding_to_another_role_is_made_anew(cluster):
    name, guest = "system:discovery", {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "guest"}
    subjects = cluster.get(CLUSTERROLEBINDINGS, name)["subjects"]
    await cluster.change(CLUSTERROLEBINDINGS, name, subjects=[guest])
    await cluster.start()
    binding = cluster.get(CLUSTERROLEBINDINGS, name)
    assert binding["subjects"] == [guest, *subjects]
    kind, context = cluster.kind(CLUSTERROLEBINDINGS), RequestContext(SYSTEM)
    await cluster.registry.delete(kind, "", name, DeleteOptions(), context)
    other = {"metadata": {"name": name}, "roleRef": {**binding["roleRef"], "name": "other"}, "subjects": [guest]}
    await cluster.registry.create(kind, "", "", other, context)
    await cluster.start()
    assert cluster.get(CLUSTERROLEBINDINGS, name)["roleRef"] == binding["roleRef"]
    assert cluster.get(CLUSTERROLEBINDINGS, name)["subjects"] == subjects
