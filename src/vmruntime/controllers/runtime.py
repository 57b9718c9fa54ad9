"""The controller of the VMRuntime: the switch itself. `runtime_decide` has the table; this takes the steps.

If somebody deletes the VMRuntime object, it comes back as it was known last. If that isn't known (the controller was
away), it comes back enabled where the VM kinds still exist and disabled otherwise: losing the object must neither
delete a machine nor stop one. Consent to losing machines does not come back with it.
"""

from __future__ import annotations

import asyncio
import logging

from kube.client.queue import Controller, WorkQueue
from kube.machinery.errors import StatusError
from vmruntime.api import names, preflightcheck, virtualmachine, vmruntime
from vmruntime.api.meta import Obj, annotation, condition_of, dig, is_deleting, name_of, namespace_of, uid_of
from vmruntime.controllers import bring_up, preflight, runtime_decide
from vmruntime.controllers.objects import find, write_status
from vmruntime.controllers.runtime_decide import Machine, Report, Situation, Step
from vmruntime.controllers.stack import SYNC_SECONDS, Stack

_log = logging.getLogger(__name__)

_KEY = names.RUNTIME_NAME
# How long the switch must be seen off before "there are no machines" is believed: a machine that was admitted in the
# moment before is stored by then.
_SETTLE_SECONDS = 0.3
# How often to look again while waiting for something that has no event of its own.
_WAIT_SECONDS = 1.0
# How often to look whether machines that are being deleted are gone; their watch says so at once.
_MACHINES_SECONDS = 5.0
_CONFLICT_SECONDS = 0.1
# How often what was brought up is checked for having been changed by others.
_DRIFT_SECONDS = 600.0


class RuntimeController:
    """Level-triggered and re-entrant: killed anywhere, the next pass goes on from what is there."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.queue: WorkQueue[str] = WorkQueue()
        self.controller: Controller[str] = Controller("runtime", self.queue, self.reconcile)
        self._off_since: float | None = None
        self._clean = False
        self._up_for: tuple[int, float] | None = None
        self._last_spec: Obj | None = None
        stack.runtimes.add_handler(self._runtime_changed)
        stack.checks.add_handler(lambda event, check, old: self.queue.add(_KEY))
        stack.machines.add_handler(self._machine_changed)
        stack.disks.add_handler(self._disk_changed)
        stack.engine.subscribe(lambda subject, namespace, name: None if namespace else self.queue.add(_KEY))

    def _runtime_changed(self, event: str, runtime: Obj, old: Obj | None) -> None:
        if name_of(runtime) != names.RUNTIME_NAME:
            return
        if event != "DELETED":
            self._last_spec = dict(dig(runtime, "spec", default={}))
        self.queue.add(_KEY)

    def _machine_changed(self, event: str, vm: Obj, old: Obj | None) -> None:
        if event != "MODIFIED" or is_deleting(vm) != is_deleting(old or {}):
            # A disable waits for it. Otherwise it is an occasion to look at the engine, once for many machines.
            self.queue.add_after(_KEY, _WAIT_SECONDS if vmruntime.is_enabled(self._stack.runtime) else 0.0)

    def _disk_changed(self, event: str, disk: Obj, old: Obj | None) -> None:
        if not self._stack.active and (event == "DELETED" or dig(old, "metadata", "finalizers")):
            self._clean = False
            self.queue.add(_KEY)

    async def reconcile(self, key: str) -> float | None:
        """One pass; the seconds after which another is due at the latest."""
        stack = self._stack
        if not await stack.runtimes.synced(SYNC_SECONDS) or not await stack.checks.synced(SYNC_SECONDS):
            return _WAIT_SECONDS
        runtime = stack.runtime
        if runtime is None:
            await self._recreate()
            return None
        try:
            return await self._step(runtime)
        except bring_up.NotServed as exc:
            _log.info("%s; looking again", exc)
            return _WAIT_SECONDS

    async def _step(self, runtime: Obj) -> float | None:
        enabled = vmruntime.is_enabled(runtime)
        loop = asyncio.get_running_loop()
        if enabled:
            self._off_since, self._clean = None, False
        elif self._off_since is None:
            self._off_since = loop.time()
        live = [] if enabled else await bring_up.list_live(self._stack, virtualmachine.RESOURCE) or []
        machines = sorted((_machine(vm) for vm in live), key=lambda machine: machine.name)
        settled = self._off_since is not None and loop.time() - self._off_since >= _SETTLE_SECONDS
        step = runtime_decide.decide(Situation(runtime, machines, settled, self._clean))
        if step is Step.RUN:
            return await self._run(runtime)
        if step is Step.SETTLE:
            return _SETTLE_SECONDS
        if step in (Step.TEAR_DOWN, Step.OFF):
            return await self._tear_down(runtime, step)
        missing = await self._bring_up(runtime)
        summary = dig(runtime, "status", "preflightCheckSummary")
        if step is Step.BLOCKED:
            await self._withdraw_wills()
            report = runtime_decide.running_report(missing, summary)
            await self._report(runtime, runtime_decide.blocked_report(machines, report))
            return _WAIT_SECONDS if missing else None
        await self._report(runtime, runtime_decide.deleting_report(machines, summary, missing))
        if step is Step.DELETE_MACHINES and not await self._delete_machines(live, vmruntime.keeps_disks(runtime)):
            return _CONFLICT_SECONDS
        return _MACHINES_SECONDS

    async def _run(self, runtime: Obj) -> float | None:
        """Enabled: everything up, checked, and said so."""
        runtime = await self._clear_consent(runtime)
        missing = await self._bring_up(runtime)
        await self._withdraw_wills()
        summary = await self._preflight(runtime)
        await self._report(runtime, runtime_decide.running_report(missing, summary))
        return _WAIT_SECONDS if missing else _DRIFT_SECONDS

    async def _bring_up(self, runtime: Obj) -> str:
        """What is missing. All objects are looked at once a generation, and from time to time."""
        generation = int(dig(runtime, "metadata", "generation", default=0))
        now = asyncio.get_running_loop().time()
        if self._up_for and self._up_for[0] == generation and now - self._up_for[1] < _DRIFT_SECONDS:
            readiness = await self._stack.engine.install(self._stack.settings)
            return "" if readiness.ready else readiness.message
        missing = await bring_up.bring_up(self._stack)
        if not missing:
            self._up_for = (generation, now)
            self._stack.switch(active=True)
        return missing

    async def _preflight(self, runtime: Obj) -> Obj | None:
        """The summary of the newest finished check; a check is begun where the settings have none yet."""
        emulation = vmruntime.uses_emulation(runtime)
        known = vmruntime.preflight_summary(runtime)
        checks = preflightcheck.newest_first(self._stack.checks.items())
        if known is None or known.use_emulation != emulation:
            wanted = preflightcheck.automatic(uid_of(runtime), int(dig(runtime, "metadata", "generation", default=0)))
            mine = self._stack.checks.get(names.NAMESPACE, name_of(wanted))
            if mine is None:
                await preflight.create(self._stack, wanted)
            if mine is None or not preflightcheck.is_done(mine):
                return _current(runtime)
        usable = [
            check
            for check in checks
            if preflightcheck.is_done(check) and (dig(check, "status", "useEmulation") is True) == emulation
        ]
        return preflightcheck.summary(usable[0]) if usable else _current(runtime)

    async def _delete_machines(self, machines: list[Obj], keep_disks: bool) -> bool:
        """Delete machine by machine, so that switching on again meanwhile saves those that are left.

        The wish to delete their disks goes with each machine: a disk itself is deleted only once its machine ends.
        Returns whether all were deleted: one that has just changed (409) is left to the next pass.
        """
        client, complete = self._stack.client, True
        for vm in machines:
            if is_deleting(vm):
                continue
            # Asked anew, and not of the watch, which may lag behind: nothing is deleted on a consent that has ended.
            runtime = await find(client, vmruntime.RESOURCE, names.RUNTIME_NAME)
            if runtime is None or vmruntime.is_enabled(runtime) or not vmruntime.consents_to_loss(runtime):
                return False
            name, namespace = name_of(vm), namespace_of(vm)
            try:
                await client.patch(virtualmachine.RESOURCE, name, _last_will(vm, keep_disks), namespace)
                await client.delete(virtualmachine.RESOURCE, name, namespace, uid=uid_of(vm))
            except StatusError as exc:
                if exc.code not in (404, 409):
                    raise
                complete = complete and exc.code == 404  # it went by itself
        return complete

    async def _withdraw_wills(self) -> None:
        """A disable that was called off, or lost its consent, must leave no machine whose disks would go with it one
        day."""
        for vm in self._stack.machines.items():
            if not is_deleting(vm) and annotation(vm, names.DELETE_DISKS_ANNOTATION):
                patch = {"metadata": {"uid": uid_of(vm), "annotations": {names.DELETE_DISKS_ANNOTATION: None}}}
                await self._stack.client.patch(virtualmachine.RESOURCE, name_of(vm), patch, namespace_of(vm))

    async def _tear_down(self, runtime: Obj, step: Step) -> float | None:
        """No machines are left: remove the stack, then say so."""
        if step is Step.TEAR_DOWN:
            self._up_for = None
            self._stack.switch(active=False)
            left = await bring_up.take_down(self._stack)
            if left:
                await self._report(runtime, runtime_decide.tearing_report(left))
                return _WAIT_SECONDS
            self._clean = True
        runtime = await self._clear_consent(runtime)
        await self._report(runtime, runtime_decide.off_report())
        return None

    async def _clear_consent(self, runtime: Obj) -> Obj:
        """Consent for one disable ends with it, or with its being called off."""
        stale = vmruntime.one_time_annotations(runtime)
        if not stale:
            return runtime
        patch = {
            "metadata": {
                "annotations": dict.fromkeys(stale),
                "resourceVersion": dig(runtime, "metadata", "resourceVersion"),
            }
        }
        changed = await self._stack.client.patch(vmruntime.RESOURCE, name_of(runtime), patch)
        self._stack.runtimes.wrote(changed)
        return changed

    async def _report(self, runtime: Obj, report: Report) -> None:
        status = runtime_decide.status(runtime, report)
        written = await write_status(self._stack.client, vmruntime.RESOURCE, runtime, status)
        if written is None:
            return
        self._stack.runtimes.wrote(written)
        if report.blocked and report.blocked != _blocked(runtime):
            await self._stack.events.event(runtime, "Warning", "DisableBlocked", report.blocked)
        before = _reason(runtime)
        if report.ready and report.ready_reason != before and not dig(runtime, "status", "ready"):
            await self._stack.events.event(runtime, "Normal", "Enabled", "VM Runtime is ready")
        elif report.ready_reason == "Disabled" and before not in ("", "Disabled"):
            await self._stack.events.event(runtime, "Normal", "Disabled", "VM Runtime is disabled")

    async def _recreate(self) -> None:
        obj = vmruntime.initial_object()
        if self._last_spec is not None:
            obj["spec"] = self._last_spec
        else:
            obj["spec"] = {"enabled": await bring_up.is_defined(self._stack, virtualmachine.RESOURCE)}
        _log.warning("the VMRuntime object was deleted; making it again with spec %s", obj["spec"])
        try:
            await self._stack.client.create(vmruntime.RESOURCE, obj)
        except StatusError as exc:
            if exc.reason != "AlreadyExists":
                raise


def _machine(vm: Obj) -> Machine:
    return Machine(f"{namespace_of(vm)}/{name_of(vm)}", is_deleting(vm))


def _last_will(vm: Obj, keep_disks: bool) -> Obj:
    """Whether its disks go with the machine; and a finalizer, so that this is carried out even for a machine that its
    controller has not seen yet."""
    finalizers = dig(vm, "metadata", "finalizers", default=[])
    if names.VM_FINALIZER not in finalizers:
        finalizers = [*finalizers, names.VM_FINALIZER]
    return {
        "metadata": {
            "uid": uid_of(vm),
            "resourceVersion": dig(vm, "metadata", "resourceVersion"),
            "annotations": {names.DELETE_DISKS_ANNOTATION: None if keep_disks else "true"},
            "finalizers": finalizers,
        }
    }


def _current(runtime: Obj) -> Obj | None:
    summary: Obj | None = dig(runtime, "status", "preflightCheckSummary")
    return summary


def _blocked(runtime: Obj) -> str:
    return str(condition_of(runtime, "DisableBlocked").get("message", ""))


def _reason(runtime: Obj) -> str:
    return str(condition_of(runtime, "Ready").get("reason", ""))
