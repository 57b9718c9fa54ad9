"""Memory and CPU time of processes, as the kernel counts them; ports for those that are started."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def below(directory: Path) -> dict[int, list[str]]:
    """Processes whose command line or working directory lies in `directory`: pid and command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode().split("\0")[:-1]
            cwd = os.readlink(entry / "cwd")
        except OSError:
            continue
        if words and (cwd.startswith(str(directory)) or any(str(directory) in word for word in words)):
            found[int(entry.name)] = words
    return found


def is_qemu(words: list[str]) -> bool:
    return Path(words[0]).name.startswith("qemu-system")


def pss(pid: int) -> int:
    """Proportional set size in bytes: shared pages count once over all who share them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no Pss of process {pid}")


def cpu_seconds(pid: int) -> float:
    """User and system time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def free_port(address: str = "127.0.0.1") -> int:
    """A port that nobody listens on now, and that no connection gets by itself: Linux gives those 32768 and up."""
    while True:
        port = random.randrange(15_000, 30_000)
        with contextlib.suppress(OSError), socket.create_server((address, port)):
            return port
