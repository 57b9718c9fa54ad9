"""The part of a gateway that is inside the namespace: the bridge there, and connections from the host to guests.

It does what the manager asks (`gateway_messages`) and keeps nothing: the manager says everything again when either has
been away.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from vmruntime.engines.qemu import host_tools, namespace
from vmruntime.engines.qemu.forwarding import Forwards
from vmruntime.engines.qemu.gateway_messages import SECONDS, SOCKET, port_of, receive, state_of
from vmruntime.engines.qemu.host_tools import ToolError
from vmruntime.engines.qemu.network_state import NetworkState
from vmruntime.engines.qemu.pod_bridge import PodBridge
from vmruntime.engines.qemu.uplink import nameservers

_log = logging.getLogger(__name__)

_BACKLOG = 128
Answer = dict[str, Any]


def run(root: Path, entered: Callable[[], None]) -> None:
    """Enter the namespace, say so, and serve until killed. The working directory is the socket's. Raises OSError."""
    member = namespace.find(root / "instances")
    namespace.enter(member)
    _log.info("in %s namespace", f"process {member}'s" if member is not None else "a new")
    soft_limit, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft_limit != hard_limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    entered()
    asyncio.run(_serve())


async def _serve() -> None:
    await host_tools.ip("link set lo up")
    with _listen() as listener:
        server = Server()
        tasks: set[asyncio.Task[None]] = set()
        while True:
            connection, _ = await asyncio.get_running_loop().sock_accept(listener)
            task = asyncio.create_task(server.answer(connection))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


def _listen() -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.setblocking(False)
    Path(SOCKET).unlink(missing_ok=True)
    listener.bind(SOCKET)
    os.chmod(SOCKET, 0o600)
    listener.listen(_BACKLOG)
    return listener


async def _forward(state: NetworkState) -> None:
    """Nothing but machines is in the namespace, so nothing need be guarded."""
    host_tools.set_sysctl(host_tools.FORWARDING, "1")


class Server:
    """Answers the manager. Requests take turns."""

    def __init__(self) -> None:
        self._bridge = PodBridge(os.getuid(), nameservers, _forward)
        self._forwards = Forwards()
        self._state: NetworkState | None = None
        self._lock = asyncio.Lock()
        self._follower: socket.socket | None = None
        self._verbs: dict[str, Callable[[Answer, list[socket.socket]], Awaitable[Answer]]] = {
            "make": self._make,
            "add": self._add,
            "drop": self._drop,
        }

    async def answer(self, connection: socket.socket) -> None:
        """One exchange; the connection of a `make` is kept until the next one."""
        ended: socket.socket | None = connection
        try:
            connection.settimeout(SECONDS)
            asked, listeners = await asyncio.to_thread(receive, connection)
            async with self._lock:
                said = await self._do(asked, listeners)
            await asyncio.to_thread(connection.sendall, json.dumps(said).encode() + b"\n")
            if asked["do"] == "make":
                self._follower, ended = connection, self._follower
        except (OSError, ValueError, KeyError) as error:
            _log.warning("a request of the manager: %s", error)
        finally:
            if ended is not None:
                ended.close()

    async def _do(self, asked: Answer, listeners: list[socket.socket]) -> Answer:
        try:
            return await self._verbs[asked["do"]](asked, listeners)
        except (ToolError, OSError, ValueError, KeyError, TypeError) as error:
            for listener in listeners:
                listener.close()
            return {"error": str(error) or type(error).__name__}

    async def _make(self, asked: Answer, _: list[socket.socket]) -> Answer:
        state = state_of(asked["state"])
        ports = {port.tap: port for port in map(port_of, asked["ports"])}
        for tap in self._bridge.taps() - ports.keys():
            await self._forget(tap)
        if self._state is not None and self._state != state:
            # It has moved, which it does while no machine is on it.
            await host_tools.ip(f"link delete {state.bridge}", force=True)
        await self._bridge.make(state, ports)
        self._state = state
        return {"listening": self._forwards.listening()}

    async def _add(self, asked: Answer, listeners: list[socket.socket]) -> Answer:
        """A tap, and listeners for ports of it, in this order: its tap is there already when only these are missing."""
        port = port_of(asked["port"])
        await self._bridge.add(self._known_state(), port)
        guest_ports = dict(port.forwards)
        for listener in listeners:
            number = listener.getsockname()[1]
            await self._forwards.listen(port.tap, listener, port.address, guest_ports[number])
        return {}

    async def _drop(self, asked: Answer, _: list[socket.socket]) -> Answer:
        await self._forget(str(asked["tap"]))
        return {}

    async def _forget(self, tap: str) -> None:
        self._forwards.close(tap)
        await self._bridge.drop(self._known_state(), tap)

    def _known_state(self) -> NetworkState:
        if self._state is None:
            raise ToolError("the pod network is not up yet")
        return self._state
