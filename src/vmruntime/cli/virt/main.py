"""The table of `kubectl virt`'s commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from vmruntime.cli import dispatch
from vmruntime.cli.dispatch import Command

ABOUT = "kubectl virt works on the virtual machines of a cluster."

COMMANDS = (
    Command("console", "vmruntime.cli.virt.console", "connect to the serial console of a VM"),
    Command("create vm", "vmruntime.cli.virt.create_vm", "create a VM with a boot disk from an image"),
    Command("delete vm", "vmruntime.cli.virt.delete_vm", "delete a VM, with --all its disks too"),
    Command("delete disk", "vmruntime.cli.virt.delete_disk", "delete a disk; one in use goes once its VM is deleted"),
    Command(
        "reset-windows-password",
        "vmruntime.cli.virt.reset_windows_password",
        "set and show a new password of an account in a VM",
    ),
    Command("restart", "vmruntime.cli.virt.restart", "stop a VM and start it again"),
    Command("ssh", "vmruntime.cli.virt.ssh", "log in to a Linux VM over SSH: USER@NAME"),
    Command("start", "vmruntime.cli.virt.start", "start a VM"),
    Command("stop", "vmruntime.cli.virt.stop", "shut a VM down"),
    Command("vnc", "vmruntime.cli.virt.vnc", "show the screen of a VM"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the installed command `kubectl-virt`."""
    return dispatch.main("kubectl virt", ABOUT, COMMANDS, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
