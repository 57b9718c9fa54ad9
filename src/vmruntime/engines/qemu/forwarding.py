"""TCP connections from a port of the host to a port of a guest.

A socket stays in the network namespace that it was made in. So a listener of the host's namespace, handed to a process
in another, gives that process the host's connections, and what it makes itself leads to the guests.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

_CHUNK = 1 << 18
_CONNECT_SECONDS = 10.0


class Forwards:
    """Listeners and their connections, by the machine's tap."""

    def __init__(self) -> None:
        self._servers: dict[str, dict[int, asyncio.Server]] = {}
        self._connections: dict[str, set[asyncio.Task[None]]] = {}

    def listening(self) -> dict[str, list[int]]:
        """The ports of the host, by tap."""
        return {tap: sorted(servers) for tap, servers in self._servers.items()}

    async def listen(self, tap: str, listener: socket.socket, address: str, port: int) -> None:
        """Lead what connects to the listener to this port of the guest's address."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks = self._connections.setdefault(tap, set())
            tasks.add(task)
            try:
                await _forward(reader, writer, address, port)
            finally:
                tasks.discard(task)

        number = listener.getsockname()[1]
        server = await asyncio.start_server(connected, sock=listener, limit=_CHUNK)
        self._servers.setdefault(tap, {})[number] = server

    def close(self, tap: str) -> None:
        """The machine is gone, and with it its listeners and connections."""
        for server in self._servers.pop(tap, {}).values():
            server.close()
        for task in self._connections.pop(tap, set()):
            task.cancel()


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str, port: int) -> None:
    """One connection, until both sides have ended it or one is broken."""
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            to_guest = await asyncio.open_connection(address, port, limit=_CHUNK)
    except OSError:  # TimeoutError is one
        # A reset, as from a host that has nobody at this port.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return
    guest_reader, guest_writer = to_guest
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_copy(reader, guest_writer))
            both.create_task(_copy(guest_reader, writer))
    except* OSError:
        pass
    finally:
        # After an orderly end there is nothing left to abort.
        for side in (writer, guest_writer):
            side.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_CHUNK):
        writer.write(chunk)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
