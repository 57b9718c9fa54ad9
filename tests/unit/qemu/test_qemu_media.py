"""CD-ROMs of a real QEMU that runs nothing."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmruntime.engines.qemu.argv import blockdev
from vmruntime.engines.qemu.config import DiskConfig
from vmruntime.engines.qemu.live_disks import change_media, drives
from vmruntime.engines.qemu.qmp import Monitor

QEMU = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-S", "-m", "16", "-accel", "tcg"]
QEMU += ["-machine", "q35", "-device", "ide-cd,id=tray", "-chardev", "socket,id=qmp0,path=qmp.sock,server=on,wait=off"]
QEMU += ["-mon", "chardev=qmp0,mode=control"]
ONE, TWO = (DiskConfig(f"{name}.raw", read_only=True, cdrom=True, bus="sata") for name in ("one", "two"))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Path]:
    """The working directory of a QEMU with an empty tray, and media."""
    for medium in (ONE, TWO):
        (tmp_path / medium.path).write_bytes(bytes(1 << 20))
    with subprocess.Popen(QEMU, cwd=tmp_path) as process:
        yield tmp_path
        process.kill()


async def test_a_change_that_was_killed_half_way_is_carried_on(machine: Path) -> None:
    monitor = Monitor(machine, lambda _notice: None)
    monitor.start()
    await monitor.wait_connected(30)
    qmp = monitor.qmp

    async def held() -> list[str]:
        return [drive.path for drive in await drives(qmp)]

    # Added by a manager that did not get to insert it.
    await qmp.execute("blockdev-add", blockdev("medium-tray", TWO))
    await change_media(qmp, await drives(qmp), [ONE])
    assert await held() == ["one.raw"]
    # Taken out by one that did not get to forget it.
    (tray,) = await drives(qmp)
    await qmp.execute("blockdev-open-tray", {"id": tray.id})
    await qmp.execute("blockdev-remove-medium", {"id": tray.id})
    await change_media(qmp, await drives(qmp), [TWO])
    assert await held() == ["two.raw"]
    await monitor.close()
