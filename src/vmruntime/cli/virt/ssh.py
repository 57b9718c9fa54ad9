"""Log in to a Linux VM over SSH: `kubectl virt ssh USER@NAME`. The account is made if it is missing.

A key is made for this one login and let in for a short while by an access request; nothing of it is left afterwards.
It runs on the machine that the VM runs on, where the VM's address is, and needs an SSH client there.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from vmruntime.api.meta import Obj, dig, uid_of
from vmruntime.cli.dispatch import CommandError
from vmruntime.cli.virt import access, target

SSH_PORT = 22
TTL = "10m"


def configure(parser: argparse.ArgumentParser) -> None:
    target.configure(parser, "account and VM: USER@NAME;")
    parser.add_argument("-c", "--command", metavar="TEXT", help="run this in the VM instead of a shell")


def run(args: argparse.Namespace) -> int:
    user = _split_user(args)
    programs = [shutil.which(name) for name in ("ssh", "ssh-keygen")]
    if None in programs:
        raise CommandError("there is no SSH client (ssh, ssh-keygen) here; install the package openssh-client")
    vm = target.resolve(args)
    found = access.check(vm)
    address, port = _address(found, vm.name)
    with tempfile.TemporaryDirectory(prefix="kubectl-virt-ssh-") as directory:
        key = _make_key(Path(directory))
        public = key.with_suffix(".pub").read_text().strip()
        with access.request(vm, user, {"ssh": {"key": public, "ttl": TTL}}) as made:
            access.await_configured(vm, made)
            return _connect(key, f"vm-{uid_of(found)}", f"{user}@{address}", port, args.command)


def _split_user(args: argparse.Namespace) -> str:
    """Takes the account out of `args.name`."""
    user, at, name = args.name[-1].rpartition("@")
    if not (user and at and name):
        raise CommandError(f'"{args.name[-1]}" is not USER@NAME')
    args.name[-1] = name
    return str(user)


def _address(vm: Obj, name: str) -> tuple[str, int]:
    """Where the guest's SSH port is reached from this host."""
    interfaces = dig(vm, "status", "interfaces", default=[])
    for interface in interfaces:
        addresses = interface.get("ipAddresses", [])
        for port in interface.get("ports", []):
            if addresses and port.get("guest") == SSH_PORT:
                return str(addresses[0]), int(port["host"])
    for interface in interfaces:
        if interface.get("ipAddresses") and not interface.get("ports"):
            return str(interface["ipAddresses"][0]).partition("/")[0], SSH_PORT
    raise CommandError(
        f'VM "{name}" has no address with port {SSH_PORT}; `kubectl describe gvm {name}` shows its network'
    )


def _make_key(directory: Path) -> Path:
    key = directory / "id"
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "kubectl-virt-ssh", "-f", str(key)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CommandError(f"ssh-keygen failed: {done.stderr.strip()}")
    return key


def _connect(key: Path, identity: str, destination: str, port: int, command: str | None) -> int:
    """The exit code of ssh. A VM is known by its uid: another one may have its address one day."""
    known = Path.home() / "google-virtctl" / "known_hosts"
    known.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    words = ["ssh", "-p", str(port), "-i", str(key), "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"]
    words += ["-o", f"HostKeyAlias={identity}", "-o", "StrictHostKeyChecking=accept-new", "-o", "LogLevel=ERROR"]
    words += ["-o", f'UserKnownHostsFile="{known}"']
    words += ["--", destination, *([command] if command is not None else [])]
    process = subprocess.Popen(words)
    # Ctrl+C is for the client and the program in the guest; this one has to stay to clean up.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return process.wait()
    finally:
        signal.signal(signal.SIGINT, before)
