"""Streams of pods over HTTP: logs, and exec, attach and port-forward over WebSocket (`v4`/`v5.channel.k8s.io`).

A WebSocket message is one byte with the channel and then data; an upgrade to SPDY, which kubectl before 1.31 tries
first, is refused with an answer that says what is spoken.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import msgspec
from aiohttp import web

from kube.machinery import errors
from solo.http.logoptions import flag, log_options
from solo.http.streams import ERROR, RESIZE, STDIN, ExecSession, PodStreams
from solo.http.websockets import V4, V5, accept, frames, require_websocket

logger = logging.getLogger(__name__)

Obj = dict[str, Any]

_CLOSE = 255
_SUCCESS: Obj = {"metadata": {}, "status": "Success"}


class PodHandlers:
    """The subresources of pods that are streams. `streams` is set once the node agent runs."""

    def __init__(self) -> None:
        self.streams: PodStreams | None = None

    def _source(self) -> PodStreams:
        if self.streams is None:
            raise errors.service_unavailable("the node agent is not running yet")
        return self.streams

    async def log(self, request: web.Request, namespace: str, name: str) -> web.StreamResponse:
        """GET pods/log."""
        options = log_options(request.query, name)
        chunks = await self._source().open_log(namespace, name, options)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        try:
            async for chunk in chunks:
                await response.write(chunk)
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()
        await response.write_eof()
        return response

    async def exec(self, request: web.Request, namespace: str, name: str) -> web.StreamResponse:
        """GET or POST pods/exec."""
        query = request.query
        command = query.getall("command", [])
        if not command:
            raise errors.bad_request("you must specify at least one command for the container")
        require_websocket(request, (V5, V4))
        tty, stdin = flag(query, "tty"), flag(query, "stdin")
        session = await self._source().exec(
            namespace, name, query.get("container") or "", command, tty=tty, stdin=stdin
        )
        return await _serve_session(request, session, stdin=stdin)

    async def attach(self, request: web.Request, namespace: str, name: str) -> web.StreamResponse:
        """GET or POST pods/attach."""
        require_websocket(request, (V5, V4))
        query = request.query
        tty, stdin = flag(query, "tty"), flag(query, "stdin")
        session = await self._source().attach(namespace, name, query.get("container") or "", tty=tty, stdin=stdin)
        return await _serve_session(request, session, stdin=stdin)

    async def port_forward(self, request: web.Request, namespace: str, name: str) -> web.StreamResponse:
        """GET or POST pods/portforward."""
        from solo.http.portforward import serve_port_forward

        source = self._source()
        return await serve_port_forward(request, lambda port: source.port_forward(namespace, name, port))


async def _serve_session(request: web.Request, session: ExecSession, *, stdin: bool) -> web.StreamResponse:
    try:
        socket = await accept(request, (V5, V4))
    except BaseException:
        await session.close()
        raise
    reading = asyncio.ensure_future(_feed(socket, session, stdin=stdin))
    writing = asyncio.ensure_future(_drain(socket, session))
    try:
        await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
        if writing.done() and writing.exception() is None:
            status = _exit_status(await session.wait())
            await socket.send_bytes(bytes([ERROR]) + msgspec.json.encode(status))
    except ConnectionError:
        logger.debug("the client of a stream went away")
    finally:
        # First, and without a pause: the client that has gone cancels this handler, perhaps more than once.
        await session.close()
        for task in (reading, writing):
            task.cancel()
        await asyncio.gather(reading, writing, return_exceptions=True)
        with contextlib.suppress(ConnectionError, RuntimeError):
            await socket.close()
    return socket


async def _feed(socket: web.WebSocketResponse, session: ExecSession, *, stdin: bool) -> None:
    """From the client to the process, until the client closes."""
    async for message in frames(socket):
        channel, data = message[0], message[1:]
        if channel == STDIN and stdin:
            with contextlib.suppress(ConnectionError):
                await session.write(data)
        elif channel == RESIZE:
            with contextlib.suppress(msgspec.DecodeError, KeyError, TypeError, ValueError):
                size = msgspec.json.decode(data)
                await session.resize(int(size["Width"]), int(size["Height"]))
        elif channel == _CLOSE and data[:1] == bytes([STDIN]):
            await session.close_stdin()


async def _drain(socket: web.WebSocketResponse, session: ExecSession) -> None:
    """From the process to the client, until the process has closed its outputs."""
    while (item := await session.read()) is not None:
        channel, data = item
        await socket.send_bytes(bytes([channel]) + data)


def _exit_status(code: int) -> Obj:
    """The Status that tells a client how a command ended (remotecommand `v4` protocol)."""
    if code == 0:
        return _SUCCESS
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }
