"""kubernetes_asyncio: objects, patches, apply, watches, logs and exec."""

from __future__ import annotations

import pytest
from kubernetes_asyncio import client, config, watch
from kubernetes_asyncio.client.exceptions import ApiException
from kubernetes_asyncio.stream import WsApiClient

from compat.conftest import sleeping_pod

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
async def configuration(cluster):
    made = client.Configuration()
    await config.load_kube_config(str(cluster.kubeconfig), client_configuration=made)
    return made


@pytest.fixture
async def api(configuration):
    async with client.ApiClient(configuration) as made:
        yield made


def configmap(name, **data):
    meta = {"name": name, "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


async def test_objects_patches_and_apply(api, namespace):
    core = client.CoreV1Api(api)
    await core.create_namespaced_config_map(namespace, configmap("a", k="1"))
    patch = core.patch_namespaced_config_map
    assert (await patch("a", namespace, {"data": {"s": "1"}})).data == {"k": "1", "s": "1"}
    operations = [{"op": "remove", "path": "/data/s"}]
    changed = await patch("a", namespace, operations, _content_type="application/json-patch+json")
    assert changed.data == {"k": "1"}
    apply = {"_content_type": "application/apply-patch+yaml", "field_manager": "me"}
    bare = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "data": {"k": "1"}}
    assert (await patch("b", namespace, bare, **apply)).metadata.managed_fields[0].operation == "Apply"
    await core.delete_namespaced_config_map("a", namespace)
    with pytest.raises(ApiException) as refused:
        await core.read_namespaced_config_map("a", namespace)
    assert refused.value.status == 404


async def test_custom_resources(api, gears, namespace):
    custom = client.CustomObjectsApi(api)
    where = ("gears.example.com", "v1", namespace, "gears")
    gear = {"apiVersion": "gears.example.com/v1", "kind": "Gear", "metadata": {"name": "g"}, "spec": {"teeth": 3}}
    await custom.create_namespaced_custom_object(*where, gear)
    change = [{"op": "replace", "path": "/spec/teeth", "value": 4}]
    await custom.patch_namespaced_custom_object(*where, "g", change)
    listed = await custom.list_namespaced_custom_object(*where)
    assert [item["spec"]["teeth"] for item in listed["items"]] == [4]


async def test_a_watch_is_resumed(api, namespace):
    core = client.CoreV1Api(api)
    first = await core.create_namespaced_config_map(namespace, configmap("a"))
    await core.create_namespaced_config_map(namespace, configmap("b"))
    seen = []
    async with watch.Watch().stream(
        core.list_namespaced_config_map,
        namespace,
        resource_version=first.metadata.resource_version,
        label_selector="app",
        timeout_seconds=1,
    ) as events:
        async for event in events:
            seen.append((event["type"], event["object"].metadata.name))
            break
    assert seen == [("ADDED", "b")]


async def test_logs_and_exec(api, configuration, namespace):
    core = client.CoreV1Api(api)
    await core.create_namespaced_pod(namespace, sleeping_pod("p"))
    async with watch.Watch().stream(core.list_namespaced_pod, namespace, timeout_seconds=20) as events:
        async for event in events:
            if any(
                entry.type == "Ready" and entry.status == "True" for entry in event["object"].status.conditions or []
            ):
                break
    assert await core.read_namespaced_pod_log("p", namespace) == "one\n"
    async with WsApiClient(configuration) as sockets:
        said = await client.CoreV1Api(sockets).connect_get_namespaced_pod_exec(
            "p", namespace, command=["sh", "-c", "echo out; echo err >&2"], stdout=True, stderr=True
        )
    assert sorted(said.split()) == ["err", "out"]
