"""Completion of `kubectl virt` in a shell: kubectl calls it, as `kubectl_complete-virt`, with the words so far.

Answers one candidate a line and, last, a directive of the Cobra library. Nothing that goes wrong is said: it would land
in the middle of a line that somebody is typing.

Source: Kubernetes documentation, "Extend kubectl with plugins", on autocompletion.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence

from vmruntime.cli.dispatch import find
from vmruntime.cli.virt.main import COMMANDS

_FILES, _NO_FILES = ":0", ":4"
_TIMEOUT_SECONDS = 2.0
_MAKES_ITS_OWN = "create vm"
_OF_DISKS = "delete disk"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the installed command `kubectl_complete-virt`; the last word is the one being typed."""
    *before, typed = (sys.argv[1:] if argv is None else argv) or [""]
    command = find(COMMANDS, before)
    if command is None:
        found = _next_words(before)
    elif command.words == _MAKES_ITS_OWN:
        found = ()
    else:
        found = _names(command.words == _OF_DISKS, before[len(command.words.split()) :], typed)
    for candidate in sorted({word for word in found if word.startswith(typed)}):
        print(candidate)
    print(_FILES if command is not None and command.words == _MAKES_ITS_OWN else _NO_FILES)
    return 0


def _next_words(before: Sequence[str]) -> Iterable[str]:
    for command in COMMANDS:
        words = command.words.split()
        if words[: len(before)] == list(before):
            yield words[len(before)]


def _names(of_disks: bool, options: Sequence[str], typed: str) -> Iterable[str]:
    """The objects of the cluster that the options so far name; `USER@NAME` where that is begun."""
    from kube.client.config import KubeConfigError, load_kubeconfig
    from kube.client.sync import ConnectionFailed, SyncClient
    from kube.machinery.errors import StatusError
    from vmruntime.api import virtualmachine, virtualmachinedisk

    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("-n", "--namespace")
    parser.add_argument("--kubeconfig")
    parser.add_argument("--context")
    resource = virtualmachinedisk.RESOURCE if of_disks else virtualmachine.RESOURCE
    account, at, _ = typed.rpartition("@")
    try:
        args, _ = parser.parse_known_args(list(options))
        config = load_kubeconfig(args.kubeconfig, args.context)
        with SyncClient(config, _TIMEOUT_SECONDS) as client:
            listed = client.list(resource, args.namespace or config.namespace or "default")
    except (argparse.ArgumentError, KubeConfigError, ConnectionFailed, StatusError):
        return ()
    return [f"{account}{at}{obj['metadata']['name']}" for obj in listed["items"]]


if __name__ == "__main__":
    sys.exit(main())
