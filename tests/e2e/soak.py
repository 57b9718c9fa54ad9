"""Random operations on machines and disks, and what must be true of the cluster whatever was done and killed.

`Soak` does operations that follow from a seed and keeps the wishes beside them; `check` compares these with what there
is. It looks from outside: at the API, at processes and at files, never at a controller's memory.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2e import soak_checks
from e2e.cluster import Cluster, disk, kill, vm
from e2e.soak_checks import BLOCK, MIB, NAMESPACE, Disk, Machine
from e2e.soak_writer import Writer
from kube.client.config import load_kubeconfig
from kube.client.errors import ConnectionFailed
from kube.client.sync import SyncClient
from kube.machinery.errors import StatusError
from vmruntime.api import virtualmachine

# Ends of QEMU in a row make the pause before the next start grow up to a minute: so long a check may take.
SETTLE_SECONDS = 150.0
_MACHINES, _DISKS = 6, 10
_PATTERN_SPAN = 4 * MIB
_LOOK_SECONDS = 0.02


class Soak:
    """Operations on one cluster with the runtime enabled, in an order that `seed` decides."""

    def __init__(self, cluster: Cluster, seed: int, writer: Writer | None = None) -> None:
        """`writer` is a guest beside them, which is killed with the others but not edited."""
        self.cluster = cluster
        self.random = random.Random(seed)
        self.machines: dict[str, Machine] = {}
        self.disks: dict[str, Disk] = {}
        self.writer = writer
        self.journal: list[str] = []
        self.twice: set[str] = set()
        self._number = 0
        self._revision = 0

    # --- running ---

    def run(self, count: int, tell: Callable[[str], None]) -> None:
        """Do `count` operations, some at once after each other, and check now and then and at the end."""
        with self._watching():
            for index in range(count):
                operation = self._choose()
                done = operation()
                line = f"{index + 1:4} {operation.__name__.removeprefix('_do_')} {done}"
                self.journal.append(line)
                tell(line)
                self._note_revision()
                if self.writer is not None:
                    assert not self.writer.wrong()
                if self.random.random() < 0.5:
                    time.sleep(self.random.random() * 0.6)
                if self.random.random() < 0.06:
                    self.check(tell)
            self.check(tell)

    def _choose(self) -> Callable[[], str]:
        weights: dict[Callable[[], str], int] = {
            self._do_create: 14 if len(self.machines) < _MACHINES else 0,
            self._do_create_disk: 8 if len(self.disks) < _DISKS else 0,
            self._do_clone_disk: 8 if self._quiet_disks() and len(self.disks) < _DISKS else 0,
            self._do_delete_disk: 4 if self._free_disks() else 0,
            self._do_write: 10 if self._writable_disks() else 0,
            self._do_resize: 8 if self._growing_disks() else 0,
            self._do_kill_manager: 4,
            self._do_kill_solo: 4,
            self._do_kill_both: 2,
            self._do_stop_and_start_cluster: 1,
        }
        if self.machines:
            weights |= {
                self._do_stop: 10,
                self._do_start: 10,
                self._do_restart: 8,
                self._do_edit_compute: 8,
                self._do_edit_disks: 6,
                self._do_edit_media: 8,
                self._do_toggle_auto_restart: 3,
                self._do_kill_qemu: 8,
                self._do_remove_pods: 5,
                self._do_delete: 6,
                self._do_delete_with_disks: 3,
                self._do_replace: 3,
            }
        return self.random.choices(list(weights), list(weights.values()))[0]

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Look all the time for a machine that has two processes, or a disk with two writers."""
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(_LOOK_SECONDS):
                self.twice |= soak_checks.had_twice(self.cluster.qemu().values())

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        assert not self.twice, f"two processes at once had {self.twice}"

    def _note_revision(self) -> None:
        with SyncClient(load_kubeconfig(str(self.cluster.kubeconfig))) as client:
            revision = int(client.list(virtualmachine.RESOURCE, NAMESPACE)["metadata"]["resourceVersion"])
        assert revision >= self._revision, f"the API went back from version {self._revision} to {revision}"
        self._revision = revision

    def _name(self, prefix: str) -> str:
        self._number += 1
        return f"{prefix}{self._number}"

    def _patch(self, name: str, spec: dict[str, Any]) -> None:
        self.cluster.kubectl("patch", "gvm", name, "--type=merge", "-p", json.dumps({"spec": spec}))

    # --- operations on machines; each returns what it did ---

    def _a_machine(self) -> str:
        return self.random.choice(sorted(self.machines))

    def _spec(self, machine: Machine) -> dict[str, Any]:
        compute = {"cpu": {"vcpus": machine.vcpus}, "memory": {"capacity": f"{machine.memory}Mi"}}
        return {
            "compute": compute,
            "disks": [{"virtualMachineDiskName": name} for name in machine.disks],
            "runningState": "Running" if machine.running else "Stopped",
            "autoRestartOnConfigurationChange": machine.auto_restart,
            "terminationGracePeriodSeconds": self.random.choice([0, 1]),
        }

    def _create(self, name: str) -> str:
        """Disks, and then the machine, or the other way round."""
        wanted = Machine([self._name("d") for _ in range(self.random.choice([0, 1, 1, 2]))])
        objects = [disk(entry, "8Mi") for entry in wanted.disks]
        self.disks |= {entry: Disk(8 * MIB) for entry in wanted.disks}
        self.machines[name] = wanted
        objects.insert(self.random.choice([0, len(objects)]), vm(name) | {"spec": self._spec(wanted)})
        self.cluster.apply(*objects)
        return f"{name} with {wanted.disks}"

    def _do_create(self) -> str:
        return self._create(self._name("v"))

    def _do_replace(self) -> str:
        """Deleted, and created again under the same name without waiting for anything else."""
        name = self._a_machine()
        self._delete(name)
        return self._create(name)

    def _power(self, name: str, word: str, running: bool) -> str:
        done = self.cluster.virt(word, name, ok=False)
        refused = done.returncode != 0
        # `restart` refuses what is stopped; a wish that is not fulfilled yet is not.
        assert not refused or (word == "restart" and not self.machines[name].running), done.stderr
        if not refused:
            self.machines[name].running = running
        return name + (" (refused)" if refused else "")

    def _do_stop(self) -> str:
        return self._power(self._a_machine(), "stop", running=False)

    def _do_start(self) -> str:
        return self._power(self._a_machine(), "start", running=True)

    def _do_restart(self) -> str:
        return self._power(self._a_machine(), "restart", running=True)

    def _do_edit_compute(self) -> str:
        name = self._a_machine()
        wanted = self.machines[name]
        wanted.vcpus, wanted.memory = self.random.choice([1, 2]), self.random.choice([48, 64, 80])
        self._patch(name, {"compute": self._spec(wanted)["compute"]})
        return f"{name} {wanted.vcpus} CPUs {wanted.memory}Mi"

    def _do_edit_disks(self) -> str:
        """Take a disk away, or attach one that no machine has: at once, or with the next start."""
        name = self._a_machine()
        wanted = self.machines[name]
        free = sorted(set(self._free_disks()) - self._held())
        if wanted.disks and (not free or self.random.random() < 0.5):
            wanted.disks.remove(self.random.choice(wanted.disks))
        elif free:
            wanted.disks.append(self.random.choice(free))
        self._patch(name, {"disks": self._spec(wanted)["disks"]})
        return f"{name} {wanted.disks}"

    def _do_edit_media(self) -> str:
        """Insert a CD-ROM, which other machines may have as well, or eject what there is."""
        name = self._a_machine()
        wanted = self.machines[name]
        had = [entry for entry in wanted.disks if self.disks[entry].cdrom]
        others = sorted(entry for entry in self.disks if self.disks[entry].cdrom and entry not in had)
        wanted.disks = [entry for entry in wanted.disks if entry not in had]
        if others and (not had or self.random.random() < 0.5):
            wanted.disks.append(self.random.choice(others))
        self._patch(name, {"disks": self._spec(wanted)["disks"]})
        return f"{name} {wanted.disks}"

    def _do_toggle_auto_restart(self) -> str:
        name = self._a_machine()
        wanted = self.machines[name]
        wanted.auto_restart = not wanted.auto_restart
        self._patch(name, {"autoRestartOnConfigurationChange": wanted.auto_restart})
        return f"{name} {wanted.auto_restart}"

    def _delete(self, name: str) -> None:
        self.cluster.kubectl("delete", "gvm", name, timeout=90)
        del self.machines[name]

    def _do_delete(self) -> str:
        name = self._a_machine()
        self._delete(name)
        return name

    def _do_delete_with_disks(self) -> str:
        name = self._a_machine()
        done = self.cluster.virt("delete", "vm", name, "--all").stdout
        # Disks that another machine has are kept.
        gone = [entry for entry in self.machines[name].disks if f'Deleted VirtualMachineDisk "{entry}".' in done]
        del self.machines[name]
        for entry in gone:
            del self.disks[entry]
        return f"{name} and {gone}"

    # --- operations on disks ---

    def _attached(self) -> set[str]:
        return {entry for machine in self.machines.values() for entry in machine.disks}

    def _held(self) -> set[str]:
        """Disks that a machine lists or, whatever its spec says by now, has."""
        return self._attached() | {
            str(entry["name"])
            for machine in self.cluster.items("gvm")
            for entry in machine.get("status", {}).get("disks", [])
        }

    def _free_disks(self) -> list[str]:
        """Disks that no machine lists, and of which no copy is being made."""
        copied = {entry.copying for entry in self.disks.values()}
        return sorted(name for name in self.disks if name not in self._attached() | copied)

    def _quiet_disks(self) -> list[str]:
        """Those of them that are no copy which is not made yet."""
        return [name for name in self._free_disks() if not self.disks[name].copying]

    def _growing_disks(self) -> list[str]:
        """Disks that grow at once: a CD-ROM does not while a machine has it."""
        return sorted(name for name, wanted in self.disks.items() if not wanted.cdrom)

    def _writable_disks(self) -> list[str]:
        return [name for name in self._quiet_disks() if self._file(name) is not None]

    def _file(self, name: str) -> Path | None:
        """The file of the disk `name`, once it is there."""
        return next(self.cluster.directory.glob(f"vm/disks/{NAMESPACE}/{name}_*/disk.raw"), None)

    def _do_create_disk(self) -> str:
        cdrom = self.random.random() < 0.4
        name = self._name("r" if cdrom else "d")
        self.cluster.apply(disk(name, "8Mi", **({"diskType": "cdrom"} if cdrom else {})))
        self.disks[name] = Disk(8 * MIB, cdrom=cdrom)
        return name

    def _do_clone_disk(self) -> str:
        origin, name = self.random.choice(self._quiet_disks()), self._name("c")
        source = self.disks[origin]
        self.cluster.apply(disk(name, str(source.size), source={"virtualMachineDisk": {"name": origin}}))
        self.disks[name] = Disk(source.size, dict(source.patterns), origin)
        return f"{origin} to {name}"

    def _do_delete_disk(self) -> str:
        name = self.random.choice(self._free_disks())
        if name in self._held():
            return f"not {name}: a machine still has it"
        self.cluster.kubectl("delete", "vmdisk", name, "--wait=false")
        del self.disks[name]
        return name

    def _do_write(self) -> str:
        """Data that no machine may lose, into a disk that none has open."""
        name = self.random.choice(self._writable_disks())
        path = self._file(name)
        if path is None or name in self._held():
            return "nothing: a machine still has it"
        offset = self.random.randrange(_PATTERN_SPAN // BLOCK) * BLOCK
        data = self.random.randbytes(BLOCK)
        with path.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), data, offset)
        self.disks[name].patterns[offset] = data
        return f"{name} at {offset}"

    def _do_resize(self) -> str:
        name = self.random.choice(self._growing_disks())
        wanted = self.disks[name]
        wanted.size += self.random.randrange(1, 4) * MIB
        size = json.dumps({"spec": {"size": str(wanted.size)}})
        self.cluster.kubectl("patch", "vmdisk", name, "--type=merge", "-p", size)
        return f"{name} to {wanted.size // MIB}Mi"

    # --- faults ---

    def _do_kill_qemu(self) -> str:
        running = sorted(self.cluster.qemu())
        if not running:
            return "none"
        pid = self.random.choice(running)
        kill(pid)
        return str(pid)

    def _manager_pids(self) -> list[int]:
        return [pid for pid, words in self.cluster.processes().items() if "vmruntime.controllers" in words]

    def _do_kill_manager(self) -> str:
        """A pod that was killed before waits longer and longer, as everywhere; another one in its place does not.

        One that was not killed is still there for a moment when the next one begins.
        """
        if self.random.random() < 0.6:
            for pid in self._manager_pids():
                kill(pid)
        self.cluster.kubectl("delete", "pods", "-n", "vm-system", "--all", "--grace-period=0", "--force")
        return ""

    def _start_cluster(self) -> None:
        while "Running" in self.cluster.bmctl("get", "clusters").stdout:
            time.sleep(0.05)
        self.cluster.bmctl("start", "cluster", "-c", self.cluster.name)

    def _do_remove_pods(self) -> str:
        """As somebody would who thinks that a VM hangs: the objects go at once, the processes when they can."""
        name = self._a_machine()
        force = self.random.choice([["--grace-period=0", "--force"], []])
        self.cluster.kubectl("delete", "pods", "-l", f"kubevirt/vm={name}", "--wait=false", *force)
        return f"{name} {force}"

    def _do_kill_solo(self) -> str:
        kill(self.cluster.solo_pid())
        killed = self._do_kill_qemu() if self.random.random() < 0.5 else ""
        self._start_cluster()
        return f"and while it was away QEMU {killed}" if killed else ""

    def _do_kill_both(self) -> str:
        for pid in (self.cluster.solo_pid(), *self._manager_pids()):
            kill(pid)
        time.sleep(self.random.random() * 0.3)
        self._start_cluster()
        return ""

    def _do_stop_and_start_cluster(self) -> str:
        self.cluster.bmctl("stop", "cluster", "-c", self.cluster.name, "--timeout", "1s")
        assert self.cluster.processes() == {}
        self.cluster.bmctl("start", "cluster", "-c", self.cluster.name)
        return ""

    # --- what has to be true ---

    def check(self, tell: Callable[[str], None]) -> None:
        """Wait until everything is as it was asked for. AssertionError with all that is not, if that takes too long."""
        began = time.monotonic()
        while wrong := self._wrong():
            assert not self.twice, f"two processes at once had {self.twice}"
            if time.monotonic() - began > SETTLE_SECONDS:
                raise AssertionError("\n".join([f"after {SETTLE_SECONDS:.0f} s:", *wrong]))
            time.sleep(0.3)
        for wanted in self.disks.values():
            wanted.copying = ""
        figures = [soak_checks.figures("solo", self.cluster.solo_pid())]
        figures += [soak_checks.figures("manager", pid) for pid in self._manager_pids()]
        size = f"{len(self.machines)} machines, {len(self.disks)} disks"
        if self.writer is not None:
            size += f", {self.writer.told} written"
        tell(f"     as it should be after {time.monotonic() - began:.1f} s: {size}, {', '.join(figures)}")

    def _wrong(self) -> list[str]:
        try:
            found = soak_checks.Found.of(self.cluster)
        except (StatusError, ConnectionFailed) as error:
            return [f"the API does not answer: {error}"]
        if self.writer is None:
            return soak_checks.wrong(found, self.machines, self.disks)
        machines, disks = self.machines | self.writer.machines, self.disks | self.writer.disks
        return [*self.writer.wrong(), *soak_checks.wrong(found, machines, disks)]
