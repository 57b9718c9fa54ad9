"""Delete a VM. Its disks stay and can be used again, unless --all deletes them with it."""

from __future__ import annotations

import argparse
import time

from kube.machinery.errors import StatusError
from vmruntime.api import virtualmachine, virtualmachinedisk
from vmruntime.api.meta import name_of, uid_of
from vmruntime.cli.dispatch import CommandError
from vmruntime.cli.virt import target
from vmruntime.cli.virt.target import Target

GONE_SECONDS = 120.0


def configure(parser: argparse.ArgumentParser) -> None:
    target.configure(parser)
    parser.add_argument("--all", action="store_true", help="delete its disks as well")
    parser.add_argument("--dry-run", action="store_true", help="only list what would go")


def run(args: argparse.Namespace) -> int:
    vm = target.resolve(args)
    disks = [disk.name for disk in virtualmachine.disks(vm.read())]
    print(f'vm "{vm.name}" used the following resources:')
    print(f"gvm: {vm.name}")
    for disk in disks:
        print(f"{virtualmachinedisk.RESOURCE.kind}: {disk}")
    if args.dry_run:
        return 0
    print("Start deleting the resources:")
    # The VM first: should something come between the two, a disk that is left can still be deleted.
    vm.client.delete(virtualmachine.RESOURCE, vm.name, vm.namespace)
    outcomes = [_delete_disk(vm, disk) for disk in disks] if args.all else []
    _await_gone(vm)
    print(f'Deleted gvm "{vm.name}".')
    for outcome in outcomes:
        print(outcome)
    return 0


def _delete_disk(vm: Target, disk: str) -> str:
    """Delete a disk unless another VM has it too; what was done, for people."""
    kind = virtualmachinedisk.RESOURCE.kind
    try:
        found = vm.client.get(virtualmachinedisk.RESOURCE, disk, vm.namespace)
        # Not by the disk's status, which does not know yet of a VM that was created a moment ago.
        machines = vm.client.list(virtualmachine.RESOURCE, vm.namespace)["items"]
        others = [name for name in map(name_of, virtualmachine.users_of(disk, machines)) if name != vm.name]
        if others:
            return f'Kept {kind} "{disk}", which is used by: {", ".join(others)}.'
        vm.client.delete(virtualmachinedisk.RESOURCE, disk, vm.namespace, uid=uid_of(found))
    except StatusError as error:
        if error.code != 404:
            raise
    return f'Deleted {kind} "{disk}".'


def _await_gone(vm: Target) -> None:
    deadline = time.monotonic() + GONE_SECONDS
    while time.monotonic() < deadline:
        try:
            found = vm.client.get(virtualmachine.RESOURCE, vm.name, vm.namespace)
        except StatusError as error:
            if error.code == 404:
                return
            raise
        version, selector = found["metadata"]["resourceVersion"], f"metadata.name={vm.name}"
        for event in vm.client.watch(
            virtualmachine.RESOURCE, vm.namespace, resource_version=version, field_selector=selector, timeout=10.0
        ):
            if event["type"] == "DELETED":
                return
    raise CommandError(f'gvm "{vm.name}" is still there after {GONE_SECONDS:.0f} s; `kubectl describe gvm` says why')
