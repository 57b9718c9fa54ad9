"""Delete a disk. While a VM uses it, it is only marked, and goes once that VM is deleted."""

from __future__ import annotations

import argparse

from vmruntime.api import virtualmachinedisk
from vmruntime.api.meta import dig
from vmruntime.cli.virt import target


def configure(parser: argparse.ArgumentParser) -> None:
    target.configure(parser, "disk")


def run(args: argparse.Namespace) -> int:
    disk = target.resolve(args)
    found = disk.read(virtualmachinedisk.RESOURCE)
    disk.client.delete(virtualmachinedisk.RESOURCE, disk.name, disk.namespace)
    users = dig(found, "status", "attachedTo", default=[])
    if users:
        print(f'{virtualmachinedisk.RESOURCE.kind} "{disk.name}" goes once it is no longer used by: {", ".join(users)}')
    else:
        print(f'Deleted {virtualmachinedisk.RESOURCE.kind} "{disk.name}".')
    return 0
