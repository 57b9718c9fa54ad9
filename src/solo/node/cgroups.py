"""Control groups of containers that have limits: memory, CPU, and word of an out-of-memory kill.

Works with cgroup v2, with v1, and with a mix of both; where the rights or a controller are missing, it says which limit
cannot be honoured. The group of a container is `solo/<pod uid>/<container>` in each hierarchy that is needed. A
container without limits gets none, as joining one costs more than all the rest of a start.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

_PARENT = "solo"
_CPU_PERIOD_MICROSECONDS = 100_000


@dataclass(frozen=True, slots=True)
class Hierarchies:
    """Where each controller is mounted. `unified` is the v2 hierarchy, `controllers` the names that v2 offers there."""

    unified: Path | None
    controllers: frozenset[str]
    legacy: Mapping[str, Path]


def find_hierarchies(mounts: str | None = None) -> Hierarchies:
    """Read the mount table (`/proc/self/mounts`, or the text given)."""
    if mounts is None:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    unified: Path | None = None
    legacy: dict[str, Path] = {}
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 4:
            continue
        if fields[2] == "cgroup2":
            unified = unified or Path(fields[1])
        elif fields[2] == "cgroup":
            for option in fields[3].split(","):
                if option in ("memory", "cpu"):
                    legacy.setdefault(option, Path(fields[1]))
    controllers: frozenset[str] = frozenset()
    if unified:
        with contextlib.suppress(OSError):
            controllers = frozenset((unified / "cgroup.controllers").read_text(encoding="ascii").split())
    return Hierarchies(unified, controllers, legacy)


class ContainerGroup:
    """The control groups of one container. Nothing is made before `prepare`."""

    def __init__(self, hierarchies: Hierarchies, pod_uid: str, container: str) -> None:
        self._hierarchies = hierarchies
        self._name = Path(_PARENT) / pod_uid / container
        self._unified = hierarchies.unified / self._name if hierarchies.unified else None

    def prepare(self, *, memory: int | None, cpu: float | None) -> list[str]:
        """Make the groups and set the limits (bytes, cores). Returns what cannot be honoured, as sentences."""
        problems: list[str] = []
        if memory is None and cpu is None:
            return problems
        try:
            self._make_unified({"memory", "cpu"})
        except OSError as error:
            log.debug("no unified control group for %s: %s", self._name, error)
        if memory is not None and not self._limit_memory(memory):
            problems.append(f"memory limit {memory} bytes cannot be honoured: no right to a memory control group")
        if cpu is not None and not self._limit_cpu(cpu):
            problems.append(f"cpu limit {cpu:g} cannot be honoured: no right to a cpu control group")
        return problems

    def join_files(self) -> tuple[str, ...]:
        """The files by which a process joins the groups that were made."""
        return tuple(str(directory / "cgroup.procs") for directory in self._directories())

    def kill(self) -> bool:
        """Kill every process in the group at once; False where the kernel cannot (before 5.14, or no v2)."""
        if not self._unified:
            return False
        try:
            (self._unified / "cgroup.kill").write_text("1", encoding="ascii")
        except OSError:
            return False
        return True

    def pids(self) -> list[int]:
        """The processes in the v2 group."""
        if not self._unified:
            return []
        try:
            return [int(line) for line in (self._unified / "cgroup.procs").read_text(encoding="ascii").split()]
        except OSError:
            return []

    def oom_kills(self) -> int:
        """How many of its processes the kernel has killed for want of memory."""
        legacy = self._legacy("memory")
        for directory, name in ((self._unified, "memory.events"), (legacy, "memory.oom_control")):
            if directory is None:
                continue
            with contextlib.suppress(OSError):
                for line in (directory / name).read_text(encoding="ascii").splitlines():
                    key, _, value = line.partition(" ")
                    if key == "oom_kill":
                        return int(value)
        return 0

    def remove(self) -> None:
        """Remove the groups and, when it was the last one, the pod's."""
        for directory in self._directories():
            for level in (directory, directory.parent):
                with contextlib.suppress(OSError):
                    level.rmdir()

    def _directories(self) -> list[Path]:
        candidates = [self._unified, self._legacy("memory"), self._legacy("cpu")]
        return [directory for directory in candidates if directory is not None and os.path.isdir(directory)]

    def _legacy(self, controller: str) -> Path | None:
        mount = self._hierarchies.legacy.get(controller)
        return mount / self._name if mount else None

    def _make_unified(self, wanted: set[str]) -> None:
        if self._unified is None or self._hierarchies.unified is None:
            return
        self._unified.mkdir(parents=True, exist_ok=True)
        enable = wanted & self._hierarchies.controllers
        if not enable:
            return
        text = " ".join(f"+{name}" for name in sorted(enable))
        level = self._hierarchies.unified
        for part in ("", *self._name.parts[:-1]):
            level = level / part
            (level / "cgroup.subtree_control").write_text(text, encoding="ascii")

    def _limit_memory(self, limit: int) -> bool:
        if "memory" in self._hierarchies.controllers:
            return self._write(self._unified, "memory.max", str(limit))
        return self._write(self._legacy("memory"), "memory.limit_in_bytes", str(limit))

    def _limit_cpu(self, cores: float) -> bool:
        quota = max(1000, round(cores * _CPU_PERIOD_MICROSECONDS))
        if "cpu" in self._hierarchies.controllers:
            return self._write(self._unified, "cpu.max", f"{quota} {_CPU_PERIOD_MICROSECONDS}")
        directory = self._legacy("cpu")
        return self._write(directory, "cpu.cfs_period_us", str(_CPU_PERIOD_MICROSECONDS)) and self._write(
            directory, "cpu.cfs_quota_us", str(quota)
        )

    def _write(self, directory: Path | None, name: str, value: str) -> bool:
        if directory is None:
            return False
        try:
            directory.mkdir(parents=True, exist_ok=True)
            # Opened without O_CREAT: a file system that is no cgroup must not look as if the limit were set.
            fd = os.open(directory / name, os.O_WRONLY)
            try:
                os.write(fd, value.encode())
            finally:
                os.close(fd)
        except OSError as error:
            log.debug("%s of %s cannot be set: %s", name, self._name, error)
            return False
        return True
