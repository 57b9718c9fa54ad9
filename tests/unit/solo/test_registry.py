"""The verbs on objects of any kind: what is filled in, refused, kept and let go."""

from __future__ import annotations

import asyncio

import pytest

from kube.machinery.errors import StatusError
from solo.registry.context import DeleteOptions, RequestContext
from unit.solo.conftest import ADMIN, meta, with_


async def test_create_fills_in_what_only_the_server_knows(world):
    made = await world.create("configmaps", {"metadata": {"name": "a", "uid": "mine", "generation": 9}}, "ns")
    assert made["metadata"]["uid"] != "mine"
    assert made["metadata"]["creationTimestamp"].endswith("Z")
    assert made["metadata"]["namespace"] == "ns"
    assert "generation" not in made["metadata"]
    assert list(made)[:3] == ["apiVersion", "kind", "metadata"]


async def test_a_namespace_with_a_generated_name_has_its_label(world):
    metadata = (await world.create("namespaces", {"metadata": {"generateName": "x-"}}))["metadata"]
    assert metadata["labels"] == {"kubernetes.io/metadata.name": metadata["name"]}


async def test_generated_names_differ(world):
    names = {(await world.create("configmaps", {"metadata": {"generateName": "x-"}}, "ns"))["metadata"]["name"]}
    names |= {(await world.create("configmaps", {"metadata": {"generateName": "x-"}}, "ns"))["metadata"]["name"]}
    assert len(names) == 2
    assert all(name.startswith("x-") and len(name) == 7 for name in names)


@pytest.mark.parametrize(
    ("obj", "code", "text"),
    [
        ({"metadata": {"name": "Bad_Name"}}, 422, "RFC 1123 subdomain"),
        ({"metadata": {}}, 422, "name or generateName is required"),
        ({"metadata": {"name": "a"}, "data": {"k": 1}}, 400, "cannot unmarshal number"),
        ({"metadata": {"name": "a", "namespace": "other"}}, 400, "does not match the namespace"),
        ({"metadata": {"name": "a", "labels": {"a b": "c"}}}, 422, "metadata.labels"),
        ({"metadata": {"name": "a", "resourceVersion": "4"}}, 400, "resourceVersion should not be set"),
        ({"metadata": {"name": "a", "ownerReferences": [{"kind": "X"}]}}, 422, "ownerReferences.uid"),
        ({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "a"}}, 400, "cannot be handled as a ConfigMap"),
    ],
)
async def test_create_refuses(world, obj, code, text):
    with pytest.raises(StatusError) as refused:
        await world.create("configmaps", obj, "ns")
    assert refused.value.code == code
    assert text in refused.value.message


async def test_create_in_missing_and_dying_namespaces(world):
    with pytest.raises(StatusError) as refused:
        await world.create("configmaps", {"metadata": {"name": "a"}}, "nope")
    assert (refused.value.code, refused.value.message) == (404, 'namespaces "nope" not found')
    await world.delete("namespaces", "ns")
    with pytest.raises(StatusError) as refused:
        await world.create("configmaps", {"metadata": {"name": "a"}}, "ns")
    assert refused.value.code == 403
    assert "because it is being terminated" in refused.value.message


async def test_a_namespace_that_ends_while_a_webhook_thinks_gets_nothing_new(world):
    class Slow:
        async def admit(self, attributes):
            if attributes.kind.resource.plural == "configmaps":
                await world.delete("namespaces", "ns")

    world.registry.add_admission(Slow())
    with pytest.raises(StatusError, match="because it is being terminated"):
        await world.create("configmaps", {"metadata": {"name": "a"}}, "ns")
    assert world.store.count("configmaps") == 0


async def test_unknown_fields_are_dropped_and_told(world):
    context = RequestContext(ADMIN)
    obj = {"metadata": {"name": "a"}, "dta": {}, "data": {"x": "y"}}
    stored = await world.registry.create(world.kind("configmaps"), "ns", "", obj, context)
    assert context.warnings == ['unknown field "dta"']
    assert "dta" not in stored.obj
    with pytest.raises(StatusError) as refused:
        await world.create("configmaps", {"metadata": {"name": "b"}, "dta": {}}, "ns", field_validation="Strict")
    assert 'strict decoding error: unknown field "dta"' in refused.value.message


async def test_dry_run_leaves_nothing(world):
    shown = await world.create("configmaps", {"metadata": {"name": "a"}}, "ns", dry_run=True)
    assert shown["metadata"]["uid"]
    assert "resourceVersion" not in shown["metadata"]
    assert world.get("configmaps", "a", "ns") is None


async def test_update_conflicts_and_no_ops(world):
    made = await world.create("configmaps", {"metadata": {"name": "a"}, "data": {"k": "1"}}, "ns")
    version = made["metadata"]["resourceVersion"]
    same = await world.change("configmaps", "a", meta(), "ns")
    assert same["metadata"]["resourceVersion"] == version
    changed = await world.change("configmaps", "a", with_(made, data={"k": "2"}), "ns")
    assert int(changed["metadata"]["resourceVersion"]) > int(version)
    with pytest.raises(StatusError) as refused:
        await world.change("configmaps", "a", meta(resourceVersion=version), "ns")
    assert refused.value.code == 409
    assert "the object has been modified; please apply your changes" in refused.value.message


async def test_concurrent_changes_all_count(world):
    await world.create("configmaps", {"metadata": {"name": "a"}, "data": {}}, "ns")

    def add(number):
        def change(present):
            data = {**(present.get("data") or {}), f"k{number}": "v"}
            return {**present, "metadata": dict(present["metadata"]), "data": data}

        return change

    await asyncio.gather(*(world.change("configmaps", "a", add(number), "ns") for number in range(25)))
    assert len(world.get("configmaps", "a", "ns")["data"]) == 25


async def test_server_owned_metadata_survives_updates(world):
    made = await world.create("configmaps", {"metadata": {"name": "a"}}, "ns")
    changed = await world.change(
        "configmaps", "a", meta(creationTimestamp="2001-01-01T00:00:00Z", labels={"x": "y"}), "ns"
    )
    assert changed["metadata"]["creationTimestamp"] == made["metadata"]["creationTimestamp"]
    assert changed["metadata"]["labels"] == {"x": "y"}


async def test_finalizers_hold_and_release(world):
    await world.create("configmaps", {"metadata": {"name": "a", "finalizers": ["x.y/z"]}}, "ns")
    outcome = await world.delete("configmaps", "a", "ns")
    assert not outcome.gone
    with pytest.raises(StatusError) as refused:
        await world.change("configmaps", "a", meta(finalizers=["x.y/z", "x.y/new"]), "ns")
    assert "no new finalizers can be added if the object is being deleted" in refused.value.message
    await world.change("configmaps", "a", meta(finalizers=[]), "ns")
    assert world.get("configmaps", "a", "ns") is None


@pytest.mark.parametrize(
    ("policy", "finalizers"), [("Orphan", ["orphan"]), ("Foreground", ["foregroundDeletion"]), ("Background", None)]
)
async def test_propagation_policies(world, policy, finalizers):
    await world.create("configmaps", {"metadata": {"name": "a"}}, "ns")
    outcome = await world.delete("configmaps", "a", "ns", propagation=policy)
    assert outcome.gone is (finalizers is None)
    if finalizers:
        assert world.get("configmaps", "a", "ns")["metadata"]["finalizers"] == finalizers


@pytest.mark.parametrize(
    ("body", "query", "policy"),
    [
        ({}, {}, None),
        ({}, {"orphanDependents": ""}, "Orphan"),
        ({}, {"orphanDependents": "0"}, "Background"),
        ({"orphanDependents": False}, {"orphanDependents": "true"}, "Background"),
    ],
)
def test_what_orphan_dependents_stands_for(body, query, policy):
    assert DeleteOptions.read(body, query).propagation == policy


async def test_preconditions(world):
    made = await world.create("configmaps", {"metadata": {"name": "a"}}, "ns")
    with pytest.raises(StatusError) as refused:
        await world.delete("configmaps", "a", "ns", uid="another")
    assert refused.value.code == 409
    assert "does not match the UID in record" in refused.value.message
    assert (await world.delete("configmaps", "a", "ns", uid=made["metadata"]["uid"])).gone
