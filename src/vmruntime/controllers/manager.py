"""The controller manager: one process, one event loop, seven controllers over one engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from kube.client.aio import AsyncClient
from vmruntime.controllers.access_requests import AccessRequestController
from vmruntime.controllers.disks import DiskController
from vmruntime.controllers.interfaces import InterfaceController
from vmruntime.controllers.machines import MachineController
from vmruntime.controllers.networks import NetworkController
from vmruntime.controllers.preflight import PreflightController
from vmruntime.controllers.runtime import RuntimeController
from vmruntime.controllers.stack import Stack
from vmruntime.engines.base import Engine

_log = logging.getLogger(__name__)


async def run(client: AsyncClient, engine: Engine, stop: asyncio.Event) -> None:
    """Work until `stop` is set. Machines and imports that run are left running.

    Raises what ended a part that must not end: the process is to be started anew then.
    """
    stack = Stack(client, engine)
    parts: list[Coroutine[Any, Any, None]] = [
        engine.run(),
        RuntimeController(stack).controller.run(),
        PreflightController(stack).controller.run(),
        DiskController(stack).controller.run(),
        MachineController(stack).controller.run(),
        AccessRequestController(stack).controller.run(),
        NetworkController(stack).controller.run(),
        InterfaceController(stack).controller.run(),
    ]
    tasks = [asyncio.create_task(part) for part in parts]
    for cache in (stack.runtimes, stack.checks, stack.nodes):
        cache.start()
    _log.info("started")
    waiting = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        if waiting not in done:
            raise RuntimeError("a controller ended by itself")
        _log.info("stopping")
    finally:
        for task in (waiting, *tasks):
            task.cancel()
        await asyncio.gather(waiting, *tasks, return_exceptions=True)
        for cache in (stack.runtimes, stack.checks, stack.nodes, *stack.kinds):
            await cache.stop()
