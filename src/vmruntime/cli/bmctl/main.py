"""The table of bmctl's commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from vmruntime.cli import dispatch
from vmruntime.cli.dispatch import Command

ABOUT = "bmctl runs Kubernetes-compatible clusters on this machine and switches the VM runtime of a cluster on and off."

COMMANDS = (
    Command("create cluster", "vmruntime.cli.bmctl.create_cluster", "start a new cluster on this machine"),
    Command("get clusters", "vmruntime.cli.bmctl.get_clusters", "list the clusters of a workspace"),
    Command("start cluster", "vmruntime.cli.bmctl.start_cluster", "start a stopped cluster again"),
    Command("stop cluster", "vmruntime.cli.bmctl.stop_cluster", "shut its VMs down and stop a cluster; data stays"),
    Command("reset", "vmruntime.cli.bmctl.reset", "stop a cluster and delete all its data, disks included"),
    Command("enable vmruntime", "vmruntime.cli.bmctl.enable_vmruntime", "switch the VM runtime on"),
    Command("disable vmruntime", "vmruntime.cli.bmctl.disable_vmruntime", "switch the VM runtime off"),
    Command("check vmruntimepfc", "vmruntime.cli.bmctl.check_vmruntimepfc", "run a preflight check of the machines"),
    Command("install virtctl", "vmruntime.cli.bmctl.install_virtctl", "see that kubectl finds `kubectl virt`"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the installed command `bmctl`."""
    return dispatch.main("bmctl", ABOUT, COMMANDS, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
