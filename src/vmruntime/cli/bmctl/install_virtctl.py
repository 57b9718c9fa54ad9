"""See that kubectl finds `kubectl virt`. It comes with bmctl, so that nothing is downloaded."""

from __future__ import annotations

import argparse
import os
import shutil
import sys

from vmruntime.cli.dispatch import CommandError
from vmruntime.cli.terminal import say

PLUGIN = "kubectl-virt"


def configure(parser: argparse.ArgumentParser) -> None:
    """It has no options."""


def run(args: argparse.Namespace) -> int:
    found = shutil.which(PLUGIN)
    if found is None:
        here = os.path.dirname(os.path.abspath(sys.argv[0]))
        raise CommandError(
            f"kubectl would not find {PLUGIN}: add its directory to $PATH, which is {here} as bmctl's is"
        )
    print(f"{PLUGIN} comes with bmctl: {found}")
    say("Install virtctl succeeded")
    return 0
