"""The packaged field numbers: known ones, and one for every field that the OpenAPI definitions have."""

from __future__ import annotations

import pytest

from kube.machinery import builtin
from kube.machinery.protobuf import ProtobufError, table
from kube.machinery.protobuf.forms import FORMS

CORE = "io.k8s.api.core.v1"
# Numbers from Kubernetes' generated.proto files.
KNOWN = {
    builtin.OBJECT_META: (
        "name 1 generateName 2 namespace 3 selfLink 4 uid 5 resourceVersion 6 generation 7 creationTimestamp 8 "
        "deletionTimestamp 9 deletionGracePeriodSeconds 10 labels 11 annotations 12 ownerReferences 13 finalizers 14 "
        "managedFields 17"
    ),
    builtin.DELETE_OPTIONS: (
        "gracePeriodSeconds 1 preconditions 2 orphanDependents 3 propagationPolicy 4 dryRun 5 "
        "ignoreStoreReadErrorWithClusterBreakingPotential 6"
    ),
    f"{CORE}.ConfigMap": "metadata 1 data 2 binaryData 3 immutable 4",
    f"{CORE}.Secret": "metadata 1 data 2 type 3 stringData 4 immutable 5",
    f"{CORE}.Pod": "metadata 1 spec 2 status 3",
    f"{CORE}.ServicePort": "name 1 protocol 2 port 3 targetPort 4 nodePort 5 appProtocol 6",
    "io.k8s.api.apps.v1.DeploymentSpec": (
        "replicas 1 selector 2 template 3 strategy 4 minReadySeconds 5 revisionHistoryLimit 6 paused 7 "
        "progressDeadlineSeconds 9"
    ),
    "io.k8s.api.coordination.v1.LeaseSpec": (
        "holderIdentity 1 leaseDurationSeconds 2 acquireTime 3 renewTime 4 leaseTransitions 5 strategy 6 "
        "preferredHolder 7"
    ),
    "io.k8s.api.rbac.v1.PolicyRule": "verbs 1 apiGroups 2 resources 3 resourceNames 4 nonResourceURLs 5",
}
# Newer or older than the binary that the numbers come from.
WITHOUT_NUMBER = {"CustomResourceDefinitionCondition", "CustomResourceDefinitionStatus"}
WITHOUT_NUMBER |= {"Device", "NodeAllocatableResourceClaimStatus", "NodeAllocatableResourceMapping"}


def names(message: str) -> set[str]:
    found = set()
    for field in table.message(message).values():
        found |= {field.name} if field.name else names(field.message)
    return found


@pytest.mark.parametrize("message", KNOWN)
def test_known_numbers(message):
    words = KNOWN[message].split()
    expected = {int(number): name for name, number in zip(words[::2], words[1::2], strict=True)}
    assert {number: field.name for number, field in table.message(message).items()} == expected


def test_every_field_of_every_kind_has_a_number():
    checked = 0
    for name, definition in builtin.definitions().items():
        of_kind = definition.get("x-kubernetes-group-version-kind", ())
        properties = definition.get("properties", {}).keys() - {"apiVersion", "kind"}
        if not of_kind or not properties or name == builtin.WATCH_EVENT:
            continue
        kind = of_kind[0]
        api_version = "/".join(filter(None, (kind["group"], kind["version"])))
        assert properties <= names(table.message_of(api_version, kind["kind"])), name
        checked += 1
    assert checked > 100


def test_every_field_of_every_message_has_a_number():
    for name, definition in builtin.definitions().items():
        if "properties" in definition and name.rpartition(".")[2] not in WITHOUT_NUMBER | {"Info"}:
            assert definition["properties"].keys() - {"apiVersion", "kind"} <= names(name), name


def test_messages_refer_to_messages():
    pending = [table.message_of("v1", "Pod"), table.message_of("apiextensions.k8s.io/v1", "CustomResourceDefinition")]
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            fields = table.message(name).values()
            assert all((field.kind == "message") == bool(field.message) for field in fields), name
            pending += [field.message for field in fields if field.message]
    assert len(seen) > 150
    assert {"io.k8s.apimachinery.pkg.api.resource.Quantity", f"{builtin.OBJECT_META}"} <= seen


def test_types_with_a_form_are_there():
    assert all(table.message(name) for name in FORMS)


def test_kinds_that_are_not_there():
    with pytest.raises(ProtobufError, match='no kind "VirtualMachine" of version'):
        table.message_of("vm.cluster.gke.io/v1", "VirtualMachine")
