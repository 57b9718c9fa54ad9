"""What installation puts into a cluster: everything that is there before VMs are switched on, and stays afterwards."""

from __future__ import annotations

from collections.abc import Sequence

from vmruntime.api import names, preflightcheck, rbac, vmruntime
from vmruntime.api.meta import Obj

_READ = ["get", "list", "watch"]
_KEEP = ["get", "create", "patch", "delete"]
_OWN = [*_READ, "create", "patch", "delete"]


def manifests(command: Sequence[str]) -> list[Obj]:
    """All objects in the order in which they must be created.

    `command` starts the controller manager as a process of the host. The VMRuntime comes last and must only be
    created where there is none: its spec is the user's from then on.
    """
    return [
        _namespace(),
        vmruntime.definition(),
        preflightcheck.definition(),
        _service_account(),
        _cluster_role(),
        _cluster_role_binding(),
        _deployment(list(command)),
        vmruntime.initial_object(),
    ]


def _namespace() -> Obj:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": names.NAMESPACE}}


def _service_account() -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": names.MANAGER, "namespace": names.NAMESPACE},
    }


def _rule(group: str, resources: list[str], verbs: list[str]) -> Obj:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


def _cluster_role() -> Obj:
    """The manager's own rights, plus what the roles that it creates grant."""
    rules = [
        _rule("apiextensions.k8s.io", ["customresourcedefinitions"], _KEEP),
        _rule("rbac.authorization.k8s.io", ["clusterroles"], _KEEP),
        _rule(
            "admissionregistration.k8s.io",
            [
                "validatingadmissionpolicies",
                "validatingadmissionpolicybindings",
                "mutatingadmissionpolicies",
                "mutatingadmissionpolicybindings",
            ],
            _KEEP,
        ),
        _rule(
            names.GROUP,
            [
                "vmruntimes",
                "vmruntimepreflightchecks",
                "virtualmachines",
                "virtualmachinedisks",
                "virtualmachineaccessrequests",
            ],
            _OWN,
        ),
        _rule(
            names.GROUP,
            [
                "vmruntimes/status",
                "vmruntimepreflightchecks/status",
                "virtualmachines/status",
                "virtualmachinedisks/status",
                "virtualmachineaccessrequests/status",
            ],
            ["patch"],
        ),
        _rule(names.NETWORK_GROUP, ["networks", "networkinterfaces"], _OWN),
        _rule(names.NETWORK_GROUP, ["networks/status"], ["patch"]),
        _rule("", ["pods"], _OWN),
        _rule("", ["nodes"], [*_READ, "patch"]),
        _rule("", ["secrets", "configmaps"], ["get"]),
        _rule("", ["events"], ["create", "patch"]),
        *rbac.granted_rules(),
    ]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": names.MANAGER},
        "rules": rules,
    }


def _cluster_role_binding() -> Obj:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": names.MANAGER},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": names.MANAGER},
        "subjects": [{"kind": "ServiceAccount", "name": names.MANAGER, "namespace": names.NAMESPACE}],
    }


def _deployment(command: list[str]) -> Obj:
    labels = {"app.kubernetes.io/name": names.MANAGER}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": names.MANAGER, "namespace": names.NAMESPACE, "labels": labels},
        "spec": {
            "replicas": 1,
            # Two managers at once would compete for the same machines.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "serviceAccountName": names.MANAGER,
                    "terminationGracePeriodSeconds": 10,
                    "containers": [{"name": "manager", "image": "host", "command": command}],
                },
            },
        },
    }
