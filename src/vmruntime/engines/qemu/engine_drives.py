"""What is known of the drives of one running machine, and what is done about them: media, and a guest without space."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from vmruntime.engines.machine import IO_ERROR, NO_SPACE, MachineTrouble
from vmruntime.engines.qemu import files
from vmruntime.engines.qemu.config import DiskConfig
from vmruntime.engines.qemu.live_disks import Drive, change_media, drives
from vmruntime.engines.qemu.qmp import Monitor, Notice, QmpError

_log = logging.getLogger(__name__)

IO_ERROR_STATE = "io-error"
"""QEMU's run state while the guest is paused for a disk that failed."""
# After these what was known may not be true any more.
_ABOUT_DRIVES = ("CONNECTED", "BLOCK_IO_ERROR", "RESUME", "DEVICE_TRAY_MOVED")
# A guest that was paused for want of space goes on when there is so much, bytes: not for every block that comes free.
_ENOUGH_SPACE = 16 << 20


class Drives:
    """The drives of the machine behind one monitor."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._known: tuple[Drive, ...] | None = None
        self._changes = 0
        self._error = ""

    @property
    def disks(self) -> dict[str, bool] | None:
        """The disks that the machine has, and of each whether it only reads it; None while that is not known."""
        if self._known is None:
            return None
        return {drive.disk: drive.read_only for drive in self._known if drive.disk}

    def heard(self, notice: Notice) -> bool:
        """Something happened to the machine; whether it is about its drives, beside what its run state tells."""
        if notice.kind not in _ABOUT_DRIVES:
            return False
        self._known = None
        self._changes += 1
        if notice.kind == "BLOCK_IO_ERROR" and notice.data.get("action") == "report":
            # The guest is told of the error and runs on (QAPI BLOCK_IO_ERROR).
            before = self._error
            self._error = f"a {notice.data.get('operation')} failed ({notice.data.get('reason')})"
            return self._error != before
        return notice.kind == "DEVICE_TRAY_MOVED"

    async def look(self) -> None:
        """Look at them where that is due. What cannot be asked now is not known."""
        if self._known is not None or not self._monitor.connected:
            return
        changes = self._changes
        try:
            found = await drives(self._monitor.qmp)
        except QmpError as exc:
            _log.warning("the drives of a machine are not known: %s", exc)
            return
        if self._changes == changes:
            self._known = found

    def trouble(self, state: str) -> MachineTrouble | None:
        """What keeps the machine, in run state `state`, from being of use, in words of our own and of the host's."""
        if state == IO_ERROR_STATE:
            return self._paused()
        if not self._error:
            return None
        message = f"a disk of the machine does not work: {self._error}; the guest was told and runs on"
        return MachineTrouble(IO_ERROR, message, paused=False)

    def _paused(self) -> MachineTrouble:
        failed = [drive for drive in self._known or () if drive.status != "ok"]
        names = ", ".join(f'"{drive.disk or drive.id}"' for drive in failed) or "(unknown)"
        if failed and all(drive.status == "nospace" for drive in failed):
            message = f"there is no space left on the node for what the guest writes to VirtualMachineDisk {names}; "
            return MachineTrouble(NO_SPACE, message + "it is paused and goes on as soon as there is some")
        return MachineTrouble(IO_ERROR, f"the guest is paused: reading or writing VirtualMachineDisk {names} failed")

    async def change_media(self, wanted: Sequence[DiskConfig]) -> None:
        """Bring what the CD-ROM drives hold closer to `wanted`."""
        if self._known is None:
            return
        if {drive.path for drive in self._known if drive.removable and drive.path} == {disk.path for disk in wanted}:
            return
        try:
            await change_media(self._monitor.qmp, self._known, wanted)
        except QmpError as exc:
            _log.warning("CD-ROMs could not be changed: %s", exc)
        self._known = None

    async def resume(self, instance: Path) -> None:
        """Let a guest go on that waits for space, if there is some now. `instance`: where QEMU runs."""
        failed = [instance / drive.path for drive in self._known or () if drive.status == "nospace"]
        if not failed or any(files.free_bytes(path.parent) < _ENOUGH_SPACE for path in failed):
            return
        try:
            await self._monitor.qmp.resume()
        except QmpError as exc:
            _log.warning("a guest could not be resumed: %s", exc)
