"""Talking to a running QEMU over its QMP socket.

`connect` is for one exchange. `Monitor` keeps one connection to a machine for as long as somebody looks after it,
reports what happens to a callback, and connects again after either side was away. A QMP socket serves one client at a
time: whoever has a `Monitor` sends its commands through it.

Sockets are reached through `/proc/self/fd/N/qmp.sock`, N being the instance directory: a path beyond the 108 bytes of
a socket address does no harm. Whatever goes wrong is a `QmpError`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qemu.qmp import EventListener, ExecInterruptedError, Message, QMPClient, QMPError, Runstate

from vmruntime.engines.qemu.config import QMP_SOCKET

log = logging.getLogger(__name__)

REPORTED_EVENTS = frozenset(
    {
        "POWERDOWN",
        "SHUTDOWN",
        "RESET",
        "STOP",
        "RESUME",
        "SUSPEND",
        "GUEST_PANICKED",
        "BLOCK_IO_ERROR",
        "DEVICE_TRAY_MOVED",
        "VSERPORT_CHANGE",
    }
)

_EVENTS_KEPT = 256
"""Events that may wait for a slow reader; older ones are dropped, because the guest sets their rate."""

_DISCONNECT_SECONDS = 1.0
# Looking whether somebody listens costs little: a machine that starts is found soon after it does.
_FIRST_PAUSE, _LONGEST_PAUSE, _PAUSE_GROWTH = 0.01, 2.0, 1.25


class QmpError(Exception):
    """QEMU could not be reached, did not answer in time, or refused a command."""


_wire_log = logging.getLogger(f"{__name__}.wire")
# What the library logs as errors it raises as well, and here a refused connection is an everyday thing.
_wire_log.setLevel(logging.CRITICAL + 1)


class _Client(QMPClient):
    def __init__(self) -> None:
        super().__init__()
        self.logger = _wire_log


class _Events(EventListener):
    """A bounded queue; the library's own listener keeps a history for ever."""

    def __init__(self) -> None:
        super().__init__(REPORTED_EVENTS)
        self._queue: asyncio.Queue[Message | None] = asyncio.Queue()  # type: ignore[assignment]

    async def put(self, event: Message) -> None:
        if self.accept(event):
            if self._queue.qsize() >= _EVENTS_KEPT:
                self._queue.get_nowait()
            self._queue.put_nowait(event)

    def end(self) -> None:
        self._queue.put_nowait(None)

    async def next(self) -> Message | None:
        return await self._queue.get()


class Qmp:
    """An open connection. Every command raises QmpError when it fails or takes longer than `timeout` seconds."""

    def __init__(self, client: QMPClient, timeout: float) -> None:
        self._client = client
        self._timeout = timeout
        self._events = _Events()
        client.register_listener(self._events)
        self._watch = asyncio.create_task(self._wait_for_end())

    async def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Any QMP command; returns what stands under `return` (QMP specification, section 2.4)."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._client.execute(command, dict(arguments) if arguments else None)
        except TimeoutError as error:
            raise QmpError(f"{command}: no answer within {self._timeout:g} s") from error
        except ExecInterruptedError as error:
            raise QmpError(f"{command}: the connection ended") from error
        except (QMPError, OSError) as error:
            raise QmpError(f"{command}: {error}") from error

    async def status(self) -> str:
        """The run state: `running`, `paused`, `shutdown`, `internal-error`, ... (QAPI type RunState)."""
        return str((await self.execute("query-status"))["status"])

    async def powerdown(self) -> None:
        """Presses the ACPI power button. Says nothing about whether the guest cares."""
        await self.execute("system_powerdown")

    async def resume(self) -> None:
        """Lets the virtual CPUs run."""
        await self.execute("cont")

    async def quit(self) -> None:
        """Ends QEMU. That the connection breaks before the answer is success."""
        try:
            await self.execute("quit")
        except QmpError as error:
            if not isinstance(error.__cause__, ExecInterruptedError):
                raise

    async def events(self) -> AsyncIterator[Notice]:
        """What happens (`REPORTED_EVENTS`), from the moment of connecting, until the connection ends."""
        while (event := await self._events.next()) is not None:
            data = event.get("data", {})
            yield Notice(str(event["event"]), data if isinstance(data, dict) else {})

    async def close(self) -> None:
        """Disconnects; the machine runs on."""
        self._watch.cancel()
        self._events.end()
        await _disconnect(self._client)

    async def _wait_for_end(self) -> None:
        while self._client.runstate == Runstate.RUNNING:
            await self._client.runstate_changed()
        self._events.end()


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened to a machine: a QMP event's name, or CONNECTED (with `status`) or DISCONNECTED."""

    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)


async def _disconnect(client: QMPClient) -> None:
    """End the connection. What ended it earlier is raised by the library here, and of no interest any more.

    A task of its own, which is waited for even by somebody who is cancelled: the library collects what its reader and
    writer raised only after they have ended, and abandoned in between that would be reported as never retrieved.
    """
    ending = asyncio.create_task(client.disconnect())
    ending.add_done_callback(lambda task: task.cancelled() or task.exception())
    try:
        await asyncio.wait({ending})
    except asyncio.CancelledError:
        await asyncio.wait({ending}, timeout=_DISCONNECT_SECONDS)
        raise


def is_served(instance_dir: str | Path) -> bool:
    """Whether a QEMU lives that has its monitor in this directory, connected or not. A socket that it left is none."""
    try:
        _dial(instance_dir).close()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except BlockingIOError:
        return True  # others wait to be served already
    return True


def _dial(instance_dir: str | Path) -> socket.socket:
    """A connection to the monitor in this directory. Raises OSError at once where nobody listens there.

    The library would take milliseconds to say that.
    """
    directory = os.open(instance_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.setblocking(False)
        connection.connect(f"/proc/self/fd/{directory}/{QMP_SOCKET}")
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(directory)
    return connection


async def _open(instance_dir: str | Path, timeout: float) -> Qmp:
    where = Path(instance_dir) / QMP_SOCKET
    try:
        connection = _dial(instance_dir)
    except OSError as error:
        raise QmpError(f"{where}: {error}") from error
    client = _Client()
    try:
        async with asyncio.timeout(timeout):
            await client.connect(connection)
    except TimeoutError as error:
        await _disconnect(client)
        raise QmpError(f"{where}: no greeting within {timeout:g} s; another client may be connected") from error
    except (QMPError, OSError) as error:
        await _disconnect(client)
        raise QmpError(f"{where}: {error}") from error
    finally:
        if client.runstate != Runstate.RUNNING:
            connection.close()  # the library may not have come to take it over
    return Qmp(client, timeout)


@asynccontextmanager
async def connect(instance_dir: str | Path, timeout: float = 5.0) -> AsyncIterator[Qmp]:
    """A connection to the machine of this instance directory. `timeout` (s) is for connecting and for each command."""
    qmp = await _open(instance_dir, timeout)
    try:
        yield qmp
    finally:
        await qmp.close()


class Monitor:
    """Keeps a connection to one machine and tells `notify` what happens to it.

    `notify` gets CONNECTED each time a connection stands (with the run state, so that nothing that happened while
    nobody listened is missed), each event, and DISCONNECTED each time a connection that stood is gone. It is called
    from the event loop and must not block. Connecting is tried until `close`: at once, then with growing pauses of up
    to two seconds.
    """

    def __init__(self, instance_dir: str | Path, notify: Callable[[Notice], None], timeout: float = 5.0) -> None:
        self._directory = Path(instance_dir)
        self._notify = notify
        self._timeout = timeout
        self._qmp: Qmp | None = None
        self._connected = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts connecting. Has to be called in a running event loop, once."""
        if self._task is not None:
            raise RuntimeError("the monitor was started already")
        self._task = asyncio.create_task(self._run(), name=f"qmp {self._directory.name}")

    @property
    def connected(self) -> bool:
        return self._connected.is_set()

    @property
    def qmp(self) -> Qmp:
        """The open connection, for commands. Raises QmpError while there is none."""
        if self._qmp is None:
            raise QmpError(f"{self._directory / QMP_SOCKET}: not connected")
        return self._qmp

    async def wait_connected(self, timeout: float) -> None:
        """Returns once a connection stands; raises QmpError after `timeout` seconds without one."""
        try:
            async with asyncio.timeout(timeout):
                await self._connected.wait()
        except TimeoutError as error:
            raise QmpError(f"{self._directory / QMP_SOCKET}: no connection within {timeout:g} s") from error

    async def close(self) -> None:
        """Stops; `notify` is not called any more. The machine runs on."""
        if self._task is not None:
            self._task.cancel()
            # Not by suppressing its cancellation: that would suppress one of the caller's as well.
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                qmp = await _open(self._directory, self._timeout)
            except QmpError as error:
                log.debug("%s", error)
            else:
                if await self._serve(qmp):
                    pause = _FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(pause * _PAUSE_GROWTH, _LONGEST_PAUSE)

    async def _serve(self, qmp: Qmp) -> bool:
        """One connection, to its end. False when it was of no use."""
        try:
            status = await qmp.status()
            self._qmp = qmp
            self._connected.set()
            self._tell(Notice("CONNECTED", {"status": status}))
            async for notice in qmp.events():
                self._tell(notice)
        except QmpError as error:
            log.debug("%s", error)
            return False
        finally:
            self._qmp = None
            self._connected.clear()
            await qmp.close()
        self._tell(Notice("DISCONNECTED"))
        return True

    def _tell(self, notice: Notice) -> None:
        try:
            self._notify(notice)
        except Exception:
            log.exception("handling %s of %s failed", notice.kind, self._directory.name)
