"""Streams into pods over WebSockets: exec, attach and port-forward.

Source: apimachinery `util/remotecommand` (v4.channel.k8s.io, v5.channel.k8s.io) and kubelet `portforward/websocket.go`.
Each binary message begins with one byte, the channel. Exec and attach use 0 stdin, 1 stdout, 2 stderr, 3 the result as
a `Status` object, 4 terminal sizes and, in v5 only, 255 followed by a channel: that channel has ended. Port-forward
uses 0 for data and 1 for an error text; the first message on each is the port, two bytes, little-endian.
"""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

import aiohttp

from kube.client.aio import AsyncClient
from kube.client.errors import ConnectionFailed
from kube.machinery.errors import StatusError, bad_request
from kube.machinery.resources import PODS

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255

_V5, _V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
_HEARTBEAT = 30.0
"""Seconds between pings; a peer that does not answer one in half that time is gone."""
_PORT_HEADER = 2


class _PodSocket:
    """One WebSocket to a pod's subresource: opened and closed with `async with`, failures in this client's words."""

    def __init__(self, client: AsyncClient, target: str, protocols: tuple[str, ...]) -> None:
        self._client = client
        self._target = target
        self._protocols = protocols
        self._opened: aiohttp.ClientWebSocketResponse | None = None

    async def __aenter__(self) -> Self:
        """Raises StatusError when the server refuses, ConnectionFailed when it cannot be reached."""
        try:
            opened = await self._client.websocket(self._target, self._protocols, _HEARTBEAT)
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            raise self._client.failure(exc) from exc
        self._opened = opened
        if opened.protocol not in self._protocols:
            await opened.close()
            raise bad_request(f"the server speaks none of {', '.join(self._protocols)}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._socket.close()

    @property
    def _socket(self) -> aiohttp.ClientWebSocketResponse:
        if self._opened is None:
            raise RuntimeError("the stream is used outside its `async with`")
        return self._opened

    async def _send(self, channel: int, data: bytes) -> None:
        try:
            await self._socket.send_bytes(bytes([channel]) + data)
        except (aiohttp.ClientError, OSError) as exc:
            raise self._client.failure(exc) from exc

    async def _messages(self) -> AsyncIterator[tuple[int, bytes]]:
        async for message in self._socket:
            if message.type is aiohttp.WSMsgType.ERROR:
                raise self._lost() from self._socket.exception()
            data: bytes = message.data.encode() if message.type is aiohttp.WSMsgType.TEXT else message.data
            if data:
                yield data[0], data[1:]

    def _lost(self) -> ConnectionFailed:
        return self._client.failure(ConnectionResetError("the stream ended without a result"))


class PodStream(_PodSocket):
    """A command in a container, or its main process: send input, iterate over `(channel, data)`, read `exit_code`."""

    exit_code: int | None = None
    """Set at the end of the iteration: the command's exit code, None when the server did not tell."""

    async def send(self, data: bytes) -> None:
        """Write to stdin. Raises ConnectionFailed."""
        await self._send(STDIN, data)

    async def resize(self, columns: int, rows: int) -> None:
        """Tell the terminal its size. Raises ConnectionFailed."""
        await self._send(RESIZE, json.dumps({"Width": columns, "Height": rows}).encode())

    async def close_stdin(self) -> None:
        """End stdin while output goes on. Raises io.UnsupportedOperation when the server speaks only v4."""
        if self._socket.protocol != _V5:
            raise io.UnsupportedOperation("this server's protocol (v4.channel.k8s.io) cannot end stdin")
        await self._send(CLOSE, bytes([STDIN]))

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        """Stdout and stderr as they come. Raises StatusError when the command could not be run at all, and
        ConnectionFailed when the connection broke before the result came."""
        result: bytes | None = None
        async for channel, data in self._messages():
            if channel == ERROR:
                result = data if result is None else result + data
            elif channel in (STDOUT, STDERR) and data:
                yield channel, data
        if result:
            self.exit_code = _exit_code(result)
        elif self._socket.close_code != aiohttp.WSCloseCode.OK:
            raise self._lost()


class PortForward(_PodSocket):
    """A TCP connection to a port of a pod: send bytes, iterate over the bytes that come back."""

    async def send(self, data: bytes) -> None:
        """Raises ConnectionFailed."""
        await self._send(0, data)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Raises StatusError with the text of the error channel, for example that nothing listens on the port."""
        headers = {0: _PORT_HEADER, 1: _PORT_HEADER}
        error = b""
        async for channel, data in self._messages():
            if channel not in headers:
                continue
            skip = min(headers[channel], len(data))
            headers[channel] -= skip
            payload = data[skip:]
            if channel == 1:
                error += payload
            elif payload:
                yield payload
        if error:
            raise StatusError(502, "PortForwardFailed", error.decode("utf-8", "replace").strip())


def exec_stream(
    client: AsyncClient,
    namespace: str,
    pod: str,
    *,
    command: Sequence[str],
    container: str | None = None,
    stdin: bool = False,
    tty: bool = False,
) -> PodStream:
    """Run `command` in a container of a pod. With `tty`, stderr arrives on stdout."""
    query = [("command", part) for part in command]
    return PodStream(client, _target(namespace, pod, "exec", query, container, stdin, tty), (_V5, _V4))


def attach_stream(
    client: AsyncClient,
    namespace: str,
    pod: str,
    *,
    container: str | None = None,
    stdin: bool = False,
    tty: bool = False,
) -> PodStream:
    """Connect to the main process of a container of a pod."""
    return PodStream(client, _target(namespace, pod, "attach", [], container, stdin, tty), (_V5, _V4))


def port_forward(client: AsyncClient, namespace: str, pod: str, port: int) -> PortForward:
    """Connect to a TCP port of a pod."""
    target = f"{PODS.path(namespace, pod, 'portforward')}?{urlencode({'ports': port})}"
    return PortForward(client, target, (_V4,))


def _target(
    namespace: str,
    pod: str,
    subresource: str,
    query: list[tuple[str, str]],
    container: str | None,
    stdin: bool,
    tty: bool,
) -> str:
    wanted = [*query, ("stdout", "true")]
    if container:
        wanted.append(("container", container))
    if stdin:
        wanted.append(("stdin", "true"))
    # A terminal has one output: the API refuses stderr beside a tty.
    wanted.append(("tty", "true") if tty else ("stderr", "true"))
    return f"{PODS.path(namespace, pod, subresource)}?{urlencode(wanted)}"


def _exit_code(result: bytes) -> int:
    """The exit code in a `Status` object. Raises StatusError when it tells of another failure than a command's own."""
    try:
        status = json.loads(result)
        if status["status"] == "Success":
            return 0
        if status.get("reason") == "NonZeroExitCode":
            causes = status["details"]["causes"]
            return next(int(cause["message"]) for cause in causes if cause["reason"] == "ExitCode")
    except (ValueError, KeyError, TypeError, StopIteration) as exc:
        text = result[:200].decode("utf-8", "replace")
        raise StatusError(500, "InternalError", f"the result of the command cannot be read: {text}") from exc
    raise StatusError.from_status(status, 500)
