"""Real guests under QEMU with the engine's own command line: from an imported disk to the power-off."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from bench.processes import free_port

from kube.durable import write_private
from vmruntime.engines.qemu import network, seed
from vmruntime.engines.qemu.argv import build_argv
from vmruntime.engines.qemu.config import QEMU_UID, DiskConfig, MachineConfig, NicConfig
from vmruntime.engines.qemu.qmp import Monitor, Notice, connect

ROOT = Path(__file__).parents[2]
IS_ROOT = os.geteuid() == 0
USER = QEMU_UID if IS_ROOT else os.geteuid()
GROUP = QEMU_UID if IS_ROOT else os.getegid()
BOOT_SECONDS = 60
UUID = "6f1d2c3b-0000-4000-8000-74696e790002"
ADDRESS = network.allocate_address(set(), "tests/e2e/test_qemu_boot")


@pytest.fixture(scope="module")
def guest_images() -> Path:
    """The demo guest, built once and kept below .cache."""
    out = ROOT / ".cache" / "guest"
    subprocess.run([ROOT / "scripts" / "build_guest.sh", out], check=True, stdout=subprocess.DEVNULL, timeout=300)
    return out


@dataclass
class Machine:
    """A QEMU as the node agent starts it: unprivileged, in its directory, standard output in a file."""

    directory: Path
    process: subprocess.Popen[bytes] | None = None
    notices: list[Notice] = field(default_factory=list)

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def start(self, config: MachineConfig) -> None:
        identity = {"user": USER, "group": GROUP, "extra_groups": []} if IS_ROOT else {}
        with open(self.directory / "log", "ab") as log:
            os.fchown(log.fileno(), USER, GROUP)
            self.process = subprocess.Popen(
                build_argv(config),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **identity,
            )

    async def until(self, text: str, seconds: float = BOOT_SECONDS) -> float:
        """Waits until the log holds the text; returns the seconds that it took."""
        started = time.monotonic()
        while text not in self.log:
            assert self.process is not None and self.process.poll() is None, self.log
            assert time.monotonic() - started < seconds, self.log
            await asyncio.sleep(0.05)
        return time.monotonic() - started

    async def until_notice(self, kind: str, seconds: float = 30) -> None:
        async with asyncio.timeout(seconds):
            while not any(notice.kind == kind for notice in self.notices):
                await asyncio.sleep(0.05)


@pytest.fixture
def machine(tmp_path) -> Iterator[Machine]:
    """An instance directory below one that QEMU's user may not search."""
    tmp_path.chmod(0o700)
    directory = tmp_path / "instance"
    directory.mkdir(mode=0o700)
    os.chown(directory, USER, GROUP)
    machine = Machine(directory)
    yield machine
    if machine.process is not None:
        machine.process.kill()
        machine.process.wait()
    shutil.rmtree(directory)


def import_disk(image: Path, dest: Path, format_: str, mib: int) -> None:
    argv = [sys.executable, "-m", "vmruntime.engines.qemu.importer", "--url", f"file://{image}", "--format", format_]
    argv += ["--size", str(mib << 20), "--dest", str(dest), "--owner", str(USER), "--allow-dir", str(image.parent)]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, timeout=60)


async def http_get(port: int) -> dict[str, str]:
    """The words of the guest's answer; asks until DHCP in the guest is done."""
    for _ in range(60):
        reader, writer = await asyncio.open_connection(ADDRESS, port)
        try:
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            answer = (await asyncio.wait_for(reader.read(), 1)).decode()
            if "uptime=" in answer:
                return dict(word.split("=", 1) for word in answer.splitlines()[-1].split())
        except (OSError, TimeoutError):
            pass
        finally:
            writer.transport.abort()
        await asyncio.sleep(0.25)
    raise AssertionError("no answer from the guest")


async def test_a_machine_from_a_raw_disk_lives_is_reachable_and_powers_off(guest_images, machine):
    import_disk(guest_images / "tiny.qcow2", machine.directory / "disk.raw", "raw", 64)
    image = seed.build_seed(instance_id="i-1", hostname="web-1", user_data=b"#cloud-config\nhttp: true\n")
    write_private(machine.directory / "seed.iso", image, USER if IS_ROOT else None)
    port = free_port(ADDRESS)
    nic = NicConfig("eth0", network.mac_address(UUID), host_address=ADDRESS, forwards=((port, 80),), hostname="web-1")
    disk = DiskConfig("disk.raw", serial="boot", boot_index=1)
    machine.start(MachineConfig("ns/web-1", UUID, 1, 128, (disk,), (nic,), seed="seed.iso"))
    monitor = Monitor(machine.directory, machine.notices.append)
    monitor.start()
    try:
        await monitor.wait_connected(40)
        await machine.until("TINY-READY host=web-1 ")
        assert "Booting from Hard Disk" in machine.log  # firmware and boot loader use the serial port, too
        first = await http_get(port)
        assert first["host"] == "web-1"

        assert machine.process is not None
        status = Path(f"/proc/{machine.process.pid}/status").read_text()
        assert "CapEff:\t0000000000000000" in status and "Seccomp:\t2" in status and "NoNewPrivs:\t1" in status
        assert f"Uid:\t{USER}\t{USER}" in status

        # Whoever looks after the machine goes away and comes back: the guest notices nothing.
        await monitor.close()
        async with connect(machine.directory) as qmp:
            assert await qmp.status() == "running"
        second = await http_get(port)
        assert second["boot"] == first["boot"] and float(second["uptime"]) >= float(first["uptime"])

        monitor = Monitor(machine.directory, machine.notices.append)
        monitor.start()
        await monitor.wait_connected(40)
        await monitor.qmp.powerdown()
        await machine.until_notice("SHUTDOWN")
        assert "TINY-POWEROFF" in machine.log
        assert await monitor.qmp.status() == "shutdown"
        assert machine.process.poll() is None  # the power-off stays visible
        await monitor.qmp.quit()
        assert await asyncio.to_thread(machine.process.wait, 10) == 0
    finally:
        await monitor.close()


async def test_a_machine_from_a_qcow2_disk_keeps_what_its_console_was_told(guest_images, machine):
    """Data written on the console to a second disk is there after QEMU was killed; then the guest powers itself off."""
    import_disk(guest_images / "tiny.raw", machine.directory / "disk.qcow2", "qcow2", 64)
    data = machine.directory / "data.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", data, "8M"], check=True)
    os.chown(data, USER, GROUP)
    disks = (DiskConfig("disk.qcow2", "qcow2", boot_index=1), DiskConfig("data.qcow2", "qcow2", serial="data"))
    config = MachineConfig("ns/db", UUID, 1, 96, disks)
    machine.start(config)
    await machine.until("TINY-READY host=tiny ")

    type_on_console(machine, b"echo kept-$((40+2)) | dd of=/dev/vdb conv=fsync 2>/dev/null; echo wrote-$((1+1))\n")
    await machine.until("wrote-2", 15)
    assert machine.process is not None
    machine.process.kill()
    machine.process.wait()

    machine.start(config)
    lines = machine.log.count("TINY-READY")
    while machine.log.count("TINY-READY") == lines:
        await asyncio.sleep(0.05)
        assert machine.process.poll() is None
    type_on_console(machine, b"head -c 7 /dev/vdb; echo; poweroff -f\n")
    await machine.until("kept-42", 15)
    async with connect(machine.directory) as qmp, asyncio.timeout(60):
        while await qmp.status() != "shutdown":
            await asyncio.sleep(0.05)
    machine.process.terminate()
    assert await asyncio.to_thread(machine.process.wait, 10) == 0


def type_on_console(machine: Machine, keys: bytes) -> None:
    argv = [sys.executable, "-m", "vmruntime.engines.qemu.console", "serial.sock"]
    subprocess.run(argv, cwd=machine.directory, input=keys, check=True, stdout=subprocess.DEVNULL, timeout=15)
