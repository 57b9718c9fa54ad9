"""The `type` of hostPath volumes: what has to be at the path before a container starts, and what is made there."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from solo.node.podspec import all_containers

Obj = dict[str, Any]

_CHECKS: Mapping[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "FileOrCreate": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket file"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


def prepare(pod: Obj) -> str:
    """Make what the mounted volumes say is to be made; says what is wrong with the first that is not as it says.

    Without a type nothing is checked, and a directory is made where nothing is, as container runtimes do. Raises
    OSError where it cannot be made.
    """
    mounts = (mount for container in all_containers(pod) for mount in container.get("volumeMounts") or [])
    mounted = {mount["name"] for mount in mounts}
    for volume in pod["spec"].get("volumes") or []:
        if volume["name"] in mounted and "hostPath" in volume and (problem := _prepared(volume["hostPath"])):
            return f'MountVolume.SetUp failed for volume "{volume["name"]}": hostPath type check failed: {problem}'
    return ""


def _prepared(source: Obj) -> str:
    path, kind = Path(source["path"]), source.get("type") or ""
    if not path.exists():
        if kind in ("", "DirectoryOrCreate"):
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        elif kind == "FileOrCreate":
            path.touch(mode=0o644)
    if not kind:
        return ""
    is_right, name = _CHECKS[kind]
    return "" if path.exists() and is_right(path.stat().st_mode) else f"{path} is not {name}"
