"""The status of a pod, computed from what is known of its containers. Pure; field by field as the kubelet writes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from solo.node.addresses import Addresses
from solo.node.podspec import containers, init_containers, is_sidecar, qos_class
from solo.node.records import ContainerRecord, Terminated

Obj = dict[str, Any]
_OWN_FIELDS = ("reason", "message", "initContainerStatuses")
"""Fields that a later status may lack; what others have written stays."""

_OWN_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
_NOT_SET_UP = ("ContainerCreating", "PodInitializing")
"""Why a container waits as long as its pod has not been set up, or not been initialized."""


@dataclass(frozen=True, slots=True)
class ContainerView:
    """A container as the status shows it: its record, why it waits (reason, message), its probes' verdicts."""

    record: ContainerRecord
    waiting: tuple[str, str] | None = None
    ready: bool = False
    started: bool = False


def _terminated(ended: Terminated, container_id: str) -> Obj:
    state: Obj = {
        "exitCode": ended.exit_code,
        "reason": ended.reason,
        "startedAt": ended.started_at or None,
        "finishedAt": ended.finished_at,
        "containerID": container_id,
    }
    if ended.signal:
        state["signal"] = ended.signal
    if ended.message:
        state["message"] = ended.message
    return {"terminated": state}


def container_status(uid: str, container: Obj, view: ContainerView, *, init: bool) -> Obj:
    """One entry of `containerStatuses`."""
    record = view.record
    container_id = f"host://{uid}/{record.name}/{record.restarts}"
    previous_id = f"host://{uid}/{record.name}/{max(0, record.restarts - 1)}"
    last = record.last
    if record.pid:
        state: Obj = {"running": {"startedAt": record.started_at}}
    elif view.waiting:
        state = {"waiting": {"reason": view.waiting[0]}}
        if view.waiting[1]:
            state["waiting"]["message"] = view.waiting[1]
        if record.terminated is not None:
            last, previous_id = record.terminated, container_id
    elif record.terminated is not None:
        state = _terminated(record.terminated, container_id)
    else:
        state = {"waiting": {"reason": "PodInitializing"}}
    completed = (
        init and not is_sidecar(container) and record.terminated is not None and record.terminated.exit_code == 0
    )
    status: Obj = {
        "name": record.name,
        "state": state,
        "lastState": _terminated(last, previous_id) if last is not None else {},
        "ready": view.ready or completed,
        "restartCount": record.restarts,
        "image": container.get("image", ""),
        "imageID": container.get("image", ""),
        "started": view.started,
    }
    if record.started_at:
        status["containerID"] = container_id
    return status


def phase(pod: Obj, views: dict[str, ContainerView]) -> str:
    """The pod's phase (kubelet `getPhase`). It has not ended while a sidecar runs."""
    if _is_over(pod, views):
        return _final_phase(pod, views)
    found = _phase_without_sidecars(pod, views)
    sidecars = [container for container in init_containers(pod) if is_sidecar(container)]
    if found != "Failed" and not _begun(pod, views) and any(not views[each["name"]].started for each in sidecars):
        return "Pending"
    if found in ("Succeeded", "Failed") and any(views[container["name"]].record.pid for container in sidecars):
        return "Running" if _begun(pod, views) else "Pending"
    return found


def _is_over(pod: Obj, views: dict[str, ContainerView]) -> bool:
    """Whether a pod was deleted and nothing of it runs: whatever its restart policy, nothing will any more."""
    return "deletionTimestamp" in pod["metadata"] and not any(view.record.pid for view in views.values())


def _final_phase(pod: Obj, views: dict[str, ContainerView]) -> str:
    """What became of a pod that is over; one whose containers have not all run failed (kubelet `TerminatePod`)."""
    ends = [views[container["name"]].record.terminated for container in containers(pod)]
    return "Succeeded" if all(ended is not None and ended.exit_code == 0 for ended in ends) else "Failed"


def _begun(pod: Obj, views: dict[str, ContainerView]) -> bool:
    """Whether an ordinary container has ever run, so that the pod was initialized."""
    return any(views[container["name"]].record.started_at for container in containers(pod))


def _phase_without_sidecars(pod: Obj, views: dict[str, ContainerView]) -> str:
    policy = pod["spec"].get("restartPolicy", "Always")
    for container in init_containers(pod):
        if is_sidecar(container):
            continue
        ended = views[container["name"]].record.terminated
        if views[container["name"]].record.pid or ended is None:
            return "Pending"
        if ended.exit_code != 0:
            return "Failed" if policy == "Never" else "Pending"
    records = [views[container["name"]].record for container in containers(pod)]
    if any(not record.pid and record.terminated is None and record.last is None for record in records):
        return "Pending"
    if policy == "Always" or any(record.pid or record.terminated is None for record in records):
        return "Running"
    if all(record.terminated is not None and record.terminated.exit_code == 0 for record in records):
        return "Succeeded"
    return "Failed" if policy == "Never" else "Running"


def _condition(pod: Obj, type_: str, value: bool, now: str, reason: str = "", message: str = "") -> Obj:
    status = "True" if value else "False"
    previous = (pod.get("status") or {}).get("conditions") or []
    before = next((entry for entry in previous if entry.get("type") == type_), None)
    unchanged = before is not None and before.get("status") == status
    result: Obj = {
        "type": type_,
        "status": status,
        "lastProbeTime": None,
        "lastTransitionTime": before["lastTransitionTime"] if before and unchanged else now,
        **_observed(pod),
    }
    if reason:
        result["reason"] = reason
    if message:
        result["message"] = message
    return result


def _observed(pod: Obj) -> Obj:
    """Which state of the spec a status is about."""
    generation = pod["metadata"].get("generation")
    return {"observedGeneration": generation} if generation else {}


def _set_up(views: dict[str, ContainerView], pod_phase: str) -> bool:
    """Whether the pod has all that its containers need before one can start: Kubernetes' sandbox."""
    return pod_phase not in ("Succeeded", "Failed") and any(
        view.record.started_at or (view.waiting and view.waiting[0] not in _NOT_SET_UP) for view in views.values()
    )


def _initialized(pod: Obj, container: Obj, views: dict[str, ContainerView]) -> bool:
    """Whether an init container has done its part."""
    view = views[container["name"]]
    if is_sidecar(container):
        return view.started or _begun(pod, views)
    return view.record.terminated is not None and view.record.terminated.exit_code == 0


def conditions(pod: Obj, views: dict[str, ContainerView], pod_phase: str, now: str) -> list[Obj]:
    """The agent's own conditions, and after them those that others have written."""
    previous = pod.get("status") or {}
    incomplete = [each["name"] for each in init_containers(pod) if not _initialized(pod, each, views)]
    lasting = [*filter(is_sidecar, init_containers(pod)), *containers(pod)]
    unready = [container["name"] for container in lasting if not views[container["name"]].ready]
    foreign = [entry for entry in previous.get("conditions") or [] if entry.get("type") not in _OWN_CONDITIONS]
    closed_gates = [
        gate["conditionType"]
        for gate in pod["spec"].get("readinessGates") or []
        if not any(entry["type"] == gate["conditionType"] and entry["status"] == "True" for entry in foreign)
    ]
    reason, message = "", ""
    if pod_phase in ("Succeeded", "Failed"):
        reason = "PodCompleted" if pod_phase == "Succeeded" else "PodFailed"
    elif unready:
        reason, message = "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
    all_ready = not unready and not reason
    ready_reason, ready_message = reason, message
    if all_ready and closed_gates:
        ready_reason = "ReadinessGatesNotReady"
        ready_message = f'corresponding condition of pod readiness gate "{closed_gates[0]}" is not True'
    init_text = f"containers with incomplete status: [{' '.join(incomplete)}]" if incomplete else ""
    init_reason = "ContainersNotInitialized" if incomplete else ""
    if pod_phase == "Succeeded":
        incomplete, init_reason, init_text = [], reason, ""
    return [
        _condition(pod, "PodReadyToStartContainers", _set_up(views, pod_phase), now),
        _condition(pod, "Initialized", not incomplete, now, init_reason, init_text),
        _condition(pod, "Ready", all_ready and not closed_gates, now, ready_reason, ready_message),
        _condition(pod, "ContainersReady", all_ready, now, reason, message),
        _condition(pod, "PodScheduled", True, now),
        *foreign,
    ]


def _not_to_restart(view: ContainerView) -> ContainerView:
    """A container that ended in a pod that is over does not wait for its next start."""
    return view if view.record.terminated is None else replace(view, waiting=None)


def build(
    pod: Obj,
    views: dict[str, ContainerView],
    now: str,
    addresses: Addresses,
    *,
    failed: tuple[str, str] | None = None,
) -> Obj:
    """The whole status. `failed` is (reason, message) when the agent itself has given the pod up."""
    uid = pod["metadata"]["uid"]
    if _is_over(pod, views):
        views = {name: _not_to_restart(view) for name, view in views.items()}
    pod_phase = "Failed" if failed else phase(pod, views)
    status: Obj = {
        **_observed(pod),
        "phase": pod_phase,
        "conditions": conditions(pod, views, pod_phase, now),
        "hostIP": addresses.node,
        "hostIPs": [{"ip": addresses.node}],
        "startTime": (pod.get("status") or {}).get("startTime") or now,
        "qosClass": qos_class(pod),
        "containerStatuses": [
            container_status(uid, entry, views[entry["name"]], init=False) for entry in containers(pod)
        ],
    }
    if addresses.pod:
        status["podIP"], status["podIPs"] = addresses.pod, [{"ip": addresses.pod}]
    if init_containers(pod):
        status["initContainerStatuses"] = [
            container_status(uid, entry, views[entry["name"]], init=True) for entry in init_containers(pod)
        ]
    if failed:
        status["reason"], status["message"] = failed
    return status


def changes(old: Obj, new: Obj) -> Obj:
    """A merge patch from `old` to `new`, whole top-level fields each; empty when there is nothing to write."""
    patch = {key: value for key, value in new.items() if old.get(key) != value}
    patch.update({key: None for key in old if key not in new and key in _OWN_FIELDS})
    return patch
