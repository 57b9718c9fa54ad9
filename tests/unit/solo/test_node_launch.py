"""Starting processes: identity, descriptors, errors, and the gate that nothing passes unrecorded."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from solo.node import procfs
from solo.node.launch import CAPABILITIES, Launch, LaunchError, fork_gated
from solo.node.libc import is_system_administrator
from solo.node.reaper import ExitWatch, exit_code

PATH = "/usr/local/bin:/usr/bin:/bin"
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


async def run(tmp_path: Path, argv: list[str], **fields) -> tuple[int, str]:
    out = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
    null = os.open(os.devnull, os.O_RDONLY)
    env = {"PATH": PATH, **fields.pop("env", {})}
    try:
        process = fork_gated(
            Launch(argv, env, fields.pop("cwd", str(tmp_path)), stdin=null, stdout=out, stderr=out, **fields)
        )
        await process.release()
    finally:
        os.close(out)
        os.close(null)
    status = await asyncio.wait_for(process.watch.wait(), 30)
    return status, (tmp_path / "out").read_text()


async def test_runs_with_environment_directory_and_clean_descriptors(tmp_path):
    keep = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(keep, True)
    script = 'pwd; echo "$X"; umask; ls /proc/self/fd; ps -o sid= -p $$; echo $$'
    try:
        status, output = await run(tmp_path, ["sh", "-c", script], env={"X": "a b"})
    finally:
        os.close(keep)
    lines = output.split("\n")
    assert exit_code(status) == (0, 0)
    assert lines[:3] == [str(tmp_path), "a b", "0077"]
    assert lines[3:7] == ["0", "1", "2", "3"]  # 3 is the directory that ls itself reads
    assert lines[7].strip() == lines[8].strip(), "leads its own session"


async def test_signals_are_unblocked_and_default(tmp_path):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        _, output = await run(tmp_path, ["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"])
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    # Signals 32 and 33 are glibc's own; nobody can set them through it, and some parents (make) leave them ignored.
    internal = 0b11 << 31
    assert [int(line.split()[1], 16) & ~internal for line in output.splitlines()] == [0, 0]


async def test_exit_codes(tmp_path):
    status, _ = await run(tmp_path, ["sh", "-c", "exit 7"])
    assert exit_code(status) == (7, 0)
    status, _ = await run(tmp_path, ["sh", "-c", "kill -9 $$"])
    assert exit_code(status) == (137, 9)


@pytest.mark.parametrize(
    ("argv", "fields", "text"),
    [
        (["no-such-program"], {}, "executable file not found"),
        (["/etc/passwd"], {}, "Permission denied"),
        (["true"], {"cwd": "/no/such/directory"}, "No such file or directory"),
    ],
)
async def test_failures_say_what_went_wrong(tmp_path, argv, fields, text):
    with pytest.raises(LaunchError, match=text):
        await run(tmp_path, argv, **fields)


@root_only
async def test_drops_to_a_user_after_entering_a_directory_that_only_root_may(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    argv = ["sh", "-c", "id -u; id -g; id -G; grep -E 'Cap(Amb|Eff)|NoNewPrivs' /proc/self/status"]
    bind = CAPABILITIES["NET_BIND_SERVICE"]
    _, output = await run(
        tmp_path, argv, cwd=str(closed), uid=60800, gid=60801, groups=(60802,), ambient=(bind,), no_new_privileges=True
    )
    lines = output.split("\n")
    assert lines[:3] == ["60800", "60801", "60801 60802"]
    values = dict(line.split(":\t") for line in lines[3:6])
    assert int(values["CapEff"], 16) == int(values["CapAmb"], 16) == 1 << bind
    assert values["NoNewPrivs"] == "1"


@root_only
async def test_dropped_capabilities_are_gone_for_root_too(tmp_path):
    _, output = await run(tmp_path, ["grep", "CapEff", "/proc/self/status"], drop=tuple(CAPABILITIES.values()))
    assert int(output.split()[1], 16) == 0


async def test_a_process_that_cannot_be_watched_runs_nothing(tmp_path, monkeypatch):
    def refuse(_pid):
        raise OSError(errno.EMFILE, "Too many open files")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        fork_gated(Launch(["touch", str(tmp_path / "ran")], {"PATH": PATH}, "/", stdin=0, stdout=1, stderr=2))
    assert not (tmp_path / "ran").exists() and len(os.listdir("/proc/self/fd")) == before


async def test_an_abandoned_process_runs_nothing(tmp_path):
    process = fork_gated(Launch(["touch", str(tmp_path / "ran")], {"PATH": PATH}, "/", stdin=0, stdout=1, stderr=2))
    process.abandon()
    assert not (tmp_path / "ran").exists()
    assert procfs.read_stat(process.pid) is None


AGENT_THAT_DIES = """
import asyncio, os, signal, sys
from solo.node.launch import Launch, fork_gated

async def main():
    p = fork_gated(Launch(["touch", sys.argv[1]], {"PATH": "/usr/bin:/bin"}, "/", stdin=0, stdout=1, stderr=2))
    print(p.pid, p.start_ticks, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_a_process_whose_agent_died_before_the_gate_opened_runs_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", AGENT_THAT_DIES, str(tmp_path / "ran")], capture_output=True, text=True, timeout=20
    )
    pid, ticks = map(int, done.stdout.split())
    for _ in range(2000):
        if not procfs.is_same_process(pid, ticks):
            break
        await asyncio.sleep(0.01)
    assert not procfs.is_same_process(pid, ticks)
    assert not (tmp_path / "ran").exists()


async def test_another_process_with_the_same_number_is_not_mistaken():
    stat = procfs.read_stat(os.getpid())
    assert stat is not None
    with pytest.raises(ProcessLookupError):
        ExitWatch(os.getpid(), stat.start_ticks - 1)


@pytest.mark.skipif(not is_system_administrator(), reason="needs CAP_SYS_ADMIN")
async def test_a_host_name_of_its_own(tmp_path):
    before = os.uname().nodename
    status, output = await run(tmp_path, ["uname", "-n"], hostname="worker-0")
    assert exit_code(status) == (0, 0)
    assert output.strip() == "worker-0"
    assert os.uname().nodename == before


@root_only
async def test_without_the_right_to_name_a_host_it_has_the_hosts_name(tmp_path):
    code = (
        "import asyncio, pathlib, sys; from unit.solo.test_node_launch import run; "
        "print(asyncio.run(run(pathlib.Path(sys.argv[1]), ['uname', '-n'], hostname='worker-0'))[1])"
    )
    command = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", sys.executable, "-c", code]
    done = subprocess.run(
        [*command, str(tmp_path)], capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=30
    )
    assert done.stdout.strip() == os.uname().nodename, done.stderr
