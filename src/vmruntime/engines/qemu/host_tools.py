"""The kernel's networking, asked and changed through `ip` and nftables, which come with every distribution."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import ipaddress
import json
import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from vmruntime.engines.qemu import nftables
from vmruntime.engines.qemu.machine_users import READERS

IP = "ip"
PACKAGES = "iproute2 nftables"
_TIMEOUT = 10.0
_LOCK = "/run/vmruntime-network.lock"
_CAP_NET_ADMIN = 12
_TUN = Path("/dev/net/tun")
_SYSCTLS = Path("/proc/sys")
FORWARDING = "net/ipv4/ip_forward"


class ToolError(Exception):
    """A tool refused; the message is its own first line."""


def why_no_rights() -> str:
    """What this process lacks to make bridges and taps, in words; empty if nothing."""
    if os.geteuid() != 0:
        return "the cluster does not run as root"
    status = Path("/proc/self/status").read_text()
    effective = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))
    if not effective >> _CAP_NET_ADMIN & 1:
        return "root lacks the capability NET_ADMIN here"
    if problem := missing_tools():
        return problem
    if not _TUN.exists():
        return f"{_TUN} does not exist"
    if not os.access(_SYSCTLS / FORWARDING, os.W_OK):
        return "/proc/sys is read-only"
    return ""


def missing_tools() -> str:
    """What is not installed of the tools that make networks, in words; empty if all of it is."""
    if shutil.which(IP) is None or not nftables.is_there():
        return f"{IP} or {nftables.LIBRARY} is not installed (packages {PACKAGES})"
    return ""


def open_tun_to_qemu() -> None:
    """Let machines' users open /dev/net/tun where nobody but root may.

    That gives it nothing but the interfaces that are made for it: any other use of the device needs NET_ADMIN (kernel
    documentation, "Universal TUN/TAP device driver"); most distributions have it open to all. Raises OSError.
    """
    mode = _TUN.stat().st_mode & 0o7777
    if mode & 0o006 != 0o006:
        os.chown(_TUN, -1, READERS)
        os.chmod(_TUN, mode | 0o060)


def sysctl(name: str) -> str:
    """A kernel setting, by its path below /proc/sys."""
    return (_SYSCTLS / name).read_text().strip()


def set_sysctl(name: str, value: str) -> None:
    """Change a kernel setting. Raises OSError."""
    (_SYSCTLS / name).write_text(value)


def set_no_ipv6(interface: str) -> None:
    """Keep the host's own IPv6 off an interface, as it would take addresses and routes from whoever announces them.

    Nothing happens where the kernel has no IPv6. Raises OSError.
    """
    with contextlib.suppress(FileNotFoundError):
        set_sysctl(f"net/ipv6/conf/{interface}/disable_ipv6", "1")


def boot_id() -> str:
    """Which boot of the host this is."""
    return sysctl("kernel/random/boot_id")


@contextlib.asynccontextmanager
async def host_lock() -> AsyncIterator[None]:
    """Clusters of one host take turns: two must neither choose the same subnet nor argue about forwarding.

    Raises ToolError when another holds it for long.
    """
    descriptor = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        deadline = asyncio.get_running_loop().time() + _TIMEOUT
        while not _try_lock(descriptor):
            if asyncio.get_running_loop().time() > deadline:
                raise ToolError(f"{_LOCK} is held by another cluster")
            await asyncio.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _run(*command: str, text: str = "") -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(_TIMEOUT):
            out, err = await process.communicate(text.encode())
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        lines = err.decode(errors="replace").strip().splitlines()
        raise ToolError(f"{command[0]}: {lines[0] if lines else f'exit code {process.returncode}'}")
    return out.decode()


async def ip(*lines: str, force: bool = False) -> None:
    """`ip` commands, one after the other; with `force` those that fail are passed over. Raises ToolError."""
    options = ["-force"] if force else []
    try:
        await _run(IP, *options, "-batch", "-", text="\n".join(lines) + "\n")
    except ToolError:
        if not force:
            raise


async def ip_json(*words: str) -> list[Any]:
    """What an `ip … show` command lists. Raises ToolError."""
    listed = json.loads(await _run(IP, "-json", *words) or "[]")
    return listed if isinstance(listed, list) else [listed]


async def nft(script: str) -> None:
    """A script, all of it or nothing. Raises ToolError."""
    try:
        await asyncio.to_thread(nftables.run, script)
    except nftables.NftError as error:
        raise ToolError(f"nftables: {error}") from error


async def has_table(family: str, table: str) -> bool:
    """Whether there is an nftables table of this name."""
    try:
        await nft(f"list table {family} {table}\n")
    except ToolError:
        return False
    return True


async def routes() -> list[str]:
    """The destinations of all IPv4 routes, also of those to this host's own addresses."""
    return [str(route["dst"]) for route in await ip_json("-4", "route", "show", "table", "all")]


def interfaces(prefix: str = "") -> list[str]:
    """The names of the network interfaces that begin so, in the namespace that this process is in."""
    return sorted(name for _, name in socket.if_nameindex() if name.startswith(prefix))


def interface_exists(name: str) -> bool:
    return name in interfaces()


def nameservers(files: Iterable[str] = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")) -> tuple[str, ...]:
    """The host's name servers, as far as a guest can ask them too: those on loopback it cannot."""
    for file in files:
        try:
            lines = Path(file).read_text().splitlines()
        except OSError:
            continue
        words = [line.split() for line in lines]
        found = [entry[1] for entry in words if len(entry) > 1 and entry[0] == "nameserver"]
        usable = tuple(filter(_is_reachable, found))
        if usable:
            return usable[:3]
    return ()


def _is_reachable(server: str) -> bool:
    """Whether it is the IPv4 address of another host than this one."""
    try:
        address = ipaddress.IPv4Address(server)
    except ValueError:
        return False
    return not address.is_loopback and not address.is_unspecified
