"""What all streams over WebSocket begin with: refusal of other upgrades, choice of a protocol, handshake."""

from __future__ import annotations

from aiohttp import web

from kube.machinery import errors

V5 = "v5.channel.k8s.io"
V4 = "v4.channel.k8s.io"
SPDY_TUNNEL = "SPDY/3.1+portforward.k8s.io"

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
            f"this server streams over WebSocket only ({', '.join(protocols)}){spoken}: use kubectl 1.31 or newer, "
            "or set KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true and KUBECTL_PORT_FORWARD_WEBSOCKETS=true"
        )
    if not set(_offered(request)) & set(protocols):
        raise errors.bad_request(
            f"unable to upgrade: unable to negotiate protocol: client supports {_offered(request)}, "
            f"server accepts {list(protocols)}"
        )


async def accept(request: web.Request, protocols: tuple[str, ...]) -> web.WebSocketResponse:
    """Complete the handshake; the first of `protocols` that the client offers is spoken."""
    socket = web.WebSocketResponse(
        protocols=protocols, max_msg_size=_MAX_MESSAGE, heartbeat=_HEARTBEAT_SECONDS, compress=False
    )
    await socket.prepare(request)
    return socket
