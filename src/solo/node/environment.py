"""The environment and the command line of a container: literal values, the downward API, config maps and secrets.

Only `ObjectReader` does I/O, and it is handed in. `$(VAR)` is expanded as Kubernetes does (core/v1 Container.command,
EnvVar.value): unknown references stay, `$$` is a literal dollar.
"""

from __future__ import annotations

import base64
import math
import pwd
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from kube.machinery.quantity import parse_quantity
from kube.machinery.resources import CONFIGMAPS, SECRETS, Resource
from solo.node.host import Host

Obj = dict[str, Any]
ObjectReader = Callable[[Resource, str, str], Awaitable[Obj | None]]
"""(resource, namespace, name) -> the object, or None when there is none."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_REFERENCE = re.compile(r"\$(\$|\(([^()]*)\))")


class ConfigError(Exception):
    """The container's configuration names something that is not there (reason CreateContainerConfigError)."""


def expand(text: str, env: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by its value; a name that is not set stays as written, `$$` gives `$`."""

    def replace(match: re.Match[str]) -> str:
        if match.group(1) == "$":
            return "$"
        return env.get(match.group(2), match.group(0))

    return _REFERENCE.sub(replace, text)


def base_environment(uid: int) -> dict[str, str]:
    """What every process gets: PATH, HOME of its user, LANG."""
    try:
        home = pwd.getpwuid(uid).pw_dir or "/"
    except KeyError:
        home = "/"
    return {"PATH": DEFAULT_PATH, "HOME": home, "LANG": "C.UTF-8"}


def command_line(container: Obj, env: Mapping[str, str]) -> list[str]:
    """Command and arguments with references expanded."""
    return [expand(word, env) for word in [*(container.get("command") or []), *(container.get("args") or [])]]


async def resolve(pod: Obj, container: Obj, host: Host, read: ObjectReader, given: Mapping[str, str]) -> dict[str, str]:
    """The variables of `envFrom` and `env`, which may refer to those `given`. ConfigError names what is missing."""
    sources = _Sources(pod["metadata"]["namespace"], read)
    env: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        prefix = source.get("prefix", "")
        env.update({prefix + key: value for key, value in (await sources.whole(source)).items()})
    for entry in container.get("env") or []:
        value_from = entry.get("valueFrom")
        if value_from is None:
            env[entry["name"]] = expand(entry.get("value") or "", {**given, **env})
            continue
        value = await _value_from(pod, container, host, value_from, sources)
        if value is not None:
            env[entry["name"]] = value
    return env


async def _value_from(pod: Obj, container: Obj, host: Host, source: Obj, sources: _Sources) -> str | None:
    if "fieldRef" in source:
        return pod_field(pod, source["fieldRef"].get("fieldPath", ""), host)
    if "resourceFieldRef" in source:
        return resource_field(pod, container, source["resourceFieldRef"], host)
    if "configMapKeyRef" in source:
        return await sources.key(CONFIGMAPS, source["configMapKeyRef"])
    if "secretKeyRef" in source:
        return await sources.key(SECRETS, source["secretKeyRef"])
    raise ConfigError(f"unsupported environment source: {', '.join(source)}")


class _Sources:
    """Config maps and secrets of one namespace, each read once."""

    def __init__(self, namespace: str, read: ObjectReader) -> None:
        self._namespace = namespace
        self._read = read
        self._data: dict[tuple[Resource, str], dict[str, str] | None] = {}

    async def _load(self, resource: Resource, name: str) -> dict[str, str] | None:
        if (resource, name) not in self._data:
            found = await self._read(resource, self._namespace, name)
            self._data[resource, name] = None if found is None else _plain_data(resource, found)
        return self._data[resource, name]

    async def whole(self, source: Obj) -> dict[str, str]:
        resource = SECRETS if "secretRef" in source else CONFIGMAPS
        reference = source["secretRef" if resource is SECRETS else "configMapRef"]
        data = await self._load(resource, reference.get("name", ""))
        if data is None:
            if reference.get("optional"):
                return {}
            raise ConfigError(f'{_noun(resource)} "{reference.get("name", "")}" not found')
        return data

    async def key(self, resource: Resource, reference: Obj) -> str | None:
        name, key = reference.get("name", ""), reference["key"]
        data = await self._load(resource, name)
        if data is None or key not in data:
            if reference.get("optional"):
                return None
            if data is None:
                raise ConfigError(f'{_noun(resource)} "{name}" not found')
            raise ConfigError(f"couldn't find key {key} in {resource.kind} {self._namespace}/{name}")
        return data[key]


def _noun(resource: Resource) -> str:
    return resource.kind.lower()


def _plain_data(resource: Resource, found: Obj) -> dict[str, str]:
    data: dict[str, str] = found.get("data") or {}
    if resource is SECRETS:
        return {key: base64.b64decode(value).decode("utf-8", "surrogateescape") for key, value in data.items()}
    return dict(data)


_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


def pod_field(pod: Obj, path: str, host: Host) -> str:
    """A field of the downward API. Raises ConfigError for one that it does not have."""
    metadata, spec = pod["metadata"], pod["spec"]
    if match := _SUBSCRIPT.fullmatch(path):
        return str((metadata.get(match.group(1)) or {}).get(match.group(2), ""))
    values = {
        "metadata.name": metadata.get("name", ""),
        "metadata.namespace": metadata.get("namespace", ""),
        "metadata.uid": metadata.get("uid", ""),
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.hostIP": host.addresses.node,
        "status.podIP": host.addresses.pod,
        "status.hostIPs": host.addresses.node,
        "status.podIPs": host.addresses.pod,
    }
    if path not in values:
        raise ConfigError(f"unsupported fieldPath: {path}")
    return str(values[path])


def resource_field(pod: Obj, container: Obj, reference: Obj, host: Host) -> str:
    """`limits.cpu` and the like, in units of `divisor`, rounded up.

    Where there is no limit it is all that the node has; what is not requested is 0. Raises ConfigError for a container
    or a resource that there is not.
    """
    kind, _, name = reference.get("resource", "").partition(".")
    wanted = reference.get("containerName") or container["name"]
    for candidate in [*(pod["spec"].get("containers") or []), *(pod["spec"].get("initContainers") or [])]:
        if candidate["name"] == wanted:
            if kind not in ("limits", "requests") or (name not in host.resources and "hugepages-" not in name):
                raise ConfigError(f"unsupported container resource: {kind}.{name}")
            given = ((candidate.get("resources") or {}).get(kind) or {}).get(name)
            value = given or (host.resources.get(name, "0") if kind == "limits" else "0")
            divisor = parse_quantity(reference.get("divisor") or "1") or parse_quantity("1")
            return str(math.ceil(parse_quantity(value) / divisor))
    raise ConfigError(f"container {wanted} not found")
