"""A cluster of a user who is not root, also where the tests run as root."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path

from e2e.cluster import Cluster, Done

TUN = Path("/dev/net/tun")
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class OrdinaryCluster(Cluster):
    """Its programs run as a user of a number that nobody else has, who is in no group but that of /dev/net/tun."""

    user: int = field(default_factory=lambda: 40_000 + os.getpid() % 20_000 if os.geteuid() == 0 else os.geteuid())

    def run(self, *command: str, stdin: str | None = None, timeout: float = 60) -> Done:
        return super().run(*self._become(), *command, stdin=stdin, timeout=timeout)

    def _become(self) -> list[str]:
        if os.geteuid() != 0:
            return []
        words = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", f"--groups={TUN.stat().st_gid}"]
        words += ["--inh-caps=-all", "--bounding-set=-all"]
        lines = [*_opened(self.workspace.parent), f'exec {shlex.join(words)} "$@"']
        return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", "\n".join(lines), "sh"]

    def all_processes(self) -> list[str]:
        """Command lines of the user's processes, those of no cluster included."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if entry.stat().st_uid == self.user and (words := (entry / "cmdline").read_bytes()):
                        found.append(words.replace(b"\0", b" ").decode())
                except OSError:
                    continue
        return found


def _opened(room: Path) -> list[str]:
    """Shell lines: what the programs are made of, below directories that are root's alone, appears in open ones."""
    lines = [f"mkdir -p {room}/hidden"]
    closed: dict[Path, list[Path]] = {}
    for needed in {Path(sys.base_prefix), Path(sys.prefix), REPOSITORY}:
        upper = next((up for up in reversed(needed.parents) if not up.stat().st_mode & stat.S_IXOTH), None)
        if upper is not None:
            closed.setdefault(upper, []).append(needed)
    for upper, paths in closed.items():
        places = [f"{room}/hidden/{number}" for number in range(len(paths))]
        for path, place in zip(paths, places, strict=True):
            lines.append(f"mkdir -p {place} && mount --bind {path} {place}")
        lines.append(f"mount -t tmpfs -o mode=755 none {upper}")
        for path, place in zip(paths, places, strict=True):
            lines.append(f"mkdir -p {path} && mount --bind {place} {path} && umount {place}")
    return lines
