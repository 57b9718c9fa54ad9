"""The small pure parts: status patches, conditions, launches, names, preflight outcomes, gates, disk conflicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube.machinery.patch import merge_patch
from vmruntime.api import preflightcheck, virtualmachine
from vmruntime.api.meta import Condition, merge_conditions, merge_diff, names_text, quantity_text
from vmruntime.api.virtualmachine import Compute
from vmruntime.controllers.machine_changes import changed, fingerprint
from vmruntime.controllers.machine_request import disks_problem, is_disposable
from vmruntime.controllers.preflight import outcome_status
from vmruntime.controllers.stack import gate
from vmruntime.engines.common import CheckResult, Ref, Settings
from vmruntime.engines.machine import MachineRequest
from vmruntime.engines.network import Interface, Port, Segment
from vmruntime.engines.qemu.engine_launch import LAUNCH_ANNOTATION, Launch
from vmruntime.engines.qemu.engine_layout import Layout
from vmruntime.engines.qemu.engine_pods import (
    LABELS_ANNOTATION,
    exit_code,
    import_pod,
    label_patch,
    machine_pod,
    suffix,
    trouble,
)

LEAVES = st.one_of(st.booleans(), st.integers(), st.text(max_size=3), st.lists(st.integers(), max_size=2))
OBJECTS = st.recursive(
    st.dictionaries(st.sampled_from("abc"), LEAVES, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), st.one_of(LEAVES, inner), max_size=3),
    max_leaves=8,
)


@given(OBJECTS, OBJECTS)
def test_a_diff_applied_gives_the_new_object(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert merge_patch(old, merge_diff(old, new)) == new


@given(OBJECTS)
def test_no_difference_is_no_patch(obj: dict[str, Any]) -> None:
    assert merge_diff(obj, obj) == {}


def test_a_condition_moves_in_time_only_when_its_status_does() -> None:
    old = [{"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}]
    (same,) = merge_conditions(old, [Condition("Ready", True, "Other", "words")], 3)
    assert (same["lastTransitionTime"], same["reason"]) == ("2020-01-01T00:00:00Z", "Other")
    (changed,) = merge_conditions(old, [Condition("Ready", False, "Gone")], 3)
    assert changed["lastTransitionTime"] > "2025"


def test_names_are_cut_at_ten() -> None:
    assert names_text(["a", "b"]) == "a, b"
    assert names_text([str(n) for n in range(12)]).endswith("9 and 2 more")


@pytest.mark.parametrize(
    ("count", "text"),
    [(4 << 30, "4Gi"), (128 << 20, "128Mi"), (4 * 10**9, "4G"), (1 << 10, "1Ki"), (1001, "1001"), (0, "0")],
)
def test_bytes_as_people_write_them(count: int, text: str) -> None:
    assert quantity_text(count) == text


def test_a_launch_survives_its_annotation() -> None:
    interface = Interface("eth0", "pod-network", True, "52:54:00:00:00:01", ("127.64.0.1",), (Port(22, 10022),))
    launch = Launch(
        "tcg", (interface,), "token", "2026-01-01T00:00:00.000000Z", 2, 4 << 30, 5 << 30, {"disks": "1f"}, {"d": True}
    )
    assert Launch.of({"metadata": {"annotations": {LAUNCH_ANNOTATION: launch.to_json()}}}) == launch


@pytest.mark.parametrize(
    "text", ["", "nonsense", "[]", '{"vcpus": "many"}', '{"interfaces": [1]}', '{"interfaces": [{}]}']
)
def test_a_damaged_annotation_is_no_launch(text: str) -> None:
    assert Launch.of({"metadata": {"annotations": {LAUNCH_ANNOTATION: text}}}) == Launch("", ())


def test_suffixes_are_stable_and_differ() -> None:
    assert suffix("u/1") == suffix("u/1")
    assert len({suffix(f"u/{n}") for n in range(200)}) == 200


@pytest.mark.parametrize(
    ("state", "words", "code"),
    [
        ({"running": {}}, "", None),
        ({"waiting": {"reason": "ContainerCreating"}}, "", None),
        ({"waiting": {"reason": "CreateContainerError", "message": "no such file"}}, "no such file", None),
        ({"terminated": {"exitCode": 137, "signal": 9, "reason": "Error"}}, "signal 9", 137),
        ({"terminated": {"exitCode": 1, "reason": "Error"}}, "code 1", 1),
        ({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, "OOMKilled", 137),
    ],
)
def test_what_a_pod_says(state: dict[str, Any], words: str, code: int | None) -> None:
    pod = {"status": {"containerStatuses": [{"state": state}]}}
    assert (words in trouble(pod)) if words else trouble(pod) == ""
    assert exit_code(pod) == code


def test_of_the_log_of_a_machine_only_what_qemu_said_is_told() -> None:
    log = "login: \x1b[2J\nqemu-system-x86_64: first\nsecret of the guest\nqemu-system-x86_64: no\x1b[31m lock\n"
    ended = {"exitCode": 1, "reason": "Error", "message": log}
    pod = {"status": {"containerStatuses": [{"state": {"terminated": ended}}]}}
    assert trouble(pod) == "its process exited with code 1 (no?[31m lock)"
    ended["message"] = "nothing but the guest"
    assert trouble(pod) == "its process exited with code 1"


def test_cdroms_and_disks_that_are_not_there_need_no_restart() -> None:
    machine = {"spec": {"disks": [{"virtualMachineDiskName": "data"}]}}
    before = fingerprint(machine, None)
    machine["spec"]["disks"].append({"virtualMachineDiskName": "cd"})
    assert changed(before, fingerprint(machine, None)) == ("disks",)
    assert changed(before, fingerprint(machine, None, {"cd"})) == ()
    machine["spec"]["disks"].append({"virtualMachineDiskName": "more"})
    assert changed(before, fingerprint(machine, None, {"cd"})) == ("disks",)


@pytest.mark.parametrize(
    ("status", "opened"),
    [
        ({}, {}),
        ({"podName": "p"}, {"wanted": False}),
        ({"podName": "p", "disks": []}, {}),
        ({"podName": "p", "disks": [{"name": "had", "readOnly": True}]}, {"had": True}),
        ({"disks": [{"name": "had", "readOnly": True}]}, {}),
    ],
)
def test_a_disk_is_open_where_the_machine_runs_with_it(status: dict[str, Any], opened: dict[str, bool]) -> None:
    machine = {"spec": {"disks": [{"virtualMachineDiskName": "wanted"}]}, "status": status}
    assert virtualmachine.opened(machine) == opened


def test_only_whole_disks_are_seen(tmp_path: Path) -> None:
    layout, ref = Layout(tmp_path, None), Ref("default", "d", "u")
    layout.prepare()
    imports = layout.make_imports(ref)
    (imports / "disk.raw.progress").write_text("{}")
    (imports / ".disk.raw.1.part").write_bytes(b"half")
    assert layout.stored(ref) is None
    assert layout.imported(ref) is None
    (imports / "disk.raw").write_bytes(b"x" * 1024)
    assert layout.stored(ref) is None
    imported = layout.imported(ref)
    assert imported is not None
    assert (imported.format, imported.virtual_size) == ("raw", 1024)
    instance = layout.make_instance(ref)
    (layout.disk(ref) / "disk.raw").write_bytes(b"y")
    assert (instance / layout.relative_disk(ref, "raw")).resolve() == layout.disk(ref) / "disk.raw"
    layout.remove_disk(ref)
    layout.remove_instance(ref)
    layout.remove_instance(ref)
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["console.py", "disks", "instances"]


PASS, FAIL = CheckResult("CPU", True, "fine"), CheckResult("KVM", False, "no KVM; set useEmulation")


def test_one_failure_anywhere_fails_the_check_and_is_quoted() -> None:
    status = outcome_status({"a": [PASS, FAIL], "b": [PASS]}, use_emulation=False)
    assert status["passed"] is False
    assert status["message"] == "KVM on a: no KVM; set useEmulation"
    assert {node: entry["passed"] for node, entry in status["checks"].items()} == {"a": False, "b": True}
    summary = preflightcheck.summary({"metadata": {"name": "c"}, "status": status})
    assert summary["featureStatuses"] == {"CPU": {"passed": True}, "KVM": {"passed": False}}
    assert (summary["preflightCheckName"], summary["preflightCheckPassed"]) == ("c", False)


def test_skipped_nodes_fail_nothing_but_it_is_said() -> None:
    status = outcome_status({}, use_emulation=True)
    assert status["passed"] is True
    assert "no node was checked" in status["message"]


def test_an_automatic_check_is_the_same_one_after_a_restart() -> None:
    assert preflightcheck.automatic("u", 3) == preflightcheck.automatic("u", 3)
    assert preflightcheck.automatic("u", 3) != preflightcheck.automatic("u", 4)


@pytest.mark.parametrize(
    ("runtime", "reason"),
    [
        (None, "RuntimeDisabled"),
        ({"spec": {"enabled": False}}, "RuntimeDisabled"),
        ({"spec": {"enabled": True}}, "PreflightRunning"),
        ({"spec": {"enabled": True}, "status": {"preflightCheckSummary": {"preflightCheckPassed": True}}}, ""),
        (
            {"spec": {"enabled": True}, "status": {"preflightCheckSummary": {"preflightCheckPassed": False}}},
            "PreflightFailed",
        ),
    ],
)
def test_gate(runtime: dict[str, Any] | None, reason: str) -> None:
    problem = gate(runtime)
    assert (problem.reason if problem else "") == reason


class Shelf:
    """Disks by name, as far as the questions about them go."""

    def __init__(self, **disks: dict[str, Any]) -> None:
        self._disks = disks

    def get(self, namespace: str, name: str) -> dict[str, Any] | None:
        return self._disks.get(name)

    def items(self) -> list[dict[str, Any]]:
        return list(self._disks.values())


def machine(name: str, *disks: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default", "uid": name}, "spec": {"disks": list(disks)}}


def entry(name: str, **more: Any) -> dict[str, Any]:
    return {"virtualMachineDiskName": name, **more}


WHOLE = {"metadata": {"name": "d"}, "status": {"phase": "Succeeded"}}


@pytest.mark.parametrize(
    ("disk", "reason"),
    [
        (None, "DiskMissing"),
        (WHOLE, ""),
        ({"status": {"phase": "ImportInProgress"}}, "DiskNotReady"),
        ({"status": {"phase": "Failed", "message": "404"}}, "DiskFailed"),
        ({"status": {"phase": "Failed", "message": "503", "lastFailureTime": "2026-01-01T00:00:00Z"}}, "DiskNotReady"),
        ({"metadata": {"deletionTimestamp": "t"}, "status": {"phase": "Succeeded"}}, "DiskDeleted"),
    ],
)
def test_what_disks_make_a_machine_wait_for(disk: dict[str, Any] | None, reason: str) -> None:
    shelf = Shelf(d=disk) if disk is not None else Shelf()
    problem = disks_problem(machine("a", entry("d")), shelf, [], [])  # type: ignore[arg-type]
    assert (problem.reason if problem else "") == reason


@pytest.mark.parametrize(
    ("mine", "theirs", "running", "conflict"),
    [
        (entry("d"), entry("d"), True, True),
        (entry("d"), entry("d"), False, False),
        (entry("d", readOnly=True), entry("d", readOnly=True), True, False),
        (entry("d", readOnly=True), entry("d"), True, True),
        (entry("d"), entry("d", readOnly=True), True, True),
        (entry("d"), entry("e"), True, False),
    ],
)
def test_one_writer_a_disk(mine: dict[str, Any], theirs: dict[str, Any], running: bool, conflict: bool) -> None:
    other = machine("b", theirs)
    problem = disks_problem(machine("a", mine), Shelf(d=WHOLE, e=WHOLE), [other], ["b"] if running else [])  # type: ignore[arg-type]
    assert bool(problem) is conflict
    if problem:
        assert (problem.state, problem.reason) == (virtualmachine.PENDING, "DiskInUse")
        assert '"b"' in problem.message


@pytest.mark.parametrize(
    ("mine", "phase", "waits"),
    [
        (entry("d"), "ImportInProgress", True),
        (entry("d"), "Pending", False),
        (entry("d"), "Succeeded", False),
        (entry("d", readOnly=True), "ImportInProgress", False),
        (entry("e"), "ImportInProgress", False),
    ],
)
def test_a_machine_waits_while_a_disk_that_it_writes_to_is_copied(
    mine: dict[str, Any], phase: str, waits: bool
) -> None:
    copy = {"metadata": {"name": "c", "namespace": "default"}, "status": {"phase": phase}}
    copy["spec"] = {"source": {"virtualMachineDisk": {"name": "d"}}}
    problem = disks_problem(machine("a", mine), Shelf(d=WHOLE, e=WHOLE, c=copy), [], [])  # type: ignore[arg-type]
    assert bool(problem) is waits
    if problem:
        assert (problem.state, problem.reason) == (virtualmachine.PENDING, "DiskInUse")
        assert '"c"' in problem.message


def test_a_cd_can_be_in_several_machines_and_keeps_nobody_from_being_cut_off() -> None:
    shelf: Any = Shelf(d={**WHOLE, "spec": {"diskType": "cdrom"}})
    assert disks_problem(machine("a", entry("d")), shelf, [machine("b", entry("d"))], ["b"]) is None
    assert is_disposable(machine("a", entry("d")), shelf)


def test_a_disk_that_was_taken_out_of_the_spec_is_held_until_the_machine_ends() -> None:
    other = machine("b") | {"status": {"disks": [{"name": "d", "readOnly": False}]}}
    assert disks_problem(machine("a", entry("d")), Shelf(d=WHOLE), [other], ["b"])  # type: ignore[arg-type]
    assert virtualmachine.users_of("d", [machine("a"), other]) == [other]
    assert virtualmachine.held(machine("c", entry("d", readOnly=True)) | {"status": other["status"]}) == {"d": False}


def pod_with(labels: dict[str, str], from_machine: str = "[]") -> dict[str, Any]:
    return {"metadata": {"labels": labels, "annotations": {LABELS_ANNOTATION: from_machine}}}


@pytest.mark.parametrize(
    ("pod", "wanted", "labels"),
    [
        (pod_with({}), {}, None),
        (pod_with({"a": "1"}, '["a"]'), {"a": "1"}, None),
        (pod_with({"a": "1"}, '["a"]'), {"a": "2"}, {"a": "2"}),
        (pod_with({"a": "1", "hand": "made"}, '["a"]'), {}, {"a": None}),
        (pod_with({"kubevirt/vm": "m"}), {"kubevirt/vm": "other"}, None),
        (pod_with({"kubevirt/vm": "m"}, '["kubevirt/vm"]'), {"b": "1"}, {"b": "1"}),
        (pod_with({}, "nonsense"), {"b": "1"}, {"b": "1"}),
    ],
)
def test_labels_of_a_machine_on_its_pod(pod: dict[str, Any], wanted: dict[str, str], labels: Any) -> None:
    patch = label_patch(pod, wanted)
    assert patch.get("labels") == labels
    if patch:
        assert label_patch(merge_patch(pod, {"metadata": patch}), wanted) == {}


def test_changes_that_wait_for_a_restart() -> None:
    spec = {"disks": [entry("d")], "cloudInit": {"noCloud": {"userData": "a"}}}
    before = fingerprint({"spec": spec}, Compute(2, 1 << 30))
    assert changed(before, fingerprint({"spec": spec}, Compute(2, 1 << 30))) == ()
    free = {"spec": {**spec, "disks": [entry("d", autoDelete=True)], "runningState": "Stopped", "scheduling": {}}}
    assert changed(before, fingerprint(free, Compute(2, 1 << 30))) == ()
    other = {"spec": {"disks": [entry("e")], "firmware": {"serial": "1"}}}
    assert changed(before, fingerprint(other, Compute(4, 1 << 30))) == ("cloudInit", "compute", "disks", "firmware")
    assert changed(before, fingerprint({"spec": spec}, None)) == ()
    assert changed({}, fingerprint(other, None)) == ()


def test_a_machine_is_disposable_when_nothing_it_writes_stays() -> None:
    going = {"metadata": {"deletionTimestamp": "t"}, "status": {"phase": "Succeeded"}}
    shelf: Any = Shelf(d=WHOLE, g=going)
    assert is_disposable(machine("a"), shelf)
    assert is_disposable(machine("a", entry("d", readOnly=True), entry("g"), entry("none")), shelf)
    assert is_disposable(machine("a", entry("d", autoDelete=True)), shelf)
    assert not is_disposable(machine("a", entry("d")), shelf)
    wished = machine("a", entry("d"))
    wished["metadata"]["annotations"] = {"vm.cluster.gke.io/delete-disks": "true"}
    assert is_disposable(wished, shelf)


def test_a_dollar_in_a_command_is_one(tmp_path: Path) -> None:
    """Kubernetes replaces $(NAME) in commands, and $$ by a dollar: a serial number is nobody's variable."""
    argv = ["qemu", "serial=a$$b$(HOME)", '"$0"']
    pods = [
        machine_pod(_request(), Launch("tcg", ()), argv, Layout(tmp_path, None), []),
        import_pod(Ref("ns", "d", "u"), argv, [], "/", "1"),
    ]
    for pod in pods:
        (container,) = pod["spec"]["containers"]
        assert container["command"] == ["qemu", "serial=a$$$$b$$(HOME)", '"$$0"']


@pytest.mark.parametrize(
    ("cards", "address", "ports"),
    [
        ([Interface("a", "pod-network", addresses=("10.144.0.5",))], "10.144.0.5", None),
        (
            [Interface("a", "pod-network", addresses=("127.64.0.5", "10.144.0.5"), ports=(Port(22, 10022),))],
            "127.64.0.5",
            [{"containerPort": 22, "hostPort": 10022, "hostIP": "127.64.0.5"}],
        ),
        (
            [
                Interface("a", "lab", True, addresses=("10.0.0.5/24",), segment=Segment("eth1")),
                Interface("b", "pod-network", addresses=("10.144.0.5",)),
                Interface("c", "pod-network", addresses=("10.144.0.6",)),
            ],
            "10.144.0.5",
            None,
        ),
        (
            [
                Interface("b", "pod-network", addresses=("10.144.0.5",)),
                Interface("c", "pod-network", True, addresses=("10.144.0.6",)),
            ],
            "10.144.0.6",
            None,
        ),
        ([Interface("a", "lab", True, addresses=("10.0.0.5/24",), segment=Segment("eth1"))], "", None),
    ],
    ids=["all ports", "a list of ports", "beside another network", "the default one", "only another network"],
)
def test_a_machines_pod_has_its_address_on_the_pod_network(
    tmp_path: Path, cards: list[Interface], address: str, ports: list[dict[str, Any]] | None
) -> None:
    pod = machine_pod(_request(), Launch("tcg", tuple(cards)), ["qemu"], Layout(tmp_path, None), [])
    assert pod["metadata"]["annotations"]["node.solo/pod-ip"] == address
    assert pod["spec"]["containers"][0].get("ports") == ports


def _request() -> MachineRequest:
    settings = Settings(use_emulation=True, image_format="raw")
    return MachineRequest(Ref("ns", "vm", "u"), 1, 1, 1 << 20, (), (), settings)
