"""Start a new cluster on this machine: a Kubernetes API with the VM runtime installed and switched off.

It runs in the background until `bmctl stop cluster`; all its files are in WORKSPACE/NAME/.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import socket

from vmruntime.cli.bmctl import control_plane, options, workspace
from vmruntime.cli.bmctl.installation import install
from vmruntime.cli.bmctl.workspace import Cluster, Record
from vmruntime.cli.dispatch import CommandError
from vmruntime.cli.terminal import say

FIRST_PORT = 6443
PORTS_TRIED = 100


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_cluster(parser)
    parser.add_argument(
        "--port", type=int, metavar="N", help=f"port of the API (default: the first free one from {FIRST_PORT})"
    )
    parser.add_argument(
        "--listen",
        type=_address,
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address the API listens on (default: %(default)s)",
    )


def _address(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("an empty address; 0.0.0.0 is all of this machine's")
    return text


def run(args: argparse.Namespace) -> int:
    cluster = workspace.named(args.workspace, args.cluster)
    record = _create_on_a_free_port(cluster, args.listen, args.port)
    say(f"Created cluster {cluster.name}; its API answers on https://{record.listen}:{record.port}")
    print(f"export KUBECONFIG={shlex.quote(str(cluster.kubeconfig))}")
    return 0


def _create_on_a_free_port(cluster: Cluster, listen: str, wanted: int | None) -> Record:
    while True:
        record = Record(listen, _port(listen, wanted))
        try:
            create(cluster, record)
            return record
        except CommandError:
            # Somebody else, another `create` as like as not, may have taken the port between the look and the start.
            if wanted is not None or _is_free(listen, record.port):
                raise


def create(cluster: Cluster, record: Record) -> None:
    """Make the cluster's directory, start its control plane and install the VM runtime, switched off.

    Raises CommandError, and leaves nothing half-made, if any of it fails.
    """
    _make_directory(cluster)
    try:
        control_plane.start(cluster, record)
        try:
            install(cluster)
            cluster.write_record(record)
        except BaseException:
            control_plane.stop(cluster)
            control_plane.stop_pods(cluster, "--grace", "0")
            raise
    except BaseException:
        shutil.rmtree(cluster.directory, ignore_errors=True)
        raise


def _make_directory(cluster: Cluster) -> None:
    try:
        _refuse_what_is_there(cluster)
        cluster.directory.parent.mkdir(parents=True, exist_ok=True)
        # An unprivileged QEMU works below it, so others may pass through; what they may read is up to each file.
        cluster.directory.mkdir(mode=0o711)
        cluster.images.mkdir(mode=0o755)
        cluster.vm_root.mkdir(mode=0o711)
        cluster.data.mkdir(mode=0o700)
    except OSError as error:
        raise CommandError(f"cannot make {cluster.directory}: {error.strerror}; choose another --workspace") from None


def _refuse_what_is_there(cluster: Cluster) -> None:
    if cluster.exists():
        hint = (
            f"start it with `bmctl start cluster -c {cluster.name}`, or delete it with `bmctl reset -c {cluster.name}`"
        )
        raise CommandError(f'cluster "{cluster.name}" exists already; {hint}')
    if cluster.is_remnant():
        hint = f"`bmctl reset -c {cluster.name}` removes what is left of it"
        raise CommandError(f'cluster "{cluster.name}" was left half-made or half-deleted; {hint}')
    if cluster.directory.exists():
        raise CommandError(f"{cluster.directory} is in the way and holds no cluster; move it away first")


def _port(listen: str, wanted: int | None) -> int:
    if wanted is not None:
        if not 0 < wanted < 65536:
            raise CommandError(f"--port {wanted} is no port; choose one from 1 to 65535")
        if not _is_free(listen, wanted):
            raise CommandError(f"port {wanted} on {listen} is already in use; choose another with --port")
        return wanted
    for port in range(FIRST_PORT, FIRST_PORT + PORTS_TRIED):
        if _is_free(listen, port):
            return port
    last = FIRST_PORT + PORTS_TRIED - 1
    raise CommandError(f"no port from {FIRST_PORT} to {last} is free on {listen}; choose one with --port")


def _is_free(listen: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listen, port))
        except PermissionError:
            raise CommandError(f"this user may not listen on port {port}; choose one above 1023 with --port") from None
        except OSError as error:
            if error.errno == 98:
                return False
            raise CommandError(f"cannot listen on {listen}: {error.strerror}; choose another --listen") from None
    return True
