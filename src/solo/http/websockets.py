"""What all streams over WebSocket begin with: refusal of other upgrades, choice of a protocol, handshake."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import WSMsgType, web

from kube.machinery import errors

V5 = "v5.channel.k8s.io"
V4 = "v4.channel.k8s.io"
SPDY_TUNNEL = "SPDY/3.1+portforward.k8s.io"
UNNAMED = ""
"""What a client speaks that offers no protocol: where a kubelet accepts that, it takes it for binary channels."""

_MAX_MESSAGE = 4 * 1024 * 1024
_HEARTBEAT_SECONDS = 30.0


def _offered(request: web.Request) -> list[str]:
    header = ",".join(request.headers.getall("Sec-WebSocket-Protocol", []))
    return [item.strip() for item in header.split(",") if item.strip()]


def require_websocket(request: web.Request, protocols: tuple[str, ...]) -> None:
    """Raise 400 unless the client upgrades to a WebSocket with a protocol that is spoken."""
    upgrade = (request.headers.get("Upgrade") or "").lower()
    if upgrade != "websocket":
        spoken = f"; {request.headers['Upgrade']} is not spoken" if upgrade else ""
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


async def accept(request: web.Request, protocols: tuple[str, ...]) -> web.WebSocketResponse:
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
