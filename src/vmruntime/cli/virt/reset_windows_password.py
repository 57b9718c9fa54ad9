"""Set a new, generated password for an account of a running VM, and show it. Works for Linux guests as well.

In a Linux guest the account is made if it is missing; in a Windows guest it has to exist. The guest needs its agent.
"""

from __future__ import annotations

import argparse
import secrets
import string
import sys

from kube.machinery.resources import SECRETS
from vmruntime.api import virtualmachineaccessrequest as api
from vmruntime.api.meta import Obj, name_of, owner_reference, uid_of
from vmruntime.cli.dispatch import CommandError
from vmruntime.cli.virt import access, target
from vmruntime.cli.virt.target import Target

LENGTH = 20
# One of each makes a password that the rules of Windows accept; none of them needs quoting in a shell or a terminal.
ALPHABETS = (string.ascii_lowercase, string.ascii_uppercase, string.digits, "-_.+=")


def configure(parser: argparse.ArgumentParser) -> None:
    target.configure(parser)
    parser.add_argument("--user", required=True, metavar="USER", help="the account")
    parser.add_argument("--force", action="store_true", help="do not ask")


def run(args: argparse.Namespace) -> int:
    vm = target.resolve(args)
    access.check(vm)
    if not args.force and not _agrees(args.user):
        raise CommandError("not confirmed, so nothing was changed")
    print(f"Resetting and retrieving password for {args.user} on {vm.name}", flush=True)
    password = generate()
    secret = f"{vm.name}-password-{secrets.token_hex(4)}"
    with access.request(vm, args.user, {"password": {"secretRef": {"name": secret}}}) as made:
        vm.client.create(SECRETS, _secret(vm, secret, password, made))
        access.await_configured(vm, made)
    print(f"vm_name: {vm.name}\nusername: {args.user}\npassword: {password}")
    return 0


def _agrees(user: str) -> bool:
    if not sys.stdin.isatty():
        raise CommandError("there is no terminal to ask on; --force does not ask")
    print(f"Resetting the password of {user} can make data unreadable that is encrypted with the old one.")
    print(f"Would you like to set or reset the password for {user} (Y/n)? ", end="", flush=True)
    answer = sys.stdin.readline()
    return answer.endswith("\n") and answer.strip().lower() in ("", "y", "yes")


def generate() -> str:
    """A password with letters, digits and punctuation, some 120 bits strong."""
    while True:
        password = "".join(secrets.choice("".join(ALPHABETS)) for _ in range(LENGTH))
        if all(any(char in alphabet for char in password) for alphabet in ALPHABETS):
            return password


def _secret(vm: Target, name: str, password: str, owner: Obj) -> Obj:
    """It belongs to the request, and goes with it."""
    return {
        "apiVersion": SECRETS.api_version,
        "kind": SECRETS.kind,
        "metadata": {
            "name": name,
            "namespace": vm.namespace,
            "ownerReferences": [owner_reference(api.RESOURCE, name_of(owner), uid_of(owner))],
        },
        "type": api.PASSWORD_SECRET_TYPE,
        "stringData": {api.PASSWORD_KEY: password},
    }
