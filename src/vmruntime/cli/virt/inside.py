"""The pod that a VM runs in, and the programs in it that reach what the VM has: its console, its screen."""

from __future__ import annotations

import json

from vmruntime.api.meta import Obj, annotation, dig
from vmruntime.cli.dispatch import CommandError


def pod_name(vm: Obj, name: str, what: str) -> str:
    """The VM's pod. CommandError, naming `what` it would be needed for, where it does not run."""
    pod = dig(vm, "status", "podName")
    if not pod:
        state = dig(vm, "status", "state", default="not running")
        raise CommandError(f'VM "{name}" is {state}, so it has no {what}; `kubectl virt start {name}` starts it')
    return str(pod)


def command(pod: Obj, name: str, key: str, what: str) -> list[str]:
    """The program that reaches `what` from inside the pod: the engine that started the VM knows it."""
    text = annotation(pod, key)
    if not text:
        raise CommandError(f'the pod of VM "{name}" does not say how its {what} is reached')
    words: list[str] = json.loads(text)
    return words
