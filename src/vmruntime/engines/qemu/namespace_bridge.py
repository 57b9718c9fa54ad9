"""The pod network of a cluster that does not run as root: a bridge in a namespace of its own, behind a gateway.

The manager, here, is on the host and tells the gateway what should be there (`gateway_messages`). It holds a connection
for as long as both are there; whichever comes back, everything is said again. Listeners for connections from the host
are made here, as a socket stays in the namespace that it was made in.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from vmruntime.engines.qemu import gateway_messages as messages
from vmruntime.engines.qemu import namespace, uplink
from vmruntime.engines.qemu.host_bridge import settle_subnet
from vmruntime.engines.qemu.host_tools import ToolError
from vmruntime.engines.qemu.network_state import NetworkState
from vmruntime.engines.qemu.pod_network import Port

_log = logging.getLogger(__name__)

_UP_SECONDS = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
# What another program has taken of a machine's ports, or somebody has changed in the namespace, is looked at so often.
_KEEP_SECONDS = 60.0
_BACKLOG = 128
_Answer = dict[str, Any]


class GatewayPod(Protocol):
    """The process that is the gateway. Both raise ToolError."""

    async def ensure(self) -> None:
        """Have it run, as it should be."""

    async def remove(self) -> None:
        """Have it end."""


class GatewayAway(ToolError):
    """The gateway does not answer, but may soon."""


class NamespaceBridge:
    """One cluster's pod network in its namespace."""

    def __init__(self, root: Path, pod: GatewayPod) -> None:
        self._root = root
        self._pod = pod
        self._ports: dict[str, Port] = {}
        self._settled: NetworkState | None = None
        self._lock = asyncio.Lock()
        self._is_up = asyncio.Event()
        self._refusal = ""
        self._connection: socket.socket | None = None
        self._gateway = 0
        self._times_made = 0
        self.state: NetworkState | None = None

    def nameservers(self) -> tuple[str, ...]:
        return uplink.nameservers()

    async def up(self, wanted_subnet: str, ports: dict[str, Port]) -> None:
        """Make the network, with these ports of machines that run, by their taps' names; `run` has to be running.

        Raises GatewayAway where it is not there yet, ToolError, OSError or ValueError where it cannot be, each with a
        message for people.
        """
        async with self._lock:
            self._ports = {**self._ports, **ports}
            self._settled = await settle_subnet(self._root, wanted_subnet, in_use=bool(self._ports))
            if self._connection is not None and self.state != self._settled:
                self._is_up.clear()
                self._connection.shutdown(socket.SHUT_RDWR)
        await self._until_up()

    async def _until_up(self) -> None:
        try:
            await asyncio.wait_for(self._is_up.wait(), _UP_SECONDS)
        except TimeoutError:
            raise GatewayAway("its gateway does not come up; its pod's log says why") from None
        if self._refusal:
            raise ToolError(self._refusal)

    async def run(self) -> None:
        """Keep the gateway there, and tell it everything whenever one of us was away, and from time to time.

        Until cancelled; the gateway goes on without us.
        """
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._pod.ensure()
                with await self._make() as connection:
                    pause = _FIRST_PAUSE
                    if not await _closes(connection):
                        continue
                _log.info("the pod network's gateway went away, or is told anew")
            except (GatewayAway, OSError) as error:
                _log.debug("the pod network: %s", error)
            except ToolError as error:
                _log.warning("the pod network could not be made: %s", error)
                self._refusal = str(error)
                self._is_up.set()
            except Exception:
                _log.exception("the pod network")
            self._connection = None
            if not self._refusal:
                self._is_up.clear()
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _make(self) -> socket.socket:
        """Say everything. The connection ends when the gateway does."""
        async with self._lock:
            state = self._settled
            if state is None:
                raise GatewayAway("it is not known yet what is to be there")
            ports = [messages.port_content(port) for port in self._ports.values()]
            message = messages.request("make", state=messages.state_content(state), ports=ports)
            answer, connection = await self._ask(message, [])
            try:
                for port in self._ports.values():
                    there = answer["listening"].get(port.tap, [])
                    if missing := [pair for pair in port.forwards if pair[0] not in there]:
                        await self._add(port, _listeners(port, missing, in_use=True))
            except BaseException:
                connection.close()
                raise
            self.state, self._refusal, self._connection = state, "", connection
            self._gateway = _process_behind(connection)
            self._times_made += 1
            self._is_up.set()
            return connection

    async def add(self, port: Port) -> None:
        """A tap for a machine that is about to start, and its ports on the host. Raises ToolError or OSError."""
        await self._until_up()
        async with self._lock:
            times_made = self._times_made
            self._ports[port.tap] = port
            try:
                await self._add(port, _listeners(port, port.forwards, in_use=False))
                return
            except GatewayAway:
                _log.info("the pod network's gateway went away while a port was added")
        # It is told of this port with all others as soon as it is back.
        await asyncio.sleep(_FIRST_PAUSE)
        await self._until_up()
        if self._times_made == times_made:
            raise GatewayAway("its gateway does not answer")

    async def _add(self, port: Port, listeners: list[socket.socket]) -> None:
        try:
            await self._tell(messages.request("add", port=messages.port_content(port)), listeners)
        finally:
            for listener in listeners:
                listener.close()

    async def drop(self, name: str) -> None:
        """Take away a tap, if there is one, and what belonged to it; a gateway that is away hears of it later."""
        async with self._lock:
            if self._ports.pop(name, None) is not None:
                with contextlib.suppress(OSError, ToolError):
                    await self._tell(messages.request("drop", tap=name), [])

    async def command(self, argv: list[str]) -> list[str]:
        """What starts QEMU in this network. Raises ToolError."""
        await self._until_up()
        return [*namespace.command(self._gateway), *argv]

    async def down(self) -> None:
        """Take everything away. Raises ToolError."""
        self._ports, self._settled, self._refusal, self._connection, self.state = {}, None, "", None, None
        self._is_up.clear()
        await self._pod.remove()
        (self._root / messages.SOCKET).unlink(missing_ok=True)

    async def _tell(self, message: bytes, listeners: list[socket.socket]) -> None:
        _, connection = await self._ask(message, listeners)
        connection.close()

    async def _ask(self, message: bytes, listeners: list[socket.socket]) -> tuple[_Answer, socket.socket]:
        """The answer, and the connection that it came by. Raises ToolError where it is a refusal, OSError."""
        answer, connection = await asyncio.to_thread(_exchange, self._root, message, listeners)
        if "error" in answer:
            connection.close()
            raise ToolError(str(answer["error"]))
        return answer, connection


def _exchange(root: Path, message: bytes, listeners: list[socket.socket]) -> tuple[_Answer, socket.socket]:
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(messages.SECONDS)
        # By the directory's descriptor, as the path of a socket has a limit of 108 bytes (unix(7)).
        connection.connect(f"/proc/self/fd/{directory}/{messages.SOCKET}")
        messages.send(connection, message, listeners)
        return messages.receive_answer(connection), connection
    except OSError as error:
        connection.close()
        raise GatewayAway(f"its gateway does not answer: {error.strerror or error}") from error
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(directory)


def _process_behind(connection: socket.socket) -> int:
    """The process that listens there (unix(7), SO_PEERCRED: struct ucred is pid, uid, gid)."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[0])


async def _closes(connection: socket.socket) -> bool:
    """Wait until the other side ends, but not for ever; whether it did."""
    connection.setblocking(False)
    try:
        await asyncio.wait_for(asyncio.get_running_loop().sock_recv(connection, 1), _KEEP_SECONDS)
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def _listeners(port: Port, pairs: Iterable[tuple[int, int]], in_use: bool) -> list[socket.socket]:
    """Sockets that listen on the machine's address.

    One whose port another program has by now is left out for a machine that is `in_use`. Raises OSError.
    """
    made: list[socket.socket] = []
    for number, _ in pairs:
        listener = socket.socket(socket.AF_INET)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((port.host_address, number))
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            if not in_use:
                for other in made:
                    other.close()
                raise
            _log.warning("port %d of %s is not forwarded: %s", number, port.host_address, error)
            continue
        made.append(listener)
    return made
