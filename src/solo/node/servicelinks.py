"""Environment variables that say where the Services of a pod's namespace are (kubelet `pkg/kubelet/envvars`). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Obj = dict[str, Any]


def variables(services: Iterable[Obj]) -> dict[str, str]:
    """The variables of all Services that have an address."""
    found: dict[str, str] = {}
    for service in services:
        address = service["spec"].get("clusterIP") or "None"
        if address != "None":
            found.update(_of(service, address))
    return found


def _of(service: Obj, address: str) -> dict[str, str]:
    prefix = _name(service["metadata"]["name"])
    ports = service["spec"].get("ports") or []
    found = {f"{prefix}_SERVICE_HOST": address}
    for index, port in enumerate(ports):
        number, protocol = str(port["port"]), str(port.get("protocol") or "TCP")
        host = f"[{address}]" if ":" in address else address
        url = f"{protocol.lower()}://{host}:{number}"
        if index == 0:
            found |= {f"{prefix}_SERVICE_PORT": number, f"{prefix}_PORT": url}
        if port.get("name"):
            found[f"{prefix}_SERVICE_PORT_{_name(port['name'])}"] = number
        link = f"{prefix}_PORT_{number}_{protocol}"
        found |= {link: url, f"{link}_PROTO": protocol.lower(), f"{link}_PORT": number, f"{link}_ADDR": address}
    return found


def _name(text: str) -> str:
    return text.upper().replace("-", "_")
