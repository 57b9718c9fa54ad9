"""Port forwarding in both of its forms: channels of a WebSocket, and SPDY streams inside one.

Channels (`v4.channel.k8s.io`): the query names the ports; each has two channels, data and error, whose first message
is the port. SPDY (kubectl 1.31 and newer): each connection is a pair of streams, `error` and `data`, with the port and
a request ID in their headers; any number of connections share the WebSocket.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from kube.machinery import errors
from kube.machinery.errors import StatusError
from solo.http import spdy
from solo.http.websockets import SPDY_TUNNEL, UNNAMED, V4, accept, frames, require_websocket

logger = logging.getLogger(__name__)

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[int], Awaitable[Connection]]

_READ_SIZE = 32 * 1024
_QUEUED = 16
_MAX_PAIRS = 256


async def serve_port_forward(request: web.BaseRequest, connect: Connect) -> web.StreamResponse:
    """Answer a request to forward ports. `connect` opens a connection to a port of the pod."""
    require_websocket(request, (SPDY_TUNNEL, V4, UNNAMED))
    if SPDY_TUNNEL in request.headers.get("Sec-WebSocket-Protocol", ""):
        socket = await accept(request, (SPDY_TUNNEL,))
        try:
            await _Tunnel(socket, connect).run()
        finally:
            await _close(socket)
        return socket
    return await _serve_channels(request, connect)


async def _close(socket: web.WebSocketResponse) -> None:
    with contextlib.suppress(ConnectionError, RuntimeError):
        await socket.close()


# ---- channels


async def _serve_channels(request: web.BaseRequest, connect: Connect) -> web.StreamResponse:
    ports = _ports(request)
    connections: list[Connection] = []
    try:
        while len(connections) < len(ports):
            connections.append(await connect(ports[len(connections)]))
        socket = await accept(request, (V4,))
        for index, port in enumerate(ports):
            for channel in (2 * index, 2 * index + 1):
                await socket.send_bytes(bytes([channel]) + port.to_bytes(2, "little"))
        await _forward(socket, connections)
        await _close(socket)
    finally:
        for _, writer in connections:
            writer.close()
    return socket


def _ports(request: web.BaseRequest) -> list[int]:
    try:
        ports = [int(text) for item in request.query.getall("ports", []) for text in item.split(",")]
    except ValueError:
        raise errors.bad_request("query parameter ports must be a list of numbers") from None
    if not ports:
        raise errors.bad_request("query parameter ports is required")
    if any(not 0 < port < 1 << 16 for port in ports):
        raise errors.bad_request("ports are numbers between 1 and 65535")
    return ports


async def _forward(socket: web.WebSocketResponse, connections: list[Connection]) -> None:
    async def outward(index: int, reader: asyncio.StreamReader) -> None:
        try:
            while data := await reader.read(_READ_SIZE):
                await socket.send_bytes(bytes([2 * index]) + data)
        except OSError as problem:
            await socket.send_bytes(bytes([2 * index + 1]) + str(problem).encode())

    async def inward() -> None:
        async for message in frames(socket):
            channel, data = message[0], message[1:]
            if channel % 2 == 0 and channel // 2 < len(connections):
                writer = connections[channel // 2][1]
                writer.write(data)
                await writer.drain()

    tasks = [asyncio.ensure_future(outward(index, reader)) for index, (reader, _) in enumerate(connections)]
    feeding = asyncio.ensure_future(inward())
    try:
        await asyncio.wait((feeding, asyncio.gather(*tasks)), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (*tasks, feeding):
            task.cancel()
        await asyncio.gather(*tasks, feeding, return_exceptions=True)


# ---- SPDY


@dataclass(slots=True)
class _Pair:
    """The two streams of one connection. What the client sends waits in `queue` until the pod takes it; b"" ends it."""

    port: int
    error: int = 0
    data: int = 0
    queue: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(_QUEUED))
    task: asyncio.Task[None] | None = None


class _Tunnel:
    """One SPDY connection inside a WebSocket."""

    def __init__(self, socket: web.WebSocketResponse, connect: Connect) -> None:
        self._socket = socket
        self._connect = connect
        self._spdy = spdy.Connection()
        self._pairs: dict[str, _Pair] = {}
        self._by_stream: dict[int, tuple[str, _Pair]] = {}

    async def run(self) -> None:
        """Serve until the client closes."""
        try:
            async for message in frames(self._socket):
                for event in self._spdy.receive(message):
                    await self._handle(event)
        except (spdy.SpdyError, ConnectionError) as problem:
            logger.info("a port forwarding ended: %s", problem)
        finally:
            tasks = [pair.task for pair in self._pairs.values() if pair.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _handle(self, event: spdy.Event) -> None:
        if isinstance(event, spdy.Opened):
            await self._open(event)
        elif isinstance(event, spdy.Ping):
            await self._socket.send_bytes(spdy.ping_frame(event.number))
        elif event.stream in self._by_stream:
            name, pair = self._by_stream[event.stream]
            if isinstance(event, spdy.Reset):
                self._forget(name)
                if pair.task is not None:
                    pair.task.cancel()
            elif event.stream == pair.data:
                if event.data:
                    await pair.queue.put(event.data)
                if event.last:
                    await pair.queue.put(b"")

    async def _open(self, event: spdy.Opened) -> None:
        kind, name = event.headers.get("streamtype"), event.headers.get("requestid") or ""
        port = event.headers.get("port") or ""
        known = self._pairs.get(name)
        if kind not in ("error", "data") or not port.isdecimal() or (known is None and len(self._pairs) >= _MAX_PAIRS):
            await self._socket.send_bytes(spdy.reset_frame(event.stream))
            return
        pair = known or self._pairs.setdefault(name, _Pair(int(port)))
        self._by_stream[event.stream] = (name, pair)
        if kind == "error":
            pair.error = event.stream
        else:
            pair.data = event.stream
        await self._socket.send_bytes(self._spdy.accept(event.stream))
        if pair.error and pair.data and pair.task is None:
            pair.task = asyncio.create_task(self._run_pair(name, pair), name=f"port-forward {pair.port}")

    def _forget(self, name: str) -> None:
        pair = self._pairs.pop(name, None)
        if pair is not None:
            self._by_stream.pop(pair.error, None)
            self._by_stream.pop(pair.data, None)

    async def _run_pair(self, name: str, pair: _Pair) -> None:
        """Carry one connection to its end, and say on its error stream how it ended."""
        problem = ""
        try:
            reader, writer = await self._connect(pair.port)
        except StatusError as refused:
            problem = refused.message
        else:
            try:
                problem = await self._carry(pair, reader, writer)
            finally:
                writer.close()
        self._forget(name)
        with contextlib.suppress(ConnectionError):
            await self._socket.send_bytes(spdy.data_frame(pair.data, b"", last=True))
            await self._socket.send_bytes(spdy.data_frame(pair.error, problem.encode(), last=True))

    async def _carry(self, pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        """Both ways until the pod has ended its side; returns what went wrong, or nothing."""
        feeding = asyncio.ensure_future(_feed(pair.queue, writer))
        try:
            while data := await reader.read(_READ_SIZE):
                await self._socket.send_bytes(spdy.data_frame(pair.data, data))
        except OSError as problem:
            return f"error forwarding port {pair.port}: {problem}"
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
        return ""


async def _feed(queue: asyncio.Queue[bytes], writer: asyncio.StreamWriter) -> None:
    """From the client to the pod. When the pod takes no more, what still comes is dropped: its end is seen reading."""
    while data := await queue.get():
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            await writer.drain()
    if writer.can_write_eof():
        with contextlib.suppress(OSError):
            writer.write_eof()
