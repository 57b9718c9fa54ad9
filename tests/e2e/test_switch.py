"""Switching the runtime on, and what the documents say one can see then."""

from __future__ import annotations

import json
import re
import subprocess
import sys

from e2e.cluster import Cluster, eventually, vm


def patch(cluster: Cluster, spec: dict, ok: bool = True):
    return cluster.kubectl("patch", "vmruntime", "vmruntime", "--type=merge", "-p", json.dumps({"spec": spec}), ok=ok)


def kvm_usable() -> bool:
    probe = subprocess.run(
        [sys.executable, "-m", "vmruntime.engines.qemu.kvm"], capture_output=True, text=True, check=False
    )
    return json.loads(probe.stdout)["usable"]


def test_present_from_install_and_disabled(disabled: Cluster) -> None:
    columns = disabled.kubectl("get", "vmruntime").stdout.splitlines()
    assert columns[0].split() == ["NAME", "ENABLED", "READY", "PREFLIGHTCHECK", "AGE"]
    assert columns[1].split()[:2] == ["vmruntime", "false"]
    pods = disabled.kubectl("get", "pods", "--namespace", "vm-system").stdout.splitlines()
    assert [line.split("-")[0:3] for line in pods[1:]] == [["vmruntime", "controller", "manager"]]


def test_enable_waits_until_ready_and_is_an_error_when_enabled(disabled: Cluster) -> None:
    patch(disabled, {"useEmulation": True})
    done = disabled.bmctl("enable", "vmruntime")
    assert re.search(r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+0000\] Enable vmruntime succeeded$", done.stdout, re.M)
    assert disabled.get("vmruntime", "vmruntime")["status"]["ready"] is True
    assert "Ready:" in disabled.kubectl("describe", "vmruntime", "vmruntime").stdout
    again = disabled.bmctl("enable", "vmruntime", ok=False)
    assert again.returncode == 1
    assert again.stderr == "error: the VM runtime is enabled already\n"


def test_the_documented_wait(disabled: Cluster) -> None:
    patch(disabled, {"useEmulation": True, "enabled": True})
    done = disabled.kubectl("wait", "--for=jsonpath={.status.ready}=true", "vmruntime", "vmruntime", "--timeout=60s")
    assert done.stdout == "vmruntime.vm.cluster.gke.io/vmruntime condition met\n"


def test_enable_by_the_documented_manifest(disabled: Cluster) -> None:
    spec = {"enabled": True, "useEmulation": True, "vmImageFormat": "qcow2"}
    disabled.apply(
        {"apiVersion": "vm.cluster.gke.io/v1", "kind": "VMRuntime", "metadata": {"name": "vmruntime"}, "spec": spec}
    )
    disabled.wait_for(".status.ready", "true", "vmruntime", "vmruntime")
    assert disabled.get("vmruntime", "vmruntime")["status"]["vmImageFormat"] == "qcow2"


def test_enable_by_edit(disabled: Cluster) -> None:
    script = "sed -i s/enabled:.false/enabled:\\ true/"
    done = disabled.run(
        "env", f"EDITOR={script}", "kubectl", "--kubeconfig", str(disabled.kubeconfig), "edit", "vmruntime", "vmruntime"
    )
    assert done.returncode == 0, done.stderr
    disabled.wait_for(".status.ready", "true", "vmruntime", "vmruntime")


def test_settings_are_validated_by_name(disabled: Cluster) -> None:
    refused = patch(disabled, {"vmImageFormat": "vmdk"}, ok=False)
    assert refused.returncode == 1
    assert 'spec.vmImageFormat: Unsupported value: "vmdk"' in refused.stderr
    assert '"raw"' in refused.stderr
    assert '"qcow2"' in refused.stderr
    assert "spec.useEmulation" in patch(disabled, {"useEmulation": "perhaps"}, ok=False).stderr


def test_the_default_image_format_is_raw_and_shown(runtime: Cluster) -> None:
    assert runtime.get("vmruntime", "vmruntime")["status"]["vmImageFormat"] == "raw"


def test_another_vmruntime_object_is_refused(disabled: Cluster) -> None:
    other = {"apiVersion": "vm.cluster.gke.io/v1", "kind": "VMRuntime", "metadata": {"name": "second"}, "spec": {}}
    done = disabled.apply(other, ok=False)
    assert done.returncode == 1
    assert "vmruntime" in done.stderr
    assert [item["metadata"]["name"] for item in disabled.items("vmruntime")] == ["vmruntime"]


def test_preflight_without_kvm_fails_says_why_and_blocks_vms(disabled: Cluster) -> None:
    if kvm_usable():
        return  # where KVM works, the check passes; the test below covers that side
    done = disabled.bmctl("enable", "vmruntime", ok=False)
    assert "preflight check" in done.stderr
    eventually(lambda: "preflightCheckSummary" in disabled.get("vmruntime", "vmruntime")["status"])
    summary = disabled.get("vmruntime", "vmruntime")["status"]["preflightCheckSummary"]
    assert summary["preflightCheckPassed"] is False
    assert summary["featureStatuses"] == {"CPU": {"passed": True}, "KVM": {"passed": False}}
    check = disabled.get("vmruntimepfc", "-n", "vm-system", summary["preflightCheckName"])
    (node,) = check["status"]["checks"].values()
    (kvm,) = [r for r in node["results"] if r["checkName"] == "KVM"]
    assert "useEmulation" in kvm["message"]
    refused = disabled.apply(vm("blocked"), ok=False)
    assert refused.returncode == 1
    assert "preflight" in refused.stderr
    # The setting that the message names is the remedy.
    patch(disabled, {"useEmulation": True})
    disabled.wait_for(".status.preflightCheckSummary.preflightCheckPassed", "true", "vmruntime", "vmruntime")
    disabled.apply(vm("blocked"))


def test_check_on_demand(runtime: Cluster) -> None:
    done = runtime.bmctl("check", "vmruntimepfc")
    assert done.stdout.splitlines()[1].split() == ["NODE", "CHECK", "PASSED", "MESSAGE"]
    rows = {line.split()[1]: line.split()[2] for line in done.stdout.splitlines()[2:4]}
    assert rows == {"CPU": "true", "KVM": "true"}
    listed = runtime.kubectl("get", "vmruntimepfc", "-n", "vm-system").stdout.splitlines()
    assert listed[0].split() == ["NAME", "PASS", "AGE"]
    name = done.stdout.split("Started preflight check ")[1].split()[0]
    assert re.fullmatch(r"vmruntime-preflight-check-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", name)
    (row,) = [line for line in listed if line.startswith(name)]
    assert row.split()[1] == "true"


def test_check_by_manifest_and_a_skipped_node(runtime: Cluster) -> None:
    (node,) = runtime.items("nodes")
    name = node["metadata"]["name"]
    runtime.kubectl("label", "nodes", name, "kubevm.io/VM-SkipSchedule=")
    manual = {
        "apiVersion": "vm.cluster.gke.io/v1",
        "kind": "VMRuntimePreflightCheck",
        "metadata": {"name": "vmruntime-preflight-check-manual", "namespace": "vm-system"},
    }
    runtime.apply(manual)
    runtime.wait_for(".status.passed", "true", "vmruntimepfc", "-n", "vm-system", "vmruntime-preflight-check-manual")
    status = runtime.get("vmruntimepfc", "-n", "vm-system", "vmruntime-preflight-check-manual")["status"]
    assert status.get("checks", {}) == {}
    runtime.kubectl("label", "nodes", name, "kubevm.io/VM-SkipSchedule-")
    runtime.kubectl("delete", "vmruntimepfc", "-n", "vm-system", "vmruntime-preflight-check-manual")


def test_while_disabled_nothing_of_the_stack_is_served(disabled: Cluster) -> None:
    resources = disabled.kubectl("api-resources", "--api-group=vm.cluster.gke.io", "-o", "name").stdout.split()
    assert sorted(resources) == ["vmruntimepreflightchecks.vm.cluster.gke.io", "vmruntimes.vm.cluster.gke.io"]


def test_enable_creates_the_documented_roles_and_kinds(runtime: Cluster) -> None:
    resources = runtime.kubectl("api-resources", "--api-group=vm.cluster.gke.io", "-o", "name").stdout.split()
    assert "virtualmachines.vm.cluster.gke.io" in resources
    assert "virtualmachinedisks.vm.cluster.gke.io" in resources
    for role in ("kubevm.admin", "kubevm.edit", "kubevm.view", "kubevm.cluster.view"):
        assert runtime.get("clusterrole", role)["metadata"]["labels"]["kubevm"] == role
    assert "spec" in runtime.kubectl("explain", "gvm").stdout
    assert "qcow2" in runtime.kubectl("explain", "vmruntime.spec.vmImageFormat").stdout
