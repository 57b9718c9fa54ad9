"""The four documented ClusterRoles that give people rights on VMs; there while the runtime is enabled."""

from __future__ import annotations

from collections.abc import Sequence

from vmruntime.api import names
from vmruntime.api.meta import Obj

_VIEW = ("get", "list", "watch")
_EDIT = (*_VIEW, "delete", "create", "update", "patch")
_ADMIN = (*_EDIT, "deletecollection")

_VM_KINDS = (
    "virtualmachineaccessrequests",
    "virtualmachinedisks",
    "virtualmachines",
    "gpuallocations",
    "guestenvironmentdata",
)
_VM_CLUSTER_KINDS = ("vmruntimes", "virtualmachinetypes", "vmhighavailabilitypolicies")
_NETWORK_KINDS = ("networkinterfaces",)
_NETWORK_CLUSTER_KINDS = ("networks",)


def _role(name: str, aggregate_to: str, vm: Sequence[str], network: Sequence[str], verbs: Sequence[str]) -> Obj:
    labels = {"kubevm": name}
    if aggregate_to:
        labels[f"rbac.authorization.k8s.io/aggregate-to-{aggregate_to}"] = "true"
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name, "labels": labels},
        "rules": [
            {"apiGroups": [names.GROUP], "resources": list(vm), "verbs": list(verbs)},
            {"apiGroups": [names.NETWORK_GROUP], "resources": list(network), "verbs": list(verbs)},
        ],
    }


def cluster_roles() -> list[Obj]:
    """kubevm.admin, .edit and .view, which aggregate into the built-in roles, and kubevm.cluster.view."""
    everything = (*_VM_KINDS, *_VM_CLUSTER_KINDS)
    networks = (*_NETWORK_KINDS, *_NETWORK_CLUSTER_KINDS)
    return [
        _role("kubevm.admin", "admin", everything, networks, _ADMIN),
        _role("kubevm.edit", "edit", everything, networks, _EDIT),
        _role("kubevm.view", "view", everything, networks, _VIEW),
        _role("kubevm.cluster.view", "", _VM_CLUSTER_KINDS, _NETWORK_CLUSTER_KINDS, _VIEW),
    ]


def granted_rules() -> list[Obj]:
    """What the roles above grant at most; who creates them must hold it (RBAC refuses escalation)."""
    rules: list[Obj] = cluster_roles()[0]["rules"]
    return rules
