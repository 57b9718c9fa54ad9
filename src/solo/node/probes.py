"""Probes and hooks: ask a process whether it is well, by running something, over HTTP or with a TCP connection.

Results and thresholds follow core/v1 Probe; the wording is the kubelet's.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)

Obj = dict[str, Any]
ExecAction = Callable[[list[str], float], Awaitable[tuple[int, str]]]
"""(command, timeout in seconds) -> (exit code, output). TimeoutError when it takes too long, CannotAskError."""

_MAX_HEADER = 64 * 1024


class CannotAskError(Exception):
    """A command cannot be run for a reason that says nothing of the container; the message names it."""


@dataclass(frozen=True, slots=True)
class Timing:
    """When a probe runs and how many results in a row count. Seconds."""

    delay: float
    period: float
    timeout: float
    success: int
    failure: int

    @classmethod
    def of(cls, probe: Obj) -> Timing:
        """Read a Probe, with the defaults of the API."""
        return cls(
            float(probe.get("initialDelaySeconds") or 0),
            float(probe.get("periodSeconds") or 10),
            float(probe.get("timeoutSeconds") or 1),
            int(probe.get("successThreshold") or 1),
            int(probe.get("failureThreshold") or 3),
        )


def port_number(port: int | str, container: Obj) -> int:
    """A port by number or by the name that the container gives it. Raises ValueError when there is none."""
    if isinstance(port, int):
        return port
    for declared in container.get("ports") or []:
        if declared.get("name") == port:
            return int(declared["containerPort"])
    if port.isdigit():
        return int(port)
    raise ValueError(f'couldn\'t find port "{port}" of container {container["name"]}')


async def run_action(action: Obj, container: Obj, host: str, timeout: float, run: ExecAction) -> str:
    """Do what a probe or hook says, once. Empty when it went well, else why not. CannotAskError as `run` raises it.

    `host` is the pod's address, where the action names no other.
    """
    try:
        if "exec" in action:
            code, output = await run(list(action["exec"].get("command") or []), timeout)
            return "" if code == 0 else output.strip() or f"command exited with {code}"
        async with asyncio.timeout(timeout):
            if "httpGet" in action:
                return await _http_get(action["httpGet"], container, host)
            if "tcpSocket" in action:
                target = action["tcpSocket"]
                port = port_number(target["port"], container)
                _, writer = await asyncio.open_connection(_target(target, host), port)
                writer.close()
                return ""
            if "sleep" in action:
                await asyncio.sleep(float(action["sleep"].get("seconds") or 0))
                return ""
        return "no known action"
    except TimeoutError:
        return f"timed out after {timeout:g}s"
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        return str(error) or type(error).__name__


def _target(action: Obj, host: str) -> str:
    if not (found := action.get("host") or host):
        raise ValueError("the pod has no address")
    return str(found)


async def _http_get(action: Obj, container: Obj, host: str) -> str:
    """GET; a status from 200 to 399 is well. Certificates are not checked, as the API says."""
    host = _target(action, host)
    port = port_number(action["port"], container)
    tls = None
    if action.get("scheme") == "HTTPS":
        tls = ssl.create_default_context()
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    headers = {"Host": f"{host}:{port}", "User-Agent": "kube-probe/1.36", "Accept": "*/*", "Connection": "close"}
    headers.update({entry["name"]: entry["value"] for entry in action.get("httpHeaders") or []})
    path = action.get("path") or "/"
    if any(c in "\r\n " for c in path) or any(c in "\r\n" for pair in headers.items() for text in pair for c in text):
        raise ValueError("path and headers of an httpGet must be on one line")
    lines = [f"GET {path if path.startswith('/') else '/' + path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    reader, writer = await asyncio.open_connection(host, port, ssl=tls, limit=_MAX_HEADER)
    try:
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        status_line = await reader.readuntil(b"\r\n")
    finally:
        writer.close()
    fields = status_line.split(None, 2)
    if len(fields) < 2 or not fields[1].isdigit():
        raise ValueError("the answer is not HTTP")
    code = int(fields[1])
    return "" if 200 <= code < 400 else f"HTTP probe failed with statuscode: {code}"


class ProbeLoop:
    """Runs one probe over and over and reports when its verdict changes."""

    def __init__(
        self,
        probe: Obj,
        check: Callable[[float], Awaitable[str]],
        *,
        on_failure: Callable[[str], None],
        on_verdict: Callable[[bool], None],
    ) -> None:
        """`check` does the probe once within a timeout and returns "" or the reason; `on_failure` hears of each
        single failure, `on_verdict` of each change of the verdict, which is none (neither) at the start."""
        self._timing = Timing.of(probe)
        self._check = check
        self._on_failure = on_failure
        self._on_verdict = on_verdict

    async def run(self) -> None:
        """Probe until cancelled."""
        timing = self._timing
        await asyncio.sleep(timing.delay)
        verdict: bool | None = None
        successes = failures = 0
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                reason = await self._check(timing.timeout)
            except CannotAskError as error:
                # No result at all, which leaves the verdict as it is (kubelet: the result is thrown away).
                log.warning("a probe cannot be run: %s", error)
                await asyncio.sleep(timing.period)
                continue
            if reason:
                successes, failures = 0, failures + 1
                self._on_failure(reason)
                if failures >= timing.failure and verdict is not False:
                    verdict = False
                    self._on_verdict(False)
            else:
                successes, failures = successes + 1, 0
                if successes >= timing.success and verdict is not True:
                    verdict = True
                    self._on_verdict(True)
            await asyncio.sleep(max(0.0, began + timing.period - loop.time()))
