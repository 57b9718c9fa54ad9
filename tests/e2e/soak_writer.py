"""A guest that counts on its disk and tells each number that is there for good: none of them may ever be lost."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from e2e.cluster import Cluster, disk, eventually, vm
from e2e.soak_checks import MIB, Disk, Machine

NAME, BOOT, DATA = "writer", "writer-boot", "writer-data"
_DIGITS = 8
# It carries on from the number on the disk; `conv=fsync` returns when all is flushed.
_SCRIPT = f"""#!/bin/sh
(
i=$(expr $(dd if=/dev/vdb bs={_DIGITS} count=1 2>/dev/null | tr -dc 0-9) + 0 2>/dev/null || echo 0)
while true; do
  i=$(expr $i + 1)
  printf '%0{_DIGITS}d' $i | dd of=/dev/vdb bs={_DIGITS} conv=notrunc,fsync 2>/dev/null && echo "WROTE $i."
  sleep 0.2
done
) &
"""
_TOLD = re.compile(rb"WROTE (\d+)\.")


class Writer:
    """The guest, and the highest number that it has told."""

    def __init__(self, cluster: Cluster, image: Path) -> None:
        """Creates it; `image` lies in the cluster's directory of images."""
        self._cluster = cluster
        self.told = 0
        self.machines = {NAME: Machine([BOOT, DATA], memory=128)}
        self.disks = {BOOT: Disk(64 * MIB), DATA: Disk(MIB)}
        script = base64.b64encode(_SCRIPT.encode()).decode()
        machine = vm(NAME, [BOOT, DATA], cloudInit={"noCloud": {"userDataBase64": script}})
        machine["spec"]["compute"]["memory"]["capacity"] = "128Mi"
        cluster.apply(disk(BOOT, "64Mi", source={"file": {"url": f"file://{image}"}}), disk(DATA, "1Mi"), machine)

    def await_more(self) -> None:
        """Wait until the guest, which may have to boot first, tells another number."""
        before = self.told
        eventually(lambda: self.wrong() or self.told > before, 120, "the guest carries on")
        assert self.wrong() == []

    def wrong(self) -> list[str]:
        """What it has told is looked up first: the disk, looked at later, has to have that at least."""
        for log in self._cluster.directory.glob("solo/pods/*/compute/*.log"):
            try:
                numbers = _TOLD.findall(log.read_bytes())
            except FileNotFoundError:
                continue
            self.told = max([self.told, *map(int, numbers)])
        for path in self._cluster.directory.glob(f"vm/disks/default/{DATA}_*/disk.raw"):
            with path.open("rb") as file:
                stored = int(file.read(_DIGITS).strip(b"\0") or 0)
            if stored < self.told:
                return [f"the guest was told that {self.told} is stored, and {stored} is"]
        return []
