"""Start a process that nothing stands in front of, that outlives us, and that can never be lost track of.

The new process is forked, closes what it inherited and then waits at a *gate*, a pipe. The agent writes down its pid
meanwhile and only then opens the gate; if the agent dies first, the pipe ends and the process leaves without having
run anything. So every process that runs is on record, and no wrapper is needed to make it so.

Between fork and exec only system calls are made: no locks, no allocation to speak of, garbage collection off, all
signals blocked, so that it is safe beside threads. Failures come back through a second pipe that exec closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import gc
import os
import signal
import termios
import warnings
from dataclasses import dataclass
from typing import NoReturn

from solo.node.libc import check, libc
from solo.node.mounts import Mount, join_namespace, make_namespace
from solo.node.procfs import read_stat
from solo.node.reaper import ExitWatch

_PR_SET_KEEPCAPS, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 8, 24, 38, 47, 2
_CAPABILITY_VERSION_3 = 0x20080522
_CLONE_NEWUTS = 0x04000000
_GATE, _ERRORS, _FIRST_FREE = 3, 4, 5
_REAP_SECONDS = 2.0

_CAPABILITY_NAMES = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT
    SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP
    MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
CAPABILITIES = {name: number for number, name in enumerate(_CAPABILITY_NAMES.split())}
"""Capability numbers of linux/capability.h by their name without `CAP_`."""


class LaunchError(Exception):
    """The process could not be started; the message says at which step and why."""

    def __init__(self, stage: str, number: int, subject: str) -> None:
        reason = "executable file not found" if stage == "exec" and number == errno.ENOENT else os.strerror(number)
        super().__init__(f"{stage} {subject!r}: {reason}" if subject else f"{stage}: {reason}")
        self.stage = stage
        self.errno = number


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything about a process to be; the descriptors are filled in last.

    User and groups are left alone when `uid` is None. `join` are the `cgroup.procs` files of its control groups: it
    joins by itself, because that can take the kernel 20 ms and must not hold up the agent. `hostname` is what the
    machine is called to the process, where there is the right to say so. `mounts` are seen by the process and by those
    that it starts; `beside` is a process (pid and start time) whose mounts it sees instead.
    """

    argv: list[str]
    env: dict[str, str]
    cwd: str
    stdin: int = -1
    stdout: int = -1
    stderr: int = -1
    uid: int | None = None
    gid: int = 0
    groups: tuple[int, ...] = ()
    ambient: tuple[int, ...] = ()
    drop: tuple[int, ...] = ()
    no_new_privileges: bool = False
    terminal: bool = False
    join: tuple[str, ...] = ()
    oom_score_adj: int = 0
    hostname: str = ""
    mounts: tuple[Mount, ...] = ()
    beside: tuple[int, int] = (0, 0)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _raise_ambient(capabilities: tuple[int, ...]) -> None:
    """Keep `capabilities` over the coming exec of an unprivileged process (capabilities(7), ambient set)."""
    header = _Header(_CAPABILITY_VERSION_3, 0)
    data = (_Data * 2)()
    for number in capabilities:
        word, bit = divmod(number, 32)
        for field in ("effective", "permitted", "inheritable"):
            setattr(data[word], field, getattr(data[word], field) | 1 << bit)
    check(libc.capset(ctypes.byref(header), ctypes.byref(data)))
    for number in capabilities:
        check(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0))


def _drop_privileges(launch: Launch) -> None:
    for number in launch.drop:
        # A capability that this kernel does not know cannot be held either.
        if libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0 and ctypes.get_errno() != errno.EINVAL:
            check(-1)
    if launch.uid is not None:
        if launch.ambient:
            check(libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
        os.setgroups(launch.groups)
        os.setresgid(launch.gid, launch.gid, launch.gid)
        os.setresuid(launch.uid, launch.uid, launch.uid)
        if launch.ambient:
            _raise_ambient(launch.ambient)
    if launch.no_new_privileges:
        check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _name_host(name: bytes) -> None:
    # Without the right, or in a sandbox that forbids it, the process runs with the host's name.
    with contextlib.suppress(PermissionError):
        check(libc.unshare(_CLONE_NEWUTS))
        check(libc.sethostname(name, len(name)))


def _candidates(launch: Launch) -> list[str]:
    """The files that exec is to try, in order: the command's own path or one for each directory of PATH."""
    command = launch.argv[0]
    if "/" in command:
        return [command]
    return [os.path.join(directory, command) for directory in launch.env.get("PATH", "").split(":") if directory]


def _exec(candidates: list[str], launch: Launch) -> NoReturn:
    failure = errno.ENOENT
    for path in candidates:
        try:
            os.execve(path, launch.argv, launch.env)
        except OSError as error:
            # As execvp(3): go on after "not there", remember "not allowed", give up on anything else.
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                raise
            if error.errno == errno.EACCES:
                failure = errno.EACCES
    raise OSError(failure, os.strerror(failure))


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _arrange_descriptors(launch: Launch, gate: int, errors: int) -> None:
    wanted = (launch.stdin, launch.stdout, launch.stderr, gate, errors)
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in wanted]
    for target, fd in enumerate(moved):
        os.dup2(fd, target, inheritable=target < _GATE)
    os.closerange(_FIRST_FREE, os.sysconf("SC_OPEN_MAX"))


def _child(launch: Launch, candidates: list[str], gate: int, errors: int) -> NoReturn:
    """The new process, from fork to exec. Leaves without a trace when the gate never opens."""
    stage, subject = "prepare", ""
    report = errors
    try:
        gc.disable()
        _arrange_descriptors(launch, gate, errors)
        report = _ERRORS
        os.setsid()
        if os.read(_GATE, 1) != b"!":
            os._exit(0)
        for number in signal.valid_signals():
            # Handlers end with exec by themselves; what is ignored would stay so.
            if signal.getsignal(number) == signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        for path in launch.join:
            stage, subject = "join control group", path
            _write(path, "0")
        if launch.hostname:
            stage, subject = "set host name", launch.hostname
            _name_host(launch.hostname.encode())
        if launch.mounts:
            stage, subject = "mount volumes", ""
            os.umask(0o022)
            make_namespace(launch.mounts)
        if launch.beside[0]:
            stage, subject = "join the mounts of", str(launch.beside[0])
            join_namespace(*launch.beside)
        if launch.terminal:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        # As root, before the drop: the user of the process need not have search permission on the way there.
        stage, subject = "chdir", launch.cwd
        os.chdir(launch.cwd)
        os.umask(0o077)
        if launch.oom_score_adj:
            # A preference, which not even every root may lower (CAP_SYS_RESOURCE).
            with contextlib.suppress(PermissionError):
                _write("/proc/self/oom_score_adj", str(launch.oom_score_adj))
        stage, subject = "become user", str(launch.uid)
        _drop_privileges(launch)
        stage, subject = "exec", launch.argv[0]
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        _exec(candidates, launch)
    except OSError as error:
        os.write(report, f"{stage}\0{error.errno or 0}\0{subject or error.filename or ''}".encode())
    finally:
        os._exit(127)


class GatedProcess:
    """A forked process that waits for `release` to run its program; `abandon` sends it away.

    `watch` tells of its end. It is there from the beginning, so that no process runs that cannot be watched.
    """

    def __init__(self, pid: int, gate: int, errors: int) -> None:
        """Raises OSError when the process cannot be watched."""
        stat = read_stat(pid)
        self.pid = pid
        self.start_ticks = stat.start_ticks if stat else 0
        self._gate = gate
        self._errors = errors
        self.watch = ExitWatch(pid, self.start_ticks)

    def abandon(self) -> None:
        """Let the process leave without running anything, and reap it, which takes microseconds."""
        os.close(self._gate)
        os.close(self._errors)
        self.watch.close()
        os.waitpid(self.pid, 0)

    def kill(self) -> None:
        """End it wherever it is; it is reaped when it is gone, which can take long if it hangs in the kernel."""
        if not self.watch.ended:
            os.kill(self.pid, signal.SIGKILL)

    async def release(self, timeout: float = 10.0) -> None:
        """Open the gate and wait until the program runs.

        Raises LaunchError when it cannot; the process is gone and reaped then, or killed if that takes too long.
        """
        loop = asyncio.get_running_loop()
        answered = asyncio.Event()
        loop.add_reader(self._errors, answered.set)
        try:
            try:
                os.write(self._gate, b"!")
            finally:
                os.close(self._gate)
            async with asyncio.timeout(timeout):
                await answered.wait()
            report = os.read(self._errors, 4096)
        except (BrokenPipeError, TimeoutError):
            report = f"start\0{errno.ETIMEDOUT}\0".encode()
        finally:
            loop.remove_reader(self._errors)
            os.close(self._errors)
        if report:
            self.kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REAP_SECONDS):
                    await self.watch.wait()
            stage, number, subject = report.decode(errors="replace").split("\0", 2)
            raise LaunchError(stage, int(number), subject)


def fork_gated(launch: Launch) -> GatedProcess:
    """Fork a process that runs `launch` once it is released. Costs a few milliseconds; OSError when that fails."""
    candidates = _candidates(launch)
    gate_read, gate_write = os.pipe()
    errors_read, errors_write = os.pipe()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        with warnings.catch_warnings():
            # Python 3.12+ warns of forks beside threads; the module docstring says why this one is safe.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _child(launch, candidates, gate_read, errors_write)
    except OSError:
        os.close(gate_write)
        os.close(errors_read)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(gate_read)
        os.close(errors_write)
    try:
        return GatedProcess(pid, gate_write, errors_read)
    except OSError:
        os.close(gate_write)
        os.close(errors_read)
        os.waitpid(pid, 0)
        raise
