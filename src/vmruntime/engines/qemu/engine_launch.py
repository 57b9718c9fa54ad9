"""What one start of a machine was given: addresses, accelerator, request.

It is an annotation of the machine's pod, so that it holds as long as the process that it is true of.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from vmruntime.api import names
from vmruntime.api.meta import Obj, dig
from vmruntime.engines.network import Interface, Port, Segment

LAUNCH_ANNOTATION = f"{names.GROUP}/launch"


@dataclass(frozen=True, slots=True)
class Launch:
    """What one start of a machine was given."""

    accelerator: str
    interfaces: tuple[Interface, ...]
    token: str = ""
    requested_at: str = ""
    vcpus: int = 0
    memory: int = 0
    memory_needed: int = 0
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    disks: Mapping[str, bool] = field(default_factory=dict)
    guest_agent: bool = False

    def to_json(self) -> str:
        content = {
            "accelerator": self.accelerator,
            "interfaces": [_interface_content(entry) for entry in self.interfaces],
            "token": self.token,
            "requestedAt": self.requested_at,
            "vcpus": self.vcpus,
            "memory": self.memory,
            "memoryNeeded": self.memory_needed,
            "fingerprint": dict(self.fingerprint),
            "disks": dict(self.disks),
            "guestAgent": self.guest_agent,
        }
        return json.dumps(content, separators=(",", ":"))

    @classmethod
    def of(cls, pod: Obj) -> Launch:
        """What the pod's annotation says; nothing where it is missing or was damaged by somebody."""
        return cls._parse(str(dig(pod, "metadata", "annotations", LAUNCH_ANNOTATION, default="{}")))

    @classmethod
    @lru_cache(maxsize=1024)
    def _parse(cls, text: str) -> Launch:
        try:
            content = json.loads(text)
            interfaces = tuple(_interface_of(entry) for entry in content.get("interfaces", []))
            return cls(
                accelerator=str(content.get("accelerator", "")),
                interfaces=interfaces,
                token=str(content.get("token", "")),
                requested_at=str(content.get("requestedAt", "")),
                vcpus=int(content.get("vcpus", 0)),
                memory=int(content.get("memory", 0)),
                memory_needed=int(content.get("memoryNeeded", 0)),
                fingerprint={str(key): str(value) for key, value in content.get("fingerprint", {}).items()},
                disks={str(name): read_only is True for name, read_only in content.get("disks", {}).items()},
                guest_agent=content.get("guestAgent") is True,
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls("", ())


def _interface_content(entry: Interface) -> Obj:
    content: Obj = {key: value for key, value in dataclasses.asdict(entry).items() if value}
    content["ports"] = [[port.guest, port.host] for port in entry.ports]
    return content


def _interface_of(content: Obj) -> Interface:
    segment = content.get("segment")
    texts = {key: str(content.get(key, "")) for key in ("mac", "gateway", "resource", "device")}
    lists = {key: tuple(map(str, content.get(key, ()))) for key in ("addresses", "routes", "nameservers", "searches")}
    flags = {key: content.get(key) is True for key in ("default", "any_mac", "any_address")}
    return Interface(
        name=str(content["name"]),
        network=str(content["network"]),
        ports=tuple(Port(int(guest), int(host)) for guest, host in content["ports"]),
        segment=Segment(str(segment["interface"]), int(segment["vlan"]), segment["managed"] is True)
        if segment
        else None,
        **texts,  # type: ignore[arg-type]
        **lists,  # type: ignore[arg-type]
        **flags,  # type: ignore[arg-type]
    )
