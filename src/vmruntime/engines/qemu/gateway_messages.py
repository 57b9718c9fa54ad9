"""What the manager and a namespace's gateway say to each other: one request and one answer a connection.

A request is a JSON object, which ends with the sender's half of the connection; listening sockets may come with it. The
answer is a line. The connection of a `make` stays open until one of the two ends, which tells the other.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import socket
from typing import Any

from vmruntime.engines.qemu.network_state import NetworkState
from vmruntime.engines.qemu.pod_network import Port

SOCKET = "gateway.sock"
SECONDS = 10.0
# The kernel's SCM_MAX_FD is 253.
MAX_LISTENERS = 250
_CHUNK = 1 << 16


def request(verb: str, **content: Any) -> bytes:
    return json.dumps({"do": verb, **content}).encode()


def port_content(port: Port) -> dict[str, Any]:
    return dataclasses.asdict(port)


def port_of(content: dict[str, Any]) -> Port:
    """Raises KeyError, TypeError or ValueError."""
    forwards = tuple((int(host), int(guest)) for host, guest in content["forwards"])
    return Port(**{**content, "forwards": forwards})


def state_content(state: NetworkState) -> dict[str, Any]:
    return {"id": state.id, "subnet": str(state.subnet)}


def state_of(content: dict[str, Any]) -> NetworkState:
    """Raises KeyError or ValueError."""
    return NetworkState(str(content["id"]), ipaddress.IPv4Network(content["subnet"]))


def send(connection: socket.socket, message: bytes, listeners: list[socket.socket]) -> None:
    """Raises OSError."""
    sent = socket.send_fds(connection, [message], [listener.fileno() for listener in listeners])
    connection.sendall(message[sent:])
    connection.shutdown(socket.SHUT_WR)


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[socket.socket]]:
    """A request and its listeners. Raises OSError, or ValueError for what is none."""
    content, listeners = b"", []
    while True:
        chunk, descriptors, _, _ = socket.recv_fds(connection, _CHUNK, MAX_LISTENERS)
        listeners += [socket.socket(fileno=descriptor) for descriptor in descriptors]
        if not chunk:
            break
        content += chunk
    asked = json.loads(content)
    if not isinstance(asked, dict):
        raise ValueError("a request is an object")
    return asked, listeners


def receive_answer(connection: socket.socket) -> dict[str, Any]:
    """Raises OSError; ConnectionError where the other side went away without an answer."""
    content = b""
    while not content.endswith(b"\n"):
        chunk = connection.recv(_CHUNK)
        if not chunk:
            raise ConnectionResetError("the gateway went away")
        content += chunk
    answer = json.loads(content)
    assert isinstance(answer, dict)
    return answer
