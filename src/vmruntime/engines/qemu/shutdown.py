"""Shut down all guests below an engine's root, for when the whole cluster is stopped.

Nobody may have a `Monitor` on their QMP sockets any more: the controller manager has been stopped before.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from kube.durable import write_private
from vmruntime.engines.qemu import guest_agent
from vmruntime.engines.qemu.config import STOPPED_WITH_CLUSTER
from vmruntime.engines.qemu.qmp import Qmp, QmpError, connect

GUEST_OFF = "shutdown"
_AGENT_SECONDS = 2.0
# A guest whose agent was asked and that is not off after this long has its power button pressed.
_PRESS_SECONDS = 10.0


async def shut_down_all(root: Path, seconds: float) -> list[str]:
    """Ask every guest to shut down and wait for them together; then end QEMU, which flushes its disks.

    Returns the instance directories of guests that did not shut down within `seconds`.
    """
    instances = sorted(entry for entry in (root / "instances").glob("*") if entry.is_dir())
    outcomes = await asyncio.gather(*(_shut_down(instance, seconds) for instance in instances))
    return [instance.name for instance, obeyed in zip(instances, outcomes, strict=True) if not obeyed]


async def _shut_down(instance: Path, seconds: float) -> bool:
    try:
        async with connect(instance) as qmp:
            obeyed = await qmp.status() == GUEST_OFF
            if not obeyed:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        obeyed = await _goes_off(qmp, instance)
            # Before it ends: an end that nobody explains is a crash to whoever comes next.
            write_private(instance / STOPPED_WITH_CLUSTER, b"")
            await qmp.quit()
            return obeyed
    except QmpError:
        return True  # no QEMU behind that directory any more


async def _goes_off(qmp: Qmp, instance: Path) -> bool:
    """True as soon as the guest has powered itself off: asked by its agent where one answers, then by ACPI."""
    if await guest_agent.is_open(qmp) and await guest_agent.shut_down(instance, _AGENT_SECONDS):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PRESS_SECONDS):
                return await _is_off(qmp)
    await qmp.powerdown()
    return await _is_off(qmp)


async def _is_off(qmp: Qmp) -> bool:
    """Waits for it; events are kept from the moment of connecting on."""
    async for notice in qmp.events():
        if notice.kind == "SHUTDOWN":
            return True
    return True  # the connection ended: so did QEMU
