"""Switch the VM runtime off, and never lose a VM that nobody agreed to lose.

  VMs exist  --force  annotation   what happens
  no         any      any          disables
  yes        true     any          deletes all VMs and related resources, then disables
  yes        false    "true"       lists what would be deleted and asks (--yes answers), then as above
  yes        false    "false"      deletes nothing, disables nothing, names the VMs, exit code 1

The annotation is baremetal.cluster.gke.io/vmrumtime-force-disable on the VMRuntime object. A VM counts whether it runs
or not. Related resources are the VMs' pods, interfaces and access requests and the disks they have attached; disks
that no VM uses stay.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from kube.client.sync import SyncClient
from kube.machinery.errors import StatusError
from kube.machinery.resources import Resource
from vmruntime.api import names, virtualmachine, virtualmachineaccessrequest, virtualmachinedisk, vmruntime
from vmruntime.api.meta import Obj, dig, name_of, names_text, namespace_of
from vmruntime.cli.bmctl import options, runtime
from vmruntime.cli.dispatch import CommandError, Interrupted
from vmruntime.cli.terminal import Progress, confirm, say


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_kubeconfig(parser)
    parser.add_argument(
        "--force",
        type=options.boolean,
        nargs="?",
        const=True,
        default=False,
        metavar="true|false",
        help="delete existing VMs and related resources without asking (default: false)",
    )
    options.add_yes(parser)
    parser.add_argument("--keep-disks", action="store_true", help="keep the disks of deleted VMs")
    options.add_timeout(parser, "30m")


@dataclass(frozen=True, slots=True)
class Inventory:
    """What there is to lose: `namespace/name` of every VM, of every disk that one of them has attached, and of every
    request for access to one of them."""

    vms: tuple[str, ...]
    disks: tuple[str, ...]
    requests: tuple[str, ...]


def run(args: argparse.Namespace) -> int:
    with runtime.connect(args.kubeconfig, args.context) as client:
        found = runtime.read(client)
        if _is_disabled(found):
            raise CommandError("the VM runtime is disabled already")
        inventory = _inventory(client, keep_disks=args.keep_disks)
        consent = bool(inventory.vms) and _consent(found, inventory, force=args.force, assume_yes=args.yes)
        _switch_off(client, consent=consent, keep_disks=args.keep_disks)
        return _wait(client, consent=consent, was_enabled=vmruntime.is_enabled(found), timeout=args.timeout)


def _is_disabled(found: Obj) -> bool:
    """Switched off, and done with it: a disable that waits or is under way may be joined."""
    if vmruntime.is_enabled(found):
        return False
    if not dig(found, "status"):
        return True
    return runtime.settled(found) and runtime.condition(found, "Progressing").get("reason") == "Disabled"


def _inventory(client: SyncClient, *, keep_disks: bool) -> Inventory:
    vms = _list(client, virtualmachine.RESOURCE)
    requests = _list(client, virtualmachineaccessrequest.RESOURCE)
    disks: set[str] = set()
    if not keep_disks:
        disks = {f"{namespace_of(vm)}/{disk.name}" for vm in vms for disk in virtualmachine.disks(vm)}
    return Inventory(_names(vms), tuple(sorted(disks)), _names(requests))


def _names(listed: Sequence[Obj]) -> tuple[str, ...]:
    return tuple(sorted(f"{namespace_of(obj)}/{name_of(obj)}" for obj in listed))


def _list(client: SyncClient, resource: Resource) -> list[Obj]:
    try:
        items: list[Obj] = client.list(resource)["items"]
    except StatusError as error:
        if error.code == 404:  # the kind is gone, so there is none of it
            return []
        raise
    return items


def _consent(found: Obj, inventory: Inventory, *, force: bool, assume_yes: bool) -> bool:
    """Whether the VMs may be deleted, by the table above. Raises CommandError where nobody agreed."""
    if force:
        return True
    if not vmruntime.consents_to_loss(found):
        raise CommandError(
            f"{_count(inventory.vms, 'VM')} would be lost, so nothing was changed: {names_text(inventory.vms)}; "
            "delete them first, or use --force=true"
        )
    print("These would be deleted:")
    for vm in inventory.vms:
        print(f"  {virtualmachine.RESOURCE.kind} {vm}")
    for disk in inventory.disks:
        print(f"  {virtualmachinedisk.RESOURCE.kind} {disk}")
    for request in inventory.requests:
        print(f"  {virtualmachineaccessrequest.RESOURCE.kind} {request}")
    question = f"Delete {_count(inventory.vms, 'VM')} and disable the VM runtime?"
    if not confirm(question, assume_yes=assume_yes, remedy="--yes agrees to the deletion, --force=true does too"):
        raise CommandError("not confirmed, so nothing was changed")
    return True


def _switch_off(client: SyncClient, *, consent: bool, keep_disks: bool) -> None:
    """One write: the wish and the consent to it reach the controller together, or not at all."""
    marks: dict[str, str | None] = {
        names.DELETE_VMS_ANNOTATION: "true" if consent else None,
        names.KEEP_DISKS_ANNOTATION: "true" if keep_disks else None,
    }
    runtime.switch(client, {"metadata": {"annotations": marks}, "spec": {"enabled": False}})


def _wait(client: SyncClient, *, consent: bool, was_enabled: bool, timeout: float) -> int:
    progress = Progress()
    try:
        last = runtime.wait(
            client,
            lambda r: _is_over(r, consent=consent),
            lambda r: progress.report(runtime.progress_message(r)),
            timeout,
        )
    except TimeoutError:
        raise CommandError(
            f"the VM runtime is not disabled after {timeout:.0f} s; it goes on in the cluster, "
            "and `kubectl describe vmruntime` says what it waits for"
        ) from None
    except KeyboardInterrupt:
        raise Interrupted(
            "Interrupted: the VM runtime goes on being disabled in the cluster. "
            "What is deleted is gone; `bmctl enable vmruntime` stops the rest."
        ) from None
    if _is_disabled(last):
        say("Disable vmruntime succeeded")
        return 0
    # A VM came into being between our look and our write. Nobody agreed to lose it: put the switch back.
    if was_enabled:
        runtime.switch(client, {"spec": {"enabled": True}})
    raise CommandError(f"nothing was deleted: {runtime.condition(last, 'DisableBlocked').get('message')}")


def _is_over(found: Obj, *, consent: bool) -> bool:
    if vmruntime.is_enabled(found):
        raise CommandError("somebody switched the VM runtime on again meanwhile; it stays enabled")
    blocked = runtime.settled(found) and runtime.condition(found, "DisableBlocked").get("status") == "True"
    return _is_disabled(found) or (blocked and not consent)


def _count(listed: Sequence[str], noun: str) -> str:
    return f"{len(listed)} {noun}{'' if len(listed) == 1 else 's'}"
