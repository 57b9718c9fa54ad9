"""What the agent must not forget about a pod's processes: `state.json` in the pod's directory.

The file is replaced atomically. It is not forced to the disk: what it must survive is the death of the agent, and the
page cache does; after a power failure the processes are gone as well (another boot), and the counters are in the pod's
status in the API.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import msgspec

from kube.machinery.durations import now_rfc3339
from solo.node.procfs import boot_id

log = logging.getLogger(__name__)

Obj = dict[str, Any]
STATE_FILE = "state.json"


class Terminated(msgspec.Struct, omit_defaults=True):
    """How one run of a container ended. Times are RFC 3339."""

    exit_code: int
    reason: str
    started_at: str
    finished_at: str
    signal: int = 0
    message: str = ""


class ContainerRecord(msgspec.Struct, omit_defaults=True):
    """One container: its present run (pid not 0), how the present and the one before ended, its back-off.

    `confirmed` is set once the program is known to run; a process that is on record but was not confirmed may have been
    sent away at the gate. `retry_at` is wall-clock time, seconds since the epoch.
    """

    name: str
    restarts: int = 0
    pid: int = 0
    start_ticks: int = 0
    boot: str = ""
    confirmed: bool = False
    started_at: str = ""
    terminated: Terminated | None = None
    last: Terminated | None = None
    backoff: float = 0.0
    retry_at: float = 0.0


class PodRecord(msgspec.Struct, omit_defaults=True):
    """One pod, as far as its processes are concerned. `address` (see `addresses`): None until it is settled."""

    uid: str
    namespace: str = ""
    name: str = ""
    containers: dict[str, ContainerRecord] = {}
    address: str | None = None
    failed_reason: str = ""
    failed_message: str = ""

    def container(self, name: str) -> ContainerRecord:
        """The record of the container `name`, made when there is none."""
        return self.containers.setdefault(name, ContainerRecord(name))


def load(directory: Path) -> PodRecord | None:
    """The record of the pod in `directory`, or None when there is none that can be read."""
    try:
        record = msgspec.json.decode((directory / STATE_FILE).read_bytes(), type=PodRecord)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        log.warning("the record of pod %s cannot be read and is started afresh: %s", directory.name, error)
        return None
    for container in record.containers.values():
        if container.boot != boot_id():
            container.start_ticks = -1  # No process of this boot is that one.
    return record


def save(directory: Path, record: PodRecord) -> None:
    """Replace the record of the pod in `directory`; OSError when that fails."""
    temporary = directory / f".{STATE_FILE}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(temporary, flags, 0o600), "wb") as file:
        file.write(msgspec.json.encode(record))
    os.replace(temporary, directory / STATE_FILE)


def recall(pod: Obj) -> PodRecord:
    """The record of a pod of which there is none: empty, or after a loss what the pod's status still tells."""
    metadata = pod["metadata"]
    record = PodRecord(metadata["uid"], metadata["namespace"], metadata["name"])
    own = pod.get("status") or {}
    for entry in [*(own.get("initContainerStatuses") or []), *(own.get("containerStatuses") or [])]:
        container = record.container(entry["name"])
        container.restarts = int(entry.get("restartCount") or 0)
        state = entry.get("state") or {}
        ended = state.get("terminated") or (entry.get("lastState") or {}).get("terminated")
        if "running" in state:
            message = "The agent's record of the container was lost: its exit code is unknown"
            container.terminated = Terminated(
                137, "ContainerStatusUnknown", state["running"].get("startedAt") or "", now_rfc3339(), message=message
            )
        elif ended:
            container.terminated = Terminated(
                int(ended.get("exitCode", 137)),
                ended.get("reason") or "Error",
                ended.get("startedAt") or "",
                ended.get("finishedAt") or now_rfc3339(),
            )
    return record
