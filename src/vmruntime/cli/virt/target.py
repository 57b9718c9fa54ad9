"""Which object a command means: its name, its namespace, the cluster."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from kube.client.config import load_kubeconfig
from kube.client.sync import SyncClient
from kube.machinery.errors import StatusError
from kube.machinery.resources import Resource
from vmruntime.api import virtualmachine
from vmruntime.api.meta import Obj
from vmruntime.cli.dispatch import CommandError


def configure(parser: argparse.ArgumentParser, what: str = "VM") -> None:
    """NAME, or `vm NAME` as one page of the documentation writes it, with --namespace and --kubeconfig."""
    parser.add_argument("name", nargs="+", metavar="NAME", help=f"name of the {what}")
    parser.add_argument("-n", "--namespace", metavar="NS", help="its namespace (default: the kubeconfig's)")
    parser.add_argument("--kubeconfig", metavar="PATH", help="kubeconfig of the cluster (default: $KUBECONFIG)")
    parser.add_argument("--context", metavar="NAME", help="context in it (default: its current one)")


@dataclass(frozen=True, slots=True)
class Target:
    """One object of one cluster."""

    client: SyncClient
    namespace: str
    name: str
    kubeconfig: str

    def read(self, resource: Resource = virtualmachine.RESOURCE) -> Obj:
        """The object. Raises CommandError that says what is missing: the object, or the kind itself."""
        found = self.find(resource, self.name)
        if found is None:
            raise CommandError(f'there is no {resource.kind} "{self.name}" in namespace {self.namespace}')
        return found

    def find(self, resource: Resource, name: str) -> Obj | None:
        """The object of this name beside the target; None if there is none. CommandError if there is no such kind."""
        try:
            return self.client.get(resource, name, self.namespace)
        except StatusError as error:
            if error.code != 404:
                raise
            if error.details and error.details.get("name"):
                return None
            text = "this cluster serves no virtual machines; switch them on with `bmctl enable vmruntime`"
            raise CommandError(text) from None


def resolve(args: argparse.Namespace) -> Target:
    """The target of the parsed options. Raises CommandError for more than one name, and for none."""
    names = args.name[1:] if len(args.name) == 2 and args.name[0] == "vm" else args.name
    if len(names) != 1:
        raise CommandError(f"one name is wanted, not {len(names)}: {' '.join(names)}")
    if not names[0]:
        raise CommandError("the name is empty")
    config = load_kubeconfig(args.kubeconfig, args.context)
    return Target(SyncClient(config), args.namespace or config.namespace or "default", names[0], config.source)
