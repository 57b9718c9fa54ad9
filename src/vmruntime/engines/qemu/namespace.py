"""A network namespace of a cluster's own, for a cluster that does not run as root.

A user namespace gives its owner rights in the network namespace that belongs to it, and nowhere else. User and group
keep their numbers in it, so that a program started there has none of these rights: exec takes them away from whoever is
not root. Nothing of it is kept on disk: a network namespace lives as long as a process in it, and is found by those.

Source: user_namespaces(7), network_namespaces(7), setns(2), capabilities(7). For a process with a single thread.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

from vmruntime.engines.qemu import host_tools

PASTA = "pasta"
_PROGRAMS = {PASTA: "passt", "nsenter": "util-linux", "unshare": "util-linux"}
_TUN = "/dev/net/tun"
_PROBE = ("unshare", "--user", "--map-root-user", "--net", host_tools.IP, "link", "add", "probe", "type", "bridge")
_PROBE_SECONDS = 5.0

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_PDEATHSIG, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 47, 2
_CAP_NET_BIND_SERVICE, _CAP_NET_ADMIN, _CAP_NET_RAW = 10, 12, 13
_CAPABILITY_VERSION_3 = 0x20080522


def why_not() -> str:
    """Why there cannot be one here, in words; empty if there can. Blocking, about 10 ms."""
    for program, package in _PROGRAMS.items():
        if shutil.which(program) is None:
            return f"{program} is not installed (package {package})"
    if problem := host_tools.missing_tools():
        return problem
    if not os.access(_TUN, os.R_OK | os.W_OK):
        return f"{_TUN} cannot be opened by this user" if os.path.exists(_TUN) else f"{_TUN} does not exist"
    try:
        probe = subprocess.run(_PROBE, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"user namespaces cannot be tried: {error}"
    if probe.returncode != 0:
        lines = probe.stderr.strip().splitlines()
        return f"user namespaces are of no use here ({lines[0] if lines else 'they were refused'})"
    return ""


def find(instances: Path) -> int | None:
    """A process in the cluster's namespace: QEMU of a machine, which is known by its working directory."""
    own = os.readlink("/proc/self/ns/net")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if Path(os.readlink(entry / "cwd")).parent == instances and os.readlink(entry / "ns" / "net") != own:
                return int(entry.name)
        except OSError:
            continue  # it has ended, or is somebody else's
    return None


def enter(process: int | None) -> None:
    """Move this process into the namespaces of another, or, without one, into new ones. Raises OSError."""
    if process is None:
        _make()
    else:
        _join(process)
    _keep_capabilities()


def _make() -> None:
    user, group = os.geteuid(), os.getegid()
    _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNET)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def _join(process: int) -> None:
    kinds = {"user": _CLONE_NEWUSER, "net": _CLONE_NEWNET}
    opened = [(os.open(f"/proc/{process}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC), flag) for kind, flag in kinds.items()]
    try:
        for descriptor, flag in opened:
            _call("setns", descriptor, flag)
    finally:
        for descriptor, _ in opened:
            os.close(descriptor)


def _keep_capabilities() -> None:
    """Of the rights in the namespace keep those over its network; programs that are run get NET_ADMIN."""
    kept = 1 << _CAP_NET_BIND_SERVICE | 1 << _CAP_NET_ADMIN | 1 << _CAP_NET_RAW
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # Effective, permitted and inheritable, of the lower 32 and then of the upper ones (capget(2)).
    sets = (ctypes.c_uint32 * 6)(kept, kept, 1 << _CAP_NET_ADMIN, 0, 0, 0)
    _call("capset", header, sets)
    _call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_NET_ADMIN, 0, 0)


def end_with_parent(signal: int) -> None:
    """Have the kernel send this process a signal when its parent ends. Raises OSError."""
    _call("prctl", _PR_SET_PDEATHSIG, signal, 0, 0, 0)


def _call(function: str, *arguments: object) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


def command(process: int) -> list[str]:
    """What goes before a command that is to run in the namespace of a process, without any rights there."""
    return ["nsenter", "--preserve-credentials", "--user", "--net", "--target", str(process), "--"]
