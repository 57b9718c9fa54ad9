"""A running machine whose object is changed: what waits for a restart, what restarts it, and what does neither."""

from __future__ import annotations

import json
from typing import Any

from e2e.cluster import Cluster, disk, eventually, vm


def patch(cluster: Cluster, **spec: Any) -> None:
    cluster.kubectl("patch", "gvm", "edited", "--type=merge", "-p", json.dumps({"spec": spec}))


def pod(cluster: Cluster) -> str:
    return cluster.get("gvm", "edited")["status"].get("podName", "")


def restart_required(cluster: Cluster) -> dict[str, Any]:
    conditions = cluster.get("gvm", "edited")["status"]["conditions"]
    return next(entry for entry in conditions if entry["type"] == "RestartRequired")


def test_edits_of_a_running_machine(runtime: Cluster) -> None:
    machine = vm("edited")
    machine["metadata"]["labels"] = {"tier": "web", "old": "1"}
    runtime.apply(machine)
    runtime.wait_for(".status.state", "Running", "gvm", "edited")
    first = pod(runtime)
    assert restart_required(runtime)["status"] == "False"

    patch(runtime, compute={"cpu": {"vcpus": 2}}, firmware={"serial": "SN-2"})
    eventually(lambda: restart_required(runtime)["status"] == "True")
    assert "spec.compute, spec.firmware changed" in restart_required(runtime)["message"]
    assert pod(runtime) == first
    runtime.virt("restart", "edited")
    eventually(lambda: pod(runtime) not in ("", first), what="a new pod after the restart")
    runtime.wait_for(".status.state", "Running", "gvm", "edited")
    eventually(lambda: restart_required(runtime)["status"] == "False")
    assert runtime.get("gvm", "edited")["status"]["compute"]["vcpus"] == 2

    second = pod(runtime)
    patch(runtime, autoRestartOnConfigurationChange=True)
    runtime.kubectl("annotate", "gvm", "edited", "note=1")
    runtime.kubectl("label", "gvm", "edited", "tier=db", "old-", "--overwrite")

    def labels() -> dict[str, str]:
        return runtime.get("pod", second)["metadata"]["labels"]

    eventually(lambda: labels().get("tier") == "db" and "old" not in labels(), what="the labels are on the pod")
    assert labels()["kubevirt/vm"] == "edited"
    assert pod(runtime) == second

    patch(runtime, compute={"memory": {"capacity": "96Mi"}})
    eventually(lambda: pod(runtime) not in ("", second), what="a new pod after the change")
    runtime.wait_for(".status.state", "Running", "gvm", "edited")
    status = runtime.get("gvm", "edited")["status"]
    assert status["compute"] == {"vcpus": 2, "memory": "96Mi"}
    assert status.get("restarts", 0) == 0


def test_it_is_not_restarted_for_what_it_could_not_start_with(runtime: Cluster) -> None:
    machine = vm("edited", autoRestartOnConfigurationChange=True, terminationGracePeriodSeconds=1)
    holder = vm("holder", ["held"], terminationGracePeriodSeconds=1)
    runtime.apply(machine, disk("held"), holder)
    for name in ("edited", "holder"):
        runtime.wait_for(".status.state", "Running", "gvm", name)
    first = pod(runtime)

    def waits_for(words: str) -> bool:
        return restart_required(runtime)["status"] == "True" and words in restart_required(runtime)["message"]

    for awaited, words in (("later", "which does not exist"), ("held", 'in use by VirtualMachine "holder"')):
        patch(runtime, disks=[{"virtualMachineDiskName": awaited}])
        eventually(lambda words=words: waits_for(words), what=words)
        assert runtime.get("gvm", "edited")["status"]["state"] == "Running"
        assert pod(runtime) == first
    runtime.virt("stop", "holder")
    eventually(lambda: pod(runtime) not in ("", first), what="a new pod once the disk is free")
    runtime.wait_for(".status.state", "Running", "gvm", "edited")
    second = pod(runtime)

    patch(runtime, disks=[{"virtualMachineDiskName": "later"}])
    eventually(lambda: waits_for("which does not exist"))
    runtime.apply(disk("later"))
    eventually(lambda: pod(runtime) not in ("", second), what="a new pod once the disk is there")
    eventually(lambda: restart_required(runtime)["status"] == "False")
    assert [entry["name"] for entry in runtime.get("gvm", "edited")["status"]["disks"]] == ["later"]
