"""Logs, exec and watches over WebSocket, in all forms that kube-apiserver speaks; kubectl uses the newest only."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import WSMsgType

from kube.client.aio import AsyncClient
from kube.client.config import load_kubeconfig
from kube.machinery.resources import CONFIGMAPS, PODS

HEARTBEAT = 10.0


@pytest.fixture
async def client(cluster) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(load_kubeconfig(str(cluster.kubeconfig))) as made:
        yield made


@pytest.fixture
def pod(cluster, admin, namespace) -> str:
    spec = {
        "containers": [{"name": "c", "image": "host", "command": ["sh", "-c", "echo one; echo two; exec sleep 600"]}]
    }
    admin.create(PODS, {"metadata": {"name": "talks"}, "spec": spec}, namespace)
    cluster.kubectl("wait", "-n", namespace, "--for=condition=Ready", "pod/talks", "--timeout=30s")
    return f"/api/v1/namespaces/{namespace}/pods/talks"


async def messages(client: AsyncClient, target: str, *protocols: str, enough: int = 1000) -> tuple[str | None, list]:
    """The protocol that was chosen, and the messages until the server closes or there are enough."""
    socket = await client.websocket(target, protocols, HEARTBEAT)
    try:
        received = []
        async for message in socket:
            assert message.type in (WSMsgType.BINARY, WSMsgType.TEXT)
            received.append(message.data)
            if len(received) == enough:
                break
        return socket.protocol, received
    finally:
        await socket.close()


async def test_logs(client, pod):
    chosen, pieces = await messages(client, f"{pod}/log?container=c", "binary.k8s.io")
    assert (chosen, b"".join(pieces)) == ("binary.k8s.io", b"one\ntwo\n")
    chosen, pieces = await messages(client, f"{pod}/log", "base64.binary.k8s.io")
    assert b"".join(map(base64.b64decode, pieces)) == b"one\ntwo\n"
    _, pieces = await messages(client, f"{pod}/log?tailLines=1")
    assert b"".join(pieces) == b"two\n"
    # The client, not the log, ends this one.
    _, pieces = await messages(client, f"{pod}/log?follow=true&tailLines=1", "binary.k8s.io", enough=1)
    assert pieces == [b"two\n"]


@pytest.mark.parametrize("protocol", ["channel.k8s.io", "v4.channel.k8s.io", "v5.channel.k8s.io"])
async def test_exec_in_bytes(client, pod, protocol):
    command = "command=sh&command=-c&command=echo%20out;echo%20err%20%3E%262;exit%203"
    chosen, pieces = await messages(client, f"{pod}/exec?{command}&stdout=1&stderr=1", protocol)
    assert chosen == protocol
    assert b"\x01out\n" in pieces
    assert b"\x02err\n" in pieces
    ending = pieces[-1]
    text = "command terminated with non-zero exit code: exit status 3"
    assert ending[0] == 3
    if protocol == "channel.k8s.io":
        assert ending[1:].decode() == text
    else:
        assert json.loads(ending[1:])["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]


async def test_a_command_that_cannot_be_started(client, pod):
    _, pieces = await messages(client, f"{pod}/exec?command=no-such-program&stdout=1", "v5.channel.k8s.io")
    (ending,) = pieces
    status = json.loads(ending[1:])
    assert (ending[0], status["reason"], status["code"]) == (3, "InternalError", 500)
    assert "error executing command in container" in status["message"]
    assert "executable file not found" in status["message"]
    _, (ending,) = await messages(client, f"{pod}/exec?command=no-such-program&stdout=1", "channel.k8s.io")
    assert ending[1:].decode() == status["message"]


@pytest.mark.parametrize("protocol", ["base64.channel.k8s.io", "v4.base64.channel.k8s.io"])
async def test_exec_in_base64(client, pod, protocol):
    socket = await client.websocket(f"{pod}/exec?command=head&command=-n1&stdin=1&stdout=1", (protocol,), HEARTBEAT)
    await socket.send_str("0" + base64.b64encode(b"hello\n").decode())
    received = [message.data async for message in socket]
    assert received[0] == "1" + base64.b64encode(b"hello\n").decode()
    assert [text[0] for text in received] == (["1"] if protocol.startswith("base64") else ["1", "3"])


async def test_a_watch_has_a_message_for_each_event(client, admin, namespace):
    for name in ("a", "b"):
        admin.create(CONFIGMAPS, {"metadata": {"name": name}}, namespace)
    path = f"/api/v1/namespaces/{namespace}/configmaps?watch=1&labelSelector=!nothing"
    _, texts = await messages(client, f"{path}&timeoutSeconds=2")
    seen = {json.loads(text)["object"]["metadata"]["name"] for text in texts}
    assert {"a", "b"} <= seen
    _, texts = await messages(client, path, enough=1)
    assert json.loads(texts[0])["type"] == "ADDED"
