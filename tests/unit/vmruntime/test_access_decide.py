"""What is done about an access request: each case one line of a table; and what counts as a key."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kube.machinery.durations import rfc3339
from vmruntime.api import names
from vmruntime.api import virtualmachineaccessrequest as api
from vmruntime.controllers.access_decide import Situation, Step, decide, secret_pause
from vmruntime.engines.machine import Guest, MachineObservation, MachinePhase

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
BLOB = (11).to_bytes(4, "big") + b"ssh-ed25519" + (32).to_bytes(4, "big") + bytes(32)
KEY = "ssh-ed25519 " + base64.b64encode(BLOB).decode()

OFF = MachineObservation(MachinePhase.ABSENT)
SILENT = MachineObservation(MachinePhase.RUNNING, guest_agent=True, session="p/0")
ANSWERS = MachineObservation(MachinePhase.RUNNING, guest_agent=True, guest=Guest(), session="p/1")
AGAIN = MachineObservation(MachinePhase.RUNNING, guest_agent=True, guest=Guest(), session="p/2")
VM = {"metadata": {"name": "m", "uid": "v"}, "spec": {"osType": "Linux"}}
WINDOWS = {"metadata": {"name": "m", "uid": "v"}, "spec": {"osType": "Windows"}}
NO_AGENT = {"metadata": {"name": "m", "uid": "v"}, "spec": {}}
TOLD = {"guestToldTime": rfc3339(NOW)}
DONE = {**TOLD, "state": "configured", "reason": "KeyInstalled"}


def request(
    status: dict[str, Any] | None = None,
    age: float = 0,
    deleting: bool = False,
    finalizer: bool = True,
    key: str = KEY,
    password: bool = False,
    temporary: bool = False,
) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "name": "r",
        "namespace": "default",
        "uid": "u",
        "creationTimestamp": rfc3339(NOW - timedelta(seconds=age)),
        "finalizers": [names.ACCESS_FINALIZER] if finalizer else [],
    }
    if deleting:
        metadata["deletionTimestamp"] = rfc3339(NOW)
    if temporary:
        metadata["annotations"] = {names.TEMPORARY_ANNOTATION: "true"}
    how: dict[str, Any] = {"ssh": {"key": key, "ttl": "10m"}}
    if password:
        how = {"password": {"secretRef": {"name": "s"}}}
    return {"metadata": metadata, "spec": {"vm": "m", "user": "alice", **how}, "status": status or {}}


@pytest.mark.parametrize(
    ("wanted", "vm", "machine", "done_in", "step", "state", "reason"),
    [
        # Not yet.
        (request(finalizer=False), None, None, "", Step.NONE, "pending", "MachineMissing"),
        (request(finalizer=False), VM, OFF, "", Step.ADOPT, "", ""),
        (request(), VM, OFF, "", Step.NONE, "pending", "MachineNotRunning"),
        (request(), VM, SILENT, "", Step.NONE, "pending", "GuestAgentNotAnswering"),
        (request(), NO_AGENT, SILENT, "", Step.NONE, "pending", "GuestEnvironmentDisabled"),
        # Never.
        (request(), WINDOWS, ANSWERS, "", Step.NONE, "failed", "NotLinux"),
        (request(key="ssh-ed25519 AAAA"), VM, ANSWERS, "", Step.NONE, "failed", "InvalidKey"),
        (request({"state": "failed", "reason": "InvalidKey"}), VM, ANSWERS, "", Step.NONE, "", ""),
        # Now, once a session, and again where the guest refused.
        (request(), VM, ANSWERS, "", Step.GRANT, "configured", "KeyInstalled"),
        (request(DONE), VM, ANSWERS, "p/1", Step.NONE, "", ""),
        (request(DONE), VM, ANSWERS, "", Step.GRANT, "configured", "KeyInstalled"),
        (request(DONE), VM, AGAIN, "p/1", Step.GRANT, "configured", "KeyInstalled"),
        (request(DONE), VM, OFF, "p/1", Step.NONE, "", ""),
        (
            request({**TOLD, "state": "failed", "reason": "GuestRefused"}),
            VM,
            ANSWERS,
            "",
            Step.GRANT,
            "configured",
            ...,
        ),
        # Over.
        (request(DONE, age=600), VM, ANSWERS, "p/1", Step.REVOKE, "expired", "Expired"),
        (request(DONE, age=600), VM, OFF, "p/1", Step.NONE, "expired", "KeyNotRemoved"),
        (
            request({**TOLD, "state": "expired", "reason": "KeyNotRemoved"}, age=999),
            VM,
            AGAIN,
            "",
            Step.REVOKE,
            ...,
            ...,
        ),
        (request({**TOLD, "state": "expired", "reason": "Expired"}, age=999), VM, AGAIN, "", Step.NONE, "", ""),
        (request(age=600), VM, OFF, "", Step.NONE, "expired", "Expired"),
        (request(DONE, age=600, temporary=True), VM, OFF, "", Step.DELETE, "", ""),
        # Deleted.
        (request(deleting=True, finalizer=False), VM, ANSWERS, "", Step.NONE, "", ""),
        (request(deleting=True), VM, ANSWERS, "", Step.RELEASE, "", ""),
        (request(DONE, deleting=True), VM, ANSWERS, "", Step.REVOKE, "", ""),
        (request({**TOLD, "reason": "Configuring"}, deleting=True), VM, ANSWERS, "", Step.REVOKE, "", ""),
        (request(DONE, deleting=True), VM, OFF, "", Step.NONE, "configured", "KeyNotRemoved"),
        (request(DONE, deleting=True, age=600), VM, OFF, "", Step.RELEASE, "", ""),
        (request(DONE, deleting=True), None, None, "", Step.RELEASE, "", ""),
        # Passwords: once.
        (request(password=True), VM, ANSWERS, "", Step.SET_PASSWORD, "configured", "PasswordSet"),
        (request(password=True), WINDOWS, ANSWERS, "", Step.SET_PASSWORD, "configured", "PasswordSet"),
        (request({**TOLD, "state": "configured"}, password=True), VM, AGAIN, "", Step.NONE, "", ""),
        (
            request({**TOLD, "state": "failed", "reason": "GuestRefused"}, password=True),
            VM,
            AGAIN,
            "",
            Step.NONE,
            "",
            "",
        ),
        (request(password=True, age=600), VM, ANSWERS, "", Step.NONE, "expired", "Expired"),
        (request({**TOLD, "state": "configured"}, password=True, age=600), VM, AGAIN, "", Step.NONE, "", ""),
        (request(TOLD, password=True, deleting=True), VM, OFF, "", Step.RELEASE, "", ""),
    ],
)
def test_next_step(wanted, vm, machine, done_in, step, state, reason) -> None:
    plan = decide(Situation(wanted, vm, machine, NOW, done_in))
    assert plan.step is step
    assert state is ... or plan.state == state
    assert reason is ... or plan.reason == reason


def test_what_runs_out_is_looked_at_again_when_it_does() -> None:
    plan = decide(Situation(request(DONE, age=590), VM, ANSWERS, NOW, "p/1"))
    assert plan.after == 10


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("ssh-ed25519 AAAA", "no public key of type ssh-ed25519"),
        ("ssh-ed25519 A", "not base64"),
        (KEY.replace("ssh-ed25519", "ssh-rsa"), "no public key of type ssh-rsa"),
    ],
)
def test_what_only_looks_like_a_key(key: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        api.ssh_key(request(key=key))


def test_a_comment_does_not_get_into_the_guest() -> None:
    assert api.ssh_key(request(key=f"{KEY} me@home $(x)")) == KEY


@pytest.mark.parametrize(("ttl", "seconds"), [("1s", 1), ("10m", 600), ("2h", 7200), ("99999d", 99999 * 86400)])
def test_ttl(ttl: str, seconds: int) -> None:
    wanted = request()
    wanted["spec"]["ssh"]["ttl"] = ttl
    assert (api.expires(wanted) - NOW).total_seconds() == seconds


@pytest.mark.parametrize(("age", "pause"), [(0, 0.5), (3, 0.5), (60, 6.0), (600, 60.0)])
def test_a_secret_that_does_not_come_is_looked_for_less_and_less(age: float, pause: float) -> None:
    assert secret_pause(Situation(request(age=age, password=True), VM, ANSWERS, NOW)) == pause
