"""What is in a volume that is made of API objects: config maps, secrets, the downward API, service-account tokens."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from kube.machinery.resources import CONFIGMAPS, SECRETS, Resource
from solo.node.environment import ConfigError, ObjectReader, pod_field, resource_field
from solo.node.host import Host

Obj = dict[str, Any]
TokenSource = Callable[[str, int], Awaitable[str]]
"""(audience, seconds) -> a token of the pod's service account."""

_FILE_MODE = 0o644
_DATA = "..data"


class File(NamedTuple):
    """The content of one file and its permission bits."""

    data: bytes
    mode: int


async def collect(pod: Obj, volume: Obj, host: Host, read: ObjectReader, token: TokenSource) -> dict[str, File]:
    """The files of a volume, by their paths in it. ConfigError names what is missing."""
    found: dict[str, File] = {}
    for kind, source, mode in _sources(volume):
        if kind == "serviceAccountToken":
            text = await token(source.get("audience") or "", int(source.get("expirationSeconds") or 3600))
            found[source["path"]] = File(text.encode(), mode)
        elif kind == "downwardAPI":
            for item in source.get("items") or []:
                found[item["path"]] = File(_downward(pod, item, host), _mode(item, "mode", mode))
        else:
            resource = SECRETS if kind == "secret" else CONFIGMAPS
            found.update(await _of_object(resource, pod["metadata"]["namespace"], source, mode, read))
    for path in found:
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or parts[0].startswith(".."):
            raise ConfigError(f'volume "{volume["name"]}": "{path}" is no path in a volume')
    return found


def _sources(volume: Obj) -> Iterator[tuple[str, Obj, int]]:
    """(kind, source, mode of its files) of a volume."""
    for kind in ("secret", "configMap", "downwardAPI"):
        if kind in volume:
            yield kind, volume[kind], _mode(volume[kind], "defaultMode", _FILE_MODE)
    projected = volume.get("projected") or {}
    for source in projected.get("sources") or []:
        for kind in source:
            yield kind, source[kind], _mode(projected, "defaultMode", _FILE_MODE)


def _mode(where: Obj, key: str, default: int) -> int:
    """Zero is a mode: nobody but root may read the file."""
    given = where.get(key)
    return default if given is None else int(given)


def _downward(pod: Obj, item: Obj, host: Host) -> bytes:
    if "resourceFieldRef" in item:
        return resource_field(pod, {"name": ""}, item["resourceFieldRef"], host).encode()
    path = item["fieldRef"].get("fieldPath", "")
    if path in ("metadata.labels", "metadata.annotations"):
        entries = pod["metadata"].get(path.partition(".")[2]) or {}
        return "\n".join(f"{key}={json.dumps(entries[key], ensure_ascii=False)}" for key in sorted(entries)).encode()
    return pod_field(pod, path, host).encode()


async def _of_object(resource: Resource, namespace: str, source: Obj, mode: int, read: ObjectReader) -> dict[str, File]:
    name = source.get("secretName") or source.get("name") or ""
    obj = await read(resource, namespace, name)
    if obj is None:
        if source.get("optional"):
            return {}
        raise ConfigError(f'{resource.kind.lower()} "{name}" not found')
    data = _bytes_of(resource, obj)
    items = source.get("items")
    if not items:
        return {key: File(value, mode) for key, value in data.items()}
    found = {}
    for item in items:
        if item["key"] in data:
            found[item["path"]] = File(data[item["key"]], _mode(item, "mode", mode))
        elif not source.get("optional"):
            raise ConfigError(f"references non-existent {resource.kind.lower()} key: {item['key']}")
    return found


def _bytes_of(resource: Resource, obj: Obj) -> dict[str, bytes]:
    data: Mapping[str, str] = obj.get("data") or {}
    if resource is SECRETS:
        return {key: base64.b64decode(value) for key, value in data.items()}
    binary: Mapping[str, str] = obj.get("binaryData") or {}
    return {key: value.encode() for key, value in data.items()} | {
        key: base64.b64decode(value) for key, value in binary.items()
    }


def write(directory: Path, files: Mapping[str, File], group: int | None) -> None:
    """Make the files of a volume the content of `directory`, all at once. Raises OSError.

    As the kubelet does it: each name is a link by way of `..data`, which is a link to the directory that has this very
    content. Whoever reads sees one state or the other, and a kill at any line leaves one of them whole. With `group`
    the files are of that group, which may read them (the pod's fsGroup).
    """
    _prepare(directory, 0o755, group)
    wanted = ".." + _digest(files, group)
    present = os.readlink(directory / _DATA) if (directory / _DATA).is_symlink() else ""
    if present != wanted:
        shutil.rmtree(directory / wanted, ignore_errors=True)
        _prepare(directory / wanted, 0o755, group)
        for path, file in files.items():
            _write_file(directory / wanted, path, file, group)
        _link(directory, _DATA, wanted)
    names = {PurePosixPath(path).parts[0] for path in files}
    for name in names:
        if not (directory / name).is_symlink():
            _link(directory, name, f"{_DATA}/{name}")
    for entry in os.listdir(directory):
        if entry.startswith(".."):
            if entry not in (_DATA, wanted):
                shutil.rmtree(directory / entry, ignore_errors=True)
        elif entry not in names:
            os.unlink(directory / entry)


def _digest(files: Mapping[str, File], group: int | None) -> str:
    parts = [[path, hashlib.sha256(file.data).hexdigest(), file.mode, group] for path, file in sorted(files.items())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _prepare(directory: Path, mode: int, group: int | None) -> None:
    directory.mkdir(mode=0o700, exist_ok=True)
    if group is not None:
        os.chown(directory, -1, group)
    directory.chmod(mode)


def _write_file(root: Path, path: str, file: File, group: int | None) -> None:
    target = root
    for name in PurePosixPath(path).parts[:-1]:
        target = target / name
        _prepare(target, 0o755, group)
    with open(os.open(root / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as out:
        out.write(file.data)
        if group is not None:
            os.fchown(out.fileno(), -1, group)
        os.fchmod(out.fileno(), file.mode if group is None else file.mode | 0o440)


def _link(directory: Path, name: str, target: str) -> None:
    temporary = directory / f"..{name.lstrip('.')}.new"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(directory / name)
