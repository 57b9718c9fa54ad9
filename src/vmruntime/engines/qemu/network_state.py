"""What a cluster's networking keeps on disk: who it is on this host, and its subnet.

    ROOT/network.json

The id is random, so that two clusters, also of two hosts on one Ethernet, do not derive the same MAC address from
machines of the same name. It stays for as long as the cluster; the subnet for as long as there is a pod network.
"""

from __future__ import annotations

import ipaddress
import json
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from kube.durable import write_private

FILE = "network.json"
_ID = re.compile(r"[0-9a-f]{5}")


@dataclass(frozen=True, slots=True)
class NetworkState:
    """`id`: five hexadecimal digits, part of every name of ours on the host. `subnet`: None while there is none.

    `forwarding_since`: the host's boot in which this cluster switched forwarding on; empty if it never did.
    """

    id: str
    subnet: ipaddress.IPv4Network | None = None
    forwarding_since: str = ""

    @property
    def bridge(self) -> str:
        return f"vmrt{self.id}"

    @property
    def table(self) -> str:
        return f"vmruntime_{self.id}"

    @property
    def tap_prefix(self) -> str:
        return f"vmt{self.id}"

    @property
    def macvtap_prefix(self) -> str:
        return f"vml{self.id}"


def load(root: Path) -> NetworkState | None:
    """What is kept below an engine's root; None where nothing is, or nothing that can be read as it."""
    try:
        content = json.loads((root / FILE).read_text())
        identity, subnet = str(content["id"]), content.get("subnet")
        if not _ID.fullmatch(identity):
            return None
        since = str(content.get("forwardingSince", ""))
        return NetworkState(identity, ipaddress.IPv4Network(subnet) if subnet else None, since)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def save(root: Path, state: NetworkState) -> None:
    """Durable under its name at once, or not at all. Raises OSError."""
    subnet = str(state.subnet) if state.subnet else None
    content = {"id": state.id, "subnet": subnet, "forwardingSince": state.forwarding_since}
    write_private(root / FILE, (json.dumps(content) + "\n").encode())


def load_or_make(root: Path) -> NetworkState:
    """What is kept, or a new id that is kept from now on. Raises OSError."""
    state = load(root)
    if state is None:
        state = NetworkState(secrets.token_hex(3)[:5])
        save(root, state)
    return state
