"""A cluster as its user has it: the installed `bmctl`, `kubectl` and `kubectl-virt`, driven from outside."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import processes

BIN = Path(sys.executable).parent
# How many times as long as usual is waited for everything: PATIENCE=5 on a machine that is itself emulated.
PATIENCE = float(os.environ.get("PATIENCE", "1"))
Done = subprocess.CompletedProcess


@dataclass
class Cluster:
    """One cluster below `workspace`; the programs run with `workspace`'s parent as their directory."""

    workspace: Path
    name: str

    @property
    def directory(self) -> Path:
        return self.workspace / self.name

    @property
    def kubeconfig(self) -> Path:
        return self.directory / f"{self.name}-kubeconfig"

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if k not in ("KUBECONFIG", "PYTHONDONTWRITEBYTECODE")}
        return {**kept, "PATH": f"{BIN}:{kept['PATH']}", "HOME": str(self.workspace)}

    def run(self, *command: str, stdin: str | None = None, timeout: float = 60) -> Done:
        return subprocess.run(
            command,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout * PATIENCE,
            env=self.environment(),
            cwd=self.workspace.parent,
            check=False,
        )

    def bmctl(self, *args: str, ok: bool = True, timeout: float = 90) -> Done:
        """`bmctl ARGS`; with --kubeconfig where the command wants one. Asserts success unless `ok` is False."""
        words = ["bmctl", *args]
        if args[0] in ("enable", "disable", "check") and "--kubeconfig" not in args:
            words += ["--kubeconfig", str(self.kubeconfig)]
        if args[0] in ("create", "start", "stop", "get", "reset"):
            words += ["--workspace", str(self.workspace)]
        done = self.run(*words, timeout=timeout)
        assert not ok or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done

    def kubectl(self, *args: str, stdin: str | None = None, ok: bool = True, timeout: float = 60) -> Done:
        done = self.run("kubectl", "--kubeconfig", str(self.kubeconfig), *args, stdin=stdin, timeout=timeout)
        assert not ok or done.returncode == 0, f"kubectl {args}: {done.stdout}{done.stderr}"
        return done

    def virt(self, *args: str, ok: bool = True) -> Done:
        done = self.run("kubectl-virt", *args, "--kubeconfig", str(self.kubeconfig))
        assert not ok or done.returncode == 0, f"virt {args}: {done.stdout}{done.stderr}"
        return done

    def get(self, *args: str) -> dict[str, Any]:
        return json.loads(self.kubectl("get", *args, "-o", "json").stdout)

    def items(self, *args: str) -> list[dict[str, Any]]:
        """The objects of a kind; none where the cluster does not serve it."""
        done = self.kubectl("get", *args, "-o", "json", ok=False)
        if done.returncode != 0:
            unknown = ("the server doesn't have a resource type", "could not find the requested resource")
            assert any(text in done.stderr for text in unknown), done.stderr
            return []
        return json.loads(done.stdout)["items"]

    def apply(self, *objects: dict[str, Any], ok: bool = True) -> Done:
        text = "\n---\n".join(json.dumps(o) for o in objects)
        return self.kubectl("apply", "-f", "-", stdin=text, ok=ok)

    def wait_for(self, jsonpath: str, value: str, *target: str, timeout: float = 60) -> None:
        """`kubectl wait --for=jsonpath=…`; on failure the object is shown."""
        wanted = f"--for=jsonpath={{{jsonpath}}}={value}"
        limit = f"--timeout={timeout * PATIENCE:.0f}s"
        done = self.kubectl("wait", wanted, limit, *target, ok=False, timeout=timeout + 10)
        assert done.returncode == 0, done.stderr + self.kubectl("get", *target, "-o", "yaml", ok=False).stdout

    def solo_pid(self) -> int:
        return int((self.directory / "solo" / "solo.pid").read_text().split()[0])

    def processes(self) -> dict[int, list[str]]:
        """All processes whose command line or working directory lies in this cluster's directory."""
        return processes.below(self.directory)

    def qemu(self) -> dict[int, list[str]]:
        return {pid: words for pid, words in self.processes().items() if processes.is_qemu(words)}

    def manager_pid(self) -> int:
        return next(pid for pid, words in self.processes().items() if "vmruntime.controllers" in words)


def eventually(check: Callable[[], Any], timeout: float = 30, what: str = "") -> Any:
    """The first true value of `check`, asked again until `timeout` seconds have passed."""
    deadline = time.monotonic() + timeout * PATIENCE
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout * PATIENCE:g} s: {what or check}"
        time.sleep(0.1)


def kill(pid: int) -> None:
    """End a process as the kernel would; one that has gone already is no matter."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@dataclass
class Terminal:
    """A program on a real pseudo-terminal, as somebody at a keyboard has it."""

    process: subprocess.Popen[bytes]
    master: int
    output: str = ""

    @classmethod
    def start(cls, cluster: Cluster, *command: str) -> Terminal:
        master, slave = pty.openpty()
        process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=cluster.environment(),
            cwd=cluster.workspace.parent,
            start_new_session=True,
        )
        os.close(slave)
        return cls(process, master)

    def expect(self, text: str, timeout: float = 30) -> str:
        deadline = time.monotonic() + timeout
        while text not in self.output:
            if not self._read(deadline):
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"{text!r} did not come: {self.output!r}")
        return self.output

    def _read(self, deadline: float) -> bool:
        if not select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        try:
            chunk = os.read(self.master, 65536)
        except OSError:  # the other end is closed
            return False
        self.output += chunk.decode(errors="replace").replace("\r\n", "\n")
        return bool(chunk)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def wait(self, timeout: float = 60) -> int:
        """The exit code, after everything that was printed has been read."""
        deadline = time.monotonic() + timeout
        while self._read(deadline):
            pass
        code = self.process.wait(max(0.1, deadline - time.monotonic()))
        os.close(self.master)
        return code


def vm(name: str, disks: Sequence[str] = (), namespace: str = "default", **spec: Any) -> dict[str, Any]:
    """A VirtualMachine of 64 MiB with the given disks; the first one is the boot disk."""
    entries = [{"virtualMachineDiskName": disk, "boot": i == 0} for i, disk in enumerate(disks)]
    compute = {"cpu": {"vcpus": 1}, "memory": {"capacity": "64Mi"}}
    return {
        "apiVersion": "vm.cluster.gke.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"compute": compute, "disks": entries, **spec},
    }


def disk(name: str, size: str = "16Mi", namespace: str = "default", **spec: Any) -> dict[str, Any]:
    """A VirtualMachineDisk, blank unless a source is given."""
    return {
        "apiVersion": "vm.cluster.gke.io/v1",
        "kind": "VirtualMachineDisk",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"size": size, **spec},
    }
