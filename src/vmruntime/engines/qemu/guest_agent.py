"""Talking to the QEMU guest agent inside a machine, over QEMU's socket of the channel org.qemu.guest_agent.0.

Whatever comes from there was said by the guest, which may be hostile, broken or slow. So an exchange has one deadline
for all of it and a bound on what is read, the connection ends with it, and every exchange begins by finding the place
in the stream at which the agent listens (`guest-sync-delimited`). What the guest says meanwhile, QEMU throws away.

The socket serves one client at a time; whoever talks to an agent for longer than a moment keeps a lock (`GuestWatch`).
Source: QEMU Guest Agent Protocol Reference.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from vmruntime.engines.qemu.config import AGENT_CHARDEV, AGENT_SOCKET
from vmruntime.engines.qemu.guest_text import printable
from vmruntime.engines.qemu.qmp import Qmp

_LINE_BYTES = 1 << 20
_EXCHANGE_BYTES = 4 << 20
_DELIMITER = b"\xff"
_REFUSAL_SECONDS = 0.3
_OUTPUT_SHOWN = 256
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class AgentError(Exception):
    """The agent could not be reached, or what it says is no answer."""


class AgentRefused(AgentError):
    """The agent answered that it does not do that. The text is the guest's: printable and of bounded length."""


class Agent:
    """One exchange with an agent that has shown that it listens."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._left = _EXCHANGE_BYTES

    async def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """What stands under `return` in the answer. Raises AgentError."""
        await self.send(command, arguments)
        return await self.answer()

    async def send(self, command: str, arguments: Mapping[str, Any] | None = None) -> None:
        """A command whose answer is not waited for."""
        await self._write(b"", command, arguments)

    async def answer(self) -> Any:
        """The answer to what was sent. Raises AgentError."""
        message = _parse(await self._line())
        if isinstance(message, dict) and "return" in message:
            return message["return"]
        if isinstance(message, dict) and isinstance(message.get("error"), dict):
            raise AgentRefused(printable(message["error"].get("desc"), _OUTPUT_SHOWN) or "no reason given")
        raise AgentError("what the guest agent says is no answer")

    async def run(self, program: str, arguments: Sequence[str]) -> None:
        """Run a program in the guest to its end; its arguments are no shell's business. AgentRefused if it fails."""
        started = await self.execute("guest-exec", {"path": program, "arg": list(arguments), "capture-output": True})
        pid = started.get("pid") if isinstance(started, dict) else None
        if not isinstance(pid, int):
            raise AgentError("what the guest agent says of a program is not known")
        pause = _FIRST_PAUSE
        while True:
            status = await self.execute("guest-exec-status", {"pid": pid})
            if not isinstance(status, dict) or status.get("exited") is not False:
                break
            # The agent has no way to say by itself that a program ended.
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        if not isinstance(status, dict) or status.get("exitcode") != 0:
            raise AgentRefused(_complaint(status))

    async def synchronize(self) -> None:
        """Find the place in the stream at which the agent listens: older answers, and half ones, are passed over."""
        mark = secrets.randbits(31)
        # The delimiter makes the agent's own parser drop what another client left unfinished.
        await self._write(_DELIMITER, "guest-sync-delimited", {"id": mark})
        while True:
            line = (await self._line()).rpartition(_DELIMITER)[2]
            try:
                message = _parse(line)
            except AgentError:
                continue
            if isinstance(message, dict) and message.get("return") == mark:
                return

    async def _write(self, prefix: bytes, command: str, arguments: Mapping[str, Any] | None) -> None:
        message: dict[str, Any] = {"execute": command}
        if arguments:
            message["arguments"] = arguments
        self._writer.write(prefix + json.dumps(message).encode() + b"\n")
        await self._writer.drain()

    async def _line(self) -> bytes:
        try:
            line = await self._reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            raise AgentError(f"the guest agent sent a line of more than {_LINE_BYTES} bytes") from error
        except asyncio.IncompleteReadError as error:
            raise AgentError("the connection ended") from error
        self._left -= len(line)
        if self._left < 0:
            raise AgentError(f"the guest agent sent more than {_EXCHANGE_BYTES} bytes")
        return line


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise AgentError("what the guest agent says is not JSON") from error


def _complaint(status: Any) -> str:
    """Why a program failed, in the guest's words."""
    if not isinstance(status, dict):
        return "the program did not end as a program does"
    said = ""
    for stream in ("err-data", "out-data"):
        try:
            text = base64.b64decode(str(status.get(stream) or ""), validate=True).decode(errors="replace")
        except ValueError:
            continue
        said = said or printable(" ".join(text.split()), _OUTPUT_SHOWN)
    return said or f"the program ended with code {printable(str(status.get('exitcode')), 16)}"


@asynccontextmanager
async def connect(instance_dir: str | Path, timeout: float) -> AsyncIterator[Agent]:
    """An exchange with the agent of the machine of this instance directory, `timeout` (s) long at most. AgentError."""
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await _open(instance_dir)
            try:
                agent = Agent(reader, writer)
                await agent.synchronize()
                yield agent
            finally:
                writer.transport.abort()
    except TimeoutError as error:
        raise AgentError(f"the guest agent did not answer within {timeout:g} s") from error
    except OSError as error:
        raise AgentError(f"the guest agent cannot be reached: {error.strerror or error}") from error


async def _open(instance_dir: str | Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    directory = os.open(instance_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # By the directory's descriptor, as a socket's address has 108 bytes at most.
        return await asyncio.open_unix_connection(f"/proc/self/fd/{directory}/{AGENT_SOCKET}", limit=_LINE_BYTES)
    finally:
        os.close(directory)


async def is_open(qmp: Qmp) -> bool:
    """Whether something in the guest has the channel open. Raises QmpError."""
    devices = await qmp.execute("query-chardev")
    return any(entry.get("label") == AGENT_CHARDEV and entry.get("frontend-open") is True for entry in devices)


async def shut_down(instance_dir: str | Path, timeout: float) -> bool:
    """Ask the guest to shut down; False if its agent does not answer within `timeout` (s), or refuses."""
    try:
        async with connect(instance_dir, timeout) as agent:
            await agent.send("guest-shutdown", {"mode": "powerdown"})
            try:
                # Success has no answer.
                async with asyncio.timeout(_REFUSAL_SECONDS):
                    await agent.answer()
            except TimeoutError:
                return True
            return True
    except AgentError:
        return False
