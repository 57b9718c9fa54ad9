"""Read what a pod's spec says of volumes: which of them have to be mounted, and which cannot be had. Pure.

A host path at its own path needs no mount. Everything else needs a mount namespace, which takes a cluster that runs as
root; a pod that asks for nothing of it gets none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from solo.node.podspec import Refusal, all_containers

Obj = dict[str, Any]

TOKEN_DIRECTORY = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_SECONDS = 3607
"""The life asked for; the odd seconds mark it as a mounted token, as the kubelet's default does."""
_TOKEN_VOLUME = "kube-api-access"
_PAYLOADS = ("secret", "configMap", "downwardAPI", "projected")
_SOURCES = ("secret", "configMap", "downwardAPI", "serviceAccountToken")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def with_token(pod: Obj) -> Obj:
    """The pod with its service account's token mounted where client libraries look for it.

    As Kubernetes' admission adds it, but only to pods that have other mounts or ask for the token in so many words: the
    rest find the API by KUBECONFIG and go without a mount namespace.
    """
    asked = pod["spec"].get("automountServiceAccountToken") is True
    if not asked and not any(mounts_of(pod, container) for container in all_containers(pod)):
        return pod
    ca = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    namespace = {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}
    token = {"path": "token", "expirationSeconds": TOKEN_SECONDS}
    sources = [{"serviceAccountToken": token}, {"configMap": ca}, {"downwardAPI": namespace}]
    volume = {"name": _TOKEN_VOLUME, "projected": {"sources": sources}}
    mount = {"name": _TOKEN_VOLUME, "mountPath": TOKEN_DIRECTORY, "readOnly": True}

    def mounted(container: Obj) -> Obj:
        own = container.get("volumeMounts") or []
        taken = any(_same(each["mountPath"], TOKEN_DIRECTORY) for each in own)
        return container if taken else {**container, "volumeMounts": [*own, mount]}

    spec = {**pod["spec"], "volumes": [*(pod["spec"].get("volumes") or []), volume]}
    for key in ("initContainers", "containers"):
        if key in spec:
            spec[key] = [mounted(container) for container in spec[key] or []]
    return {**pod, "spec": spec}


def mounts_of(pod: Obj, container: Obj) -> list[tuple[Obj, Obj]]:
    """(mount, volume) for each mount of a container that takes a mount namespace."""
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or []}
    pairs = [(mount, volumes.get(mount["name"])) for mount in container.get("volumeMounts") or []]
    return [(mount, volume) for mount, volume in pairs if volume is not None and _needs_namespace(mount, volume)]


def _needs_namespace(mount: Obj, volume: Obj) -> bool:
    if "hostPath" not in volume:
        return True
    moved = not _same(volume["hostPath"].get("path", ""), mount["mountPath"])
    return moved or any(mount.get(key) for key in ("readOnly", "subPath", "subPathExpr"))


def _same(one: str, other: str) -> bool:
    return one.rstrip("/") == other.rstrip("/")


def is_payload(volume: Obj) -> bool:
    """Whether the volume's content comes from API objects."""
    return any(kind in volume for kind in _PAYLOADS)


def refusals(pod: Obj, *, can_mount: bool) -> list[Refusal]:
    """Each volume and mount that cannot be had."""
    found = [
        _refusal("", f'volume "{volume["name"]}" cannot be mounted: {text}')
        for volume in pod["spec"].get("volumes") or []
        if (text := _volume_problem(volume))
    ]
    for container in all_containers(pod):
        for mount, volume in mounts_of(pod, container):
            if text := _mount_problem(mount, volume, can_mount=can_mount):
                where = f'volume "{volume["name"]}" cannot appear at {mount["mountPath"]}'
                found.append(_refusal(container["name"], f"{where}: {text}"))
    return found


def _refusal(container: str, message: str) -> Refusal:
    return Refusal(container, "ContainerCreating", "FailedMount", message)


def _volume_problem(volume: Obj) -> str:
    if "hostPath" not in volume and "emptyDir" not in volume and not is_payload(volume):
        return "only hostPath, emptyDir, secret, configMap, downwardAPI and projected volumes can be had here"
    if not _NAME.fullmatch(volume["name"]):
        return "its name is not a DNS label"
    if medium := (volume.get("emptyDir") or {}).get("medium"):
        return f"emptyDir.medium {medium} cannot be honoured, its files are on the node's disk"
    for source in (volume.get("projected") or {}).get("sources") or []:
        if unknown := sorted(source.keys() - set(_SOURCES)):
            return f"projected.sources.{unknown[0]} cannot be had here"
    return ""


def _mount_problem(mount: Obj, volume: Obj, *, can_mount: bool) -> str:
    if not can_mount:
        if "hostPath" in volume:
            path = volume["hostPath"].get("path", "")
            return f"without a cluster that runs as root, {path} is only at its own path, to be read and written"
        if volume["name"].startswith(_TOKEN_VOLUME):
            return ""  # The pod finds the API by KUBECONFIG.
        return "that needs a cluster that runs as root, where processes can have mounts of their own"
    parts = PurePosixPath(mount["mountPath"]).parts
    if parts[:1] != ("/",) or ".." in parts or parts == ("/",) or parts[1] == "proc":
        return "mountPath must be absolute, and neither the root nor in /proc"
    if mount.get("mountPropagation") == "Bidirectional":
        return "mountPropagation Bidirectional cannot be honoured: a container's mounts are its own"
    if mount.get("recursiveReadOnly") == "Enabled":
        return "recursiveReadOnly cannot be honoured"
    return ""


def not_enforced(pod: Obj) -> Iterator[str]:
    """What is accepted and not kept to, as sentences."""
    for volume in pod["spec"].get("volumes") or []:
        if limit := (volume.get("emptyDir") or {}).get("sizeLimit"):
            yield f'volume "{volume["name"]}": sizeLimit {limit} is not enforced'
