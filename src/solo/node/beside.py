"""Commands beside a pod's containers: what exec, probes and hooks run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from kube.client.errors import ConnectionFailed
from kube.machinery.errors import StatusError
from solo.node.container import Container
from solo.node.environment import ConfigError
from solo.node.exec import run as run_command
from solo.node.launch import Launch, LaunchError
from solo.node.plan import Planner
from solo.node.probes import CannotAskError, ExecAction, run_action

_SHORTEST_HOOK = 0.1


class Beside:
    """Runs commands beside running containers of one pod, with their environment, directory, identity and limits."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner

    async def plan(self, container: Container, command: list[str]) -> Launch:
        """The process to be. ConfigError or StatusError when what the container was made of is missing."""
        plan = await self._planner.exec_plan(container.spec, command)
        record = container.record
        beside = (record.pid, record.start_ticks) if plan.mounts else (0, 0)
        return replace(plan, join=container.group.join_files(), mounts=(), beside=beside)

    def runner(self, container: Container) -> ExecAction:
        """What runs commands beside `container`; one that cannot be started has the exit code 127, as in a shell."""

        async def run(command: list[str], timeout: float) -> tuple[int, str]:
            try:
                plan = await self.plan(container, command)
            except (ConfigError, StatusError, ConnectionFailed) as error:
                raise CannotAskError(str(error)) from error
            try:
                return await run_command(plan, timeout)
            except LaunchError as error:
                return 127, str(error)

        return run

    def pre_stop(
        self, container: Container, failed: Callable[[str], None]
    ) -> Callable[[float], Awaitable[None]] | None:
        """The preStop hook of `container`, to be given the seconds it may take; `failed` hears why it failed."""
        hook = (container.spec.get("lifecycle") or {}).get("preStop")
        if not hook:
            return None

        async def run(left: float) -> None:
            timeout = max(left, _SHORTEST_HOOK)
            try:
                failure = await run_action(
                    hook, container.spec, self._planner.addresses.pod, timeout, self.runner(container)
                )
            except CannotAskError as error:
                failure = str(error)
            if failure:
                failed(f"PreStopHook failed: {failure}")

        return run
