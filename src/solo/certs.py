"""`python -m solo certs renew --data DIR`: new certificates and keys for the server, the administrator and its own
clients. The CA and the key of service-account tokens stay, so that nobody has to be told.

A running server takes them up within seconds, without a restart, and writes the administrator's kubeconfig anew; a
stopped one does when it starts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from solo.auth.pki import PkiError, renew_pki


def main(arguments: Sequence[str]) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m solo certs", description="The cluster's certificates.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    renew = commands.add_parser("renew", help="make all certificates but the CA's anew")
    renew.add_argument("--data", type=Path, required=True, metavar="DIR", help="the server's data directory")
    options = parser.parse_args(arguments)
    try:
        renewed = renew_pki(options.data / "pki")
    except PkiError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    for name, ends in renewed:
        print(f"{name} renewed, valid until {ends:%Y-%m-%dT%H:%M:%SZ}")
    return 0
