"""The drives of a running machine, over its monitor: what is in them, growth of disks, and media of CD-ROM drives."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from vmruntime.engines.common import ConfigurationError
from vmruntime.engines.qemu.argv import blockdev
from vmruntime.engines.qemu.config import DiskConfig
from vmruntime.engines.qemu.formats import SECTOR
from vmruntime.engines.qemu.qmp import Qmp, QmpError

_NODE_LENGTH = 31  # QEMU, block.c: the name of a node has at most so many characters


@dataclass(frozen=True, slots=True)
class Drive:
    """A drive of a machine (QAPI type BlockInfo). `path` and `node` are empty where nothing is in it.

    `status` is `nospace` or `failed` where the guest is paused for an error of this drive.
    """

    id: str
    path: str = ""
    node: str = ""
    read_only: bool = False
    removable: bool = False
    tray_open: bool = False
    status: str = "ok"

    @property
    def disk(self) -> str:
        """The name of the VirtualMachineDisk; empty where it is none, or the drive is empty."""
        parts = PurePosixPath(self.path).parts
        return parts[-2].rpartition("_")[0] if "disks" in parts[:-1] else ""


async def drives(qmp: Qmp) -> tuple[Drive, ...]:
    """All drives. Raises QmpError, also for an answer that is none: a guest may have got hold of its QEMU."""
    listed = await qmp.execute("query-block")
    try:
        return tuple(_drive(entry) for entry in listed)
    except (TypeError, AttributeError) as exc:
        raise QmpError("query-block: the answer cannot be read") from exc


def _drive(entry: Mapping[str, Any]) -> Drive:
    inserted: Mapping[str, Any] = entry.get("inserted") or {}
    return Drive(
        id=str(entry.get("qdev") or entry.get("device") or ""),
        path=str(inserted.get("file") or ""),
        node=str(inserted.get("node-name") or ""),
        read_only=inserted.get("ro") is True,
        removable=entry.get("removable") is True,
        tray_open=entry.get("tray_open") is True,
        status=str(entry.get("io-status") or "ok"),
    )


async def grow(qmp: Qmp, path: str, size: int) -> None:
    """Enlarge the disk that the machine knows as `path` to `size` bytes; the guest is told at once.

    ConfigurationError where the machine does not have it, or QEMU refuses.
    """
    try:
        node = next((drive.node for drive in await drives(qmp) if drive.path == path), None)
        if node is None:
            raise ConfigurationError("GrowthWaits", "the running machine does not have the disk yet, or not any more")
        await qmp.execute("block_resize", {"node-name": node, "size": -(-size // SECTOR) * SECTOR})
    except QmpError as exc:
        raise ConfigurationError("GrowthWaits", f"the disk cannot grow while its machine runs: {exc}") from exc


async def change_media(qmp: Qmp, present: Iterable[Drive], wanted: Iterable[DiskConfig]) -> None:
    """Bring what the CD-ROM drives hold closer to `wanted`: eject what is not among it, insert what is missing.

    A guest that has locked its tray is asked to let go, and may do so later or never. Media for which no drive is free
    are left out. Raises QmpError.
    """
    trays = [drive for drive in present if drive.removable]
    files = {medium.path: medium for medium in wanted}
    for tray in trays:
        if tray.path and tray.path not in files:
            await _eject(qmp, tray)
    held = {tray.path for tray in trays}
    missing = [medium for path, medium in files.items() if path not in held]
    free = [tray.id for tray in await drives(qmp) if tray.removable and not tray.path] if missing else []
    for tray_id, medium in zip(free, missing, strict=False):
        await _insert(qmp, tray_id, medium)


async def _eject(qmp: Qmp, tray: Drive) -> None:
    await qmp.execute("blockdev-open-tray", {"id": tray.id})
    if not any(drive.id == tray.id and drive.tray_open for drive in await drives(qmp)):
        return  # the guest was asked to let go of it
    await qmp.execute("blockdev-remove-medium", {"id": tray.id})
    await qmp.execute("blockdev-close-tray", {"id": tray.id})
    await qmp.execute("blockdev-del", {"node-name": tray.node})


async def _insert(qmp: Qmp, tray_id: str, medium: DiskConfig) -> None:
    """The name of the node follows from the drive: each has one medium at a time.

    One of this name, while the drive is empty, was left by a change that was killed half-way.
    """
    node = f"medium-{PurePosixPath(tray_id).name}"[:_NODE_LENGTH]
    with contextlib.suppress(QmpError):  # there is none, as a rule
        await qmp.execute("blockdev-del", {"node-name": node})
    await qmp.execute("blockdev-add", blockdev(node, medium))
    try:
        await qmp.execute("blockdev-open-tray", {"id": tray_id})
        await qmp.execute("blockdev-insert-medium", {"id": tray_id, "node-name": node})
        await qmp.execute("blockdev-close-tray", {"id": tray_id})
    except QmpError:
        await qmp.execute("blockdev-del", {"node-name": node})
        raise
