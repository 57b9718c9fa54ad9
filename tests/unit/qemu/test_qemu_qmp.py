"""QMP against a real QEMU that runs nothing (`-machine none`), below a path too long for a socket address."""

import asyncio
import gc
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from vmruntime.engines.qemu.qmp import Monitor, Notice, QmpError, connect, is_served

QEMU = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-S"]
SOCKET = ["-chardev", "socket,id=qmp0,path=qmp.sock,server=on,wait=off", "-mon", "chardev=qmp0,mode=control"]


def start(directory: Path, *machine: str) -> subprocess.Popen[bytes]:
    argv = [*QEMU, *(machine or ("-machine", "none")), "-action", "shutdown=pause", *SOCKET]
    return subprocess.Popen(argv, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture
def directory(tmp_path):
    """An instance directory whose sockets have addresses of more than 108 bytes."""
    path = tmp_path / ("x" * 60) / ("y" * 60)
    path.mkdir(parents=True)
    return path


@pytest.fixture
def machine(directory):
    """Starts machines in the directory, and ends those that a test left."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: str) -> subprocess.Popen[bytes]:
        started.append(start(directory, *arguments))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


async def eventually_connected(directory: Path, notices: list[Notice]) -> Monitor:
    monitor = Monitor(directory, notices.append)
    monitor.start()
    await monitor.wait_connected(30)
    return monitor


async def until(notices: list[Notice], kind: str) -> None:
    async with asyncio.timeout(30):
        while not any(notice.kind == kind for notice in notices):
            await asyncio.sleep(0.01)


async def wait_for_exit(process: subprocess.Popen[bytes]) -> int:
    return await asyncio.to_thread(process.wait, 5)


async def test_a_monitor_connects_as_soon_as_the_machine_is_up(directory, machine):
    notices: list[Notice] = []
    monitor = Monitor(directory, notices.append)
    monitor.start()
    with pytest.raises(QmpError, match="not connected"):
        _ = monitor.qmp
    process = machine()
    await monitor.wait_connected(30)
    assert notices == [Notice("CONNECTED", {"status": "prelaunch"})]
    assert await monitor.qmp.status() == "prelaunch"
    await monitor.qmp.quit()
    assert await wait_for_exit(process) == 0
    await until(notices, "DISCONNECTED")
    assert not monitor.connected
    await monitor.close()


async def test_events_reach_the_monitor(directory, machine):
    machine("-machine", "q35", "-accel", "tcg", "-m", "16")
    notices: list[Notice] = []
    monitor = await eventually_connected(directory, notices)
    await monitor.qmp.resume()
    await until(notices, "RESUME")
    await monitor.qmp.execute("system_reset")
    await until(notices, "RESET")
    await monitor.qmp.powerdown()
    await until(notices, "POWERDOWN")
    await monitor.close()


async def test_a_monitor_comes_back_to_a_new_machine(directory, machine):
    first = machine()
    notices: list[Notice] = []
    monitor = await eventually_connected(directory, notices)
    first.kill()
    await until(notices, "DISCONNECTED")
    machine()
    await monitor.wait_connected(30)
    assert [notice.kind for notice in notices] == ["CONNECTED", "DISCONNECTED", "CONNECTED"]
    await monitor.close()


async def test_a_machine_outlives_its_monitor_and_takes_the_next(directory, machine):
    process = machine()
    monitor = await eventually_connected(directory, [])
    await monitor.close()
    async with connect(directory) as qmp:
        assert await qmp.status() == "prelaunch"
    assert process.poll() is None


async def test_whether_a_machine_lives_in_a_directory(directory, machine):
    assert not is_served(directory.parent / "absent")
    assert not is_served(directory)
    process = machine()
    monitor = await eventually_connected(directory, [])
    assert is_served(directory)
    process.kill()
    process.wait()
    assert (directory / "qmp.sock").exists()
    assert not is_served(directory)
    await monitor.close()


async def test_a_callback_that_fails_does_not_end_the_monitor(directory, machine, caplog):
    machine()

    def fail(_notice: Notice) -> None:
        raise ValueError("oh no")

    monitor = Monitor(directory, fail)
    monitor.start()
    await monitor.wait_connected(30)
    assert await monitor.qmp.status() == "prelaunch"
    await monitor.close()
    assert "handling CONNECTED" in caplog.text


async def test_nobody_there_is_an_error_at_once_and_no_noise(directory, caplog):
    started = time.monotonic()
    with pytest.raises(QmpError, match=r"qmp\.sock"):
        async with connect(directory):
            pass
    with pytest.raises(QmpError):
        async with connect(directory / "missing"):
            pass
    assert time.monotonic() - started < 4
    assert caplog.text == ""


async def test_a_second_client_is_told_that_there_may_be_one(directory, machine):
    machine()
    monitor = await eventually_connected(directory, [])
    with pytest.raises(QmpError, match="another client"):
        async with connect(directory, timeout=0.2):
            pass
    assert await monitor.qmp.status() == "prelaunch"
    await monitor.close()


async def test_a_refused_command_is_an_error_with_qemus_words(directory, machine):
    machine()
    monitor = await eventually_connected(directory, [])
    with pytest.raises(QmpError, match="no-such-command"):
        await monitor.qmp.execute("no-such-command")
    await monitor.close()


async def test_a_machine_that_hangs_is_an_error_in_time(directory, machine):
    process = machine()
    await (await eventually_connected(directory, [])).close()
    async with connect(directory, timeout=1) as qmp:
        process.send_signal(19)  # SIGSTOP
        try:
            with pytest.raises(QmpError, match=r"no answer within 1 s"):
                await qmp.status()
        finally:
            process.send_signal(18)


async def test_closing_a_monitor_does_not_swallow_the_end_of_its_caller(tmp_path):
    monitor = Monitor(tmp_path, lambda notice: None)
    monitor.start()
    await asyncio.sleep(0)
    caller = asyncio.create_task(monitor.close())
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_attempts_in_vain_leave_nothing_open(directory, monkeypatch):
    monkeypatch.chdir(directory)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind("qmp.sock")
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(QmpError, match="Connection refused"):
            async with connect(directory):
                pass
        silent.listen()
        with pytest.raises(QmpError, match="no greeting"):
            async with connect(directory, 0.05):
                pass
        assert len(os.listdir("/proc/self/fd")) == before


async def test_whoever_stops_while_the_connection_ends_leaves_no_error_behind(directory, machine):
    """The end of QEMU reaches the library as EOFError; cancelled at any point after, somebody has to take it."""
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context["message"]))
    for turns in range(6):
        process = machine()
        notices: list[Notice] = []
        monitor = await eventually_connected(directory, notices)
        process.kill()
        assert await wait_for_exit(process) != 0
        for _ in range(turns):
            await asyncio.sleep(0)
        await monitor.close()
        del monitor
        (directory / "qmp.sock").unlink()
        gc.collect()
        await asyncio.sleep(0)
    assert complaints == []
