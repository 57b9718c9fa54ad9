"""Streams of pods over HTTP: logs, and exec, attach and port-forward over WebSocket (`v4`/`v5.channel.k8s.io`, and the
first version, `channel.k8s.io`; each also in base64).

An upgrade to SPDY, which kubectl before 1.31 tries first, is refused with an answer that says what is spoken. That
comes last: kubectl 1.31 and newer asks again over SPDY after any refusal, and shows what it hears then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import msgspec
from aiohttp import web
from multidict import MultiMapping

from kube.machinery import errors
from kube.machinery.errors import StatusError
from kube.machinery.queries import flag
from solo.http.logoptions import log_options
from solo.http.streams import ERROR, RESIZE, STDIN, ExecSession, PodStreams
from solo.http.websockets import (
    BASE64,
    BINARY,
    UNNAMED,
    V1,
    V1_BASE64,
    V4,
    V4_BASE64,
    V5,
    accept,
    channel_frames,
    is_websocket,
    require_websocket,
    send,
    send_channel,
    until_closed,
)

logger = logging.getLogger(__name__)

Obj = dict[str, Any]

_CONNECT_KINDS = {"exec": "PodExecOptions", "attach": "PodAttachOptions", "portforward": "PodPortForwardOptions"}
_CLOSE = 255
_CHANNELS = (V5, V4, V4_BASE64, V1, V1_BASE64, UNNAMED)
_FIRST_VERSION = (V1, V1_BASE64, None)
_SUCCESS: Obj = {"metadata": {}, "status": "Success"}


def connect_options(subresource: str, query: MultiMapping[str]) -> Obj:
    """The object that admission sees of a request for a stream (core PodExecOptions and its kin)."""
    options: Obj = {"kind": _CONNECT_KINDS[subresource], "apiVersion": "v1"}
    if subresource == "portforward":
        ports = [int(port) for text in query.getall("ports", []) for port in text.split(",") if port.isdecimal()]
        return {**options, "ports": ports} if ports else options
    options.update((name, True) for name in ("stdin", "stdout", "stderr", "tty") if flag(query, name))
    if query.get("container"):
        options["container"] = query["container"]
    if subresource == "exec":
        options["command"] = query.getall("command", [])
    return options


class PodHandlers:
    """The subresources of pods that are streams. `streams` is set once the node agent runs."""

    def __init__(self) -> None:
        self.streams: PodStreams | None = None

    def _source(self) -> PodStreams:
        if self.streams is None:
            raise errors.service_unavailable("the node agent is not running yet")
        return self.streams

    async def log(self, request: web.BaseRequest, pod: Obj) -> web.StreamResponse:
        """GET pods/log. A pod that has no node yet has no log yet: 204."""
        namespace, name = _place(pod)
        options = log_options(request.query, name)
        if not pod["spec"].get("nodeName"):
            _check_container(pod, options.container)
            return web.Response(status=204)
        chunks = await self._source().open_log(namespace, name, options)
        if is_websocket(request):
            return await _log_over_websocket(request, chunks)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        try:
            await response.prepare(request)
            async for chunk in chunks:
                await response.write(chunk)
        finally:
            await _close(chunks)
        await response.write_eof()
        return response

    async def exec(self, request: web.BaseRequest, pod: Obj) -> web.StreamResponse:
        """GET or POST pods/exec. A command that cannot be started is told of on the stream, as kubelets do."""
        query, container = request.query, request.query.get("container") or ""
        command = query.getall("command", [])
        if not command:
            raise errors.bad_request("you must specify at least one command for the container")
        _check_node(pod, container)
        source, place = self._source(), _place(pod)
        source.check_running(*place, container)
        require_websocket(request, _CHANNELS)
        tty, stdin = flag(query, "tty"), flag(query, "stdin")
        try:
            session = await source.exec(*place, container, command, tty=tty, stdin=stdin)
        except StatusError as problem:
            return await _serve_failure(request, problem)
        return await _serve_session(request, session, stdin=stdin)

    async def attach(self, request: web.BaseRequest, pod: Obj) -> web.StreamResponse:
        """GET or POST pods/attach."""
        query, container = request.query, request.query.get("container") or ""
        _check_node(pod, container)
        tty, stdin = flag(query, "tty"), flag(query, "stdin")
        session = await self._source().attach(*_place(pod), container, tty=tty, stdin=stdin)
        return await _serve_session(request, session, stdin=stdin)

    async def port_forward(self, request: web.BaseRequest, pod: Obj) -> web.StreamResponse:
        """GET or POST pods/portforward."""
        from solo.http.portforward import serve_port_forward

        _check_node(pod, "")
        source, place = self._source(), _place(pod)
        return await serve_port_forward(request, lambda port: source.port_forward(*place, port))


def _place(pod: Obj) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]


def _check_node(pod: Obj, container: str) -> None:
    """Raise 400 for a pod that has no node yet, as kube-apiserver does, which looks for the container first."""
    if not pod["spec"].get("nodeName"):
        _check_container(pod, container)
        raise errors.bad_request(f"pod {pod['metadata']['name']} does not have a host assigned")


def _check_container(pod: Obj, name: str) -> None:
    spec = pod["spec"]
    if name and all(each["name"] != name for each in [*spec["containers"], *(spec.get("initContainers") or ())]):
        raise errors.bad_request(f"container {name} is not valid for pod {pod['metadata']['name']}")


async def _close(chunks: AsyncIterator[bytes]) -> None:
    close = getattr(chunks, "aclose", None)
    if close is not None:
        await close()


async def _log_over_websocket(request: web.BaseRequest, chunks: AsyncIterator[bytes]) -> web.StreamResponse:
    """Each piece of the log is a message. The client may close before the log ends."""

    async def copy(socket: web.WebSocketResponse) -> None:
        async for chunk in chunks:
            await send(socket, chunk)

    try:
        socket = await accept(request, (BINARY, BASE64))
        await _either(copy(socket), until_closed(socket))
        with contextlib.suppress(ConnectionError, RuntimeError):
            await socket.close()
    finally:
        await _close(chunks)
    return socket


async def _either(*work: Coroutine[Any, Any, None]) -> None:
    """Until one of them ends, whose exception is raised unless it is that the client has gone; the others are ended."""
    tasks = [asyncio.ensure_future(item) for item in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        with contextlib.suppress(ConnectionError):
            for task in done:
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _serve_failure(request: web.BaseRequest, problem: StatusError) -> web.StreamResponse:
    """A stream that only says why there is nothing to hear."""
    socket = await accept(request, tuple(filter(None, _CHANNELS)))
    with contextlib.suppress(ConnectionError, RuntimeError):
        await _send_status(socket, problem.to_status())
        await socket.close()
    return socket


async def _serve_session(request: web.BaseRequest, session: ExecSession, *, stdin: bool) -> web.StreamResponse:
    try:
        require_websocket(request, _CHANNELS)
        socket = await accept(request, tuple(filter(None, _CHANNELS)))
    except BaseException:
        await session.close()
        raise
    reading = asyncio.ensure_future(_feed(socket, session, stdin=stdin))
    writing = asyncio.ensure_future(_drain(socket, session))
    try:
        await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
        if writing.done() and writing.exception() is None:
            await _send_status(socket, _exit_status(await session.wait()))
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
    async for channel, data in channel_frames(socket):
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
        await send_channel(socket, *item)


async def _send_status(socket: web.WebSocketResponse, status: Obj) -> None:
    """How it ended: a Status, or in the first version its message, and nothing of success."""
    if socket.ws_protocol not in _FIRST_VERSION:
        await send_channel(socket, ERROR, msgspec.json.encode(status))
    elif status is not _SUCCESS:
        await send_channel(socket, ERROR, str(status["message"]).encode())


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
