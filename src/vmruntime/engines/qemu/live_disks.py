"""Changing a disk that a running machine has open, over its monitor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vmruntime.engines.base import ConfigurationError
from vmruntime.engines.qemu.formats import SECTOR
from vmruntime.engines.qemu.qmp import Qmp, QmpError


async def grow(qmp: Qmp, path: str, size: int) -> None:
    """Enlarge the disk that the machine knows as `path` to `size` bytes; the guest is told at once.

    ConfigurationError where the machine does not have it, or QEMU refuses.
    """
    try:
        node = _node(await qmp.execute("query-block"), path)
        if node is None:
            raise ConfigurationError("GrowthWaits", "the running machine does not have the disk yet, or not any more")
        await qmp.execute("block_resize", {"node-name": node, "size": -(-size // SECTOR) * SECTOR})
    except QmpError as exc:
        raise ConfigurationError("GrowthWaits", f"the disk cannot grow while its machine runs: {exc}") from exc


def _node(devices: Iterable[dict[str, Any]], path: str) -> str | None:
    """The name of the block node with this file (QAPI type BlockInfo)."""
    for device in devices:
        inserted = device.get("inserted") or {}
        if inserted.get("file") == path or inserted.get("image", {}).get("filename") == path:
            return str(inserted["node-name"])
    return None
