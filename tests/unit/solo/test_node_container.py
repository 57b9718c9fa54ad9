"""Containers as processes: runs, stops, what they leave behind, and adoption after the agent was killed."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from solo.node import procfs, records
from solo.node.cgroups import ContainerGroup, Hierarchies, find_hierarchies
from solo.node.container import Container
from solo.node.launch import Launch, LaunchError
from solo.node.logkeeper import LogKeeper

PATH = "/usr/local/bin:/usr/bin:/bin"
NO_GROUPS = Hierarchies(None, frozenset(), {})


class Rig:
    """One container of a pod whose directory is `directory`."""

    def __init__(self, directory: Path, hierarchies: Hierarchies = NO_GROUPS, spec: dict | None = None) -> None:
        self.directory = directory
        self.log_keeper = LogKeeper()
        self.record = records.load(directory) or records.PodRecord("uid-of-" + directory.name)
        self.container = Container(
            {"name": "c", **(spec or {})},
            self.record.container("c"),
            directory,
            ContainerGroup(hierarchies, self.record.uid, "c"),
            self.log_keeper,
            init=False,
            save=lambda: records.save(directory, self.record),
            changed=lambda: None,
        )

    def plan(self, *argv: str) -> Launch:
        return Launch(list(argv), {"PATH": PATH, procfs.MARKER: self.container.marker}, str(self.directory))

    async def ended(self) -> records.Terminated:
        await asyncio.wait_for(self.container.ended.wait(), 30)
        assert self.container.record.terminated is not None
        return self.container.record.terminated

    def processes(self) -> list[int]:
        return [pid for pid in procfs.pids() if procfs.carries_marker(pid, self.container.marker)]


@pytest.fixture
async def rig(tmp_path):
    made = Rig(tmp_path)
    yield made
    made.container.stop(0)
    await asyncio.wait_for(made.container.ended.wait(), 30)
    await made.log_keeper.close()


async def test_output_goes_to_the_log_and_the_end_is_recorded(rig):
    await rig.container.start(rig.plan("sh", "-c", "echo out; echo err >&2; exit 3"))
    ended = await rig.ended()
    assert (ended.exit_code, ended.reason) == (3, "Error")
    assert rig.container.log.read_text() == "out\nerr\n"
    stored = records.load(rig.directory)
    assert stored.containers["c"].terminated == ended and stored.containers["c"].pid == 0


async def test_restarts_count_up_and_keep_one_previous_log(rig):
    for run in range(3):
        await rig.container.start(rig.plan("sh", "-c", f"echo run {run}"))
        await rig.ended()
    assert rig.record.containers["c"].restarts == 2
    assert sorted(path.name for path in rig.container.directory.iterdir()) == [
        "1.log",
        "1.log.times",
        "2.log",
        "2.log.times",
    ]


async def test_a_start_that_fails_leaves_the_record_as_it_was(rig):
    await rig.container.start(rig.plan("true"))
    before = await rig.ended()
    with pytest.raises(LaunchError, match="executable file not found"):
        await rig.container.start(rig.plan("no-such-program"))
    assert rig.record.containers["c"].restarts == 0 and rig.record.containers["c"].terminated == before
    assert not rig.container.running


async def test_a_disk_that_fills_up_between_fork_and_exec_loses_no_process(rig, monkeypatch, caplog):
    saves = iter([None, OSError(errno.ENOSPC, "No space left on device"), None])

    def save():
        if (error := next(saves)) is not None:
            raise error

    monkeypatch.setattr(rig.container, "_save", save)
    await rig.container.start(rig.plan("sleep", "600"))
    assert rig.container.running and rig.processes() == [rig.container.record.pid]
    assert "No space left" in caplog.text
    rig.container.stop(0)
    await rig.ended()
    assert rig.processes() == []


async def test_what_the_main_process_leaves_behind_dies_with_it(rig):
    await rig.container.start(rig.plan("sh", "-c", "setsid sleep 600 & sleep 600 & exit 0"))
    ended = await rig.ended()
    assert ended.exit_code == 0
    assert rig.processes() == []


async def test_a_child_without_the_environment_dies_as_well(rig):
    await rig.container.start(rig.plan("sh", "-c", "env -i sleep 600 & echo $!; sleep 0.05"))
    await rig.ended()
    stat = procfs.read_stat(int(rig.container.log.read_text()))
    assert stat is None or stat.dead


async def test_stop_is_polite_first(rig):
    await rig.container.start(
        rig.plan("sh", "-c", 'trap "echo bye; exit 0" TERM; echo up; while :; do sleep 0.05; done')
    )
    while "up" not in rig.container.log.read_text():
        await asyncio.sleep(0.01)
    rig.container.stop(5)
    assert (await rig.ended()).exit_code == 0
    assert "bye" in rig.container.log.read_text()


async def test_stop_kills_after_the_grace_period_which_can_be_shortened(rig):
    await rig.container.start(rig.plan("sh", "-c", 'trap "" TERM; echo up; while :; do sleep 0.05; done'))
    while "up" not in rig.container.log.read_text():
        await asyncio.sleep(0.01)
    rig.container.stop(600)
    await asyncio.sleep(0.1)
    assert rig.container.running
    rig.container.stop(0.1)
    ended = await rig.ended()
    assert (ended.exit_code, ended.signal) == (137, 9)
    assert rig.processes() == []


async def test_a_hook_ends_with_the_grace_period_which_can_be_shortened(rig):
    await rig.container.start(rig.plan("sleep", "600"))
    began = asyncio.Event()

    async def hook(left):
        began.set()
        await asyncio.sleep(left)

    rig.container.stop(600, hook)
    await began.wait()
    rig.container.stop(0.1)
    assert (await rig.ended()).signal in (signal.SIGTERM, signal.SIGKILL)


async def test_a_hook_that_fails_does_not_keep_the_container(rig, caplog):
    await rig.container.start(rig.plan("sleep", "600"))

    async def hook(_left):
        raise RuntimeError("no such thing")

    rig.container.stop(600, hook)
    assert (await rig.ended()).signal == signal.SIGTERM
    assert "no such thing" in caplog.text


async def test_logs_are_the_termination_message_when_asked_for(tmp_path):
    rig = Rig(tmp_path, spec={"terminationMessagePolicy": "FallbackToLogsOnError"})
    await rig.container.start(rig.plan("sh", "-c", "echo the reason; exit 1"))
    assert (await rig.ended()).message == "the reason\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_a_memory_limit_is_enforced_and_reported(tmp_path):
    rig = Rig(tmp_path, find_hierarchies())
    if rig.container.group.prepare(memory=32 << 20, cpu=None):
        rig.container.group.remove()
        pytest.skip("no right to a memory control group here")
    await rig.container.start(rig.plan(sys.executable, "-c", "b'x' * (256 << 20)"))
    assert (await rig.ended()).reason == "OOMKilled"


async def test_a_process_is_adopted_with_its_record(rig):
    await rig.container.start(rig.plan("sleep", "600"))
    pid = rig.container.record.pid
    rig.container.let_go()
    second = Rig(rig.directory)
    assert await second.container.adopt()
    assert (second.container.record.pid, second.container.record.restarts) == (pid, 0)
    os.kill(pid, signal.SIGKILL)
    assert (await second.ended()).exit_code == 137
    rig.container._supervisor = None
    rig.container.ended.set()


async def test_a_process_that_vanished_has_an_unknown_exit_code(tmp_path):
    rig = Rig(tmp_path)
    record = rig.record.container("c")
    record.pid, record.start_ticks, record.boot, record.confirmed = os.getpid(), 1, procfs.boot_id(), True
    record.started_at = "2024-01-01T00:00:00Z"
    assert not await rig.container.adopt()
    assert (record.terminated.exit_code, record.terminated.reason) == (137, "ContainerStatusUnknown")


async def test_what_a_process_left_behind_dies_though_nobody_saw_its_end(rig):
    await rig.container.start(rig.plan("sh", "-c", "setsid sleep 600 & exec sleep 601"))
    pid = rig.container.record.pid
    while len(rig.processes()) < 2:
        await asyncio.sleep(0.01)
    rig.container.let_go()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert not await Rig(rig.directory).container.adopt()
    assert rig.processes() == []
    rig.container._supervisor = None
    rig.container.ended.set()


async def test_a_process_of_another_boot_is_never_adopted(tmp_path):
    stat = procfs.read_stat(os.getpid())
    first = Rig(tmp_path)
    record = first.record.container("c")
    record.pid, record.start_ticks, record.boot, record.confirmed = os.getpid(), stat.start_ticks, "other", True
    records.save(tmp_path, first.record)
    assert not await Rig(tmp_path).container.adopt()


async def test_a_record_that_cannot_be_read_is_started_afresh(tmp_path):
    (tmp_path / records.STATE_FILE).write_bytes(b'{"uid": ')
    assert records.load(tmp_path) is None


def test_counters_of_a_lost_record_come_from_the_status():
    running = {"name": "c", "restartCount": 3, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
    pod = {
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "status": {"containerStatuses": [running]},
    }
    container = records.recall(pod).containers["c"]
    assert container.restarts == 3 and container.pid == 0
    assert container.terminated.reason == "ContainerStatusUnknown"
    assert records.recall({"metadata": pod["metadata"]}).containers == {}


AGENT = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_node_container import Rig

async def main():
    rig = Rig(Path(sys.argv[1]))
    print("ready", flush=True)
    if not await rig.container.adopt():
        await rig.container.start(rig.plan("sh", "-c", "echo $$; sleep 600"))
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_killing_the_agent_at_any_moment_neither_doubles_nor_loses_a_process(tmp_path):
    """Each round starts anew, is killed at a random moment around the start, and a second agent takes over."""
    chance = random.Random(7)
    here = str(Path(__file__).parent)
    outcomes = set()
    for number in range(6):
        directory = tmp_path / str(number)
        directory.mkdir()
        agent = subprocess.Popen([sys.executable, "-c", AGENT, str(directory), here], stdout=subprocess.PIPE)
        agent.stdout.readline()
        time.sleep(chance.uniform(0, 0.012))
        agent.kill()
        agent.wait()
        agent.stdout.close()
        rig = Rig(directory)
        await asyncio.sleep(0.05)  # An agent takes longer than this to come back.
        adopted = await rig.container.adopt()
        outcomes.add(adopted)
        if not adopted:
            assert rig.processes() == [], "what was not adopted does not run"
            assert rig.container.record.terminated is None, "and never ran"
            await rig.container.start(rig.plan("sh", "-c", "echo $$; sleep 600"))
        for _ in range(3000):
            if started := rig.container.log.read_text().split():
                break
            await asyncio.sleep(0.01)
        assert started == [str(rig.container.record.pid)], "it was started exactly once"
        rig.container.stop(0)
        await rig.ended()
    assert outcomes <= {True, False}
