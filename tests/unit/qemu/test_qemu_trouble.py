"""A disk that fails under a real QEMU, and what is observed of its machine."""

from __future__ import annotations

import asyncio
import json
import subprocess
from typing import Any

import pytest

from vmruntime.engines.common import Ref
from vmruntime.engines.machine import MachineObservation
from vmruntime.engines.qemu.engine_layout import Layout
from vmruntime.engines.qemu.engine_machines import Machines
from vmruntime.engines.qemu.engine_network import Network

REF = Ref("default", "sick", "6f1d2c3b-0000-4000-8000-74696e790001")
DISK = "../../disks/default/data_u1/disk.raw"


class OnePod:
    """The engine's pods, of which there is one, that runs."""

    async def of(self, ref: Ref) -> list[dict[str, Any]]:
        return [{"metadata": {"name": "p1", "namespace": ref.namespace}, "status": {"phase": "Running"}}]


def blkdebug(errno: int) -> str:
    """A disk of which every read fails."""
    image = {"driver": "raw", "file": {"driver": "file", "filename": DISK}}
    fault = {"event": "none", "errno": errno}
    return json.dumps({"driver": "blkdebug", "node-name": "disk0", "image": image, "inject-error": [fault]})


@pytest.mark.parametrize(
    ("policy", "errno", "reason", "paused", "words"),
    [
        ("report", 5, "IOError", False, "a read failed (Input/output error)"),
        ("stop", 5, "IOError", True, "the guest is paused"),
        ("enospc", 28, "NoSpace", True, "no space left"),
    ],
)
async def test_a_failing_disk_is_told(tmp_path, policy: str, errno: int, reason: str, paused: bool, words: str) -> None:
    layout = Layout(tmp_path, None)
    layout.prepare()
    disk = layout.make_disk(Ref("default", "data", "u1")) / "disk.raw"
    disk.write_bytes(bytes(1 << 20))
    argv = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg", "-m", "16"]
    argv += ["-blockdev", blkdebug(errno), "-device", f"virtio-blk-pci,drive=disk0,id=dev-disk0,rerror={policy}"]
    argv += ["-chardev", "socket,id=qmp0,path=qmp.sock,server=on,wait=off", "-mon", "chardev=qmp0,mode=control"]
    changed = asyncio.Event()
    network = Network(layout.root, None, None)  # type: ignore[arg-type]
    machines = Machines(layout, OnePod(), network, lambda ref: changed.set())  # type: ignore[arg-type]
    # Its guest begins to run when somebody is there to hear of it.
    process = subprocess.Popen([*argv, "-S"], cwd=layout.make_instance(REF), stdin=subprocess.DEVNULL)
    try:

        async def observed(trouble: bool) -> MachineObservation:
            async with asyncio.timeout(15):
                while True:
                    changed.clear()
                    found = await machines.observe(REF)
                    if found.disks is not None and (found.trouble is not None) == trouble:
                        return found
                    await changed.wait()

        found = await observed(trouble=False)
        assert found.disks == {"data": False}
        qmp = machines.qmp(REF)
        assert qmp is not None
        await qmp.resume()
        trouble = (await observed(trouble=True)).trouble
        assert trouble is not None
        assert (trouble.reason, trouble.paused) == (reason, paused)
        assert words in trouble.message
    finally:
        await machines.close()
        process.kill()
        process.wait()
