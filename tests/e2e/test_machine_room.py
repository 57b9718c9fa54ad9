"""Whether a machine may start: its type, the node it wants, the memory that is left."""

from __future__ import annotations

from typing import Any

from e2e.cluster import Cluster, eventually, vm


def wait_pending(cluster: Cluster, name: str, reason: str) -> str:
    """The message of a machine that is Pending for this reason."""
    cluster.wait_for(".status.reason", reason, "gvm", name)
    status = cluster.get("gvm", name)["status"]
    assert status["state"] == "Pending"
    return status["message"]


def of_type(name: str, type_name: str) -> dict[str, Any]:
    machine = vm(name)
    machine["spec"]["compute"] = {"virtualMachineTypeName": type_name}
    return machine


def test_machine_types(runtime: Cluster) -> None:
    (example,) = runtime.items("virtualmachinetypes", "-l", "vm.cluster.gke.io/predefined-machinetype=true")
    assert example["metadata"]["name"] == "example-machinetype"
    assert example["spec"] == {"cpu": {"vcpus": 2}, "memory": {"capacity": "4G"}}
    change = (
        "patch",
        "virtualmachinetype",
        "example-machinetype",
        "--type=merge",
        "-p",
        '{"spec":{"cpu":{"vcpus":3}}}',
    )
    refused = runtime.kubectl(*change, ok=False)
    assert refused.returncode == 1
    assert "is predefined and cannot be changed" in refused.stderr

    runtime.apply(of_type("typed", "small"))
    runtime.wait_for(".status.reason", "MachineTypeMissing", "gvm", "typed")
    small = {**example, "metadata": {"name": "small"}, "spec": {"cpu": {"vcpus": 1}, "memory": {"capacity": "64Mi"}}}
    runtime.apply(small)
    runtime.wait_for(".status.state", "Running", "gvm", "typed")
    assert runtime.get("gvm", "typed")["status"]["compute"] == {"vcpus": 1, "memory": "64Mi"}

    # Types that somebody made outlive a disable; without any, the kind goes as well.
    runtime.bmctl("disable", "vmruntime", "--force=true", "--yes")
    assert "small" in [entry["metadata"]["name"] for entry in runtime.items("virtualmachinetypes")]
    runtime.bmctl("enable", "vmruntime")
    runtime.kubectl("delete", "virtualmachinetype", "small")
    runtime.bmctl("disable", "vmruntime")
    assert "virtualmachinetypes" not in runtime.kubectl("get", "crds").stdout


def test_a_machine_waits_for_a_node_that_it_may_be_on(runtime: Cluster) -> None:
    (node,) = (entry["metadata"]["name"] for entry in runtime.items("nodes"))
    runtime.apply(vm("picky", scheduling={"nodeSelector": {"disk": "ssd"}}))
    message = wait_pending(runtime, "picky", "Unschedulable")
    assert message == "0/1 nodes are available: 1 node(s) didn't match the machine's node affinity/selector"
    runtime.kubectl("label", "node", node, "disk=ssd")
    runtime.wait_for(".status.state", "Running", "gvm", "picky")
    # As everywhere in Kubernetes: what runs is not moved away when the label goes.
    runtime.kubectl("label", "node", node, "disk-")
    assert runtime.get("gvm", "picky")["status"]["state"] == "Running"


def test_a_machine_that_is_to_be_apart_waits_until_the_other_ends(runtime: Cluster) -> None:
    terms = [{"labelSelector": {"matchLabels": {"app": "db"}}, "topologyKey": "kubernetes.io/hostname"}]
    apart = {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}
    for name in ("db-1", "db-2"):
        machine = vm(name, scheduling=apart)
        machine["metadata"]["labels"] = {"app": "db"}
        runtime.apply(machine)
        if name == "db-1":
            runtime.wait_for(".status.state", "Running", "gvm", name)
    message = wait_pending(runtime, "db-2", "Unschedulable")
    assert message == "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules"
    runtime.kubectl("delete", "gvm", "db-1")
    runtime.wait_for(".status.state", "Running", "gvm", "db-2")


def test_a_quota_of_pods_is_told(runtime: Cluster) -> None:
    runtime.kubectl("create", "quota", "none", "--hard=pods=0")
    runtime.apply(vm("refused"))
    assert "exceeded quota: none" in wait_pending(runtime, "refused", "PodForbidden")
    runtime.kubectl("delete", "quota", "none")
    runtime.wait_for(".status.state", "Running", "gvm", "refused")


def test_a_machine_waits_for_memory_and_nobody_is_ended_for_it(runtime: Cluster) -> None:
    (node,) = runtime.items("nodes")
    mib = int(node["status"]["allocatable"]["memory"].removesuffix("Ki")) // 1024
    half = vm("half")
    half["spec"]["compute"]["memory"]["capacity"] = f"{mib // 2}Mi"
    runtime.apply(half)
    runtime.wait_for(".status.state", "Running", "gvm", "half")
    other = vm("other-half")
    other["spec"]["compute"]["memory"]["capacity"] = f"{mib // 2}Mi"
    runtime.apply(other)
    message = wait_pending(runtime, "other-half", "InsufficientMemory")
    assert "MiB are free" in message
    assert len(runtime.qemu()) == 1
    runtime.virt("stop", "half")
    runtime.wait_for(".status.state", "Running", "gvm", "other-half")
    runtime.virt("start", "half")
    wait_pending(runtime, "half", "InsufficientMemory")
    eventually(lambda: runtime.get("gvm", "other-half")["status"]["state"] == "Running")
