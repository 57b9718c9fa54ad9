"""What all parts of the agent share: the API, the node's identity, its directories and rights."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kube.client.aio import AsyncClient
from kube.client.events import EventRecorder
from kube.machinery.errors import StatusError
from kube.machinery.resources import Resource
from solo.node.addresses import PodNetwork
from solo.node.cgroups import Hierarchies
from solo.node.libc import is_system_administrator
from solo.node.logkeeper import LogKeeper

log = logging.getLogger(__name__)

Obj = dict[str, Any]


@dataclass(slots=True)
class NodeContext:
    """One node agent's surroundings. `memory` is the machine's, in bytes; an administrator can make namespaces.

    `pod_network`: the subnets that addresses of pods may be from.
    """

    client: AsyncClient
    recorder: EventRecorder
    node_name: str
    root: Path
    api_server: str
    ca_pem: bytes
    hierarchies: Hierarchies
    memory: int
    pod_network: PodNetwork = ()
    uid: int = field(default_factory=os.geteuid)
    is_administrator: bool = field(default_factory=is_system_administrator)
    log_keeper: LogKeeper = field(default_factory=LogKeeper)
    _background: set[asyncio.Task[Any]] = field(default_factory=set)

    async def read(self, resource: Resource, namespace: str, name: str) -> Obj | None:
        """The object, or None when there is none. Other errors are raised."""
        try:
            return await self.client.get(resource, name, namespace)
        except StatusError as error:
            if error.code == 404:
                return None
            raise

    def emit(self, pod: Obj, type_: str, reason: str, message: str) -> None:
        """Record an event about `pod`, in the background: nothing waits for events."""
        self.spawn(self.recorder.event(pod, type_, reason, message), f"event {reason}")

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        """Run `work` beside everything else; a failure is logged."""
        task = asyncio.create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)

    async def drain(self) -> None:
        """Cancel what runs in the background and wait for it."""
        tasks = list(self._background)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
