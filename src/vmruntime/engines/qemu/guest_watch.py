"""Keeps up with what one machine's guest says of itself, without asking often.

QEMU says when something in the guest opens or closes the agent's channel; between that the guest is asked after pauses
that grow to a minute, because addresses come and go without a word. It is never asked more often than `_LEAST_PAUSE`,
whatever the guest does, and so changes are not reported more often either.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from vmruntime.engines.machine import Guest
from vmruntime.engines.qemu import guest_agent, guest_text
from vmruntime.engines.qemu.guest_agent import Agent, AgentError, AgentRefused
from vmruntime.engines.qemu.qmp import Qmp, QmpError

_log = logging.getLogger(__name__)

_LEAST_PAUSE = 2.0
_LONGEST_PAUSE = 60.0
_EXCHANGE_SECONDS = 10.0
_SHUTDOWN_SECONDS = 2.0
# One answer that does not come in time is no news: the host or the guest may be busy.
_MISSES = 2


class GuestWatch:
    """`guest` is what the guest said last, None while its agent does not answer. `session` counts the times that the
    agent came: another number means that the guest may have started anew."""

    def __init__(self, instance_dir: Path, qmp: Callable[[], Qmp], changed: Callable[[], None]) -> None:
        """`qmp` gives the connection to QEMU or raises QmpError; `changed` is called when what is known has changed."""
        self.guest: Guest | None = None
        self.session = 0
        self._directory = instance_dir
        self._qmp = qmp
        self._changed = changed
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._moved = True
        self._came = False
        self._misses = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"guest {self._directory.name}")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def moved(self) -> None:
        """The agent's channel was opened or closed, or may have been while nobody listened to QEMU."""
        self._moved = True
        self._wake.set()

    @asynccontextmanager
    async def agent(self, timeout: float) -> AsyncIterator[Agent]:
        """An exchange with the agent, alone, of at most `timeout` seconds once it is this caller's turn. AgentError."""
        async with self._lock:
            try:
                if not await guest_agent.is_open(self._qmp()):
                    raise AgentError("no guest agent runs in the guest")
            except QmpError as error:
                raise AgentError(str(error)) from error
            async with guest_agent.connect(self._directory, timeout) as agent:
                yield agent

    async def shut_down(self) -> bool:
        """Ask the guest's agent to shut it down; False if it does not answer soon."""
        if self.guest is None:
            return False
        try:
            async with asyncio.timeout(_SHUTDOWN_SECONDS), self._lock:
                return await guest_agent.shut_down(self._directory, _SHUTDOWN_SECONDS)
        except TimeoutError:
            return False

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        pause = _LEAST_PAUSE
        while True:
            looked = loop.time()
            self._wake.clear()
            if self._moved:
                self._moved, self._came = False, True
                pause = _LEAST_PAUSE
            try:
                await self._look()
            except Exception:
                _log.exception("looking at the guest of %s failed", self._directory.name)
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pass
            pause = min(pause * 2, _LONGEST_PAUSE)
            await asyncio.sleep(max(0.0, looked + _LEAST_PAUSE - loop.time()))

    async def _look(self) -> None:
        before = self.guest, self.session
        try:
            if not await guest_agent.is_open(self._qmp()):
                self.guest, self._misses = None, 0
            else:
                await self._ask()
        except QmpError:
            return  # QEMU is not heard of, which says nothing of the guest; it wakes us when it is
        if before != (self.guest, self.session):
            self._changed()

    async def _ask(self) -> None:
        try:
            async with self.agent(_EXCHANGE_SECONDS) as agent:
                said = [await _answer(agent, command) for command in _QUESTIONS]
        except AgentError as error:
            _log.debug("%s: %s", self._directory.name, error)
            self._misses += 1
            if self._misses >= _MISSES:
                self.guest = None
            return
        self._misses = 0
        if self._came or self.guest is None:
            self._came = False
            self.session += 1
        self.guest = guest_text.guest(*said)


_QUESTIONS = ("guest-get-host-name", "guest-get-osinfo", "guest-network-get-interfaces")


async def _answer(agent: Agent, command: str) -> Any:
    """None where the agent does not know, or does not allow, the command."""
    try:
        return await agent.execute(command)
    except AgentRefused:
        return None
