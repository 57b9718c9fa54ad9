"""The disable table, row by row, from both sides: `bmctl disable vmruntime` and kubectl."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml

from e2e.cluster import Cluster, Terminal, disk, eventually, vm

TYPO = "baremetal.cluster.gke.io/vmrumtime-force-disable"
CORRECT = "baremetal.cluster.gke.io/vmruntime-force-disable"


@pytest.fixture
def with_vms(runtime: Cluster) -> Cluster:
    """A running VM with a disk, a stopped one in another namespace, and a disk that nobody uses."""
    runtime.kubectl("create", "namespace", "other", ok=False)
    runtime.apply(
        disk("used"),
        disk("spare"),
        vm("one", ["used"], terminationGracePeriodSeconds=1),
        vm("two", namespace="other", runningState="Stopped"),
    )
    runtime.wait_for(".status.state", "Running", "gvm", "one")
    runtime.wait_for(".status.state", "Stopped", "gvm", "-n", "other", "two")
    runtime.wait_for(".status.phase", "Succeeded", "virtualmachinedisk", "spare")
    return runtime


def annotate(cluster: Cluster, key: str, value: str) -> None:
    cluster.kubectl("annotate", "vmruntime", "vmruntime", f"{key}={value}", "--overwrite")


def assert_untouched(cluster: Cluster) -> None:
    runtime = cluster.get("vmruntime", "vmruntime")
    assert runtime["spec"]["enabled"] is True
    assert runtime["status"]["ready"] is True
    assert cluster.get("gvm", "one")["status"]["state"] == "Running"
    assert "deletionTimestamp" not in cluster.get("gvm", "-n", "other", "two")["metadata"]
    assert "deletionTimestamp" not in cluster.get("virtualmachinedisk", "used")["metadata"]


def assert_disabled(cluster: Cluster) -> None:
    """Disable is proved: nothing of the stack is left but the controller manager, and namespaces work."""
    runtime = cluster.get("vmruntime", "vmruntime")
    assert runtime["spec"].get("enabled", False) is False
    assert runtime["status"]["ready"] is False
    pods = cluster.items("pods", "--namespace", "vm-system")
    assert [p["metadata"]["name"].rsplit("-", 2)[0] for p in pods] == ["vmruntime-controller-manager"]
    assert cluster.items("gvm", "-A") == []
    assert cluster.qemu() == {}
    for kind in ("admissionpolicies", "admissionpolicybindings", "webhookconfigurations"):
        assert cluster.items(f"mutating{kind}") + cluster.items(f"validating{kind}") == [], kind
    roles = [r["metadata"]["name"] for r in cluster.items("clusterroles")]
    assert not [r for r in roles if r.startswith("kubevm.")]
    crds = {c["metadata"]["name"] for c in cluster.items("crds")}
    assert "virtualmachines.vm.cluster.gke.io" not in crds
    for kept in cluster.items("virtualmachinedisks", "-A"):
        assert not kept["metadata"].get("finalizers"), kept["metadata"]
    for annotation in cluster.get("vmruntime", "vmruntime")["metadata"].get("annotations", {}):
        assert not annotation.startswith("vm.cluster.gke.io/"), annotation
    cluster.kubectl("create", "namespace", "proof")
    cluster.kubectl("delete", "namespace", "proof", "--timeout=20s")


def disk_file(cluster: Cluster, name: str) -> Path:
    (found,) = (cluster.directory / "vm" / "disks").glob(f"*/{name}*/disk.*")
    return found


def test_row_1_no_vms_disables_and_keeps_the_bytes_of_unattached_disks(runtime: Cluster) -> None:
    runtime.apply(disk("spare"))
    runtime.wait_for(".status.phase", "Succeeded", "virtualmachinedisk", "spare")
    file = disk_file(runtime, "spare")
    with file.open("r+b") as image:
        image.write(b"somebody's data")
    done = runtime.bmctl("disable", "vmruntime")
    assert "Disable vmruntime succeeded" in done.stdout
    assert_disabled(runtime)
    assert [d["metadata"]["name"] for d in runtime.items("virtualmachinedisks")] == ["spare"]
    runtime.bmctl("enable", "vmruntime")
    runtime.wait_for(".status.phase", "Succeeded", "virtualmachinedisk", "spare")
    assert file.read_bytes()[:15] == b"somebody's data"


@pytest.mark.parametrize("annotation", ["true", "false", None])
def test_rows_2_and_3_force_deletes_vms_and_their_disks(with_vms: Cluster, annotation: str | None) -> None:
    if annotation:
        annotate(with_vms, TYPO, annotation)
    with_vms.bmctl("disable", "vmruntime", "--force=true")
    assert_disabled(with_vms)
    assert [d["metadata"]["name"] for d in with_vms.items("virtualmachinedisks")] == ["spare"]
    assert disk_file(with_vms, "spare").exists()
    assert not list((with_vms.directory / "vm" / "disks").glob("*/used*/disk.*"))


@pytest.mark.parametrize("key", [TYPO, CORRECT])
def test_row_4_the_annotation_asks_on_a_terminal(with_vms: Cluster, key: str) -> None:
    annotate(with_vms, key, "true")
    words = ("bmctl", "disable", "vmruntime", "--kubeconfig", str(with_vms.kubeconfig))
    refusing = Terminal.start(with_vms, *words)
    shown = refusing.expect("(y/N)")
    assert "VirtualMachine default/one" in shown
    assert "VirtualMachine other/two" in shown
    assert "VirtualMachineDisk default/used" in shown
    assert "spare" not in shown
    refusing.type("\n")
    assert refusing.wait() == 1
    assert_untouched(with_vms)
    agreeing = Terminal.start(with_vms, *words)
    agreeing.expect("(y/N)")
    agreeing.type("yes\n")
    assert agreeing.wait() == 0, agreeing.output
    assert_disabled(with_vms)


def test_row_4_ctrl_c_at_the_question_changes_nothing(with_vms: Cluster) -> None:
    annotate(with_vms, TYPO, "true")
    terminal = Terminal.start(with_vms, "bmctl", "disable", "vmruntime", "--kubeconfig", str(with_vms.kubeconfig))
    terminal.expect("(y/N)")
    terminal.interrupt()
    assert terminal.wait() == 130
    assert "Traceback" not in terminal.output
    assert_untouched(with_vms)


def test_row_4_without_a_terminal_is_an_error_and_yes_answers_it(with_vms: Cluster) -> None:
    annotate(with_vms, TYPO, "true")
    done = with_vms.bmctl("disable", "vmruntime", ok=False)
    assert done.returncode == 1
    assert "--yes" in done.stderr
    assert_untouched(with_vms)
    with_vms.bmctl("disable", "vmruntime", "--yes")
    assert_disabled(with_vms)


@pytest.mark.parametrize("annotation", ["false", None])
def test_row_5_nothing_is_deleted_and_the_vms_are_named(with_vms: Cluster, annotation: str | None) -> None:
    if annotation:
        annotate(with_vms, TYPO, annotation)
    for force in ((), ("--force=false",), ("--yes",)):
        done = with_vms.bmctl("disable", "vmruntime", *force, ok=False)
        assert done.returncode == 1
        assert "default/one" in done.stderr
        assert "other/two" in done.stderr
        assert_untouched(with_vms)


def test_keep_disks(with_vms: Cluster) -> None:
    file = disk_file(with_vms, "used")
    with_vms.bmctl("disable", "vmruntime", "--force", "--keep-disks")
    assert_disabled(with_vms)
    assert {d["metadata"]["name"] for d in with_vms.items("virtualmachinedisks")} == {"used", "spare"}
    assert file.exists()


def test_kubectl_without_consent_is_blocked_named_and_can_be_cancelled(with_vms: Cluster) -> None:
    with_vms.kubectl("patch", "vmruntime", "vmruntime", "--type=merge", "-p", '{"spec":{"enabled":false}}')
    with_vms.kubectl("wait", "--for=condition=DisableBlocked", "vmruntime", "vmruntime", "--timeout=20s")
    runtime = with_vms.get("vmruntime", "vmruntime")
    assert runtime["status"]["ready"] is True
    (blocked,) = [c for c in runtime["status"]["conditions"] if c["type"] == "DisableBlocked"]
    assert "default/one" in blocked["message"]
    assert "other/two" in blocked["message"]
    events = with_vms.kubectl("get", "events", "-A").stdout
    assert "DisableBlocked" in events
    assert with_vms.get("gvm", "one")["status"]["state"] == "Running"
    refused = with_vms.apply(vm("late"), ok=False)
    assert refused.returncode == 1
    assert "disabled" in refused.stderr
    with_vms.kubectl("patch", "vmruntime", "vmruntime", "--type=merge", "-p", '{"spec":{"enabled":true}}')
    with_vms.wait_for(".status.conditions[?(@.type=='DisableBlocked')].status", "False", "vmruntime", "vmruntime")
    with_vms.apply(vm("late"))


def test_kubectl_completes_when_the_last_vm_is_gone(with_vms: Cluster) -> None:
    with_vms.kubectl("patch", "vmruntime", "vmruntime", "--type=merge", "-p", '{"spec":{"enabled":false}}')
    with_vms.kubectl("wait", "--for=condition=DisableBlocked", "vmruntime", "vmruntime", "--timeout=20s")
    with_vms.kubectl("delete", "gvm", "one", "--timeout=60s")
    with_vms.kubectl("delete", "gvm", "-n", "other", "two", "--timeout=60s")
    with_vms.wait_for(".status.ready", "false", "vmruntime", "vmruntime")
    eventually(lambda: "virtualmachines.vm" not in with_vms.kubectl("get", "crds").stdout)
    assert_disabled(with_vms)


def test_kubectl_with_the_annotation_is_consent(with_vms: Cluster) -> None:
    annotate(with_vms, TYPO, "true")
    with_vms.kubectl("patch", "vmruntime", "vmruntime", "--type=merge", "-p", '{"spec":{"enabled":false}}')
    with_vms.wait_for(".status.ready", "false", "vmruntime", "vmruntime")
    assert_disabled(with_vms)


def test_disabling_a_disabled_runtime_is_an_error(disabled: Cluster) -> None:
    done = disabled.bmctl("disable", "vmruntime", ok=False)
    assert (done.returncode, done.stderr) == (1, "error: the VM runtime is disabled already\n")


def test_force_joins_a_blocked_disable(with_vms: Cluster) -> None:
    with_vms.kubectl("patch", "vmruntime", "vmruntime", "--type=merge", "-p", '{"spec":{"enabled":false}}')
    with_vms.kubectl("wait", "--for=condition=DisableBlocked", "vmruntime", "vmruntime", "--timeout=20s")
    with_vms.bmctl("disable", "vmruntime", "--force=true")
    assert_disabled(with_vms)


def test_ctrl_c_while_it_works_says_that_it_goes_on(with_vms: Cluster) -> None:
    words = ("bmctl", "disable", "vmruntime", "--force=true", "--kubeconfig", str(with_vms.kubeconfig))
    terminal = Terminal.start(with_vms, *words)
    eventually(lambda: with_vms.get("vmruntime", "vmruntime")["spec"]["enabled"] is False)
    terminal.interrupt()
    code = terminal.wait()
    if code != 0:  # it may have been quicker than we are
        assert code == 130
        assert "goes on being disabled" in terminal.output
    with_vms.wait_for(".status.ready", "false", "vmruntime", "vmruntime")
    assert_disabled(with_vms)


def test_kill_9_of_the_controller_in_the_middle_of_a_disable(with_vms: Cluster) -> None:
    with_vms.kubectl(
        "patch",
        "vmruntime",
        "vmruntime",
        "--type=merge",
        "-p",
        json.dumps({"metadata": {"annotations": {TYPO: "true"}}, "spec": {"enabled": False}}),
    )
    time.sleep(0.1)
    with_vms.run("kill", "-9", str(with_vms.manager_pid()))
    with_vms.wait_for(".status.ready", "false", "vmruntime", "vmruntime", timeout=90)
    assert_disabled(with_vms)


@pytest.mark.parametrize("command", [("enable",), ("disable", "--force=true"), ("check",)])
def test_wrong_kubeconfig_and_unreachable_api(disabled: Cluster, tmp_path: Path, command: tuple[str, ...]) -> None:
    verb, *options = command
    kind = "vmruntimepfc" if verb == "check" else "vmruntime"
    missing = tmp_path / "nowhere"
    done = disabled.bmctl(verb, kind, *options, "--kubeconfig", str(missing), ok=False)
    assert done.returncode == 1
    assert str(missing) in done.stderr
    broken = tmp_path / "broken"
    broken.write_text("{")
    done = disabled.bmctl(verb, kind, *options, "--kubeconfig", str(broken), ok=False)
    assert (done.returncode, done.stdout) == (1, "")
    unreachable = tmp_path / "unreachable"
    text = disabled.kubeconfig.read_text()
    server = next(line for line in text.splitlines() if "server:" in line)
    unreachable.write_text(text.replace(server, "    server: https://127.0.0.1:1"))
    done = disabled.bmctl(verb, kind, *options, "--kubeconfig", str(unreachable), ok=False)
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr
    refused = tmp_path / "refused"
    config = yaml.safe_load(text)
    config["users"][0]["user"] = {"token": "nobody's"}
    refused.write_text(yaml.safe_dump(config))
    done = disabled.bmctl(verb, kind, *options, "--kubeconfig", str(refused), ok=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: https://127.0.0.1:")
    assert f"does not accept the credentials in {refused}" in done.stderr
