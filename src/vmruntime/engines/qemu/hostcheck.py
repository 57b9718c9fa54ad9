"""What a host needs, KVM aside, to run virtual machines: the right CPU, QEMU and its image tool.

The answers are sentences for people, each with a remedy where something is missing. Blocking, some 50 ms.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass

QEMU = "qemu-system-x86_64"
QEMU_IMG = "qemu-img"
OLDEST_QEMU = (7, 0)
PACKAGES = "qemu-system-x86 qemu-utils"

_ARCHITECTURES = ("x86_64", "amd64")
_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check of one host."""

    name: str
    passed: bool
    message: str


def check_cpu(path: str | None = None) -> CheckResult:
    """The check "CPU": x86-64, and a QEMU of version 7.0 or later with qemu-img. `path` stands in for $PATH."""
    machine = platform.machine()
    if machine.lower() not in _ARCHITECTURES:
        return CheckResult("CPU", False, f"the host's CPU is {machine}; virtual machines need x86_64")
    for program in (QEMU, QEMU_IMG):
        if shutil.which(program, path=path) is None:
            return CheckResult("CPU", False, f"{program} is not installed; install the packages {PACKAGES}")
    try:
        version = qemu_version(shutil.which(QEMU, path=path) or QEMU)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return CheckResult("CPU", False, f"{QEMU} does not run: {error}")
    shown = ".".join(map(str, version))
    if version < OLDEST_QEMU:
        wanted = ".".join(map(str, OLDEST_QEMU))
        return CheckResult("CPU", False, f"{QEMU} is version {shown}; {wanted} or later is needed")
    cores = len(os.sched_getaffinity(0))
    return CheckResult("CPU", True, f"{machine}, {cores} core{'s' if cores != 1 else ''}, QEMU {shown}")


def qemu_version(program: str) -> tuple[int, ...]:
    """The version that `program --version` prints. Raises ValueError where it prints none."""
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=_TIMEOUT, check=True)
    found = re.search(r"version (\d+(?:\.\d+)+)", answer.stdout)
    if found is None:
        raise ValueError(f"no version in {answer.stdout[:80]!r}")
    return tuple(int(part) for part in found.group(1).split("."))
