"""Start a stopped cluster again. Pods whose processes still run are adopted; VMs that should run are started."""

from __future__ import annotations

import argparse

from vmruntime.cli.bmctl import control_plane, options, workspace
from vmruntime.cli.bmctl.installation import install
from vmruntime.cli.terminal import say


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_cluster(parser)


def run(args: argparse.Namespace) -> int:
    cluster = workspace.existing(args.workspace, args.cluster)
    if control_plane.is_running(cluster):
        say(f"Cluster {cluster.name} runs already")
        return 0
    record = cluster.record()
    control_plane.start(cluster, record)
    # It may have been made by another version of this program, or one that was in another place.
    install(cluster)
    say(f"Started cluster {cluster.name}; its API answers on https://{record.listen}:{record.port}")
    return 0
