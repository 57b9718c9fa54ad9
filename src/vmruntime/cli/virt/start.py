"""Start a VM. One that runs already is left alone."""

from __future__ import annotations

import argparse

from vmruntime.api import names, virtualmachine
from vmruntime.api.meta import annotation, is_deleting
from vmruntime.cli.dispatch import CommandError
from vmruntime.cli.virt import power, target


def configure(parser: argparse.ArgumentParser) -> None:
    target.configure(parser)


def run(args: argparse.Namespace) -> int:
    vm = target.resolve(args)
    found = vm.read()
    if is_deleting(found):
        raise CommandError(f'VM "{vm.name}" is being deleted')
    if virtualmachine.running_state(found) == virtualmachine.RUN_NEVER:
        before = annotation(found, names.RUNNING_STATE_BEFORE_STOP_ANNOTATION) or virtualmachine.RUN_ALWAYS
        marks = {names.RUNNING_STATE_BEFORE_STOP_ANNOTATION: None, **power.start_request()}
        power.patch(vm, running_state=before, marks=marks)
    elif power.state(found) == virtualmachine.STOPPED:
        power.patch(vm, marks=power.start_request())
    else:
        then = "and starts again after that" if power.state(found) == virtualmachine.STOPPING else "already"
        print(f'VM "{vm.name}" is {power.state(found)} {then}')
        return 0
    print(f'VM "{vm.name}" was asked to start')
    return 0
