"""What of a machine's spec has changed since it was started: pure.

A running machine keeps what it was started with. So each start notes, beside the running machine, a digest of every
part of the spec that counts at a start only; a part whose digest differs now waits for a restart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping

from vmruntime.api import virtualmachine
from vmruntime.api.meta import Obj, dig
from vmruntime.api.virtualmachine import Compute

# Of no interest to what runs: it is read when the machine is deleted.
_NOT_OF_THE_MACHINE = "autoDelete"
_PARTS = ("interfaces", "firmware", "cloudInit", "startupScripts", "osType", "guestEnvironment")


def fingerprint(vm: Obj, compute: Compute | None, left_out: Collection[str] = ()) -> dict[str, str]:
    """A digest for each part; none for `compute` where it isn't known. Keys are fields of the spec.

    Disks of the names `left_out` need no restart: CD-ROMs, which are inserted and ejected.
    """
    disks = [
        {key: value for key, value in entry.items() if key != _NOT_OF_THE_MACHINE}
        for entry in dig(vm, "spec", "disks", default=[])
        if entry.get("virtualMachineDiskName") not in left_out
    ]
    parts: Obj = {"disks": disks, **{part: dig(vm, "spec", part) for part in _PARTS}}
    parts["interfaces"] = virtualmachine.interfaces(vm)
    if compute is not None:
        parts["compute"] = [compute.vcpus, compute.memory]
    return {part: _digest(value) for part, value in parts.items()}


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """The parts that differ, sorted. A part that only one of the two knows is left out."""
    return tuple(sorted(part for part in before if part in now and before[part] != now[part]))


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
