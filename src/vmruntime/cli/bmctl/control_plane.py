"""The embedded control plane as a process: start it, know whether it runs, stop it.

`solo` is started as a program, in its own session, and never imported. It holds a lock on a file in its data directory
for as long as it lives, so "does it run?" is a question to the kernel: a pid file that a crash left misleads nobody.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from vmruntime.cli.bmctl.workspace import Cluster, Record
from vmruntime.cli.dispatch import CommandError

# A bound for one that hangs; one that ends is noticed at once. A slow machine under load needs more than half a minute.
START_SECONDS = 120.0
STOP_SECONDS = 15.0


def is_running(cluster: Cluster) -> bool:
    """Whether the control plane's process lives."""
    try:
        with open(cluster.data / "solo.lock", "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def start(cluster: Cluster, record: Record) -> None:
    """Start the control plane and wait until its API answers.

    Raises CommandError with the program's own reason (a taken port, an unreadable database) if it does not come up.
    """
    reader, writer = os.pipe()
    command = [sys.executable, "-P", "-m", "solo", "--data", str(cluster.data)]
    command += ["--listen", record.listen, "--port", str(record.port), "--cluster-name", cluster.name]
    command += ["--kubeconfig", str(cluster.kubeconfig), "--ready-fd", str(writer)]
    # Where Python may not write byte code, every start would compile everything again.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    cluster.log.parent.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(cluster.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=cluster.directory,
            env=environment,
            pass_fds=(writer,),
            start_new_session=True,
        )
    os.close(writer)
    try:
        _await_ready(cluster, process, reader)
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        os.close(reader)
    # It outlives this command on purpose; without this, Python warns of a child that was never waited for.
    process.returncode = 0


def _await_ready(cluster: Cluster, process: subprocess.Popen[bytes], reader: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    answer = b""
    while not answer.endswith(b"\n"):
        readable, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            raise CommandError(f"the control plane did not answer within {START_SECONDS:.0f} s; see {cluster.log}")
        chunk = os.read(reader, 4096)
        if not chunk:
            break
        answer += chunk
    if answer == b"READY\n":
        return
    reason = answer.decode(errors="replace").removeprefix("ERROR ").strip()
    raise CommandError(f"the control plane did not start: {reason or _last_line(cluster.log)}")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"{lines[-1]} (log: {log})" if lines else f"see {log}"


def stop(cluster: Cluster) -> None:
    """Stop the control plane, nicely first. Its pods' processes go on. Raises CommandError if it does not go."""
    if not is_running(cluster):
        return
    pid = _pid(cluster)
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            # The lock is asked again after the handle exists: only now is the handle surely the process that held it.
            if not is_running(cluster):
                return
            signal.pidfd_send_signal(process, signal_number)
            if select.select([process], [], [], STOP_SECONDS)[0]:
                return
    except ProcessLookupError:
        return
    finally:
        os.close(process)
    raise CommandError(f"the control plane (pid {pid}) does not stop; see {cluster.log}")


def _pid(cluster: Cluster) -> int:
    """The process that holds the lock, as it wrote it down. Raises CommandError."""
    file = cluster.data / "solo.pid"
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        raise CommandError(
            f"the control plane is just starting or ending ({file} names no process); try again"
        ) from None


def stop_pods(cluster: Cluster, *selection: str) -> None:
    """End the processes of a stopped cluster's pods: asked first, then killed. `selection` narrows it down.

    Raises CommandError if one does not go.
    """
    command = [sys.executable, "-P", "-m", "solo.node.teardown", "--data", str(cluster.data), *selection]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise CommandError(f"the pods' processes were not all stopped: {reason}")
