"""The Node object of this machine and its Lease: registered, kept, and made again when somebody deletes them."""

from __future__ import annotations

import asyncio
import logging
import platform
from pathlib import Path
from typing import Any

from kube.client.aio import AsyncClient
from kube.client.errors import ConnectionFailed
from kube.machinery.durations import now_micro, now_rfc3339
from kube.machinery.errors import StatusError
from kube.machinery.resources import LEASES, NODES
from solo.node.addresses import NODE_IP
from solo.node.host import allocatable
from solo.node.procfs import boot_id

log = logging.getLogger(__name__)

Obj = dict[str, Any]
LEASE_NAMESPACE = "kube-node-lease"
LEASE_SECONDS = 40
RENEW_SECONDS = 10.0
VERSION = "v1.36.0"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def os_image() -> str:
    """The name of the operating system as /etc/os-release gives it."""
    for line in _text("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip().strip('"')
    return platform.system()


def architecture() -> str:
    """The machine's architecture by its Go name."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def node_object(name: str) -> Obj:
    """The Node as it is registered."""
    arch = architecture()
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": arch}
    labels.update({"beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": arch})
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {}}


def node_status(name: str, previous: Obj) -> Obj:
    """The Node's status now; conditions keep the times of `previous` where they have not changed."""
    wanted = [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "the kernel reclaims memory by the pods' QoS class"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "disk space is not managed"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "process numbers are not managed"),
        ("Ready", "True", "KubeletReady", "the node agent is running"),
    ]
    before = {entry["type"]: entry for entry in previous.get("conditions") or []}
    now = now_rfc3339()
    conditions = []
    for type_, value, reason, message in wanted:
        old = before.get(type_, {})
        since = old.get("lastTransitionTime") if old.get("status") == value else None
        conditions.append(
            {
                "type": type_,
                "status": value,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": now,
                "lastTransitionTime": since or now,
            }
        )
    return {
        "capacity": dict(allocatable()),
        "allocatable": dict(allocatable()),
        "conditions": conditions,
        "addresses": [{"type": "InternalIP", "address": NODE_IP}, {"type": "Hostname", "address": name}],
        "nodeInfo": {
            "machineID": _text("/etc/machine-id"),
            "systemUUID": _text("/sys/class/dmi/id/product_uuid"),
            "bootID": boot_id(),
            "kernelVersion": platform.release(),
            "osImage": os_image(),
            "containerRuntimeVersion": "host://1",
            "kubeletVersion": VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": architecture(),
        },
    }


class NodeRegistration:
    """Keeps the Node and its Lease in the API. The Lease alone is renewed; the Node is written when it is missing."""

    def __init__(self, client: AsyncClient, name: str) -> None:
        self._client = client
        self._name = name
        self._uid = ""
        self._missing = asyncio.Event()
        self._missing.set()

    def node_deleted(self) -> None:
        """Somebody deleted the Node: make it again now."""
        self._missing.set()

    async def run(self) -> None:
        """Register, then renew until cancelled; failures are retried with the next renewal, or sooner at first."""
        pause = 0.2
        while True:
            try:
                if self._missing.is_set():
                    self._missing.clear()
                    await self._register()
                await self._renew()
                pause = RENEW_SECONDS
            except (StatusError, ConnectionFailed) as error:
                log.warning("node %s is not registered or renewed: %s", self._name, error)
                self._missing.set()
                await asyncio.sleep(pause)
                pause = min(pause * 2, RENEW_SECONDS)
                continue
            try:
                async with asyncio.timeout(pause):
                    await self._missing.wait()
            except TimeoutError:
                continue

    async def _register(self) -> None:
        wanted = node_object(self._name)
        try:
            node = await self._client.create(NODES, wanted)
        except StatusError as error:
            if error.reason != "AlreadyExists":
                raise
            node = await self._client.get(NODES, self._name)
            labels = {**(node["metadata"].get("labels") or {}), **wanted["metadata"]["labels"]}
            if labels != node["metadata"].get("labels"):
                await self._client.patch(NODES, self._name, {"metadata": {"labels": labels}})
        self._uid = node["metadata"]["uid"]
        new = node_status(self._name, node.get("status") or {})
        await self._client.patch(NODES, self._name, {"status": new}, subresource="status")

    async def _renew(self) -> None:
        spec: Obj = {"holderIdentity": self._name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now_micro()}
        # The lease goes with its node.
        owner = {"apiVersion": NODES.api_version, "kind": NODES.kind, "name": self._name, "uid": self._uid}
        lease: Obj = {"metadata": {"ownerReferences": [owner]}, "spec": spec}
        try:
            await self._client.patch(LEASES, self._name, lease, LEASE_NAMESPACE)
        except StatusError as error:
            if error.code != 404:
                raise
            lease |= {"apiVersion": LEASES.api_version, "kind": LEASES.kind}
            lease["metadata"] |= {"name": self._name, "namespace": LEASE_NAMESPACE}
            await self._client.create(LEASES, lease)
