"""End processes of pods that no running agent looks after: strays of a former one, and all of a stopped cluster."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import time
from pathlib import Path

from solo.node import procfs
from solo.node.cgroups import ContainerGroup, Hierarchies
from solo.node.records import PodRecord

log = logging.getLogger(__name__)

STRAY_GRACE = 2.0
_GIVE_UP = 15.0


async def clear(directory: Path, record: PodRecord, hierarchies: Hierarchies) -> None:
    """End the processes of a pod that no longer exists and remove its directory.

    The directory stays when a process does not die, so that the next agent tries again.
    """
    if await end(directory, record, hierarchies, STRAY_GRACE):
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


async def end(directory: Path, record: PodRecord, hierarchies: Hierarchies, grace: float) -> bool:
    """End a pod's processes, politely first and after `grace` seconds for good. False when one does not die."""
    groups = {name: ContainerGroup(hierarchies, record.uid, name) for name in record.containers}

    def left() -> set[int]:
        found: set[int] = set()
        for name, container in record.containers.items():
            found.update(procfs.members(str(directory / name), container.pid, container.start_ticks))
            found.update(groups[name].pids())
        return {pid for pid in found if (stat := procfs.read_stat(pid)) and not stat.dead}

    procfs.send_signal(left(), signal.SIGTERM)
    began = time.monotonic()
    pause = 0.005
    while remaining := left():
        waited = time.monotonic() - began
        if waited > grace + _GIVE_UP:
            log.error("processes %s of pod %s/%s do not die", sorted(remaining), record.namespace, record.name)
            return False
        if waited > grace:
            procfs.send_signal(remaining, signal.SIGKILL)
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.2)
    for group in groups.values():
        group.remove()
    return True
