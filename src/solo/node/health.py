"""The hook and the probes of a run of a container: whether it has started, is ready, must be restarted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from solo.node.container import Container
from solo.node.probes import CannotAskError, ExecAction, ProbeLoop, run_action

log = logging.getLogger(__name__)

Obj = dict[str, Any]

_HOOK_SECONDS = 3600.0
"""How long a postStart hook may take; the API knows no bound, but nothing is waited for without one."""


class Health:
    """Watches over one run. Sets the container's `started` and `ready`; ends with the run."""

    def __init__(
        self,
        container: Container,
        host: str,
        run: ExecAction,
        *,
        changed: Callable[[], None],
        event: Callable[[str, str, str], None],
        restart: Callable[[float | None], None],
    ) -> None:
        """`run` executes a command beside the container. `event` gets (type, reason, message). `restart` is called
        with the probe's own grace period, or None, when the container must be ended, and restarted if it ever is."""
        self._container = container
        self._spec: Obj = container.spec
        self._host = host
        self._run = run
        self._changed = changed
        self._event = event
        self._restart = restart
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Run the postStart hook, then start probing; without either the container is started and ready at once."""
        hook = (self._spec.get("lifecycle") or {}).get("postStart")
        if hook is None:
            self.resume(was_started=False, was_ready=False)
        else:
            self._container.started = self._container.ready = False
            self._spawn("postStart hook", self._after_start(hook))

    async def _after_start(self, hook: Obj) -> None:
        """No probe begins before the hook is done, which the container's end ends, too."""
        try:
            failure = await run_action(hook, self._spec, self._host, _HOOK_SECONDS, self._run)
        except CannotAskError as error:
            failure = str(error)
        if failure:
            self._event("Warning", "FailedPostStartHook", f"PostStartHook failed: {failure}")
            self._restart(None)
            return
        self.resume(was_started=False, was_ready=False)
        self._changed()

    def resume(self, *, was_started: bool, was_ready: bool) -> None:
        """Probe a run that is under way. It goes on with the verdicts that it had until there are new ones."""
        self._container.ready = was_ready
        if (startup := self._spec.get("startupProbe")) and not was_started:
            self._container.started = False
            self._launch("Startup", startup, self._on_startup)
        else:
            self._on_started()

    def end(self) -> None:
        """Stop probing."""
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()

    def _on_startup(self, verdict: bool) -> None:
        if not verdict:
            self._fail("startup", self._spec["startupProbe"])
            return
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        self._on_started()
        self._changed()

    def _on_started(self) -> None:
        self._container.started = True
        readiness, liveness = self._spec.get("readinessProbe"), self._spec.get("livenessProbe")
        self._container.ready = self._container.ready or readiness is None
        if readiness:
            self._launch("Readiness", readiness, self._on_readiness)
        if liveness:
            self._launch("Liveness", liveness, self._on_liveness)

    def _on_readiness(self, verdict: bool) -> None:
        self._container.ready = verdict
        self._changed()

    def _on_liveness(self, verdict: bool) -> None:
        if not verdict:
            self._fail("liveness", self._spec["livenessProbe"])

    def _fail(self, kind: str, probe: Obj) -> None:
        container = self._container
        self._event("Normal", "Killing", f"Container {container.name} failed {kind} probe, will be restarted")
        grace = probe.get("terminationGracePeriodSeconds")
        self._restart(None if grace is None else float(grace))

    def _launch(self, kind: str, probe: Obj, on_verdict: Callable[[bool], None]) -> None:
        loop = ProbeLoop(
            probe,
            self._checker(probe),
            on_failure=lambda reason: self._event("Warning", "Unhealthy", f"{kind} probe failed: {reason}"),
            on_verdict=on_verdict,
        )
        self._spawn(f"{kind} probe", loop.run())

    def _spawn(self, what: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=f"{what} of {self._container.marker}")
        task.add_done_callback(_log_failure)
        self._tasks.append(task)

    def _checker(self, probe: Obj) -> Callable[[float], Awaitable[str]]:
        async def check(timeout: float) -> str:
            return await run_action(probe, self._spec, self._host, timeout, self._run)

        return check


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s ended: %s", task.get_name(), error, exc_info=error)
