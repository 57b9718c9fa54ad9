"""Options that several commands share, so that they read and work the same everywhere."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from vmruntime.cli.bmctl.workspace import DEFAULT_WORKSPACE

_UNITS = {"s": 1, "m": 60, "h": 3600}


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """`-c NAME` and where to look for it."""
    parser.add_argument("-c", "--cluster", required=True, metavar="NAME", help="name of the cluster")
    add_workspace(parser)


def add_workspace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workspace", default=DEFAULT_WORKSPACE, metavar="DIR", help="directory of all clusters (default: %(default)s)"
    )


def add_kubeconfig(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kubeconfig", metavar="PATH", help="kubeconfig of the cluster (default: $KUBECONFIG)")
    parser.add_argument("--context", metavar="NAME", help="context in it (default: its current one)")


def add_timeout(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--timeout",
        type=duration,
        default=duration(default),
        metavar="DURATION",
        help=f"how long to wait, such as 90s or 10m (default: {default})",
    )


def add_yes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-y", "--yes", action="store_true", help="answer the question with yes")


def duration(text: str) -> float:
    """`90s`, `10m`, `1h30m` or plain seconds, in seconds."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = re.findall(r"(\d+)([smh])", text)
    if not parts or "".join(n + u for n, u in parts) != text:
        _refuse(text)
    return float(sum(int(n) * _UNITS[u] for n, u in parts))


def boolean(text: str) -> bool:
    """`true` or `false`, as `--force=true` is documented."""
    if text.lower() not in ("true", "false"):
        # One page of the documentation is rendered with spaces: `--force = true`.
        raise argparse.ArgumentTypeError(f'"{text}" is neither true nor false; write =true or =false, without spaces')
    return text.lower() == "true"


def _refuse(text: str) -> NoReturn:
    raise argparse.ArgumentTypeError(f'"{text}" is no duration; write it as 90s, 10m or 1h')
