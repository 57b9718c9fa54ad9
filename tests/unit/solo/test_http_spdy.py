"""SPDY framing, and port forwarding over it: a client and a server of ours against each other."""

from __future__ import annotations

import asyncio
import struct

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from kube.machinery.errors import internal
from solo.http import spdy
from solo.http.portforward import serve_port_forward
from solo.http.websockets import SPDY_TUNNEL


def events(connection, data):
    return list(connection.receive(data))


def test_the_dictionary_is_the_one_of_the_draft():
    assert len(spdy.DICTIONARY) == 1423
    assert spdy.DICTIONARY.startswith(b"\0\0\0\x07options\0\0\0\x04head")


def test_streams_are_opened_with_headers_of_any_split():
    client, server = spdy.Connection(), spdy.Connection()
    sent = client.open(1, {"streamType": "error", "port": "80"}) + client.open(3, {"streamType": "data", "port": "80"})
    got = [event for byte in sent for event in server.receive(bytes([byte]))]
    assert [(event.stream, event.headers["streamtype"]) for event in got] == [(1, "error"), (3, "data")]
    assert events(client, server.accept(1) + server.accept(3)) == []


def test_data_reset_ping_and_unknown_frames():
    connection = spdy.Connection()
    settings = struct.pack(">HHI", 0x8003, 4, 4) + b"\0\0\0\0"
    sent = settings + spdy.goaway_frame(5) + spdy.data_frame(1, b"x", last=True) + spdy.reset_frame(3)
    assert events(connection, sent + spdy.ping_frame(7)) == [
        spdy.Data(1, b"x", last=True),
        spdy.Reset(3),
        spdy.Ping(7),
    ]


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">HHI", 0x8002, 1, 0),
        struct.pack(">II", 1, 0xFFFFFF),
        struct.pack(">HHI", 0x8003, 1, 12) + b"\0" * 12,
        struct.pack(">HHI", 0x8003, 6, 1) + b"\0",
    ],
)
def test_what_is_no_spdy_is_refused(data):
    with pytest.raises(spdy.SpdyError):
        events(spdy.Connection(), data)


@pytest.fixture
async def tunnel():
    """A client's WebSocket to a forwarding server; port 80 answers in capitals, all others refuse."""

    async def answer(reader, writer):
        while data := await reader.read(1000):
            writer.write(data.upper())
        writer.close()
        await writer.wait_closed()

    target = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = target.sockets[0].getsockname()[1]

    async def connect(wanted):
        if wanted != 80:
            raise internal(f"failed to connect to port {wanted}")
        return await asyncio.open_connection("127.0.0.1", port)

    async def serve(request):
        return await serve_port_forward(request, connect)

    app = web.Application()
    app.router.add_get("/", serve)
    async with TestClient(TestServer(app)) as client, client.ws_connect("/", protocols=[SPDY_TUNNEL]) as socket:
        yield socket
    target.close()
    await target.wait_closed()


async def collect(socket, connection, streams):
    """What arrives on each stream until all of them have ended."""
    got = dict.fromkeys(streams, b"")
    left = set(streams)
    async with asyncio.timeout(30):
        while left:
            for event in connection.receive(await socket.receive_bytes()):
                got[event.stream] += event.data
                if event.last:
                    left.discard(event.stream)
    return got


async def open_pair(socket, connection, first, port, name):
    for stream, kind in ((first, "error"), (first + 2, "data")):
        headers = {"streamType": kind, "port": port, "requestID": name}
        await socket.send_bytes(connection.open(stream, headers))


async def test_connections_share_a_tunnel(tunnel):
    connection = spdy.Connection()
    await open_pair(tunnel, connection, 1, "80", "0")
    await open_pair(tunnel, connection, 5, "80", "1")
    for stream, text in ((3, b"one"), (7, b"two")):
        await tunnel.send_bytes(spdy.data_frame(stream, text, last=True))
    assert await collect(tunnel, connection, (1, 3, 5, 7)) == {1: b"", 3: b"ONE", 5: b"", 7: b"TWO"}


async def test_a_refused_port_is_told_on_the_error_stream(tunnel):
    connection = spdy.Connection()
    await open_pair(tunnel, connection, 1, "81", "0")
    got = await collect(tunnel, connection, (1, 3))
    assert b"failed to connect to port 81" in got[1]


async def test_nonsense_is_reset(tunnel):
    connection = spdy.Connection()
    await tunnel.send_bytes(connection.open(1, {"streamType": "other"}))
    assert (await tunnel.receive_bytes())[:4] == struct.pack(">HH", 0x8003, 3)
