"""The row of a pod: readiness, the reason that matters most, restarts (printers' `printPod`)."""

from __future__ import annotations

from typing import Any

from solo.http.printers.columns import NONE, age, columns, created, name_of
from solo.registry.objects import dig

Obj = dict[str, Any]

POD_COLUMNS = columns("Name|Ready|Status|Restarts|Age", wide="IP|Node|Nominated Node|Readiness Gates")
_TERMINAL = ("Succeeded", "Failed")
_GATED = "SchedulingGated"
_ENDS = {"Succeeded": "The pod has completed successfully.", "Failed": "The pod failed."}


def pod_cells(obj: Obj) -> list[Any]:
    """One row."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    sidecars = _sidecars(obj)
    helpers = [item for item in status.get("initContainerStatuses") or [] if item.get("name") in sidecars]
    containers = [*helpers, *(status.get("containerStatuses") or [])]
    ready = sum(1 for item in containers if item.get("ready") and "running" in (item.get("state") or {}))
    restarts = sum(int(item.get("restartCount") or 0) for item in containers)
    last = max(
        (dig(item, "lastState", "terminated", "finishedAt") or "" for item in containers),
        default="",
    )
    shown = f"{restarts} ({age(last)} ago)" if restarts and last else str(restarts)
    return [
        name_of(obj),
        f"{ready}/{len(sidecars) + len(spec.get('containers') or [])}",
        pod_status(obj),
        shown,
        created(obj),
        status.get("podIP") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _gates(obj),
    ]


def pod_conditions(obj: Obj) -> list[Obj]:
    """What tells a client that it may leave the row out: the pod has run to its end."""
    phase = dig(obj, "status", "phase")
    if phase not in _ENDS:
        return []
    return [{"type": "Completed", "status": "True", "reason": phase, "message": _ENDS[phase]}]


def pod_status(obj: Obj) -> str:
    """The STATUS column."""
    status = obj.get("status") or {}
    text = str(status.get("reason") or status.get("phase") or "Unknown")
    if _condition(obj, "PodScheduled").get("reason") == _GATED:
        text = _GATED
    text = _init_reason(obj) or _container_reason(obj, text)
    if dig(obj, "metadata", "deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            return "Unknown"
        if status.get("phase") not in _TERMINAL:
            return "Terminating"
    return text


def _condition(obj: Obj, type_: str) -> Obj:
    """The first condition of a type, empty if there is none."""
    found: Obj = next((each for each in dig(obj, "status", "conditions") or [] if each.get("type") == type_), {})
    return found


def _gates(obj: Obj) -> str:
    """How many of the conditions that a pod's readiness needs are true."""
    gates = dig(obj, "spec", "readinessGates") or []
    passed = sum(_condition(obj, gate.get("conditionType")).get("status") == "True" for gate in gates)
    return f"{passed}/{len(gates)}" if gates else NONE


def _sidecars(obj: Obj) -> set[str]:
    """The init containers that go on running: they count as the ordinary ones do."""
    return {each["name"] for each in dig(obj, "spec", "initContainers") or [] if each.get("restartPolicy") == "Always"}


def _init_reason(obj: Obj) -> str:
    if _condition(obj, "Initialized").get("status") == "True":
        return ""
    sidecars = _sidecars(obj)
    statuses = dig(obj, "status", "initContainerStatuses") or []
    total = len(dig(obj, "spec", "initContainers") or [])
    for index, item in enumerate(statuses):
        state = item.get("state") or {}
        ended = state.get("terminated")
        if ended is not None and ended.get("exitCode") == 0:
            continue
        if item.get("started") and item.get("name") in sidecars:
            continue
        if ended is not None:
            return f"Init:{_ended(ended)}"
        reason = dig(state, "waiting", "reason")
        if reason and reason != "PodInitializing":
            return f"Init:{reason}"
        return f"Init:{index}/{total}"
    return ""


def _container_reason(obj: Obj, text: str) -> str:
    running = False
    for item in reversed(dig(obj, "status", "containerStatuses") or []):
        state = item.get("state") or {}
        if dig(state, "waiting", "reason"):
            text = state["waiting"]["reason"]
        elif "terminated" in state:
            text = _ended(state["terminated"])
        elif item.get("ready") and "running" in state:
            running = True
    if text == "Completed" and running:
        return "Running" if _condition(obj, "Ready").get("status") == "True" else "NotReady"
    return text


def _ended(ended: Obj) -> str:
    if ended.get("reason"):
        return str(ended["reason"])
    if ended.get("signal"):
        return f"Signal:{ended['signal']}"
    return f"ExitCode:{ended.get('exitCode')}"
