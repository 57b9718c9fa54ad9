"""What all streams over WebSocket begin with: refusal of other upgrades, choice of a protocol, handshake; and the
framing of channels (Kubernetes `wsstream`: `channel.k8s.io` and its later versions).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator

from aiohttp import WSMsgType, web

from kube.machinery import errors

V5 = "v5.channel.k8s.io"
V4 = "v4.channel.k8s.io"
V4_BASE64 = "v4.base64.channel.k8s.io"
V1 = "channel.k8s.io"
V1_BASE64 = "base64.channel.k8s.io"
BINARY = "binary.k8s.io"
BASE64 = "base64.binary.k8s.io"
SPDY_TUNNEL = "SPDY/3.1+portforward.k8s.io"
UNNAMED = ""
"""What a client speaks that offers no protocol: where a kubelet accepts that, it takes it for binary channels."""

_MAX_MESSAGE = 4 * 1024 * 1024
_HEARTBEAT_SECONDS = 30.0


_AS_BASE64 = frozenset({V4_BASE64, V1_BASE64, BASE64})


def is_websocket(request: web.BaseRequest) -> bool:
    """Whether the client asks for a WebSocket."""
    return (request.headers.get("Upgrade") or "").lower() == "websocket"


def _offered(request: web.BaseRequest) -> list[str]:
    header = ",".join(request.headers.getall("Sec-WebSocket-Protocol", []))
    return [item.strip() for item in header.split(",") if item.strip()]


def require_websocket(request: web.BaseRequest, protocols: tuple[str, ...]) -> None:
    """Raise 400 unless the client upgrades to a WebSocket with a protocol that is spoken."""
    if not is_websocket(request):
        spoken = f"; {request.headers['Upgrade']} is not spoken" if request.headers.get("Upgrade") else ""
        raise errors.bad_request(
            f"this server streams over WebSocket only ({', '.join(filter(None, protocols))}){spoken}: "
            "use kubectl 1.31 or newer, or set "
            "KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true and KUBECTL_PORT_FORWARD_WEBSOCKETS=true"
        )
    offered = _offered(request) or [UNNAMED]
    if not set(offered) & set(protocols):
        raise errors.bad_request(
            f"unable to upgrade: unable to negotiate protocol: client supports {offered}, "
            f"server accepts {list(protocols)}"
        )


async def accept(request: web.BaseRequest, protocols: tuple[str, ...]) -> web.WebSocketResponse:
    """Complete the handshake; the first of `protocols` that the client offers is spoken."""
    socket = web.WebSocketResponse(
        protocols=protocols, max_msg_size=_MAX_MESSAGE, heartbeat=_HEARTBEAT_SECONDS, compress=False
    )
    await socket.prepare(request)
    return socket


async def frames(socket: web.WebSocketResponse) -> AsyncIterator[bytes]:
    """The messages that are not empty, until the socket closes: text counts as its bytes, as at kube-apiserver."""
    async for message in socket:
        if message.type is WSMsgType.BINARY and message.data:
            yield message.data
        elif message.type is WSMsgType.TEXT and message.data:
            yield message.data.encode()


async def until_closed(socket: web.WebSocketResponse) -> None:
    """Take what a client sends that has nothing to say, until it closes."""
    async for _ in frames(socket):
        pass


async def send(socket: web.WebSocketResponse, data: bytes) -> None:
    """One message of a stream without channels, as the chosen protocol has it. Raises ConnectionError."""
    if socket.ws_protocol in _AS_BASE64:
        await socket.send_str(base64.b64encode(data).decode())
    else:
        await socket.send_bytes(data)


async def send_channel(socket: web.WebSocketResponse, channel: int, data: bytes) -> None:
    """One message of a channel, as the chosen protocol has it. Raises ConnectionError."""
    if socket.ws_protocol in _AS_BASE64:
        await socket.send_str(f"{channel}{base64.b64encode(data).decode()}")
    else:
        await socket.send_bytes(bytes([channel]) + data)


async def channel_frames(socket: web.WebSocketResponse) -> AsyncIterator[tuple[int, bytes]]:
    """Channel and data of each message until the socket closes; what is not well-formed is passed over."""
    async for message in frames(socket):
        if socket.ws_protocol not in _AS_BASE64:
            yield message[0], message[1:]
        elif message[:1].isdigit():
            try:
                yield int(message[:1]), base64.b64decode(message[1:], validate=True)
            except binascii.Error:
                continue
