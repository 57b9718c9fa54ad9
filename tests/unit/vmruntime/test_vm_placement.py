"""Where and whether a machine may start: rules about nodes as Kubernetes has them, and memory with its numbers."""

from __future__ import annotations

from typing import Any

import pytest

from vmruntime.controllers.placement import may_have_changed, memory_problem, node_problem

GIB = 1 << 30


def node(name: str = "n1", memory: str = "16Gi", taints: list[dict[str, str]] | None = None, **labels: str) -> Any:
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": taints or []},
        "status": {"allocatable": {"memory": memory}},
    }


def affinity(*terms: dict[str, Any]) -> dict[str, Any]:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return {"affinity": {"nodeAffinity": required}}


def label(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


TAINT = [{"key": "gpu", "value": "a100", "effect": "NoSchedule"}]


@pytest.mark.parametrize(
    ("scheduling", "on", "fits"),
    [
        ({}, node(), True),
        ({"nodeSelector": {"disk": "ssd"}}, node(disk="ssd"), True),
        ({"nodeSelector": {"disk": "ssd"}}, node(disk="hdd"), False),
        (affinity(label("disk", "In", "ssd", "nvme")), node(disk="nvme"), True),
        (affinity(label("disk", "In", "ssd")), node(), False),
        (affinity(label("disk", "NotIn", "hdd")), node(), True),
        (affinity(label("disk", "Exists")), node(), False),
        (affinity(label("disk", "DoesNotExist")), node(), True),
        (affinity(label("cores", "Gt", "8")), node(cores="16"), True),
        (affinity(label("cores", "Lt", "8")), node(cores="16"), False),
        (affinity(label("disk", "In", "ssd"), label("zone", "In", "a")), node(zone="a"), True),
        (affinity({}), node(), False),
        (affinity({"matchFields": label("metadata.name", "In", "n1")["matchExpressions"]}), node(), True),
        (affinity({"matchFields": label("metadata.name", "In", "n2")["matchExpressions"]}), node(), False),
        ({}, node(taints=TAINT), False),
        ({"tolerations": [{"key": "gpu", "operator": "Exists"}]}, node(taints=TAINT), True),
        ({"tolerations": [{"operator": "Exists"}]}, node(taints=TAINT), True),
        ({"tolerations": [{"key": "gpu", "value": "a100"}]}, node(taints=TAINT), True),
        ({"tolerations": [{"key": "gpu", "value": "other"}]}, node(taints=TAINT), False),
        ({"tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoExecute"}]}, node(taints=TAINT), False),
        ({}, node(taints=[{"key": "x", "effect": "PreferNoSchedule"}]), True),
        ({}, node(**{"kubevm.io/VM-SkipSchedule": ""}), False),
    ],
)
def test_nodes_by_the_rules_of_kubernetes(scheduling: dict[str, Any], on: Any, fits: bool) -> None:
    assert (node_problem({"spec": {"scheduling": scheduling}}, [on]) is None) is fits


@pytest.mark.parametrize(
    ("labels", "field", "why"),
    [
        ({"disk type": "ssd"}, 'spec.scheduling.nodeSelector: "disk type": ', "name part must consist of"),
        ({"": "ssd"}, 'spec.scheduling.nodeSelector: "": ', "name part must be non-empty"),
        ({"disk": "fast & big"}, 'spec.scheduling.nodeSelector["disk"]: "fast & big": ', "a valid label must be"),
    ],
)
def test_labels_that_no_node_can_have_are_refused(labels: dict[str, str], field: str, why: str) -> None:
    problem = node_problem({"spec": {"scheduling": {"nodeSelector": labels}}}, [node()])
    assert problem is not None and (problem.state, problem.reason) == ("ErrorConfiguration", "InvalidSpec")
    assert problem.message.startswith(field + why)


def test_no_node_is_told_with_the_counts() -> None:
    nodes = [node("a"), node("b"), node("c", taints=TAINT, disk="ssd")]
    problem = node_problem({"spec": {"scheduling": {"nodeSelector": {"disk": "ssd"}}}}, nodes)
    assert problem is not None
    assert (problem.state, problem.reason) == ("Pending", "Unschedulable")
    assert problem.message == (
        "0/3 nodes are available: 1 node(s) had untolerated taint {gpu: a100}, "
        "2 node(s) didn't match the machine's node affinity/selector"
    )


def test_a_cordoned_node_takes_no_machine() -> None:
    cordoned = {**node(), "spec": {"unschedulable": True}}
    problem = node_problem({}, [cordoned])
    assert problem is not None
    assert "unschedulable" in problem.message


def test_memory_is_promised_up_to_what_the_node_keeps_for_itself() -> None:
    assert memory_problem(15 * GIB, [], [node()]) is None
    assert memory_problem(14 * GIB, [GIB], [node()]) is None
    problem = memory_problem(14 * GIB + 1, [GIB], [node()])
    assert problem is not None
    assert (problem.state, problem.reason) == ("Pending", "InsufficientMemory")
    for number in ("14336 MiB are free", "15360 MiB of the node's 16384 MiB", "those that run have 1024 MiB"):
        assert number in problem.message
    assert memory_problem(7 * GIB, [], [node(memory="8Gi")]) is None
    assert memory_problem(7 * GIB + 1, [], [node(memory="8Gi")])


def test_a_heartbeat_of_a_node_changes_nothing() -> None:
    beat = {**node(), "status": {"allocatable": {"memory": "16Gi"}, "conditions": [{"lastHeartbeatTime": "now"}]}}
    assert not may_have_changed(beat, node())
    assert may_have_changed(node(disk="ssd"), node())
    assert may_have_changed(node(memory="8Gi"), node())
    assert may_have_changed(node(), None)


def beside(rules: str, key: str = "zone", **labels: str) -> dict[str, Any]:
    term = {"labelSelector": {"matchLabels": labels}, "topologyKey": key}
    return {"affinity": {rules: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}


def machine(scheduling: dict[str, Any], namespace: str = "default", **labels: str) -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "labels": labels}, "spec": {"scheduling": scheduling}}


WEB, DB = machine({}, app="web"), machine({}, app="db")


@pytest.mark.parametrize(
    ("starting", "running", "why"),
    [
        (machine(beside("podAffinity", app="web")), [DB, WEB], ""),
        (machine(beside("podAffinity", app="web")), [DB], "pod affinity rules"),
        (machine(beside("podAffinity", app="web"), namespace="other"), [WEB], "pod affinity rules"),
        (machine(beside("podAffinity", key="rack", app="web")), [WEB], "pod affinity rules"),
        # The first of those that want to be together.
        (machine(beside("podAffinity", app="web"), app="web"), [], ""),
        (machine(beside("podAntiAffinity", app="web")), [DB], ""),
        (machine(beside("podAntiAffinity", app="web")), [DB, WEB], "pod anti-affinity rules"),
        (machine(beside("podAntiAffinity", app="web"), namespace="other"), [WEB], ""),
        (machine(beside("podAntiAffinity", key="rack", app="web")), [WEB], ""),
        (machine(beside("podAntiAffinity")), [DB], "pod anti-affinity rules"),
        (WEB, [machine(beside("podAntiAffinity", app="web"))], "existing pods anti-affinity"),
        (DB, [machine(beside("podAntiAffinity", app="web"))], ""),
        (DB, [machine(beside("podAntiAffinity", **{"a b": "c"}))], ""),
        (machine(beside("podAntiAffinity", **{"a b": "c"})), [], "spec.scheduling.affinity: key: Invalid value"),
    ],
)
def test_machines_beside_which_one_may_start(starting: Any, running: Any, why: str) -> None:
    problem = node_problem(starting, [node(zone="a")], running)
    assert (problem is None) if not why else (problem is not None and why in problem.message)
