"""Shut a VM down: the guest is asked (ACPI), and switched off after a deadline.

It stays off until `kubectl virt start`.
"""

from __future__ import annotations

import argparse

from vmruntime.api import names, virtualmachine
from vmruntime.cli.virt import power, target


def configure(parser: argparse.ArgumentParser) -> None:
    target.configure(parser)


def run(args: argparse.Namespace) -> int:
    vm = target.resolve(args)
    found = vm.read()
    before = virtualmachine.running_state(found)
    if before == virtualmachine.RUN_NEVER:
        print(f'VM "{vm.name}" is {power.state(found)} already')
        return 0
    marks: dict[str, str | None] = {names.RUNNING_STATE_BEFORE_STOP_ANNOTATION: before}
    power.patch(vm, running_state=virtualmachine.RUN_NEVER, marks=marks)
    print(f'VM "{vm.name}" was asked to stop')
    return 0
