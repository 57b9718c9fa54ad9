"""The row of a pod: readiness, the reason that matters most, restarts (printers' `printPod`)."""

from __future__ import annotations

from typing import Any

from solo.http.printers.columns import NONE, age, columns, created, name_of
from solo.registry.objects import dig

Obj = dict[str, Any]

POD_COLUMNS = columns("Name|Ready|Status|Restarts|Age", wide="IP|Node|Nominated Node|Readiness Gates")
_TERMINAL = ("Succeeded", "Failed")


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
    gates = spec.get("readinessGates") or []
    return [
        name_of(obj),
        f"{ready}/{len(sidecars) + len(spec.get('containers') or [])}",
        pod_status(obj),
        shown,
        created(obj),
        status.get("podIP") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        str(len(gates)) if gates else NONE,
    ]


def pod_status(obj: Obj) -> str:
    """The STATUS column."""
    status = obj.get("status") or {}
    text = str(status.get("reason") or status.get("phase") or "Unknown")
    text = _init_reason(obj) or _container_reason(status, text)
    if dig(obj, "metadata", "deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            return "Unknown"
        if status.get("phase") not in _TERMINAL:
            return "Terminating"
    return text


def _sidecars(obj: Obj) -> set[str]:
    """The init containers that go on running: they count as the ordinary ones do."""
    return {each["name"] for each in dig(obj, "spec", "initContainers") or [] if each.get("restartPolicy") == "Always"}


def _init_reason(obj: Obj) -> str:
    conditions = dig(obj, "status", "conditions") or []
    if any(each.get("type") == "Initialized" and each.get("status") == "True" for each in conditions):
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


def _container_reason(status: Obj, text: str) -> str:
    running = False
    for item in reversed(status.get("containerStatuses") or []):
        state = item.get("state") or {}
        if dig(state, "waiting", "reason"):
            text = state["waiting"]["reason"]
        elif "terminated" in state:
            text = _ended(state["terminated"])
        elif item.get("ready") and "running" in state:
            running = True
    if text == "Completed" and running:
        ready = any(
            condition.get("type") == "Ready" and condition.get("status") == "True"
            for condition in status.get("conditions") or []
        )
        return "Running" if ready else "NotReady"
    return text


def _ended(ended: Obj) -> str:
    if ended.get("reason"):
        return str(ended["reason"])
    if ended.get("signal"):
        return f"Signal:{ended['signal']}"
    return f"ExitCode:{ended.get('exitCode')}"
