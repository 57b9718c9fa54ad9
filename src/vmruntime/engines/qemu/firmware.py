"""UEFI firmware on this host, and each machine's own copy of its variables.

Distributions say where their firmware is in descriptors (QEMU, docs/interop/firmware.json), in directories of a fixed
order; those of the first directory that has one of a name win, and names are looked at in their order. So nothing here
knows a path of any distribution.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kube.durable import write_private

_log = logging.getLogger(__name__)

PACKAGE = "ovmf"
DESCRIPTORS = (Path("/etc/qemu/firmware"), Path("/usr/local/share/qemu/firmware"), Path("/usr/share/qemu/firmware"))
_SECURE = frozenset({"secure-boot", "enrolled-keys", "requires-smm"})


@dataclass(frozen=True, slots=True)
class Uefi:
    """A firmware: its code, and the variables that a machine starts with."""

    code: Path
    variables: Path


def find(secure_boot: bool, directories: Sequence[Path] = DESCRIPTORS) -> Uefi | None:
    """The host's UEFI firmware for this machine type, with or without Secure Boot enforced; None if there is none."""
    for descriptor in _descriptors(directories):
        found = _read(descriptor)
        if found is None:
            continue
        features = frozenset(found.get("features", []))
        if (features >= _SECURE) if secure_boot else not features & _SECURE:
            mapping = found["mapping"]
            uefi = Uefi(Path(mapping["executable"]["filename"]), Path(mapping["nvram-template"]["filename"]))
            if uefi.code.is_file() and uefi.variables.is_file():
                return uefi
    return None


def _descriptors(directories: Sequence[Path]) -> list[Path]:
    by_name: dict[str, Path] = {}
    for directory in directories:
        for path in directory.glob("*.json"):
            by_name.setdefault(path.name, path)
    return [by_name[name] for name in sorted(by_name)]


def _read(path: Path) -> dict[str, Any] | None:
    """A descriptor that is usable here: UEFI in raw flash images, for x86_64 and Q35."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        mapping = content["mapping"]
        images = (mapping["executable"], mapping["nvram-template"]) if mapping["device"] == "flash" else ()
        fits = (
            "uefi" in content["interface-types"]
            and any(
                target["architecture"] == "x86_64" and any("q35" in machine for machine in target["machines"])
                for target in content["targets"]
            )
            and len(images) == 2
            and all(image["format"] == "raw" for image in images)
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        # An empty descriptor is how an administrator switches one off.
        _log.debug("%s is passed over: %r", path, error)
        return None
    return content if fits else None


def ensure_variables(path: Path, template: Path, owner: int | None) -> None:
    """Give the machine its own variables at `path`, once; what it wrote to them is kept. Raises OSError."""
    if not path.exists():
        write_private(path, template.read_bytes(), owner)
