"""kr8s: objects, patches, watches, waiting, logs, exec and port forwarding."""

from __future__ import annotations

import asyncio

import httpx
import kr8s
import pytest
from bench.processes import free_port
from kr8s.asyncio.objects import ConfigMap, Deployment, Pod, new_class

from compat.conftest import http_pod

pytestmark = pytest.mark.filterwarnings("default")
Gear = new_class("Gear", version="gears.example.com/v1", namespaced=True)


@pytest.fixture
async def api(cluster, namespace):
    return await kr8s.asyncio.api(kubeconfig=str(cluster.kubeconfig), namespace=namespace)


def configmap(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": name}}, "data": data}


async def test_objects_and_patches(api, namespace):
    made = await ConfigMap(configmap("a", k="1"), namespace=namespace, api=api)
    await made.create()
    await made.patch({"data": {"s": "1"}})
    await made.patch([{"op": "remove", "path": "/data/s"}], type="json")
    await made.label(tier="web")
    found = [item async for item in api.get("configmaps", namespace=namespace, label_selector={"tier": "web"})]
    assert [(item.name, item.raw.data.to_dict()) for item in found] == [("a", {"k": "1"})]
    await made.delete()
    await made.wait("delete", timeout=40)
    assert not await made.exists()


async def test_custom_resources(api, gears, namespace):
    gear = await Gear({"metadata": {"name": "g"}, "spec": {"teeth": 3}}, namespace=namespace, api=api)
    await gear.create()
    await gear.patch({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}, subresource="status")
    await gear.wait("condition=Ready", timeout=40)
    assert (await Gear.get("g", namespace=namespace, api=api)).spec.teeth == 3


async def test_watch(api, namespace):
    seen = []

    async def watch():
        async for kind, item in api.watch("configmaps", namespace=namespace, label_selector={"app": "a"}):
            seen.append((kind, item.name))
            if kind == "DELETED":
                return

    watching = asyncio.ensure_future(watch())
    made = await ConfigMap(configmap("a"), namespace=namespace, api=api)
    await made.create()
    while not seen:
        await asyncio.sleep(0.02)
    await made.delete()
    await asyncio.wait_for(watching, 40)
    assert seen == [("ADDED", "a"), ("DELETED", "a")]


async def test_scale(api, namespace):
    labels = {"app": "d"}
    template = {"metadata": {"labels": labels}, "spec": http_pod("")["spec"]}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    made = await Deployment({"metadata": {"name": "d"}, "spec": spec}, namespace=namespace, api=api)
    await made.create()
    await asyncio.wait_for(made.scale(1), 40)
    await asyncio.wait_for(made.wait("condition=Available"), 40)
    assert made.replicas == 1
    assert len([pod async for pod in api.get("pods", namespace=namespace)]) == 1
    await made.delete(propagation_policy="Foreground")


async def test_streams(api, namespace):
    pod = await Pod(http_pod("web"), namespace=namespace, api=api)
    await pod.create()
    await pod.wait("condition=Ready", timeout=20)
    port = int(await anext(aiter(pod.logs(follow=True))))
    done = await pod.exec(["sh", "-c", "echo out; echo err >&2"])
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 0)
    async with pod.portforward(port, local_port=free_port()) as local, httpx.AsyncClient() as http:
        assert (await http.get(f"http://127.0.0.1:{local}/")).status_code == 200
