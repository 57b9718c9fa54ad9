"""Create a VM with a boot disk from an image. The manifest is kept in ~/google-virtctl/NAME.yaml."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from kube.client.sync import SyncClient
from kube.machinery.errors import StatusError
from kube.machinery.names import dns1123_label
from kube.machinery.resources import SECRETS, Resource
from vmruntime.api import machine_fields, names, virtualmachine, virtualmachinedisk
from vmruntime.api.meta import Obj, dig, name_of, namespace_of, owner_reference, uid_of
from vmruntime.cli.dispatch import CommandError
from vmruntime.cli.virt import local_image, target
from vmruntime.cli.virt.target import Target

DEFAULT_DISK_SIZE = "20Gi"
NAMED_IMAGES = {
    "ubuntu20.04": "https://cloud-images.ubuntu.com/releases/focal/release/ubuntu-20.04-server-cloudimg-amd64.img",
}
"""The images that have a name of their own."""


def configure(parser: argparse.ArgumentParser) -> None:
    target.configure(parser)
    parser.add_argument(
        "--image",
        required=True,
        metavar="IMAGE",
        help=f"{', '.join(NAMED_IMAGES)}, an http(s) address, or a file, which the cluster gets a copy of",
    )
    parser.add_argument("--os-type", type=str.lower, choices=("linux", "windows"), default="linux", help="guest system")
    parser.add_argument("--cpu", "--vcpu", type=int, default=machine_fields.DEFAULT_VCPUS, metavar="N", help="vCPUs")
    parser.add_argument("--memory", default=machine_fields.DEFAULT_MEMORY, metavar="SIZE", help="default: %(default)s")
    parser.add_argument("--boot-disk-size", default=DEFAULT_DISK_SIZE, metavar="SIZE", help="default: %(default)s")
    parser.add_argument("--boot-disk-storage-class", metavar="NAME", help="default: the cluster's default class")
    parser.add_argument("--network", default=names.POD_NETWORK, metavar="NAME", help="default: %(default)s")
    parser.add_argument(
        "--ip",
        metavar="ADDRESS",
        help="static address on the network, with the mask of its subnet: 10.0.0.5/24; no DHCP is asked then",
    )
    parser.add_argument(
        "--configure-initial-password",
        metavar="USER:PASS",
        help="make this account in a Linux guest with cloud-init; it is kept in a Secret",
    )


def run(args: argparse.Namespace) -> int:
    vm = target.resolve(args)
    if errors := dns1123_label(vm.name):
        raise CommandError(f'"{vm.name}" cannot be the name of a VM: {errors[0]}')
    if errors := dns1123_label(_boot_disk(vm.name)):
        raise CommandError(
            f'"{vm.name}" is too long: "{_boot_disk(vm.name)}" cannot be the name of a disk: {errors[0]}'
        )
    print(f'Constructing manifest for vm "{vm.name}":')
    objects = _objects(args, vm)
    for resource, obj in objects:
        if vm.find(resource, name_of(obj)) is not None:
            raise CommandError(f'{resource.kind} "{name_of(obj)}" exists already in namespace {vm.namespace}')
    path = _save(vm.name, [obj for _, obj in objects])
    print(f'Manifest for vm "{vm.name}" is saved to {path}')
    with _in_place(args.image, objects[1][1]):
        print(f'Applying manifest for vm "{vm.name}"')
        _create(vm.client, objects)
    print(f'Created gvm "{vm.name}"')
    return 0


def _in_place(image: str, disk: Obj) -> contextlib.AbstractContextManager[None]:
    """Puts a local image where the disk's source says that it is, if it is not there."""
    url = dig(disk, "spec", "source", "file", "url")
    source, target = _local(image), Path(unquote(urlsplit(str(url)).path))
    return contextlib.nullcontext() if url is None or source == target else local_image.copied(source, target)


def _boot_disk(vm: str) -> str:
    return f"{vm}-boot-dv"


def _objects(args: argparse.Namespace, vm: Target) -> list[tuple[Resource, Obj]]:
    """The VM first: where it is refused nothing else must be left, and it waits for what is still to come."""
    boot_disk = _boot_disk(vm.name)
    spec: Obj = {
        "compute": {"cpu": {"vcpus": args.cpu}, "memory": {"capacity": args.memory}},
        "disks": [{"virtualMachineDiskName": boot_disk, "boot": True}],
        "interfaces": [_interface(args.network, args.ip)],
        "osType": args.os_type.capitalize(),
    }
    disk_spec: Obj = {
        "size": args.boot_disk_size,
        "source": _source(args.image, boot_disk, local_image.images_directory(vm.kubeconfig)),
    }
    if args.boot_disk_storage_class:
        disk_spec["storageClassName"] = args.boot_disk_storage_class
    objects = [
        (virtualmachine.RESOURCE, _object(virtualmachine.RESOURCE, vm.name, vm.namespace, spec=spec)),
        (virtualmachinedisk.RESOURCE, _object(virtualmachinedisk.RESOURCE, boot_disk, vm.namespace, spec=disk_spec)),
    ]
    if args.configure_initial_password:
        if args.os_type != "linux":
            raise CommandError("--configure-initial-password works with Linux guests only")
        secret = f"{vm.name}-startup"
        spec["cloudInit"] = {"noCloud": {"secretRef": {"name": secret}}}
        data = {"userData": _account(args.configure_initial_password)}
        objects.append((SECRETS, _object(SECRETS, secret, vm.namespace, stringData=data)))
    return objects


def _object(resource: Resource, name: str, namespace: str, **fields: Obj) -> Obj:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **fields}


def _interface(network: str, address: str | None) -> Obj:
    interface: Obj = {"name": "eth0", "networkName": network, "default": True}
    if address:
        if network == names.POD_NETWORK:
            raise CommandError(f"--ip needs --network: addresses on {names.POD_NETWORK} are given by the cluster")
        interface["ipAddresses"] = [address]
    return interface


def _source(image: str, disk: str, images: Path | None) -> Obj:
    image = NAMED_IMAGES.get(image, image)
    if image.startswith(("http://", "https://")):
        return {"http": {"url": image}}
    path = _local(image)
    if not path.is_file():
        raise CommandError(f'"{image}" is neither a known image ({", ".join(NAMED_IMAGES)}), an address nor a file')
    if images is None:
        message = "files can be used with a cluster of this machine only, and with the kubeconfig in its directory: "
        raise CommandError(f"{message}pass it in --kubeconfig, or give the image's http(s) address")
    if not path.is_relative_to(images):
        path = images / f"{disk}{path.suffix}"
    return {"file": {"url": path.as_uri()}}


def _local(image: str) -> Path:
    return Path(image.removeprefix("file://")).expanduser().resolve()


def _account(text: str) -> str:
    """cloud-init's user data (JSON is YAML) for one account that can log in with a password and become root."""
    user, separator, password = text.partition(":")
    if not separator or not user or not password:
        raise CommandError("--configure-initial-password wants USER:PASS")
    account = {
        "name": user,
        "plain_text_passwd": password,
        "lock_passwd": False,
        "shell": "/bin/bash",
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
    }
    return f"#cloud-config\n{json.dumps({'users': [account], 'ssh_pwauth': True})}\n"


def _save(name: str, objects: list[Obj]) -> Path:
    """Write the manifest for its user alone: there may be a password in it."""
    import yaml

    path = Path.home() / "google-virtctl" / f"{name}.yaml"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            yaml.safe_dump_all(objects, file, sort_keys=False)
    except OSError as error:
        raise CommandError(f"the manifest cannot be saved to {path}: {error.strerror}") from None
    return path


def _create(client: SyncClient, objects: list[tuple[Resource, Obj]]) -> None:
    """Create all or nothing. Everything after the VM that only it needs goes with it: the Secret, not the disk."""
    (resource, machine), *others = objects
    made = client.create(resource, machine)
    try:
        for other_resource, obj in others:
            if other_resource == SECRETS:
                obj["metadata"]["ownerReferences"] = [owner_reference(resource, name_of(made), uid_of(made))]
            client.create(other_resource, obj)
    except BaseException:
        with contextlib.suppress(StatusError):
            client.delete(resource, name_of(made), namespace_of(made), uid=uid_of(made))
        raise
