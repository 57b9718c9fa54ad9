"""What /proc says of processes: who is who, still alive, and which ones belong to a container.

A pid alone is no identity: numbers are reused. A process is known here by its pid, its start time in clock ticks since
boot and the boot itself (proc(5), `/proc/[pid]/stat` field 22 and `/proc/sys/kernel/random/boot_id`).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

MARKER = "SOLO_CONTAINER"
"""Environment variable that every process of a container carries; its value is the container's own directory."""


@dataclass(frozen=True, slots=True)
class Stat:
    """The fields of `/proc/[pid]/stat` that matter here."""

    state: str
    session: int
    start_ticks: int

    @property
    def dead(self) -> bool:
        """True for a zombie: it has exited and only waits to be reaped."""
        return self.state in "ZXx"


@cache
def boot_id() -> str:
    """The identity of the running boot; empty where the kernel does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def read_stat(pid: int) -> Stat | None:
    """The process' stat, or None when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            data = file.read()
    except OSError:
        return None
    fields = data[data.rfind(b")") + 2 :].split()
    return Stat(fields[0].decode(), int(fields[3]), int(fields[19])) if len(fields) > 19 else None


def is_same_process(pid: int, start_ticks: int) -> bool:
    """Whether `pid` is alive and still the process that started at `start_ticks`."""
    stat = read_stat(pid)
    return stat is not None and not stat.dead and stat.start_ticks == start_ticks


def carries_marker(pid: int, marker: str) -> bool:
    """Whether the process was started with `SOLO_CONTAINER=marker` in its environment."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return f"{MARKER}={marker}".encode() in file.read().split(b"\0")
    except OSError:
        return False


def pids() -> Iterator[int]:
    """All processes now."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            yield int(entry)


def members(marker: str, leader: int, start_ticks: int) -> list[int]:
    """The living processes of a container: those of its session and those that carry its marker.

    The session counts only while its number cannot belong to anyone else, that is while the leader is the process that
    was recorded; the marker covers what left the session, and everything once the leader is gone.
    """
    own_session = leader if leader and is_same_process(leader, start_ticks) else 0
    found = []
    for pid in pids():
        stat = read_stat(pid)
        if stat is None or stat.dead or pid == os.getpid():
            continue
        if (own_session and stat.session == own_session) or carries_marker(pid, marker):
            found.append(pid)
    return found


def session_members(session: int) -> list[int]:
    """The living processes of a session, whoever leads it."""
    return [pid for pid in pids() if (stat := read_stat(pid)) and stat.session == session and not stat.dead]


def send_signal(targets: Iterable[int], number: signal.Signals) -> None:
    """Signal processes; one that has just gone is no error."""
    for pid in targets:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue
