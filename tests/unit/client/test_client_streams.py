"""Exec, attach and port-forward against a WebSocket server that speaks the channel protocols."""

import asyncio
import io
import json

import pytest
from aiohttp import WSMsgType, web

from kube.client.aio import AsyncClient, ConnectionFailed, StatusError
from kube.client.streams import STDERR, STDOUT, attach_stream, exec_stream, port_forward

SUCCESS = {"status": "Success"}


def exited(code):
    causes = [{"reason": "ExitCode", "message": str(code)}]
    return {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}


def handler(script, *protocols):
    async def handle(request):
        socket = web.WebSocketResponse(protocols=protocols or ("v5.channel.k8s.io", "v4.channel.k8s.io"))
        await socket.prepare(request)
        await script(socket)
        await socket.close()
        return socket

    return handle


async def send(socket, channel, data):
    await socket.send_bytes(bytes([channel]) + data)


async def result(socket, status):
    await send(socket, 3, json.dumps(status).encode())


@pytest.fixture
async def connect(serve):
    clients = []

    async def start(script, *protocols):
        server = await serve(handler(script, *protocols))
        clients.append(AsyncClient(server.config, timeout=30))
        return server, clients[-1]

    yield start
    for client in clients:
        await client.close()


async def collect(stream):
    return [item async for item in stream]


async def test_exec_sends_input_and_gets_output_and_exit_code(connect):
    got = []

    async def script(socket):
        await send(socket, 1, b"")
        async for message in socket:
            got.append(message.data)
            if message.data == b"\xff\x00":
                await send(socket, 1, b"out")
                await send(socket, 2, b"err")
                await result(socket, exited(3))
                return

    server, client = await connect(script)
    async with exec_stream(client, "ns", "p", container="c", command=["sh", "-c", "a b"], stdin=True) as stream:
        await stream.send(b"hello")
        await stream.resize(80, 24)
        await stream.close_stdin()
        assert stream.exit_code is None
        assert await collect(stream) == [(STDOUT, b"out"), (STDERR, b"err")]
        assert stream.exit_code == 3
    assert got == [b"\x00hello", b'\x04{"Width": 80, "Height": 24}', b"\xff\x00"]
    assert server.requests == [
        "GET /api/v1/namespaces/ns/pods/p/exec?command=sh&command=-c&command=a+b&stdout=true"
        "&container=c&stdin=true&stderr=true"
    ]


async def test_attach_with_a_terminal(connect):
    async def script(socket):
        await send(socket, 1, b"login: ")
        await result(socket, SUCCESS)

    server, client = await connect(script)
    async with attach_stream(client, "ns", "p", stdin=True, tty=True) as stream:
        assert await collect(stream) == [(STDOUT, b"login: ")]
    assert stream.exit_code == 0
    assert server.requests == ["GET /api/v1/namespaces/ns/pods/p/attach?stdout=true&stdin=true&tty=true"]


async def test_an_older_server_cannot_end_stdin(connect):
    async def script(socket):
        await result(socket, SUCCESS)

    _, client = await connect(script, "v4.channel.k8s.io")
    async with exec_stream(client, "ns", "p", command=["true"], stdin=True) as stream:
        with pytest.raises(io.UnsupportedOperation):
            await stream.close_stdin()
        assert await collect(stream) == []
    assert stream.exit_code == 0


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ({"status": "Failure", "reason": "InternalError", "message": "no such container", "code": 500}, "no such cont"),
        ({"status": "Failure", "reason": "NonZeroExitCode"}, "cannot be read"),
        ("nonsense", "cannot be read: .nonsense"),
    ],
)
async def test_a_command_that_could_not_be_run(connect, status, message):
    async def script(socket):
        await result(socket, status)

    _, client = await connect(script)
    async with exec_stream(client, "ns", "p", command=["x"]) as stream:
        with pytest.raises(StatusError, match=message):
            await collect(stream)


async def test_a_refusal_keeps_the_words_of_the_server(serve, status_answer):
    async def refuse(request):
        return status_answer(403, "Forbidden", 'pods "p" is forbidden: you may not exec')

    async with AsyncClient((await serve(refuse)).config) as client:
        with pytest.raises(StatusError, match="you may not exec") as caught:
            async with exec_stream(client, "ns", "p", command=["x"]):
                pass
    assert caught.value.code == 403


async def test_nobody_listens_or_nobody_understands(connect, serve):
    async def script(socket):
        pass

    server, client = await connect(script, "other.protocol")
    with pytest.raises(StatusError, match="speaks none of v5"):
        async with exec_stream(client, "ns", "p", command=["x"]):
            pass
    await server.stop()
    with pytest.raises(ConnectionFailed, match="nothing listens"):
        async with exec_stream(client, "ns", "p", command=["x"]):
            pass


@pytest.mark.parametrize("how", ["abort", "close"])
async def test_a_connection_that_breaks_is_no_result(connect, how):
    async def script(socket):
        await send(socket, 1, b"begin")
        await asyncio.sleep(0.02)
        getattr(socket._req.transport, how)()

    _, client = await connect(script)
    async with exec_stream(client, "ns", "p", command=["x"]) as stream:
        items = aiter(stream)
        assert await anext(items) == (STDOUT, b"begin")
        with pytest.raises(ConnectionFailed) as caught:
            await anext(items)
    assert (caught.value.reason, stream.exit_code) == ("lost", None)


async def test_port_forward_strips_the_port_and_carries_bytes(connect):
    port = (8080).to_bytes(2, "little")

    async def script(socket):
        await send(socket, 0, port)
        await send(socket, 1, port)
        message = await socket.receive()
        assert message.type is WSMsgType.BINARY
        await send(socket, 0, message.data[1:].upper())
        await send(socket, 0, b"!")

    server, client = await connect(script)
    async with port_forward(client, "ns", "p", 8080) as stream:
        await stream.send(b"ping")
        assert b"".join(await collect(stream)) == b"PING!"
    assert server.requests == ["GET /api/v1/namespaces/ns/pods/p/portforward?ports=8080"]


async def test_port_forward_to_a_closed_port(connect):
    async def script(socket):
        port = (81).to_bytes(2, "little")
        await send(socket, 0, port)
        await send(socket, 1, port + b"nothing listens on port 81\n")

    _, client = await connect(script)
    async with port_forward(client, "ns", "p", 81) as stream:
        with pytest.raises(StatusError, match=r"^nothing listens on port 81$"):
            await collect(stream)
