"""What installation and enabling put into a cluster: complete, in order, with no more rights than needed."""

from __future__ import annotations

from typing import Any

import pytest

from kube.machinery.cel import compile_cel
from kube.machinery.cel.literals import without_types
from kube.machinery.patch import json_patch
from vmruntime.api import admission, install, names, rbac


def allows(rules: list[dict[str, Any]], group: str, resource: str, verb: str) -> bool:
    return any(group in rule["apiGroups"] and resource in rule["resources"] and verb in rule["verbs"] for rule in rules)


def test_order_and_kinds() -> None:
    kinds = [obj["kind"] for obj in install.manifests(["program"])]
    assert kinds[0] == "Namespace"
    assert kinds[-1] == "VMRuntime"
    assert kinds.count("CustomResourceDefinition") == 2
    assert "ValidatingAdmissionPolicy" not in kinds


def test_the_runtime_is_installed_switched_off() -> None:
    runtime = install.manifests(["program"])[-1]
    assert (runtime["metadata"]["name"], runtime["spec"]) == ("vmruntime", {"enabled": False})


def test_the_deployment_runs_the_command_as_its_account() -> None:
    (deployment,) = [obj for obj in install.manifests(["a", "b"]) if obj["kind"] == "Deployment"]
    spec = deployment["spec"]["template"]["spec"]
    assert spec["containers"][0]["command"] == ["a", "b"]
    assert spec["containers"][0]["image"] == "host"
    assert spec["serviceAccountName"] == names.MANAGER
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_the_manager_holds_what_its_roles_grant() -> None:
    (role,) = [obj for obj in install.manifests(["x"]) if obj["kind"] == "ClusterRole"]
    for granted in rbac.cluster_roles():
        for rule in granted["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        assert allows(role["rules"], group, resource, verb), (group, resource, verb)


def test_the_manager_reads_secrets_one_by_one_only() -> None:
    (role,) = [obj for obj in install.manifests(["x"]) if obj["kind"] == "ClusterRole"]
    assert allows(role["rules"], "", "secrets", "get")
    assert not allows(role["rules"], "", "secrets", "list")
    assert not any("*" in rule["verbs"] + rule["resources"] + rule["apiGroups"] for rule in role["rules"])


def test_the_manager_replaces_no_object_and_lists_only_what_it_watches() -> None:
    """Beside what its roles have to grant: it patches, and looks at what it keeps one by one."""
    (role,) = [obj for obj in install.manifests(["x"]) if obj["kind"] == "ClusterRole"]
    own = [rule for rule in role["rules"] if rule not in rbac.granted_rules()]
    assert not any("update" in rule["verbs"] for rule in own)
    for group, resource in [
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        ("rbac.authorization.k8s.io", "clusterroles"),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
    ]:
        assert allows(own, group, resource, "patch") and not allows(own, group, resource, "list")


def test_the_documented_roles() -> None:
    roles = {role["metadata"]["name"]: role for role in rbac.cluster_roles()}
    assert set(roles) == {"kubevm.admin", "kubevm.edit", "kubevm.view", "kubevm.cluster.view"}
    for short in ("admin", "edit", "view"):
        labels = roles[f"kubevm.{short}"]["metadata"]["labels"]
        assert labels == {
            "kubevm": f"kubevm.{short}",
            f"rbac.authorization.k8s.io/aggregate-to-{short}": "true",
        }
    assert roles["kubevm.cluster.view"]["metadata"]["labels"] == {"kubevm": "kubevm.cluster.view"}
    cluster_view = roles["kubevm.cluster.view"]["rules"]
    assert allows(cluster_view, names.GROUP, "vmruntimes", "watch")
    assert not allows(cluster_view, names.GROUP, "virtualmachines", "get")
    assert allows(roles["kubevm.admin"]["rules"], names.GROUP, "virtualmachines", "deletecollection")
    assert not allows(roles["kubevm.edit"]["rules"], names.GROUP, "virtualmachines", "deletecollection")
    assert not allows(roles["kubevm.view"]["rules"], names.GROUP, "virtualmachines", "delete")


SUMMARY = {"preflightCheckName": "check-1", "preflightCheckPassed": False, "message": "no KVM"}


@pytest.mark.parametrize(
    ("params", "refusal"),
    [
        ({"spec": {"enabled": True}}, ""),
        ({"spec": {"enabled": True}, "status": {}}, ""),
        ({"spec": {"enabled": True}, "status": {"preflightCheckSummary": {}}}, ""),
        (
            {"spec": {"enabled": True}, "status": {"preflightCheckSummary": SUMMARY | {"preflightCheckPassed": True}}},
            "",
        ),
        ({"spec": {}}, "is disabled"),
        ({"spec": {"enabled": False}}, "is disabled"),
        ({"spec": {"enabled": False}, "status": {"preflightCheckSummary": SUMMARY}}, "is disabled"),
        ({"spec": {"enabled": True}, "status": {"preflightCheckSummary": SUMMARY}}, "(check-1) failed: no KVM;"),
    ],
)
def test_the_door(params: dict[str, Any], refusal: str) -> None:
    messages = []
    for validation in admission.policy()["spec"]["validations"]:
        if compile_cel(validation["expression"], ["params"]).evaluate({"params": params}) is True:
            continue
        text = validation["message"]
        if expression := validation.get("messageExpression"):
            text = compile_cel(expression, ["params"]).evaluate({"params": params})
        messages.append(text)
    assert (len(messages) == 1 and refusal in messages[0]) if refusal else messages == []


def test_without_a_runtime_nothing_is_let_in() -> None:
    assert admission.binding()["spec"]["paramRef"]["parameterNotFoundAction"] == "Deny"
    assert admission.policy()["spec"]["failurePolicy"] == "Fail"


@pytest.mark.parametrize("listed", [None, ["other/finalizer"], [names.VM_FINALIZER]], ids=["none", "other", "own"])
def test_machines_are_created_with_their_finalizer(listed: list[str] | None) -> None:
    metadata = {"name": "vm1", **({"finalizers": listed} if listed is not None else {})}
    spec = admission.finalizer_policy()["spec"]
    variables = {"object": {"metadata": metadata}}
    (condition,) = [compile_cel(entry["expression"], ["object"]) for entry in spec["matchConditions"]]
    assert condition.evaluate(variables) is (names.VM_FINALIZER not in (listed or []))
    if condition.evaluate(variables):
        (mutation,) = spec["mutations"]
        patch = compile_cel(without_types(mutation["jsonPatch"]["expression"]), ["object"]).evaluate(variables)
        changed = json_patch({"metadata": metadata}, patch)
        assert changed["metadata"]["finalizers"] == [*(listed or []), names.VM_FINALIZER]


def test_a_machine_is_created_also_where_its_finalizer_cannot_be_given() -> None:
    assert admission.finalizer_policy()["spec"]["failurePolicy"] == "Ignore"
