"""The verbs on built-in kinds: what is filled in, refused, kept and let go."""

from __future__ import annotations

import asyncio
import base64

import pytest

from kube.machinery.errors import StatusError
from solo.auth.user import MASTERS, User
from solo.registry.builtins import builtin_kinds
from solo.registry.catalog import Catalog
from solo.registry.context import DeleteOptions, RequestContext
from solo.registry.objects import copy
from solo.registry.registry import Applied, Registry
from solo.store import Key, Store

ADMIN = User("admin", (MASTERS,))


class World:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.catalog = Catalog(store, builtin_kinds(lambda: ("node", {"kubernetes.io/hostname": "node"})))
        self.registry = Registry(store, self.catalog)

    def kind(self, plural, group="", version="v1"):
        return self.catalog.lookup(group, version, plural)

    async def create(self, plural, obj, namespace="", group="", **context):
        result = await self.registry.create(
            self.kind(plural, group), namespace, "", obj, RequestContext(ADMIN, **context)
        )
        return result if isinstance(result, dict) else result.obj

    async def change(self, plural, name, change, namespace="", group="", subresource=""):
        result = await self.registry.update(
            self.kind(plural, group), namespace, name, change, RequestContext(ADMIN), subresource=subresource
        )
        return result if isinstance(result, dict) else result.obj

    async def delete(self, plural, name, namespace="", group="", **options):
        return await self.registry.delete(
            self.kind(plural, group), namespace, name, DeleteOptions(**options), RequestContext(ADMIN)
        )

    def get(self, plural, name, namespace=""):
        stored = self.store.get(Key(plural, namespace, name))
        return stored.obj if stored else None


@pytest.fixture
async def world(tmp_path):
    store = Store.open(tmp_path / "state.db")
    world = World(store)
    await world.create("namespaces", {"metadata": {"name": "ns"}})
    yield world
    await store.close()


def with_(obj, **changes):
    """A change function: a copy of the present object with other top-level values."""
    return lambda present: {**present, "metadata": dict(present["metadata"]), **changes}


def meta(**changes):
    return lambda present: {**present, "metadata": {**present["metadata"], **changes}}


def pod(name="p", **spec):
    containers = [{"name": "c", "image": "host", "command": ["true"]}]
    return {"metadata": {"name": name}, "spec": {"containers": containers, **spec}}


async def test_create_fills_in_what_only_the_server_knows(world):
    made = await world.create("configmaps", {"metadata": {"name": "a", "uid": "mine", "generation": 9}}, "ns")
    assert made["metadata"]["uid"] != "mine"
    assert made["metadata"]["creationTimestamp"].endswith("Z")
    assert made["metadata"]["namespace"] == "ns"
    assert "generation" not in made["metadata"]
    assert list(made)[:3] == ["apiVersion", "kind", "metadata"]


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
        ({"metadata": {"name": "a", "ownerReferences": [{"kind": "X"}]}}, 422, "ownerReferences[0].uid"),
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


async def test_immutable_and_secret_data(world):
    await world.create("configmaps", {"metadata": {"name": "a"}, "data": {"k": "v"}, "immutable": True}, "ns")
    with pytest.raises(StatusError) as refused:
        await world.change("configmaps", "a", with_(None, data={"k": "w"}), "ns")
    assert refused.value.message.endswith("data: Forbidden: field is immutable when `immutable` is set")
    secret = await world.create("secrets", {"metadata": {"name": "s"}, "stringData": {"p": "w"}}, "ns")
    assert (secret["type"], secret["data"]) == ("Opaque", {"p": "dw=="})
    assert "stringData" not in secret
    with pytest.raises(StatusError) as refused:
        await world.create("secrets", {"metadata": {"name": "t"}, "data": {"p": "***"}}, "ns")
    assert "illegal base64 data at input byte 0" in refused.value.message


async def test_pod_defaults_and_placement(world):
    made = await world.create("pods", pod(), "ns")
    assert made["spec"]["nodeName"] == "node"
    assert made["spec"]["restartPolicy"] == "Always"
    assert made["spec"]["serviceAccountName"] == "default"
    assert made["spec"]["terminationGracePeriodSeconds"] == 30
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    elsewhere = await world.create("pods", pod("q", nodeSelector={"disk": "fast"}), "ns")
    assert "nodeName" not in elsewhere["spec"]


@pytest.mark.parametrize(
    ("containers", "text"),
    [
        ([], "spec.containers: Required value"),
        ([{"image": "host"}], "spec.containers[0].name: Required value"),
        ([{"name": "c"}], "spec.containers[0].image: Required value"),
        ([{"name": "c", "image": "i"}] * 2, 'spec.containers[1].name: Duplicate value: "c"'),
        ([{"name": "c", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/"}]}], 'Not found: "v"'),
    ],
)
async def test_pod_validation(world, containers, text):
    with pytest.raises(StatusError) as refused:
        await world.create("pods", {"metadata": {"name": "p"}, "spec": {"containers": containers}}, "ns")
    assert refused.value.code == 422
    assert text in refused.value.message


async def test_pod_spec_is_frozen_and_status_apart(world):
    await world.create("pods", pod(), "ns")

    def other_command(present):
        spec = {**present["spec"], "containers": [{**present["spec"]["containers"][0], "command": ["false"]}]}
        return {**present, "metadata": dict(present["metadata"]), "spec": spec}

    with pytest.raises(StatusError) as refused:
        await world.change("pods", "p", other_command, "ns")
    assert "pod updates may not change fields other than" in refused.value.message
    through_main = await world.change("pods", "p", with_(None, status={"phase": "Running"}), "ns")
    assert through_main["status"]["phase"] == "Pending"
    through_status = await world.change(
        "pods", "p", with_(None, status={"phase": "Running"}), "ns", subresource="status"
    )
    assert through_status["status"]["phase"] == "Running"
    assert through_status["status"]["qosClass"] == "BestEffort"


async def test_graceful_deletion_of_a_pod(world):
    await world.create("pods", pod(), "ns")
    first = await world.delete("pods", "p", "ns")
    assert not first.gone
    marked = world.get("pods", "p", "ns")
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
    shorter = await world.delete("pods", "p", "ns", grace=5)
    assert not shorter.gone
    assert world.get("pods", "p", "ns")["metadata"]["deletionGracePeriodSeconds"] == 5
    longer = await world.delete("pods", "p", "ns", grace=60)
    assert not longer.gone
    assert world.get("pods", "p", "ns")["metadata"]["deletionGracePeriodSeconds"] == 5
    assert (await world.delete("pods", "p", "ns", grace=0)).gone
    assert world.get("pods", "p", "ns") is None


async def test_a_pod_that_never_ran_goes_at_once(world):
    await world.create("pods", pod(nodeSelector={"disk": "fast"}), "ns")
    assert (await world.delete("pods", "p", "ns")).gone


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


async def test_preconditions(world):
    made = await world.create("configmaps", {"metadata": {"name": "a"}}, "ns")
    with pytest.raises(StatusError) as refused:
        await world.delete("configmaps", "a", "ns", uid="another")
    assert refused.value.code == 409
    assert "does not match the UID in record" in refused.value.message
    assert (await world.delete("configmaps", "a", "ns", uid=made["metadata"]["uid"])).gone


async def test_namespace_waits_for_its_finalizer(world):
    outcome = await world.delete("namespaces", "ns")
    assert not outcome.gone
    assert world.get("namespaces", "ns")["status"]["phase"] == "Terminating"
    await world.change("namespaces", "ns", with_(None, spec={"finalizers": []}), subresource="finalize")
    assert world.get("namespaces", "ns") is None


async def test_default_namespace_stays(world):
    await world.create("namespaces", {"metadata": {"name": "default"}})
    with pytest.raises(StatusError) as refused:
        await world.delete("namespaces", "default")
    assert refused.value.message == 'namespaces "default" is forbidden: this namespace may not be deleted'


async def test_deployment_defaults_generation_and_selector(world):
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "host"}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    made = await world.create("deployments", {"metadata": {"name": "d"}, "spec": spec}, "ns", "apps")
    assert made["spec"]["replicas"] == 1
    assert made["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": "25%", "maxUnavailable": "25%"}
    assert made["metadata"]["generation"] == 1
    more = {**made["spec"], "replicas": 2}
    changed = await world.change("deployments", "d", with_(None, spec=more), "ns", "apps")
    assert changed["metadata"]["generation"] == 2
    labelled = await world.change("deployments", "d", meta(labels={"x": "y"}), "ns", "apps")
    assert labelled["metadata"]["generation"] == 2
    wrong = {**spec, "selector": {"matchLabels": {"a": "c"}}}
    with pytest.raises(StatusError) as refused:
        await world.create("deployments", {"metadata": {"name": "e"}, "spec": wrong}, "ns", "apps")
    assert "`selector` does not match template `labels`" in refused.value.message


async def test_role_refs_cannot_change(world):
    binding = {"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": "r"}, "subjects": []}
    group = "rbac.authorization.k8s.io"
    made = await world.create("rolebindings", binding, "ns", group)
    other = {**made["roleRef"], "name": "other"}
    with pytest.raises(StatusError) as refused:
        await world.change("rolebindings", "b", with_(None, roleRef=other), "ns", group)
    assert "cannot change roleRef" in refused.value.message


def owners(obj):
    """Who owns what, as {(manager, operation, subresource): fields}."""
    entries = obj["metadata"].get("managedFields") or []
    return {(item["manager"], item["operation"], item.get("subresource", "")): item["fieldsV1"] for item in entries}


async def apply(world, obj, manager, namespace="ns", group="", subresource="", force=False, allow=lambda: None):
    name, kind = obj["metadata"]["name"], world.catalog.by_kind(obj["apiVersion"], obj["kind"])
    applied = Applied(obj, force, subresource, allow)
    result = await world.registry.apply(kind, namespace, name, applied, RequestContext(ADMIN, manager=manager))
    return result if isinstance(result, dict) else result.obj


def config(**data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}


async def test_writers_come_to_own_what_they_change(world):
    made = await world.create("configmaps", {"metadata": {"name": "a"}, "data": {"x": "1"}}, "ns", manager="one")
    assert owners(made) == {("one", "Update", ""): {"f:data": {".": {}, "f:x": {}}}}
    changed = await world.registry.update(
        world.kind("configmaps"),
        "ns",
        "a",
        with_(made, data={"x": "1", "y": "2"}),
        RequestContext(ADMIN, manager="two"),
    )
    assert owners(changed.obj)["two", "Update", ""] == {"f:data": {"f:y": {}}}
    again = await world.change("configmaps", "a", lambda present: copy(present), "ns")
    assert again["metadata"]["resourceVersion"] == changed.obj["metadata"]["resourceVersion"]
    assert owners(again) == owners(changed.obj)


async def test_status_has_books_of_its_own(world):
    await world.create("pods", pod(), "ns", manager="creator")
    changed = await world.change(
        "pods", "p", lambda present: {**copy(present), "status": {"phase": "Running"}}, "ns", subresource="status"
    )
    assert owners(changed)["solo", "Update", "status"]["f:status"] == {"f:phase": {}}
    assert "f:spec" in owners(changed)["creator", "Update", ""]


async def test_an_empty_list_resets_the_books(world):
    await world.create("configmaps", {"metadata": {"name": "a"}, "data": {"x": "1"}}, "ns")
    changed = await world.change("configmaps", "a", meta(managedFields=[{}], labels={"a": "b"}), "ns")
    assert owners(changed) == {}


async def test_apply_creates_changes_and_removes(world):
    made = await apply(world, config(x="1", y="2"), "me")
    assert made["metadata"]["uid"]
    assert owners(made) == {("me", "Apply", ""): {"f:data": {"f:x": {}, "f:y": {}}}}
    same = await apply(world, config(x="1", y="2"), "me")
    assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert (await apply(world, config(x="3"), "me"))["data"] == {"x": "3"}


async def test_apply_conflicts_name_the_manager(world):
    await apply(world, config(x="1"), "me")
    with pytest.raises(StatusError) as refused:
        await apply(world, config(x="2"), "you")
    assert refused.value.code == 409
    assert 'conflict with "me": .data.x' in refused.value.message
    forced = await apply(world, config(x="2"), "you", force=True)
    assert set(owners(forced)) == {("you", "Apply", "")}


async def test_apply_needs_leave_to_create_and_something_to_give_a_status(world):
    def refuse():
        raise StatusError(403, "Forbidden", "no")

    with pytest.raises(StatusError, match="no"):
        await apply(world, config(x="1"), "me", allow=refuse)
    with pytest.raises(StatusError) as refused:
        await apply(world, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}, "me", subresource="status")
    assert refused.value.code == 404
    with pytest.raises(StatusError) as refused:
        await apply(world, {**config(), "metadata": {"name": "a", "uid": "u"}}, "me")
    assert "uid mismatch" in refused.value.message


async def test_what_is_applied_is_validated(world):
    with pytest.raises(StatusError) as refused:
        await apply(world, {**config(), "metadata": {"name": "a", "labels": {"a b": "c"}}}, "me")
    assert refused.value.code == 422
    with pytest.raises(StatusError) as refused:
        await apply(world, {**config(), "nonsense": 1}, "me")
    assert "field not declared in schema" in refused.value.message


async def test_events_of_both_groups_are_the_same_objects(world):
    event = {
        "metadata": {"name": "e"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "example.com/c",
        "reportingInstance": "c-1",
        "action": "Try",
        "reason": "Tried",
        "type": "Normal",
        "note": "hello",
        "regarding": {"kind": "Pod", "namespace": "ns", "name": "p"},
    }
    await world.create("events", dict(event), "ns", group="events.k8s.io")
    stored = world.store.get(Key("events", "ns", "e"))
    assert (stored.obj["apiVersion"], stored.obj["message"]) == ("v1", "hello")
    assert stored.obj["involvedObject"]["name"] == "p"
    kind = world.kind("events", "events.k8s.io")
    shown = kind.served(stored.obj)
    assert {key: shown[key] for key in event if key != "metadata"} == {
        key: value for key, value in event.items() if key != "metadata"
    }
    assert b'"note":"hello"' in kind.served_raw(stored.raw)
    with pytest.raises(StatusError) as refused:
        await world.create("events", {"metadata": {"name": "f"}}, "ns", group="events.k8s.io")
    assert "reportingController: Required value" in refused.value.message
    await world.change("events", "e", lambda present: {**copy(present), "note": "bye"}, "ns", group="events.k8s.io")
    assert world.get("events", "e", "ns")["message"] == "bye"


def encoded(size: int) -> str:
    return base64.b64encode(bytes(size)).decode()


MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("plural", "fields", "problem"),
    [
        ("configmaps", {"data": {"a": "x" * MIB}}, None),
        ("configmaps", {"data": {"a": "x" * MIB, "b": "y"}}, "[]: Too long: may not be more than 1048576 bytes"),
        ("configmaps", {"data": {"a": "é" * (MIB // 2 + 1)}}, "[]: Too long"),
        ("configmaps", {"data": {"a": "x" * (MIB // 2)}, "binaryData": {"b": encoded(MIB // 2)}}, None),
        ("configmaps", {"data": {"a": "x" * (MIB // 2)}, "binaryData": {"b": encoded(MIB // 2 + 1)}}, "[]: Too long"),
        ("configmaps", {"data": {"a": "1"}, "binaryData": {"a": "Mg=="}}, "duplicate of key present in binaryData"),
        ("configmaps", {"data": {"k" * 254: ""}}, "must be no more than 253 characters"),
        ("configmaps", {"data": {"..": ""}}, "must not be '..'"),
        ("configmaps", {"data": {"..a": ""}}, "must not start with '..'"),
        ("configmaps", {"data": {"a/b": ""}}, "a valid config key must consist of"),
        ("secrets", {"data": {"a": encoded(MIB)}}, None),
        ("secrets", {"data": {"a": encoded(MIB), "b": encoded(1)}}, "data: Too long"),
        ("secrets", {"stringData": {"a": "x" * (MIB + 1)}}, "data: Too long"),
        ("secrets", {"data": {"..a": ""}}, "must not start with '..'"),
    ],
    ids=range(14),
)
async def test_what_config_maps_and_secrets_may_hold(world, plural, fields, problem):
    obj = {"metadata": {"name": "a"}, **fields}
    if problem is None:
        await world.create(plural, obj, "ns")
        return
    with pytest.raises(StatusError) as caught:
        await world.create(plural, obj, "ns")
    assert caught.value.code == 422 and problem in caught.value.message
