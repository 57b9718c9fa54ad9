"""Where a port of a pod is reached. Pure."""

from __future__ import annotations

from typing import Any

Obj = dict[str, Any]


def reached_at(pod: Obj, address: str, port: int, protocol: str = "TCP") -> int:
    """The number under which a port of the pod is reached at an address: another one, if the pod says so.

    It does by `hostIP` and `hostPort` of an entry of its containers' `ports` (core/v1 ContainerPort).
    """
    for container in pod["spec"].get("containers") or []:
        for entry in container.get("ports") or []:
            same = entry.get("containerPort") == port and (entry.get("protocol") or "TCP") == protocol
            if same and entry.get("hostPort") and entry.get("hostIP") == address:
                return int(entry["hostPort"])
    return port
