"""The controller of VMRuntimePreflightChecks: runs each check once, on every node that isn't skipped.

Checks are made by the runtime controller (on enabling, and when useEmulation changes), by people, and here when a
node loses its skip label. Only the newest ones are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from kube.client.queue import Controller, WorkQueue
from kube.machinery.durations import now_micro
from kube.machinery.errors import StatusError
from vmruntime.api import names, preflightcheck, vmruntime
from vmruntime.api.meta import Obj, dig, is_deleting, name_of, uid_of
from vmruntime.controllers.objects import remove, write_status
from vmruntime.controllers.stack import SYNC_SECONDS, Stack
from vmruntime.engines.common import CheckResult


class PreflightController:
    """Level-triggered: a check that was interrupted is run again."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.queue: WorkQueue[str] = WorkQueue()
        self.controller: Controller[str] = Controller("preflight", self.queue, self.reconcile)
        self._wanted: set[str] = set()
        stack.checks.add_handler(self._check_changed)
        stack.nodes.add_handler(self._node_changed)

    def _check_changed(self, event: str, check: Obj, old: Obj | None) -> None:
        if event != "DELETED" and not preflightcheck.is_done(check):
            self.queue.add(name_of(check))

    def _node_changed(self, event: str, node: Obj, old: Obj | None) -> None:
        if event == "MODIFIED" and old is not None and is_skipped(old) and not is_skipped(node):
            runtime = self._stack.runtime
            if runtime is not None and vmruntime.is_enabled(runtime):
                generation = int(dig(runtime, "metadata", "generation", default=0))
                cause = f"{name_of(node)}/{dig(node, 'metadata', 'resourceVersion')}"
                name = name_of(preflightcheck.automatic(uid_of(runtime), generation, cause))
                self._wanted.add(name)
                self.queue.add(name)

    async def reconcile(self, name: str) -> float | None:
        """Run the check of this name, after creating it if it isn't there (a node lost its skip label)."""
        if not await self._stack.nodes.synced(SYNC_SECONDS):
            return 1.0
        check = self._stack.checks.get(names.NAMESPACE, name)
        if check is None:
            if name in self._wanted:
                await create(self._stack, preflightcheck.check_object(name))
                self._wanted.discard(name)
            return None
        if preflightcheck.is_done(check) or is_deleting(check):
            return None
        # The settings may change while the check runs: it is recorded as the check of those that it was made with.
        settings = self._stack.settings
        outcomes = {}
        for node in sorted(self._stack.nodes.items(), key=name_of):
            if not is_skipped(node):
                outcomes[name_of(node)] = await self._stack.engine.preflight(name_of(node), settings)
        written = await write_status(
            self._stack.client,
            preflightcheck.RESOURCE,
            check,
            outcome_status(outcomes, settings.use_emulation),
        )
        if written is not None:
            self._stack.checks.wrote(written)
        await self._drop_old()
        return None

    async def _drop_old(self) -> None:
        done = [check for check in self._stack.checks.items() if preflightcheck.is_done(check)]
        for check in preflightcheck.newest_first(done)[preflightcheck.KEEP_NEWEST :]:
            await remove(self._stack.client, preflightcheck.RESOURCE, name_of(check), names.NAMESPACE)


def is_skipped(node: Obj) -> bool:
    """The label counts, whatever its value."""
    return names.SKIP_NODE_LABEL in dig(node, "metadata", "labels", default={})


async def create(stack: Stack, check: Obj) -> None:
    """Create the check unless it is there."""
    try:
        await stack.client.create(preflightcheck.RESOURCE, check, names.NAMESPACE)
    except StatusError as exc:
        if exc.reason != "AlreadyExists":
            raise


def outcome_status(outcomes: dict[str, list[CheckResult]], use_emulation: bool) -> Obj:
    """The status of a finished check. Nodes that were skipped count for nothing; one failure anywhere fails it."""
    checks = {node: _node_status(results) for node, results in outcomes.items()}
    failed = [
        f"{result.name} on {node}: {result.message}"
        for node, results in outcomes.items()
        for result in results
        if not result.passed
    ]
    status: Obj = {
        "passed": not failed,
        "useEmulation": use_emulation,
        "completionTime": now_micro(),
        "checks": checks,
    }
    if failed:
        status["message"] = failed[0] if len(failed) == 1 else "; ".join(failed[:2]) + _more(failed[2:])
    elif not outcomes:
        status["message"] = f"no node was checked: every node has the label {names.SKIP_NODE_LABEL}"
    return status


def _more(rest: Sequence[str]) -> str:
    return f"; and {len(rest)} more" if rest else ""


def _node_status(results: Sequence[CheckResult]) -> Obj:
    return {
        "passed": all(result.passed for result in results),
        "results": [
            {"checkName": result.name, "passed": result.passed, "message": result.message} for result in results
        ],
    }
