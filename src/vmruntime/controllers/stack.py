"""What the controllers share: the client, the engine, the watched kinds, and whether the stack is up.

The runtime controller is the only one that switches the stack; the others ask it, and are called when it changes.
"""

from __future__ import annotations

from collections.abc import Callable

from kube.client.aio import AsyncClient
from kube.client.events import EventRecorder
from kube.machinery import resources
from vmruntime.api import (
    names,
    network,
    networkinterface,
    preflightcheck,
    virtualmachine,
    virtualmachineaccessrequest,
    virtualmachinedisk,
    virtualmachinetype,
    vmruntime,
)
from vmruntime.api.meta import Obj
from vmruntime.controllers.cache import Cache
from vmruntime.controllers.machine_decide import Problem
from vmruntime.engines.base import Engine
from vmruntime.engines.common import Settings

SYNC_SECONDS = 10.0


class Stack:
    """One controller manager's world."""

    def __init__(self, client: AsyncClient, engine: Engine) -> None:
        self.client = client
        self.engine = engine
        self.events = EventRecorder(client, names.MANAGER)
        self.runtimes = Cache(client, vmruntime.RESOURCE)
        self.checks = Cache(client, preflightcheck.RESOURCE, namespace=names.NAMESPACE)
        self.nodes = Cache(client, resources.NODES)
        self.machines = Cache(client, virtualmachine.RESOURCE)
        self.disks = Cache(client, virtualmachinedisk.RESOURCE)
        self.accesses = Cache(client, virtualmachineaccessrequest.RESOURCE)
        self.orphans_told: set[str] = set()
        self.types = Cache(client, virtualmachinetype.RESOURCE)
        self.networks = Cache(client, network.RESOURCE)
        self.interfaces = Cache(client, networkinterface.RESOURCE)
        self._active: bool | None = None
        self._on_switch: list[Callable[[], None]] = []

    def on_switch(self, call: Callable[[], None]) -> None:
        """Have `call` called whenever the stack went up or down."""
        self._on_switch.append(call)

    @property
    def kinds(self) -> tuple[Cache, ...]:
        """The kinds that are there only while the runtime is on."""
        return (self.types, self.disks, self.machines, self.networks, self.interfaces, self.accesses)

    @property
    def active(self) -> bool | None:
        """Whether the stack is up; None until that has been found out."""
        return self._active

    def switch(self, active: bool) -> None:
        if active != self._active:
            self._active = active
            for call in self._on_switch:
                call()

    @property
    def runtime(self) -> Obj | None:
        return self.runtimes.get("", names.RUNTIME_NAME)

    @property
    def settings(self) -> Settings:
        runtime = self.runtime
        return Settings(vmruntime.uses_emulation(runtime), vmruntime.image_format(runtime))


def gate(runtime: Obj | None) -> Problem | None:
    """Why new machines may not start, None if they may. Admission refuses them already; this is the second look."""
    if not vmruntime.is_enabled(runtime):
        message = "VM Runtime is disabled, or is being disabled"
        return Problem(virtualmachine.PENDING, "RuntimeDisabled", message)
    summary = vmruntime.preflight_summary(runtime)
    if summary is None:
        return Problem(virtualmachine.PENDING, "PreflightRunning", "the preflight check has not finished yet")
    if not summary.passed:
        why = f"the newest preflight check ({summary.name}) failed: {summary.message or 'see its status'}"
        return Problem(virtualmachine.PENDING, "PreflightFailed", why)
    return None
