"""What the machine is to its pods: where it is, and how much of everything it has."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from solo.node.status import NODE_IP

_MAX_PODS = 1000


@dataclass(frozen=True, slots=True)
class Host:
    """The address of all pods, the node's allocatable resources as quantities, whether it has SELinux."""

    address: str
    resources: Mapping[str, str]
    selinux: bool = False


@cache
def this_host() -> Host:
    """The machine that this is."""
    resources = {
        "cpu": str(os.cpu_count() or 1),
        "memory": f"{physical_memory() // 1024}Ki",
        "pods": str(_MAX_PODS),
        "ephemeral-storage": f"{_disk_kib()}Ki",
    }
    return Host(NODE_IP, resources, os.path.exists("/sys/fs/selinux/enforce"))


def physical_memory() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _disk_kib() -> int:
    usage = os.statvfs("/")
    return usage.f_blocks * usage.f_frsize // 1024
