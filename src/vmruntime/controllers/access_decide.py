"""What to do about a VirtualMachineAccessRequest next: a pure function of the request, its machine and the clock.

The guest itself refuses a key that has expired, as the key's entry says so. What is removed here is removed for
tidiness then, and before that, when the request is deleted, because somebody wants the door shut at once: so a deleted
request stays until its key is out of the guest, or expired, or the machine gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kube.machinery.durations import parse_rfc3339, rfc3339
from vmruntime.api import names, virtualmachine
from vmruntime.api import virtualmachineaccessrequest as api
from vmruntime.api.meta import Obj, dig, has_finalizer, is_deleting
from vmruntime.engines.machine import MachineObservation

EXPIRED = "Expired"
KEY_NOT_REMOVED = "KeyNotRemoved"
REFUSED = "GuestRefused"
# How soon a guest that refused, or an agent that did not answer, is asked again.
RETRY_SECONDS = 30.0
# A command makes its request a moment before the Secret that belongs to it.
_SECRET_SECONDS = 0.5


class Step(StrEnum):
    NONE = "none"
    ADOPT = "bind to the machine"
    GRANT = "let the key in"
    REVOKE = "let the key in no longer"
    SET_PASSWORD = "set the password"
    RELEASE = "let the object go"
    DELETE = "delete the object"


@dataclass(frozen=True, slots=True)
class Situation:
    """All that the decision depends on.

    `vm` and `machine` are None where there is no such VM. `done_in`: the session of the guest in which the key was last
    let in by this process, empty if by none.
    """

    request: Obj
    vm: Obj | None
    machine: MachineObservation | None
    now: datetime
    done_in: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """The step, and what the status says; an empty state leaves it as it is. `after`: seconds to the next look."""

    step: Step
    state: str = ""
    reason: str = ""
    message: str = ""
    after: float | None = None


def decide(situation: Situation) -> Plan:
    """The next step."""
    request = situation.request
    if is_deleting(request):
        return _delete(situation)
    if situation.now >= api.expires(request):
        return _expired(situation)
    remaining = _remaining(situation)
    if situation.vm is None:
        message = f'VirtualMachine "{api.machine_name(request)}" does not exist'
        return Plan(Step.NONE, api.PENDING, "MachineMissing", message, remaining)
    if not has_finalizer(request, names.ACCESS_FINALIZER):
        return Plan(Step.ADOPT)
    problem = _problem(request, situation.vm, remaining)
    if problem is not None:
        return problem
    if _configured(request) and api.password_secret(request):
        return Plan(Step.NONE, after=remaining)
    if _answers(situation):
        return _ask(situation)
    if _configured(request):
        return Plan(Step.NONE, after=remaining)
    return Plan(Step.NONE, api.PENDING, *_why_not(situation), after=remaining)


def _remaining(situation: Situation) -> float:
    return max(0.0, (api.expires(situation.request) - situation.now).total_seconds())


def _configured(request: Obj) -> bool:
    return api.state(request) == api.CONFIGURED


def _told(request: Obj) -> bool:
    """Whether the guest may have the key."""
    return bool(dig(request, "status", "guestToldTime")) and not api.password_secret(request)


def _answers(situation: Situation) -> bool:
    return situation.machine is not None and situation.machine.guest is not None


def _problem(request: Obj, vm: Obj, remaining: float) -> Plan | None:
    """What keeps the request from being carried out, whatever its guest says."""
    if api.state(request) == api.FAILED and (api.password_secret(request) or _reason(request) != REFUSED):
        return Plan(Step.NONE, after=remaining)
    if api.password_secret(request):
        return None
    if virtualmachine.os_type(vm) == "Windows":
        return Plan(Step.NONE, api.FAILED, "NotLinux", "keys can be put into Linux guests only", remaining)
    try:
        api.ssh_key(request)
    except ValueError as exc:
        return Plan(Step.NONE, api.FAILED, "InvalidKey", str(exc), remaining)
    return None


def _ask(situation: Situation) -> Plan:
    assert situation.machine is not None
    request, remaining = situation.request, _remaining(situation)
    if api.password_secret(request):
        return Plan(Step.SET_PASSWORD, api.CONFIGURED, "PasswordSet", after=remaining)
    if _configured(request) and situation.done_in == situation.machine.session:
        return Plan(Step.NONE, after=remaining)
    message = f"the key is let in until {rfc3339(api.expires(request))}"
    return Plan(Step.GRANT, api.CONFIGURED, "KeyInstalled", message, remaining)


def _why_not(situation: Situation) -> tuple[str, str]:
    assert situation.vm is not None
    if not virtualmachine.uses_guest_agent(situation.vm):
        return "GuestEnvironmentDisabled", "the machine has no guest agent: it needs spec.osType and a guestEnvironment"
    if situation.machine is None or not situation.machine.alive:
        return "MachineNotRunning", "the machine does not run"
    return "GuestAgentNotAnswering", "no guest agent answers in the machine"


def _expired(situation: Situation) -> Plan:
    request = situation.request
    if api.is_temporary(request):
        return Plan(Step.DELETE)
    if api.password_secret(request) and _configured(request):
        return Plan(Step.NONE)
    if not _told(request):
        return Plan(Step.NONE, api.EXPIRED, EXPIRED, "it expired before it could be carried out")
    if _reason(request) == EXPIRED or situation.vm is None:
        return Plan(Step.NONE)
    if _answers(situation):
        return Plan(Step.REVOKE, api.EXPIRED, EXPIRED, "the key has expired and was removed")
    message = "the key has expired; it is removed when the guest's agent answers"
    return Plan(Step.NONE, api.EXPIRED, KEY_NOT_REMOVED, message)


def secret_pause(situation: Situation) -> float:
    """Seconds until the Secret of a password is looked for again: the longer, the longer it has been missing."""
    created = parse_rfc3339(str(dig(situation.request, "metadata", "creationTimestamp")))
    return max(_SECRET_SECONDS, (situation.now - created).total_seconds() / 10)


def _reason(request: Obj) -> str:
    return str(dig(request, "status", "reason", default=""))


def _delete(situation: Situation) -> Plan:
    request = situation.request
    if not has_finalizer(request, names.ACCESS_FINALIZER):
        return Plan(Step.NONE)
    void = situation.vm is None or is_deleting(situation.vm) or not _told(request) or _reason(request) == EXPIRED
    if void:
        return Plan(Step.RELEASE)
    if _answers(situation):
        return Plan(Step.REVOKE)
    if situation.now >= api.expires(request):
        return Plan(Step.RELEASE)
    message = "the object goes as soon as its key is out of the guest, or expired: no guest agent answers now"
    return Plan(Step.NONE, api.state(request), KEY_NOT_REMOVED, message, _remaining(situation))
