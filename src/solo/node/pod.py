"""One pod: bring its containers to where its object wants them, and its status to where they are.

One worker a pod, level-triggered: whatever woke it (the object changed, a process ended, a probe changed its verdict, a
back-off is over), it looks at everything and does what is due. So it can be killed at any line and started again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import Any

from kube.client.errors import ConnectionFailed
from kube.machinery.durations import parse_rfc3339
from kube.machinery.errors import StatusError
from kube.machinery.resources import PODS
from solo.node import lifecycle, podspec, records, volumespec
from solo.node.beside import Beside
from solo.node.cgroups import ContainerGroup
from solo.node.container import Container
from solo.node.context import NodeContext
from solo.node.environment import ConfigError
from solo.node.health import Health
from solo.node.launch import LaunchError
from solo.node.lifecycle import Step
from solo.node.plan import Planner
from solo.node.publisher import StatusPublisher
from solo.node.volumes import MountError

log = logging.getLogger(__name__)

Obj = dict[str, Any]
_REMOVED_GRACE = 2.0
_LAST_GRACE = 1.0
"""Seconds that a sidecar has to end if the others took all of the grace period."""
_RETRY_FIRST, _RETRY_MAX = 0.2, 5.0


class PodWorker:
    """The worker of one pod. `run` goes on until the pod and its processes are gone."""

    def __init__(self, context: NodeContext, pod: Obj) -> None:
        self.pod = pod
        self.uid: str = pod["metadata"]["uid"]
        self.directory = context.root / self.uid
        self._context = context
        self._wake = asyncio.Event()
        self.removed = False
        self._stop_began: float | None = None
        self._publisher = StatusPublisher(context, pod)
        self._told: set[tuple[str, str]] = set()
        self._health: dict[str, Health] = {}
        known = records.load(self.directory)
        self.record = known or records.recall(pod)
        self.planner = Planner(context, pod, self.directory, self.record)
        self.beside = Beside(self.planner)
        self.containers = {container.name: container for container in self._make_containers()}

    def _make_containers(self) -> list[Container]:
        init_names = {entry["name"] for entry in podspec.init_containers(self.pod)}
        return [
            Container(
                entry,
                self.record.container(entry["name"]),
                self.directory,
                ContainerGroup(self._context.hierarchies, self.uid, entry["name"]),
                self._context.log_keeper,
                init=entry["name"] in init_names,
                save=lambda: records.save(self.directory, self.record),
                changed=self._wake.set,
            )
            for entry in podspec.all_containers(self.pod)
        ]

    def update(self, pod: Obj) -> None:
        """The object has changed."""
        self.pod = self.planner.pod = pod
        for entry in podspec.all_containers(pod):
            if entry["name"] in self.containers:  # Only the image can change, for example after it was refused.
                self.containers[entry["name"]].spec = entry
        self._wake.set()

    def look(self) -> None:
        """Look at what is due again: waits stand still while the machine sleeps, and do not follow its clock,
        and what the pod may have may have changed."""
        self._wake.set()

    def remove(self) -> None:
        """The object is gone."""
        self.removed = True
        self._wake.set()

    async def run(self) -> None:
        """Work until the pod is gone. Failures of the API and of the file system are retried."""
        try:
            await self._adopt()
            retry = _RETRY_FIRST
            while True:
                self._wake.clear()
                try:
                    wait = await self._step()
                    retry = _RETRY_FIRST
                except (StatusError, ConnectionFailed, OSError) as error:
                    log.warning("pod %s: %s; retried in %.1f s", self._label, error, retry)
                    wait, retry = retry, min(retry * 2, _RETRY_MAX)
                if wait is not None and wait < 0:
                    return
                try:
                    async with asyncio.timeout(wait):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            for health in self._health.values():
                health.end()
            for container in self.containers.values():
                container.let_go()

    @property
    def _label(self) -> str:
        return f"{self.pod['metadata']['namespace']}/{self.pod['metadata']['name']}"

    @property
    def _policy(self) -> str:
        return str(self.pod["spec"].get("restartPolicy") or "Always")

    def _event(self, type_: str, reason: str, message: str) -> None:
        self._context.emit(self.pod, type_, reason, message)

    def _tell_once(self, reason: str, message: str) -> None:
        if (reason, message) not in self._told:
            self._told.add((reason, message))
            self._event("Warning", reason, message)

    async def _adopt(self) -> None:
        for container in self.containers.values():
            if await container.adopt():
                log.info("adopted process %d, %s of pod %s", container.record.pid, container.name, self._label)
                self._watch_health(container, adopted=True)

    async def _step(self) -> float | None:
        """Do what is due. Returns seconds until something is due again, None for not by itself, below 0 for the end."""
        for name, health in list(self._health.items()):
            if not self.containers[name].running:
                health.end()
                del self._health[name]
        if self.removed:
            return await self._leave()
        if "deletionTimestamp" in self.pod["metadata"]:
            return await self._delete()
        if self.record.failed_reason:
            return await self._fail()
        if self._publisher.written.get("phase") in ("Succeeded", "Failed"):
            return None
        refused = self.planner.refusals()
        if refused and not any(container.running for container in self.containers.values()):
            self._refuse(refused)
            await self._publish()
            return None
        wait = self._deadline()
        if wait is not None and wait <= 0:
            return await self._fail()
        wait = lifecycle.sooner(wait, await self._advance())
        await self._publish()
        return lifecycle.sooner(wait, await self._renew())

    # --- the end of a pod ---

    def _stop_all(self, grace: float) -> bool:
        """Ask all containers to stop, sidecars after the others, the last one first. True when none runs."""
        running = [container for container in self.containers.values() if container.running]
        if self._stop_began is None:
            self._stop_began = time.monotonic()
        others = [container for container in running if not container.sidecar]
        left = grace - (time.monotonic() - self._stop_began)
        for container in others or running[-1:]:
            if not container.stopping:
                self._event("Normal", "Killing", f"Stopping container {container.name}")
            self._stop(container, max(left, min(grace, _LAST_GRACE)))
        return not running

    def _stop(self, container: Container, grace: float) -> None:
        def failed(message: str) -> None:
            self._event("Warning", "FailedPreStopHook", message)

        container.stop(grace, self.beside.pre_stop(container, failed))

    async def _leave(self) -> float | None:
        if not self._stop_all(_REMOVED_GRACE):
            return None
        await self._remove_remains()
        return -1

    async def _remove_remains(self) -> None:
        for container in self.containers.values():
            container.group.remove()
        await self.planner.remove_directory()

    async def _delete(self) -> float | None:
        if not self._stop_all(podspec.grace_period(self.pod)):
            await self._publish()
            return None
        await self._publish()
        metadata = self.pod["metadata"]
        if not metadata.get("finalizers"):
            await (
                self._remove_remains()
            )  # First: who sees that the object is gone may rely on everything of it being gone.
        try:
            await self._context.client.delete(PODS, metadata["name"], metadata["namespace"], grace=0, uid=self.uid)
        except StatusError as error:
            if error.code not in (404, 409):
                raise
        return None  # The directory goes with the object, which a finalizer may keep.

    async def _fail(self) -> float | None:
        """The agent has given the pod up: no process of it may run."""
        self._stop_all(podspec.grace_period(self.pod))
        await self._publish()
        return None

    def _deadline(self) -> float | None:
        """Seconds until activeDeadlineSeconds are over; marks the pod as failed when they are."""
        limit = self.pod["spec"].get("activeDeadlineSeconds")
        began = self._publisher.written.get("startTime")
        if limit is None or not began:
            return None
        left = parse_rfc3339(began).timestamp() + float(limit) - time.time()
        if left <= 0:
            self.record.failed_reason = "DeadlineExceeded"
            self.record.failed_message = "Pod was active on the node longer than the specified deadline"
            records.save(self.directory, self.record)
            self._event("Normal", "DeadlineExceeded", self.record.failed_message)
        return left

    # --- bringing containers up ---

    def _refuse(self, refused: list[podspec.Refusal]) -> None:
        for refusal in refused:
            self._tell_once(refusal.event_reason, refusal.message)
            for container in self.containers.values():
                if refusal.container in ("", container.name):
                    container.waiting = (refusal.waiting_reason, refusal.message)

    async def _advance(self) -> float | None:
        """Start what is due, init containers one after the other first. Returns seconds until the next start."""
        try:
            await self.planner.prepare()
        except MountError as error:
            return self._cannot_prepare("ContainerCreating", str(error), "FailedMount")
        except ConfigError as error:
            return self._cannot_prepare("CreateContainerConfigError", str(error))
        except (StatusError, OSError) as error:
            return self._cannot_prepare("ContainerCreating", str(error))
        if self._is_done():
            self._stop_all(podspec.grace_period(self.pod))
            return None
        ordinary = [self.containers[entry["name"]] for entry in podspec.containers(self.pod)]
        begun = any(container.record.started_at for container in ordinary)
        wait = None
        for entry in podspec.init_containers(self.pod):
            container = self.containers[entry["name"]]
            step, due = await self._bring_up(container)
            wait = lifecycle.sooner(wait, due)
            # A sidecar that has to be restarted later holds nobody up.
            if not (container.started or begun if container.sidecar else step is Step.SUCCEEDED):
                return wait
        for container in ordinary:
            _, due = await self._bring_up(container)
            wait = lifecycle.sooner(wait, due)
        return wait

    def _is_done(self) -> bool:
        """Whether only sidecars are left, for which nothing is to be done any more."""
        init = [self._decide(container) for container in self.containers.values() if container.init]
        ordinary = [self._decide(container) for container in self.containers.values() if not container.init]
        ended = all(decision.step in (Step.SUCCEEDED, Step.FAILED) for decision in ordinary)
        return ended or any(decision.step is Step.FAILED for decision in init)

    def _decide(self, container: Container) -> lifecycle.Decision:
        sidecar = container.sidecar
        policy = "Always" if sidecar else self._policy
        return lifecycle.decide(container.record, policy, time.time(), init=container.init and not sidecar)

    def _cannot_prepare(self, reason: str, message: str, event: str = "Failed") -> float:
        self._tell_once(event, message)
        for container in self.containers.values():
            if not container.running:
                container.waiting = (reason, message)
        return _RETRY_MAX / 5

    async def _bring_up(self, container: Container) -> tuple[Step, float | None]:
        now = time.time()
        decision = self._decide(container)
        if decision.step is Step.WAIT:
            self._back_off(container, decision.at - now)
            return decision.step, decision.at - now
        if decision.step is not Step.START:
            container.waiting = None
            return decision.step, None
        if await self._start(container):
            return Step.RUN, None
        return Step.WAIT, max(0.0, container.record.retry_at - time.time())

    def _back_off(self, container: Container, left: float) -> None:
        if container.record.terminated is None:
            return  # It could not be started; the reason stays to be seen.
        metadata = self.pod["metadata"]
        name = f"{metadata['name']}_{metadata['namespace']}({self.uid})"
        if container.waiting is None:
            text = f"Back-off restarting failed container {container.name} in pod {name}"
            self._event("Warning", "BackOff", text)
            message = f"back-off {round(left)}s restarting failed container={container.name} pod={name}"
            container.waiting = ("CrashLoopBackOff", message)

    async def _start(self, container: Container) -> bool:
        """Start a container. False when it cannot be; why is in its waiting state and an event."""
        spec = container.spec
        try:
            plan = await self.planner.plan(spec)
            problems = container.group.prepare(memory=podspec.memory_limit(spec), cpu=podspec.cpu_limit(spec))
            for problem in problems:
                self._tell_once("LimitNotEnforced", f"container {container.name}: {problem}")
            for limit in volumespec.not_enforced(self.pod):
                self._tell_once("LimitNotEnforced", limit)
            if plan.hostname and not self._context.is_administrator:
                text = f"processes have the host's name, not {plan.hostname}: that takes a cluster that runs as root"
                self._tell_once("HostnameNotSet", text)
            await container.start(plan)
        except ConfigError as error:
            reason, message = "CreateContainerConfigError", str(error)
        except LaunchError as error:
            reason, message = "RunContainerError", f"failed to start container {container.name}: {error}"
        except OSError as error:
            reason, message = "CreateContainerError", f"failed to create container {container.name}: {error}"
        else:
            self._event("Normal", "Started", f"Started container {container.name}")
            self._watch_health(container)
            return True
        container.waiting = (reason, message)
        self._event("Warning", "Failed", f"Error: {message}")
        # A config map may appear at any moment; a missing program rarely does.
        if reason == "CreateContainerConfigError":
            container.record.retry_at = time.time() + _RETRY_MAX
        else:
            container.record.backoff = max(container.record.backoff, lifecycle.BACKOFF_FIRST)
            lifecycle.back_off(container.record, 0.0, time.time())
        return False

    def _watch_health(self, container: Container, *, adopted: bool = False) -> None:
        if container.init and not container.sidecar:
            container.started = True
            return

        def restart(grace: float | None) -> None:
            self._stop(container, podspec.grace_period(self.pod) if grace is None else grace)

        run = self.beside.runner(container)
        address = self.planner.addresses.pod
        health = Health(container, address, run, changed=self._wake.set, event=self._event, restart=restart)
        if former := self._health.get(container.name):
            former.end()
        self._health[container.name] = health
        if not adopted:
            health.begin()
            return
        known = (self.pod.get("status") or {}).get("initContainerStatuses" if container.init else "containerStatuses")
        before: Obj = next((entry for entry in known or [] if entry["name"] == container.name), {})
        health.resume(was_started=bool(before.get("started")), was_ready=bool(before.get("ready")))

    # --- status and credentials ---

    async def _renew(self) -> float | None:
        """Renew what is due. Returns seconds until something is due again."""
        if self.planner.renew_at <= time.time():
            try:
                await self.planner.renew()
            except MountError as error:
                self._tell_once("FailedMount", str(error))  # The volume stays as it is.
        due = self.planner.renew_at
        return None if due == math.inf else max(0.0, due - time.time())

    async def _publish(self) -> None:
        """Write the status, when it differs from what was written last."""
        record = self.record
        idle = "PodInitializing" if podspec.init_containers(self.pod) else "ContainerCreating"
        for container in self.containers.values():
            if container.record.pid == 0 and container.record.terminated is None and container.waiting is None:
                container.waiting = (idle, "")
        views = {name: container.view for name, container in self.containers.items()}
        given_up = record.failed_reason and not any(container.running for container in self.containers.values())
        failed = (record.failed_reason, record.failed_message) if given_up else None
        await self._publisher.publish(self.pod, views, self.planner.addresses, failed)
