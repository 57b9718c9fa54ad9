"""Power as an edit of the VM: `spec.runningState` is the wish, an annotation asks for one (re)start."""

from __future__ import annotations

from kube.machinery.durations import now_micro
from vmruntime.api import names, virtualmachine
from vmruntime.api.meta import Obj, dig
from vmruntime.cli.virt.target import Target


def patch(target: Target, *, running_state: str | None = None, marks: dict[str, str | None] | None = None) -> None:
    """One write of the wish and its marks."""
    change: Obj = {}
    if running_state is not None:
        change["spec"] = {"runningState": running_state}
    if marks:
        change["metadata"] = {"annotations": marks}
    target.client.patch(virtualmachine.RESOURCE, target.name, change, target.namespace)


def start_request() -> dict[str, str | None]:
    """The mark that asks for a start now; a new time is a new request."""
    return {names.RESTARTED_AT_ANNOTATION: now_micro()}


def state(vm: Obj) -> str:
    return str(dig(vm, "status", "state", default=virtualmachine.PENDING))
