"""Shut a VM down and start it again. A stopped VM is not started by this."""

from __future__ import annotations

import argparse

from vmruntime.api import virtualmachine
from vmruntime.cli.dispatch import CommandError
from vmruntime.cli.virt import power, target


def configure(parser: argparse.ArgumentParser) -> None:
    target.configure(parser)


def run(args: argparse.Namespace) -> int:
    vm = target.resolve(args)
    found = vm.read()
    off = virtualmachine.running_state(found) == virtualmachine.RUN_NEVER
    if off or power.state(found) == virtualmachine.STOPPED:
        raise CommandError(f'VM "{vm.name}" is stopped; `kubectl virt start {vm.name}` starts it')
    power.patch(vm, marks=power.start_request())
    print(f'VM "{vm.name}" was asked to restart')
    return 0
