"""What a `hostPath` volume's type asks of the host before the pod starts. Blocks.

Source: Kubernetes API reference, HostPathVolumeSource; messages as the kubelet has them.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Mapping
from typing import Any

from solo.node.podspec import all_containers

Obj = dict[str, Any]

_KINDS: Mapping[str, tuple[Callable[[int], bool], str]] = {
    "": (lambda mode: True, ""),
    "Directory": (stat.S_ISDIR, "a directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "FileOrCreate": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket file"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


class HostPathError(Exception):
    """A path is not what its volume says; the message names both."""


def ensure(pod: Obj) -> None:
    """Make what is to be made and look at the rest, for the volumes that a container mounts. HostPathError.

    Without a type everything is right, and a directory is made where nothing is, as container runtimes do.
    """
    mounted = {mount["name"] for container in all_containers(pod) for mount in container.get("volumeMounts") or []}
    for volume in pod["spec"].get("volumes") or []:
        source = volume.get("hostPath")
        if source is None or volume["name"] not in mounted:
            continue
        if problem := _problem(source["path"], source.get("type") or ""):
            raise HostPathError(f'MountVolume.SetUp failed for volume "{volume["name"]}": {problem}')


def _problem(path: str, kind: str) -> str:
    if kind not in _KINDS:
        return f"{kind} is an invalid volume type"
    is_kind, words = _KINDS[kind]
    try:
        _make(path, kind)
        found = os.stat(path).st_mode
    except OSError as error:
        return f"hostPath type check failed: {path}: {error.strerror}"
    return "" if is_kind(found) else f"hostPath type check failed: {path} is not {words}"


def _make(path: str, kind: str) -> None:
    """Modes are those of the API's documentation, whatever the umask."""
    if kind in ("", "DirectoryOrCreate") and not os.path.exists(path):
        os.makedirs(path, 0o755)
        os.chmod(path, 0o755)
    elif kind == "FileOrCreate":
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            os.fchmod(descriptor, 0o644)
            os.close(descriptor)
