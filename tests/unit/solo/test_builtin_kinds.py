"""What the built-in kinds fill in, refuse and keep, each by its own rules."""

from __future__ import annotations

import base64

import pytest

from kube.machinery.errors import StatusError
from solo.registry.objects import copy
from solo.store import Key
from unit.solo.conftest import meta, pod, with_


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
