"""A pod that names an address of its own: where it may be from, and what leads there."""

from __future__ import annotations

import asyncio

import pytest

from kube.machinery.errors import StatusError
from solo.node import addresses
from solo.node.addresses import POD_CIDRS, POD_IP
from unit.solo.node_api import Api, running_agent, until
from vmruntime.api import names

NODE = "/api/v1/nodes/me"
SLEEP = ("sleep", "600")


@pytest.fixture
async def api():
    async with Api().serve() as made:
        yield made


@pytest.fixture
async def agent(api, tmp_path):
    async with running_agent(api, tmp_path / "pods") as made:
        await watching(api)
        yield made
        for path in [path for path in api.objects if "/pods/" in path]:
            api.mark_deleted(path, grace=0)
        await until(lambda: not [path for path in api.objects if "/pods/" in path])


async def watching(api: Api) -> None:
    await until(lambda: NODE in api.objects and {prefix for prefix, _ in api.watchers} == {"nodes", "pods"})


def let(api: Api, cidrs: str) -> None:
    node = api.objects[NODE]
    api.put(NODE, {**node, "metadata": {**node["metadata"], "annotations": {POD_CIDRS: cidrs}}})


def pod(api: Api, address: str, **more) -> str:
    return api.pod("p", *SLEEP, annotations={POD_IP: address}, **more)


def test_the_product_uses_the_names_that_the_node_knows():
    assert (names.POD_IP_ANNOTATION, names.POD_CIDRS_ANNOTATION) == (POD_IP, POD_CIDRS)


@pytest.mark.parametrize(
    "address", ["10.9.0.1", "127.0.0.2", "169.254.169.254", "0.0.0.0", "::1", "10.8.0.300", "10.8.0.5/24", "localhost"]
)
def test_addresses_that_a_pod_cannot_have(address):
    network = addresses.pod_network(
        {"metadata": {"name": "me", "annotations": {POD_CIDRS: "10.8.0.0/24, nonsense,10.8.1.0/24"}}}
    )
    refused = {"metadata": {"annotations": {POD_IP: address}}}
    assert len(addresses.refusals(refused, network)) == 1
    assert addresses.settle(refused, network) == "127.0.0.1"
    taken = {"metadata": {"annotations": {POD_IP: "10.8.1.5"}}}
    assert addresses.refusals(taken, network) == [] and addresses.settle(taken, network) == "10.8.1.5"
    assert len(addresses.refusals(taken, ())) == 1


async def test_a_pod_waits_until_its_address_is_in_the_pod_network(api, agent):
    path = pod(api, "127.8.0.5")
    why = (await until(lambda: api.events("Failed")))[0]
    assert why == f"annotation {POD_IP}: 127.8.0.5 is not in the pod network of this node (it has none)"
    waiting = await until(lambda: api.state(path).get("waiting"))
    assert waiting == {"reason": "CreateContainerConfigError", "message": why}
    assert "podIP" not in api.status(path) and api.status(path)["phase"] == "Pending"
    let(api, "127.8.0.0/24")
    await until(lambda: "running" in api.state(path))
    status = api.status(path)
    assert (status["podIP"], status["podIPs"], status["hostIP"]) == ("127.8.0.5", [{"ip": "127.8.0.5"}], "127.0.0.1")


async def test_the_address_stays_with_the_process(api, tmp_path):
    root = tmp_path / "pods"
    async with running_agent(api, root):
        await watching(api)
        let(api, "127.8.0.0/24")
        path = pod(api, "127.8.0.5")
        await until(lambda: "running" in api.state(path))
    let(api, "127.9.0.0/24")
    annotated = {**api.objects[path]["metadata"], "annotations": {POD_IP: "127.9.0.5"}}
    api.put(path, {**api.objects[path], "metadata": annotated, "status": {"phase": "Running"}})
    async with running_agent(api, root):
        await until(lambda: api.status(path).get("podIP") == "127.8.0.5")
        api.mark_deleted(path, grace=0)
        await until(lambda: path not in api.objects)


async def test_port_forward_and_the_downward_api_know_the_address(api, agent):
    let(api, "127.8.0.0/24")
    asked = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(writer.get_extra_info("sockname"))
        writer.close()

    async with (
        await asyncio.start_server(answer, "127.8.0.5", 0) as plain,
        await asyncio.start_server(answer, "127.8.0.5", 0) as moved,
    ):
        port, other = (server.sockets[0].getsockname()[1] for server in (plain, moved))
        env = [{"name": "WHERE", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
        ports = [{"containerPort": 22, "hostPort": other, "hostIP": "127.8.0.5"}]
        elsewhere = {"containerPort": port, "hostPort": 1, "hostIP": "127.8.0.6"}
        path = pod(api, "127.8.0.5", container={"env": env, "ports": [*ports, elsewhere]})
        await until(lambda: "running" in api.state(path))
        for wanted in (port, 22):
            reader, writer = await agent.streams.port_forward("default", "p", wanted)
            assert await reader.read() == b""
            writer.close()
        assert asked == [("127.8.0.5", port), ("127.8.0.5", other)]
    session = await agent.streams.exec("default", "p", "", ["sh", "-c", "echo $WHERE"], tty=False, stdin=False)
    assert (await session.read())[1] == b"127.8.0.5\n"
    await session.close()


async def test_a_pod_without_an_address_is_reached_by_nobody(api, agent):
    path = pod(api, "", container={"readinessProbe": {"tcpSocket": {"port": 1}, "periodSeconds": 1}})
    await until(lambda: "running" in api.state(path))
    assert "podIP" not in api.status(path)
    with pytest.raises(StatusError, match="has no address"):
        await agent.streams.port_forward("default", "p", 22)
    assert (await until(lambda: api.events("Unhealthy")))[0] == "Readiness probe failed: the pod has no address"
