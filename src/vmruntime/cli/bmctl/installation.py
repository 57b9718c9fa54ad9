"""Put the VM runtime into a cluster: the objects that are there before VMs are switched on, and stay afterwards."""

from __future__ import annotations

from collections.abc import Sequence

from kube.client.sync import SyncClient
from kube.machinery import resources
from kube.machinery.errors import StatusError
from vmruntime.api import preflightcheck, vmruntime
from vmruntime.api.install import manifests
from vmruntime.api.meta import namespace_of

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


def install(client: SyncClient, command: Sequence[str]) -> None:
    """Create or update all objects; `command` starts the controller manager. Running it twice changes nothing."""
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
