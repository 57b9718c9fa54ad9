"""Stop a cluster and delete everything it has: VMs, disks, objects, logs."""

from __future__ import annotations

import argparse
import shutil

from vmruntime.cli.bmctl import control_plane, options, stop_cluster, workspace
from vmruntime.cli.bmctl.workspace import Cluster
from vmruntime.cli.dispatch import CommandError
from vmruntime.cli.terminal import confirm, say


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_cluster(parser)
    options.add_yes(parser)


def run(args: argparse.Namespace) -> int:
    cluster = workspace.named(args.workspace, args.cluster)
    if not cluster.is_remnant():
        cluster = workspace.existing(args.workspace, args.cluster)
    where = cluster.directory.resolve()
    print(f"This deletes cluster {cluster.name} and everything in {where}, the disks of its VMs included.")
    if not confirm("Delete it?", assume_yes=args.yes, remedy="--yes agrees to the deletion"):
        raise CommandError("not confirmed, so nothing was changed")
    control_plane.stop(cluster)
    control_plane.stop_pods(cluster, "--grace", "0")
    stop_cluster.take_network_down(cluster)
    _delete(cluster)
    say(f"Reset cluster {cluster.name} succeeded")
    return 0


def _delete(cluster: Cluster) -> None:
    try:
        # Somebody may have moved it to where there is more room, and left a link.
        shutil.rmtree(cluster.directory.resolve())
        if cluster.directory.is_symlink():
            cluster.directory.unlink()
    except OSError as error:
        raise CommandError(f"cannot delete {error.filename}: {error.strerror}") from None
