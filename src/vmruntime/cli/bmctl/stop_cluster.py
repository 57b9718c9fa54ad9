"""Shut the cluster's VMs down (ACPI, then a deadline) and stop the cluster. All data stays.

`bmctl start cluster` brings it back, and with it the VMs that should run.
"""

from __future__ import annotations

import argparse

from vmruntime.api.names import NAMESPACE, NETWORK_GATEWAY
from vmruntime.cli.bmctl import control_plane, options, workspace
from vmruntime.cli.bmctl.workspace import Cluster
from vmruntime.cli.dispatch import CommandError
from vmruntime.cli.terminal import say


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_cluster(parser)
    options.add_timeout(parser, "60s")


def run(args: argparse.Namespace) -> int:
    cluster = workspace.existing(args.workspace, args.cluster)
    stop(cluster, args.timeout)
    say(f"Stopped cluster {cluster.name}")
    return 0


def stop(cluster: Cluster, guest_seconds: float) -> None:
    """Stop everything that runs for the cluster; guests get `guest_seconds` to shut down by themselves."""
    control_plane.stop(cluster)
    # The controller manager first: it would start again what is shut down here. Guests keep their network for that.
    control_plane.stop_pods(cluster, "--namespace", NAMESPACE, "--except", NETWORK_GATEWAY)
    _shut_guests_down(cluster, guest_seconds)
    control_plane.stop_pods(cluster)
    take_network_down(cluster)


def take_network_down(cluster: Cluster) -> None:
    """Remove what the cluster's networking made on the host; nothing of it may run any more."""
    import asyncio

    from vmruntime.engines.qemu import network_removal
    from vmruntime.engines.qemu.host_tools import ToolError

    try:
        asyncio.run(network_removal.remove(cluster.vm_root))
    except (ToolError, OSError) as error:
        raise CommandError(f"the cluster's network could not be removed: {error}") from None


def _shut_guests_down(cluster: Cluster, seconds: float) -> None:
    # Imported here: it brings asyncio, which the other commands of this program do without.
    import asyncio

    from vmruntime.engines.qemu.shutdown import shut_down_all

    stubborn = asyncio.run(shut_down_all(cluster.vm_root, seconds))
    for name in stubborn:
        say(f"VM {name} did not shut down within {seconds:.0f} s and is switched off")
