"""Put the VM runtime into a cluster: the objects that are there before VMs are switched on, and stay afterwards."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kube.client.config import load_kubeconfig
from kube.client.sync import SyncClient
from kube.machinery import resources
from kube.machinery.errors import StatusError
from vmruntime.api import preflightcheck, vmruntime
from vmruntime.api.install import manifests
from vmruntime.api.meta import namespace_of
from vmruntime.cli.bmctl.workspace import Cluster

_RESOURCES = {
    resource.kind: resource
    for resource in (
        resources.NAMESPACES,
        resources.CRDS,
        resources.SERVICEACCOUNTS,
        resources.CLUSTERROLES,
        resources.CLUSTERROLEBINDINGS,
        resources.DEPLOYMENTS,
        preflightcheck.RESOURCE,
        vmruntime.RESOURCE,
    )
}


def install(cluster: Cluster) -> None:
    """Have all objects be those of this version, in a cluster that runs. Running it twice changes nothing."""
    with SyncClient(load_kubeconfig(str(cluster.kubeconfig))) as client:
        _install(client, _manager_command(cluster))


def _manager_command(cluster: Cluster) -> list[str]:
    """What the controller manager's pod runs on this machine."""
    program = [sys.executable, "-P", "-m", "vmruntime.controllers", "--engine", "qemu"]
    return [*program, "--root", str(cluster.vm_root), "--images", str(cluster.images)]


def _install(client: SyncClient, command: Sequence[str]) -> None:
    for obj in manifests(command):
        resource = _RESOURCES[obj["kind"]]
        if resource != vmruntime.RESOURCE:
            client.apply(resource, obj)
            continue
        try:
            client.create(resource, obj, namespace_of(obj) or None)
        except StatusError as error:
            if error.reason != "AlreadyExists":  # the switch is the user's once it exists
                raise
