"""What the machine is to its pods: where they are, and how much of everything it has."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from solo.node.addresses import Addresses

_MAX_PODS = 1000


@dataclass(frozen=True, slots=True)
class Host:
    """What the downward API tells a pod of the node: the addresses, and its allocatable resources as quantities."""

    addresses: Addresses
    resources: Mapping[str, str]


@cache
def allocatable() -> Mapping[str, str]:
    """The resources of this machine, as quantities."""
    return {
        "cpu": str(os.cpu_count() or 1),
        "memory": f"{physical_memory() // 1024}Ki",
        "pods": str(_MAX_PODS),
        "ephemeral-storage": f"{_disk_kib()}Ki",
    }


def has_selinux() -> bool:
    """Whether this machine enforces labels of SELinux."""
    return os.path.exists("/sys/fs/selinux/enforce")


def physical_memory() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _disk_kib() -> int:
    usage = os.statvfs("/")
    return usage.f_blocks * usage.f_frsize // 1024
