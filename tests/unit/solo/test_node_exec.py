"""Commands beside a container, with pipes and with a terminal, and probes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from solo.http.streams import STDERR, STDOUT
from solo.node import exec as execution
from solo.node.launch import Launch, LaunchError
from solo.node.probes import CannotAskError, ProbeLoop, run_action

CONTAINER = {"name": "c", "ports": [{"name": "web", "containerPort": 1}]}


def plan(*argv: str) -> Launch:
    return Launch(list(argv), {"PATH": "/usr/bin:/bin"}, "/")


async def drain(process) -> dict[int, bytes]:
    found = {STDOUT: b"", STDERR: b""}
    while (chunk := await asyncio.wait_for(process.read(), 30)) is not None:
        found[chunk[0]] += chunk[1]
    return found


def children() -> set[str]:
    return set(Path("/proc/thread-self/children").read_text().split())


async def test_output_is_kept_apart_and_the_exit_code_told():
    process = await execution.start(plan("sh", "-c", "echo out; echo err >&2; exit 4"), terminal=False, stdin=False)
    assert await drain(process) == {STDOUT: b"out\n", STDERR: b"err\n"}
    assert await process.wait() == 4
    await process.close()


async def test_input_larger_than_a_pipe_comes_back():
    process = await execution.start(plan("cat"), terminal=False, stdin=True)
    data = os.urandom(300_000)

    async def feed():
        await process.write(data)
        await process.close_stdin()

    feeder = asyncio.create_task(feed())
    assert (await drain(process))[STDOUT] == data
    await feeder
    assert await process.wait() == 0
    await process.close()


async def test_a_terminal_with_its_size():
    process = await execution.start(plan("sh", "-c", "read line; stty size; tty"), terminal=True, stdin=True)
    await process.resize(101, 37)
    await process.write(b"go\n")
    output = (await drain(process))[STDOUT]
    assert b"37 101" in output and b"/dev/pts/" in output
    await process.close()


async def test_end_of_input_on_a_terminal():
    process = await execution.start(plan("cat"), terminal=True, stdin=True)
    await process.close_stdin()
    await drain(process)
    assert await process.wait() == 0
    await process.close()


async def test_what_stays_in_the_background_does_not_hold_the_session():
    process = await execution.start(plan("sh", "-c", "sleep 5 & echo done"), terminal=False, stdin=False)
    assert (await drain(process))[STDOUT] == b"done\n"
    process.kill()
    await process.close()


async def test_close_hangs_up_and_may_be_repeated():
    process = await execution.start(plan("sleep", "600"), terminal=False, stdin=True)
    reading = asyncio.create_task(process.read())
    await asyncio.sleep(0.02)
    await process.close()
    await process.close()
    assert await asyncio.wait_for(reading, 30) is None
    assert await asyncio.wait_for(process.wait(), 30) == 129


async def test_who_no_longer_waits_for_a_start_leaves_nothing_behind():
    before, others = len(os.listdir("/proc/self/fd")), children()
    starting = asyncio.create_task(execution.start(plan("sleep", "611"), terminal=False, stdin=False))
    while not children() - others:
        await asyncio.sleep(0)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    assert starting.cancelled()
    async with asyncio.timeout(10):
        while children() - others:
            await asyncio.sleep(0.01)
    assert len(os.listdir("/proc/self/fd")) == before


async def test_no_descriptor_is_left_open():
    before = len(os.listdir("/proc/self/fd"))
    assert await execution.run(plan("echo", "hi"), 30) == (0, "hi\n")
    with pytest.raises(LaunchError):
        await execution.run(plan("no-such-program"), 30)
    with pytest.raises(TimeoutError):
        await execution.run(plan("sleep", "600"), 0.05)
    for command in ("true", "sleep"):
        process = await execution.start(plan(command, "600"), terminal=True, stdin=True)
        if command == "true":
            await drain(process)
        await process.close()
    await asyncio.sleep(0.05)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
async def server():
    async def serve(reader, writer):
        line = await reader.readline()
        code = 200 if b" /ok" in line else 503
        writer.write(f"HTTP/1.1 {code} X\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield listening.sockets[0].getsockname()[1]
    listening.close()
    await listening.wait_closed()


async def no_exec(command, timeout):
    raise AssertionError("not asked for")


async def act(action: dict, timeout: float = 2.0, run=no_exec) -> str:
    return await run_action(action, CONTAINER, "127.0.0.1", timeout, run)


async def test_http_and_tcp_actions(server):
    assert await act({"httpGet": {"port": server, "path": "/ok"}}) == ""
    assert await act({"httpGet": {"port": server, "path": "/bad"}}) == "HTTP probe failed with statuscode: 503"
    assert await act({"tcpSocket": {"port": server}}) == ""
    assert "Connect call failed" in await act({"tcpSocket": {"port": "web"}})
    assert "couldn't find port" in await act({"tcpSocket": {"port": "unknown"}})


async def test_exec_action():
    async def run(command, timeout):
        return await execution.run(plan(*command), timeout)

    assert await act({"exec": {"command": ["true"]}}, run=run) == ""
    assert await act({"exec": {"command": ["sh", "-c", "echo why; exit 1"]}}, run=run) == "why"
    assert "timed out" in await act({"exec": {"command": ["sleep", "60"]}}, 0.05, run=run)


async def test_thresholds_decide_the_verdict():
    results = iter(["", "x", "x", "", "x", "x", CannotAskError("busy"), "x", ""])
    verdicts, failures = [], []

    async def check(_timeout):
        try:
            result = next(results)
            if isinstance(result, Exception):
                raise result
            return result
        except StopIteration:
            raise asyncio.CancelledError from None

    probe = {"periodSeconds": 0.001, "failureThreshold": 3, "successThreshold": 1}
    with pytest.raises(asyncio.CancelledError):
        await ProbeLoop(probe, check, on_failure=failures.append, on_verdict=verdicts.append).run()
    assert verdicts == [True, False, True]
    assert len(failures) == 5
