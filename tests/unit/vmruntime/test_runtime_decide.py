"""The table of disabling, row by row, and what the status says about it."""

from __future__ import annotations

from typing import Any

import pytest

from vmruntime.api import names
from vmruntime.controllers import runtime_decide
from vmruntime.controllers.runtime_decide import Machine, Situation, Step, decide

TYPO, CORRECT = names.FORCE_DISABLE_ANNOTATIONS
ONE = [Machine("default/a")]
GOING = [Machine("default/a", deleting=True)]


def runtime(enabled: bool, annotations: dict[str, str] | None = None, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "vmruntime", "uid": "u", "generation": 7, "annotations": annotations or {}},
        "spec": {"enabled": enabled},
        "status": status,
    }


@pytest.mark.parametrize(
    ("enabled", "annotations", "machines", "settled", "clean", "expected"),
    [
        # Enabled wins over everything: a disable under way is called off.
        (True, {}, [], True, False, Step.RUN),
        (True, {names.DELETE_VMS_ANNOTATION: "true"}, GOING, True, False, Step.RUN),
        (True, {TYPO: "true"}, ONE, True, False, Step.RUN),
        # Row 1: no VMs, whatever was agreed to.
        (False, {}, [], True, False, Step.TEAR_DOWN),
        (False, {TYPO: "true"}, [], True, False, Step.TEAR_DOWN),
        (False, {TYPO: "false"}, [], True, False, Step.TEAR_DOWN),
        # Rows 2 and 3: --force arrives as consent for this one disable, whatever the annotation says.
        (False, {names.DELETE_VMS_ANNOTATION: "true", TYPO: "true"}, ONE, True, False, Step.DELETE_MACHINES),
        (False, {names.DELETE_VMS_ANNOTATION: "true", TYPO: "false"}, ONE, True, False, Step.DELETE_MACHINES),
        (False, {names.DELETE_VMS_ANNOTATION: "true"}, ONE, True, False, Step.DELETE_MACHINES),
        # Row 4: the annotation, in both spellings.
        (False, {TYPO: "true"}, ONE, True, False, Step.DELETE_MACHINES),
        (False, {CORRECT: "true"}, ONE, True, False, Step.DELETE_MACHINES),
        (False, {TYPO: "True"}, ONE, True, False, Step.DELETE_MACHINES),
        # Row 5: nobody agreed.
        (False, {}, ONE, True, False, Step.BLOCKED),
        (False, {TYPO: "false"}, ONE, True, False, Step.BLOCKED),
        (False, {CORRECT: "yes"}, ONE, True, False, Step.BLOCKED),
        (False, {names.KEEP_DISKS_ANNOTATION: "true"}, ONE, True, False, Step.BLOCKED),
        # Half-way states.
        (False, {}, GOING, True, False, Step.WAIT),
        (False, {TYPO: "true"}, GOING, True, False, Step.WAIT),
        (False, {}, [*GOING, Machine("x/b")], True, False, Step.BLOCKED),
        (False, {TYPO: "true"}, [*GOING, Machine("x/b")], True, False, Step.DELETE_MACHINES),
        (False, {}, [], False, False, Step.SETTLE),
        (False, {}, [], True, True, Step.OFF),
        (False, {}, [], False, True, Step.OFF),
        # A machine that came after all is never overlooked, not even when all seemed done.
        (False, {}, ONE, True, True, Step.BLOCKED),
    ],
)
def test_table(
    enabled: bool,
    annotations: dict[str, str],
    machines: list[Machine],
    settled: bool,
    clean: bool,
    expected: Step,
) -> None:
    assert decide(Situation(runtime(enabled, annotations), machines, settled, clean)) is expected


def conditions(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["type"]: entry for entry in status["conditions"]}


def test_blocked_names_at_most_ten_and_counts_the_rest() -> None:
    machines = [Machine(f"ns/vm-{index:02}") for index in range(13)]
    text = runtime_decide.blocked_message(machines)
    assert "13 virtual machines exist: ns/vm-00, " in text
    assert "ns/vm-09 and 3 more" in text
    assert "ns/vm-10" not in text
    assert TYPO in text
    assert "--force=true" in text


def test_blocked_stays_ready() -> None:
    running = runtime_decide.running_report("", {"preflightCheckPassed": True})
    status = runtime_decide.status(runtime(False), runtime_decide.blocked_report(ONE, running))
    assert status["ready"] is True
    assert conditions(status)["DisableBlocked"]["status"] == "True"
    assert "default/a" in conditions(status)["DisableBlocked"]["message"]
    assert status["observedGeneration"] == 7


def test_not_ready_before_a_preflight_check_has_finished() -> None:
    status = runtime_decide.status(runtime(True), runtime_decide.running_report("", None))
    assert status["ready"] is False
    assert conditions(status)["Progressing"]["status"] == "True"
    assert "preflight" in conditions(status)["Ready"]["message"]
    assert "preflightCheckSummary" not in status


def test_a_failed_check_does_not_make_the_stack_unready() -> None:
    summary = {"preflightCheckPassed": False, "message": "no KVM"}
    status = runtime_decide.status(runtime(True), runtime_decide.running_report("", summary))
    assert status["ready"] is True
    assert conditions(status)["PreflightPassed"]["status"] == "False"
    assert conditions(status)["PreflightPassed"]["message"] == "no KVM"


def test_something_missing_is_said() -> None:
    status = runtime_decide.status(runtime(True), runtime_decide.running_report("qemu is not installed", {}))
    assert status["ready"] is False
    assert conditions(status)["Ready"]["message"] == "qemu is not installed"


def test_off_forgets_the_check_and_says_disabled() -> None:
    before = runtime(False, preflightCheckSummary={"preflightCheckPassed": True}, ready=True)
    status = runtime_decide.status(before, runtime_decide.off_report())
    assert "preflightCheckSummary" not in status
    assert status["ready"] is False
    assert conditions(status)["Progressing"]["reason"] == "Disabled"
    assert status["vmImageFormat"] == "raw"


def test_machines_that_go_are_counted() -> None:
    report = runtime_decide.deleting_report(GOING, None, "")
    assert report.ready is True
    assert report.progress_message == "waiting until 1 virtual machine is gone: default/a"
