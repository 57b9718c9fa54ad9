"""Read a pod's spec: what the agent can honour, who its processes are, how it is to be treated. Pure.

A host process has no image and, but for its host name and its mounts (`volumespec`), no namespaces of its own. A field
that would need them is refused here with a reason that becomes an event; nothing is ignored silently.
"""

from __future__ import annotations

import pwd
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kube.machinery.quantity import parse_quantity
from solo.node.launch import CAPABILITIES

Obj = dict[str, Any]

HOST_IMAGE = "host"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a container (or with an empty `container` the whole pod) cannot be run as written."""

    container: str
    waiting_reason: str
    event_reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a container's processes are. `uid` None: whoever the agent is."""

    uid: int | None = None
    gid: int = 0
    groups: tuple[int, ...] = ()
    ambient: tuple[int, ...] = ()
    drop: tuple[int, ...] = ()
    no_new_privileges: bool = False


@dataclass(slots=True)
class _Refusals:
    found: list[Refusal] = field(default_factory=list)

    def config(self, container: str, message: str) -> None:
        self.found.append(Refusal(container, "CreateContainerConfigError", "Failed", message))


def containers(pod: Obj) -> list[Obj]:
    """The ordinary containers."""
    return list(pod["spec"].get("containers") or [])


def init_containers(pod: Obj) -> list[Obj]:
    """The init containers, in order."""
    return list(pod["spec"].get("initContainers") or [])


def all_containers(pod: Obj) -> list[Obj]:
    """Init containers first, then the ordinary ones."""
    return init_containers(pod) + containers(pod)


def is_sidecar(init_container: Obj) -> bool:
    """Whether an init container goes on running beside the ordinary ones (Kubernetes docs, "Sidecar Containers")."""
    return init_container.get("restartPolicy") == "Always"


def grace_period(pod: Obj) -> float:
    """Seconds between SIGTERM and SIGKILL: of the deletion when there is one, else of the spec."""
    seconds = pod["metadata"].get("deletionGracePeriodSeconds")
    if seconds is None:
        seconds = pod["spec"].get("terminationGracePeriodSeconds")
    return float(30 if seconds is None else max(0, seconds))


def wants_token(pod: Obj, service_account: Obj | None) -> bool:
    """Whether the pod gets its service account's token: the pod's word, then the account's, then yes."""
    for source in (pod["spec"], service_account or {}):
        if source.get("automountServiceAccountToken") is not None:
            return bool(source["automountServiceAccountToken"])
    return True


def identity(pod: Obj, container: Obj, *, agent_uid: int) -> Identity:
    """The identity that pod and container ask for. Raises ValueError with the reason when it cannot be had."""
    shared: Obj = pod["spec"].get("securityContext") or {}
    own: Obj = container.get("securityContext") or {}
    merged = {**shared, **{key: value for key, value in own.items() if value is not None}}
    uid, gid = merged.get("runAsUser"), merged.get("runAsGroup")
    if merged.get("runAsNonRoot") and (agent_uid if uid is None else uid) == 0:
        raise ValueError("container has runAsNonRoot and image will run as root")
    ambient, drop = _capabilities(own.get("capabilities") or {}, root=(agent_uid if uid is None else uid) == 0)
    groups = list(shared.get("supplementalGroups") or [])
    if shared.get("fsGroup") is not None:
        groups.append(shared["fsGroup"])
    no_new_privileges = own.get("allowPrivilegeEscalation") is False
    if agent_uid != 0:
        _check_unprivileged(uid, gid, groups, ambient, agent_uid)
        return Identity(no_new_privileges=no_new_privileges)
    if uid is None and gid is None and not groups:
        return Identity(drop=drop, no_new_privileges=no_new_privileges)
    uid = 0 if uid is None else int(uid)
    return Identity(
        uid, _primary_group(uid) if gid is None else int(gid), tuple(map(int, groups)), ambient, drop, no_new_privileges
    )


def _check_unprivileged(uid: int | None, gid: int | None, groups: list[int], ambient: object, own: int) -> None:
    if uid is not None and uid != own:
        raise ValueError(f"runAsUser {uid} cannot be honoured: the cluster runs as user {own}, not as root")
    if gid is not None or groups:
        raise ValueError(f"runAsGroup, supplementalGroups and fsGroup need a cluster that runs as root, not as {own}")
    if ambient:
        raise ValueError(f"capabilities cannot be added: the cluster runs as user {own}, not as root")


def _primary_group(uid: int) -> int:
    """The user's own group; a number without an account gets the group of the same number, never root's."""
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid


def _numbers(names: Iterable[str]) -> set[int]:
    numbers = set()
    for name in names:
        short = name.upper().removeprefix("CAP_")
        if short == "ALL":
            return set(CAPABILITIES.values())
        if short not in CAPABILITIES:
            raise ValueError(f'unknown capability "{name}"')
        numbers.add(CAPABILITIES[short])
    return numbers


def _capabilities(wanted: Obj, *, root: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(to raise as ambient, to drop from the bounding set). Root has all that are not dropped."""
    add, drop = _numbers(wanted.get("add") or []), _numbers(wanted.get("drop") or [])
    drop -= add
    if root:
        return (), tuple(sorted(drop))
    if add - {CAPABILITIES["NET_BIND_SERVICE"]}:
        raise ValueError("only capability NET_BIND_SERVICE can be added to a process that does not run as root")
    return tuple(sorted(add)), tuple(sorted(drop))


_UNSUPPORTED_POD_FIELDS = {
    "hostAliases": "the host's own /etc/hosts is used",
    "dnsConfig": "the host's own resolver is used",
    "setHostnameAsFQDN": "the process has the host's name",
    "runtimeClassName": "there is no container runtime",
    "resourceClaims": "there are no devices to allocate",
    "ephemeralContainers": "use kubectl exec: the process sees the whole host",
}
_UNSUPPORTED_SECURITY = ("windowsOptions", "procMount", "sysctls")


def refusals(pod: Obj, *, agent_uid: int, selinux: bool) -> list[Refusal]:
    """Everything in the pod that a host process cannot honour; empty when it can run.

    `selinux` says whether the machine enforces labels; where it knows none, those asked for mean nothing.
    """
    out = _Refusals()
    spec = pod["spec"]
    for name, why in _UNSUPPORTED_POD_FIELDS.items():
        if spec.get(name):
            out.config("", f"spec.{name} cannot be honoured for a host process: {why}")
    if spec.get("hostUsers") is False:
        out.config("", "spec.hostUsers: false cannot be honoured: a host process has no user namespace of its own")
    _check_security(out, "", spec.get("securityContext") or {}, "spec.securityContext")
    if selinux and any(
        (part.get("securityContext") or {}).get("seLinuxOptions") for part in (spec, *all_containers(pod))
    ):
        out.config("", "seLinuxOptions cannot be honoured for a host process")
    for container in all_containers(pod):
        _check_container(out, container)
        try:
            identity(pod, container, agent_uid=agent_uid)
        except ValueError as error:
            out.config(container["name"], str(error))
    for container in init_containers(pod):
        if container.get("restartPolicy") not in (None, "Always"):
            out.config(container["name"], "restartPolicy of an init container can only be Always")
    return out.found


def _check_security(out: _Refusals, container: str, context: Obj, path: str) -> None:
    for name in _UNSUPPORTED_SECURITY:
        if context.get(name):
            out.config(container, f"{path}.{name} cannot be honoured for a host process")
    for name in ("seccompProfile", "appArmorProfile"):
        if (context.get(name) or {}).get("type", "Unconfined") != "Unconfined":
            out.config(container, f"{path}.{name} cannot be honoured for a host process: only type Unconfined exists")


def _check_container(out: _Refusals, container: Obj) -> None:
    name = container["name"]
    image = container.get("image", "")
    if image != HOST_IMAGE:
        message = f'image "{image}" cannot be pulled: this cluster runs host processes, use image "{HOST_IMAGE}"'
        out.found.append(Refusal(name, "ErrImageNeverPull", "Failed", message))
    elif not container.get("command"):
        out.config(name, f'no command specified: image "{HOST_IMAGE}" has no entrypoint, set the container\'s command')
    if container.get("stdin") or container.get("tty"):
        out.config(name, "stdin and tty cannot be honoured: the process outlives who attaches; use kubectl exec -it")
    context = container.get("securityContext") or {}
    _check_security(out, name, context, "securityContext")
    if context.get("readOnlyRootFilesystem"):
        out.config(name, "securityContext.readOnlyRootFilesystem cannot be honoured: the file system is the host's own")
    if container.get("volumeDevices"):
        out.config(name, "volumeDevices cannot be honoured: a host process reaches devices by their own path")
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if "grpc" in (container.get(probe) or {}):
            out.config(name, f"{probe}.grpc is not supported: use exec, httpGet or tcpSocket")


def memory_limit(container: Obj) -> int | None:
    """The memory limit in bytes."""
    value = ((container.get("resources") or {}).get("limits") or {}).get("memory")
    return None if value is None else int(parse_quantity(value))


def cpu_limit(container: Obj) -> float | None:
    """The CPU limit in cores."""
    value = ((container.get("resources") or {}).get("limits") or {}).get("cpu")
    return None if value is None else float(parse_quantity(value))


def qos_class(pod: Obj) -> str:
    """Guaranteed, Burstable or BestEffort (Kubernetes docs, "Pod Quality of Service Classes")."""
    guaranteed, any_value = True, False
    for container in all_containers(pod):
        resources = container.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for name in ("cpu", "memory"):
            limit, request = limits.get(name), requests.get(name, limits.get(name))
            any_value = any_value or limit is not None or request is not None
            if limit is None or parse_quantity(limit) != parse_quantity(request if request is not None else limit):
                guaranteed = False
    if not any_value:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def oom_score_adj(pod: Obj, container: Obj, capacity: int) -> int:
    """How readily the kernel kills the container for memory (kubelet's values; `capacity` in bytes)."""
    if pod["spec"].get("priorityClassName") in ("system-node-critical", "system-cluster-critical"):
        return -997
    quality = qos_class(pod)
    if quality == "Guaranteed":
        return -997
    if quality == "BestEffort":
        return 1000
    request = ((container.get("resources") or {}).get("requests") or {}).get("memory", 0)
    return min(max(2, 1000 - 1000 * int(parse_quantity(request)) // max(capacity, 1)), 999)
