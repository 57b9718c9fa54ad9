"""One container: a host process with its session, its log, its control group and its record.

A container is started through a gate (see `launch`), so that its record is on disk before its program runs. Its end is
awaited through a pidfd, whoever started it. When its main process ends, what is left of the container is killed, as the
end of a container's first process does everywhere.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kube.machinery.durations import now_rfc3339
from solo.node import lifecycle, logs, procfs
from solo.node.cgroups import ContainerGroup
from solo.node.launch import Launch, LaunchError, fork_gated
from solo.node.logkeeper import LogKeeper
from solo.node.podspec import is_sidecar
from solo.node.reaper import ExitWatch, exit_code
from solo.node.records import ContainerRecord, Terminated
from solo.node.status import ContainerView

log = logging.getLogger(__name__)

Obj = dict[str, Any]
_UNKNOWN = "The container could not be located when the agent came back: its exit code is unknown"
_KILL_PATIENCE = 10.0


class Container:
    """One container of one pod on this machine. `changed` is called whenever its state has."""

    def __init__(
        self,
        spec: Obj,
        record: ContainerRecord,
        pod_directory: Path,
        group: ContainerGroup,
        log_keeper: LogKeeper,
        *,
        init: bool,
        save: Callable[[], None],
        changed: Callable[[], None],
    ) -> None:
        self.spec = spec
        self.record = record
        self.init = init
        self.group = group
        self._log_keeper = log_keeper
        self.waiting: tuple[str, str] | None = None
        self.ready = False
        self.started = False
        self.ended = asyncio.Event()
        """Set while no process runs."""
        self.ended.set()
        self._pod_directory = pod_directory
        self._save = save
        self._changed = changed
        self._watch: ExitWatch | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._stopper: asyncio.Task[None] | None = None
        self._stop_deadline = 0.0  # On the monotonic clock.
        self._deadline_moved = asyncio.Event()

    @property
    def name(self) -> str:
        """The container's name."""
        return self.record.name

    @property
    def directory(self) -> Path:
        """Where its logs are."""
        return self._pod_directory / self.name

    @property
    def marker(self) -> str:
        """The value of the variable that its processes carry."""
        return str(self.directory)

    @property
    def sidecar(self) -> bool:
        """Whether it is an init container that goes on running."""
        return self.init and is_sidecar(self.spec)

    @property
    def running(self) -> bool:
        """Whether its main process is alive, or its end not yet dealt with."""
        return self._supervisor is not None and not self._supervisor.done()

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopper is not None

    @property
    def log(self) -> Path:
        """The log of the present or latest run."""
        return logs.log_path(self._pod_directory, self.name, self.record.restarts)

    @property
    def view(self) -> ContainerView:
        """What the pod's status shows."""
        return ContainerView(self.record, self.waiting, self.ready, self.started)

    async def adopt(self) -> bool:
        """Take up the process that a former agent left; False when it runs no more, nor then what it left behind."""
        record = self.record
        if not record.pid:
            return False
        try:
            watch = ExitWatch(record.pid, record.start_ticks)
        except OSError:
            if record.boot == procfs.boot_id():
                await self._kill_all()
            self._not_found()
            return False
        if not record.confirmed and not procfs.carries_marker(record.pid, self.marker):
            # It still stands at the gate of an agent that is dead and will leave in a moment, having run nothing.
            watch.close()
            self._not_found()
            return False
        if not record.confirmed:
            record.confirmed = True
            self._save()
        self._supervise(watch)
        return True

    def _not_found(self) -> None:
        record = self.record
        ran = record.confirmed
        record.pid, record.confirmed = 0, False
        if ran:
            record.terminated = Terminated(
                137, "ContainerStatusUnknown", record.started_at, now_rfc3339(), message=_UNKNOWN
            )
        self._save()

    async def start(self, plan: Launch) -> None:
        """Start a run; its output goes to its log, whatever `plan` says.

        Raises LaunchError or OSError when it cannot be started; the record is as before then.
        """
        record = self.record
        run = record.restarts + (1 if record.terminated is not None else 0)
        self.directory.mkdir(mode=0o700, exist_ok=True)
        await self._clear_remnants()
        before = (record.restarts, record.terminated, record.last)
        try:
            await self._run(plan, logs.log_path(self._pod_directory, self.name, run), run)
        except (OSError, LaunchError):
            record.restarts, record.terminated, record.last = before
            record.pid, record.confirmed = 0, False
            raise
        logs.remove_older(self.directory, run - 1)

    async def _clear_remnants(self) -> None:
        """An agent that died between the end of a run and its clearing up may have left processes of it."""
        if self.record.terminated is not None or self.record.last is not None:
            await self._kill_all()

    async def _run(self, plan: Launch, path: Path, run: int) -> None:
        record = self.record
        owner = (-1, -1) if plan.uid is None else (plan.uid, plan.gid)
        output = logs.open_for_process(path, *owner)
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            process = fork_gated(
                replace(plan, stdin=nothing, stdout=output, stderr=output, join=self.group.join_files())
            )
        finally:
            os.close(output)
            os.close(nothing)
        try:
            if record.terminated is not None:
                record.last, record.terminated = record.terminated, None
            record.restarts = run
            record.pid, record.start_ticks, record.boot = process.pid, process.start_ticks, procfs.boot_id()
            record.started_at, record.confirmed = now_rfc3339(), False
            self._save()
        except OSError:
            process.abandon()
            raise
        await process.release()
        record.confirmed = True
        try:
            self._save()
        except OSError as error:
            # It runs, and is on record; another agent will know it by its environment.
            log.error("the start of container %s cannot be confirmed: %s", self.marker, error)
        self.waiting = None
        self._supervise(process.watch)

    def _supervise(self, watch: ExitWatch) -> None:
        self._watch = watch
        self._log_keeper.follow(self.log)
        self.ended.clear()
        self._supervisor = asyncio.create_task(self._until_end(watch), name=f"container {self.marker}")

    async def _until_end(self, watch: ExitWatch) -> None:
        status = await watch.wait()
        record = self.record
        oom = self.group.oom_kills() > 0
        leader = procfs.read_stat(record.pid)
        if leader is None or leader.start_ticks == record.start_ticks:
            # The number is not anyone else's, so the session of that number is what the leader left.
            procfs.send_signal(procfs.session_members(record.pid), signal.SIGKILL)
        await self._kill_all()
        finished = now_rfc3339()
        if status is None:
            ended = Terminated(137, "ContainerStatusUnknown", record.started_at, finished, message=_UNKNOWN)
        else:
            code, number = exit_code(status)
            reason = "OOMKilled" if oom and number == signal.SIGKILL else "Completed" if code == 0 else "Error"
            ended = Terminated(code, reason, record.started_at, finished, number)
        if ended.exit_code and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            ended.message = logs.tail_text(self.log, 80, 2048)
        lifecycle.back_off(record, lifecycle.seconds_between(record.started_at, finished), time.time())
        await self._log_keeper.finish(self.log)
        record.pid, record.confirmed, record.terminated = 0, False, ended
        self.ready = self.started = False
        self.group.remove()
        try:
            self._save()
        except OSError as error:
            log.error("the end of container %s cannot be recorded: %s", self.marker, error)
        if self._stopper is not None:
            self._stopper.cancel()
            self._stopper = None
        self._supervisor = None
        self.ended.set()
        self._changed()

    async def _kill_all(self) -> None:
        """Kill every process of the container and wait until they are gone, for a while."""
        deadline = time.monotonic() + _KILL_PATIENCE
        pause = 0.001
        while True:
            self.group.kill()
            left = set(procfs.members(self.marker, self.record.pid, self.record.start_ticks))
            left.update(pid for pid in self.group.pids() if (stat := procfs.read_stat(pid)) and not stat.dead)
            if not left:
                return
            procfs.send_signal(left, signal.SIGKILL)
            if time.monotonic() > deadline:
                log.error("processes %s of container %s do not die", sorted(left), self.marker)
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.5)

    def stop(self, grace: float, before: Callable[[float], Awaitable[object]] | None = None) -> None:
        """Ask it to end: `before` (the preStop hook, given the seconds it may take), SIGTERM, after `grace` SIGKILL.

        May be called again; the deadline can only come nearer.
        """
        if not self.running:
            return
        deadline = time.monotonic() + grace
        if self._stopper is not None:
            if deadline < self._stop_deadline:
                self._stop_deadline = deadline
                self._deadline_moved.set()
            return
        self._stop_deadline = deadline
        self._stopper = asyncio.create_task(self._stop(before), name=f"stop {self.marker}")

    async def _stop(self, before: Callable[[float], Awaitable[object]] | None) -> None:
        if before is not None:
            await self._until_deadline(before(self._stop_deadline - time.monotonic()))
        procfs.send_signal(self._everyone(), signal.SIGTERM)
        await self._until_deadline(self.ended.wait())
        await self._kill_all()

    async def _until_deadline(self, work: Awaitable[object]) -> None:
        """Give `work` until the deadline, which may come nearer meanwhile. It failing is told in the log."""
        task = asyncio.ensure_future(work)
        moved = asyncio.ensure_future(self._deadline_moved.wait())
        try:
            while not task.done() and (left := self._stop_deadline - time.monotonic()) > 0:
                await asyncio.wait({task, moved}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if moved.done():
                    self._deadline_moved.clear()
                    moved = asyncio.ensure_future(self._deadline_moved.wait())
        finally:
            task.cancel()
            moved.cancel()
        outcome, _ = await asyncio.gather(task, moved, return_exceptions=True)
        if isinstance(outcome, Exception):
            log.error("what was to come before the end of container %s failed: %s", self.marker, outcome)

    def _everyone(self) -> set[int]:
        return {*procfs.members(self.marker, self.record.pid, self.record.start_ticks), *self.group.pids()}

    def let_go(self) -> None:
        """Stop watching; the process goes on and is there to be adopted."""
        for task in (self._supervisor, self._stopper):
            if task is not None:
                task.cancel()
        if self._watch is not None:
            self._watch.close()
            self._log_keeper.leave(self.log)
