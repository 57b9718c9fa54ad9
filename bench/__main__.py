"""Run all measurements on a cluster of their own and print one table."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import api, guests, imports, machines, processes
from kube.client.config import load_kubeconfig
from kube.client.sync import SyncClient
from vmruntime.api import vmruntime
from vmruntime.api.names import RUNTIME_NAME

BIN = Path(sys.executable).parent
REST_SECONDS = 20.0
ROUNDS = 5
IMPORT_ROUNDS = 9
AT_ONCE = 20
SPACED = 100
MIB = 1 << 20


class Bench:
    """One cluster in a temporary workspace, and the rows of the table."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self.directory = workspace / "bench"
        self.rows: list[tuple[str, str, str]] = []

    def row(self, what: str, value: str, against: str = "") -> None:
        self.rows.append((what, value, against))
        print(f"{what}: {value} {against}", file=sys.stderr, flush=True)

    def bmctl(self, *words: str) -> float:
        """Run bmctl; seconds from its start to its end."""
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        began = time.perf_counter()
        done = subprocess.run(
            [str(BIN / "bmctl"), *words], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"bmctl {' '.join(words)}: {done.stderr}")
        return time.perf_counter() - began

    def client(self) -> SyncClient:
        return SyncClient(load_kubeconfig(str(self.directory / "bench-kubeconfig")))

    def control_plane(self) -> list[int]:
        return [pid for pid, words in processes.below(self.directory).items() if not processes.is_qemu(words)]

    def qemu(self) -> dict[int, list[str]]:
        return {pid: words for pid, words in processes.below(self.directory).items() if processes.is_qemu(words)}

    def memory(self) -> int:
        return sum(processes.pss(pid) for pid in self.control_plane())


def middle(values: list[float]) -> str:
    ordered = sorted(values)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    return f"p50 {statistics.median(ordered):.2f} s, p95 {p95:.2f} s (n={len(ordered)})"


def measure_start(bench: Bench) -> None:
    created, started = [], []
    # A port that other clusters of this machine do not look for when they start.
    create = (
        "create",
        "cluster",
        "-c",
        "bench",
        "--workspace",
        str(bench.workspace),
        "--port",
        str(processes.free_port()),
    )
    for _ in range(ROUNDS):
        created.append(bench.bmctl(*create))
        bench.bmctl("stop", "cluster", "-c", "bench", "--workspace", str(bench.workspace))
        started.append(bench.bmctl("start", "cluster", "-c", "bench", "--workspace", str(bench.workspace)))
        bench.bmctl("reset", "-c", "bench", "--yes", "--workspace", str(bench.workspace))
    bench.row("`bmctl create cluster` → API ready, runtime installed (whole command)", middle(created))
    bench.row("`bmctl start cluster` → API ready (whole command)", middle(started))
    bench.bmctl(*create)


def measure_switch(bench: Bench) -> None:
    kubeconfig = str(bench.directory / "bench-kubeconfig")
    with bench.client() as client:
        client.patch(vmruntime.RESOURCE, RUNTIME_NAME, {"spec": {"useEmulation": True}})
    bench.bmctl("enable", "vmruntime", "--kubeconfig", kubeconfig)
    on, off = [], []
    for _ in range(ROUNDS):
        off.append(bench.bmctl("disable", "vmruntime", "--kubeconfig", kubeconfig))
        on.append(bench.bmctl("enable", "vmruntime", "--kubeconfig", kubeconfig))
    bench.row("`bmctl enable vmruntime` → `status.ready` (whole command)", middle(on))
    bench.row("`bmctl disable vmruntime`, no VMs → disabled (whole command)", middle(off))


def measure_rest(bench: Bench, what: str) -> None:
    pids = bench.control_plane()
    before = {pid: processes.cpu_seconds(pid) for pid in pids}
    time.sleep(REST_SECONDS)
    used = sum(processes.cpu_seconds(pid) - before[pid] for pid in pids)
    bench.row(f"control plane at rest, {what}: memory (PSS, {len(pids)} processes)", f"{bench.memory() / MIB:.0f} MiB")
    bench.row(f"control plane at rest, {what}: CPU", f"{100 * used / REST_SECONDS:.2f} % of a core")


def measure_machines(bench: Bench) -> None:
    with bench.client() as client:
        alone = []
        for index in range(ROUNDS):
            alone += machines.create_and_wait(client, [f"alone-{index}"])
            if index == 0:
                command = next(iter(bench.qemu().values()))
            machines.delete_all(client)
        bare = [bare_seconds(command) for _ in range(ROUNDS)]
        ratio = f"{statistics.median(alone) / statistics.median(bare):.1f} × bare QEMU to its QMP greeting"
        bench.row("VM created → Running, one", middle(alone), f"{ratio} (p50 {statistics.median(bare):.3f} s)")
        before = bench.memory()
        batch = machines.create_and_wait(client, [f"batch-{index}" for index in range(AT_ONCE)])
        bench.row(f"VM created → Running, {AT_ONCE} at once", middle(batch))
        per_vm = (bench.memory() - before) / AT_ONCE
        bench.row("memory per VM in the control plane", f"{per_vm / MIB:.2f} MiB")
        own = statistics.median(processes.pss(pid) for pid in bench.qemu())
        by_hand = bare_memory(command)
        bench.row(
            "memory per VM in its QEMU (PSS)", f"{own / MIB:.0f} MiB", f"{own / by_hand:.2f} × the same QEMU by hand"
        )
        measure_rest(bench, f"{AT_ONCE} VMs")
        machines.delete_all(client)
        revision = machines.revision(client)
        spaced = machines.create_and_wait(client, [f"spaced-{index}" for index in range(SPACED)], gap=0.1)
        writes = (machines.revision(client) - revision) / SPACED
        bench.row(f"VM created → Running, {SPACED} at 100 ms distance", middle(spaced))
        bench.row("API writes per VM from its creation to Running, that one included", f"{writes:.1f}")
        machines.delete_all(client)


def measure_guest(bench: Bench) -> None:
    logs = bench.directory / "solo" / "pods"
    with bench.client() as client:
        image = guests.image()
        guests.import_disk(client, "boot", image, bench.directory / "images")
        booted, by_hand = [], []
        for index in range(ROUNDS):
            booted.append(guests.first_line(client, f"boot-{index}", "boot", logs))
            command = next(iter(bench.qemu().values()))
            machines.delete_all(client)
            by_hand.append(guests.bare_first_line(command, image))
        bare = statistics.median(by_hand)
        ratio = f"{statistics.median(booted) / bare:.2f} × bare QEMU with the same disk (p50 {bare:.2f} s)"
        bench.row("VM created → the guest's own first line (TCG, kernel from a disk)", middle(booted), ratio)


def measure_imports(bench: Bench) -> None:
    directory = bench.workspace.parent / "images"
    directory.mkdir()
    image = imports.make_image(directory)
    with imports.served(directory) as base, bench.client() as client:
        for image_format in ("raw", "qcow2"):
            client.patch(vmruntime.RESOURCE, RUNTIME_NAME, {"spec": {"vmImageFormat": image_format}})
            first, second, bare = [], [], []
            for index in range(IMPORT_ROUNDS):
                # A query makes it another source each time, which the cache doesn't know.
                url = f"{base}/{image.name}?{image_format}{index}"
                bare.append(sum(imports.by_hand(url, directory, image_format)))
                for name, times in (("first", first), ("second", second)):
                    times.append(imports.create_and_wait(client, name, url))
                    imports.delete(client, name)
                imports.drop_cached(bench.directory / "vm" / "cache")
            against = (
                f"{statistics.median(first) / statistics.median(bare):.2f} × `curl`, `qemu-img convert` and `sync`"
            )
            what = f"import of a qcow2 of 500 MB by HTTP, as {image_format}: disk created → Succeeded"
            bench.row(what, middle(first), f"{against} ({middle(bare)})")
            bench.row(f"the second disk from it, as {image_format}", middle(second))


def measure_api(bench: Bench) -> None:
    for row in api.rows():
        bench.row(*row)


def bare_command(command: list[str]) -> list[str]:
    """The same command line with a user-mode network, so that it can run beside the cluster's own machines."""
    return [re.sub(r"^(?:user|tap),id=(\w+),.*", r"user,id=\1", word) for word in command]


def bare_seconds(command: list[str]) -> float:
    with tempfile.TemporaryDirectory() as directory:
        seconds, process = machines.bare_start(bare_command(command), Path(directory))
        process.kill()
        process.wait()
    return seconds


def bare_memory(command: list[str]) -> int:
    with tempfile.TemporaryDirectory() as directory:
        _, process = machines.bare_start(bare_command(command), Path(directory))
        time.sleep(3.0)
        size = processes.pss(process.pid)
        process.kill()
        process.wait()
    return size


STEPS: dict[str, Callable[[Bench], None]] = {
    "start": measure_start,
    "switch": measure_switch,
    "rest": lambda bench: measure_rest(bench, "enabled, no VMs"),
    "machines": measure_machines,
    "guest": measure_guest,
    "imports": measure_imports,
    "api": measure_api,
}
# What the others need to be there.
FIRST = ("start", "switch")


def main(names: list[str]) -> int:
    """Run the steps of these names (default: all); the API's needs none of the others."""
    unknown = set(names) - set(STEPS)
    if unknown:
        print(f"error: no step {', '.join(sorted(unknown))}; there are {', '.join(STEPS)}", file=sys.stderr)
        return 2
    wanted = set(names or STEPS)
    if wanted - {"api"}:
        wanted.update(FIRST)
    with tempfile.TemporaryDirectory() as temporary:
        os.chmod(temporary, 0o711)
        bench = Bench(Path(temporary) / "bmctl-workspace")
        try:
            for name, step in STEPS.items():
                if name in wanted:
                    step(bench)
        finally:
            if bench.directory.exists():
                bench.bmctl("reset", "-c", "bench", "--yes", "--workspace", str(bench.workspace))
    print("| what | measured | against |\n| --- | --- | --- |")
    for what, value, against in bench.rows:
        print(f"| {what} | {value} | {against} |")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
