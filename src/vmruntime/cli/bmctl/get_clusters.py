"""List the clusters of a workspace: name, whether it runs, its API's address, its kubeconfig."""

from __future__ import annotations

import argparse
import json
from typing import Any

from vmruntime.cli.bmctl import control_plane, options, workspace
from vmruntime.cli.bmctl.workspace import Cluster
from vmruntime.cli.terminal import table


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_workspace(parser)
    parser.add_argument("-o", "--output", choices=("json", "yaml"), help="print it for programs instead")


def run(args: argparse.Namespace) -> int:
    found = [_describe(cluster) for cluster in workspace.clusters(args.workspace)]
    if args.output == "json":
        print(json.dumps({"clusters": found}, indent=2))
    elif args.output == "yaml":
        import yaml

        print(yaml.safe_dump({"clusters": found}, sort_keys=False), end="")
    elif found:
        rows = ([c["name"], c["status"], c["server"], c["kubeconfig"]] for c in found)
        print(table(("NAME", "STATUS", "SERVER", "KUBECONFIG"), rows))
    else:
        print(f"No clusters in {args.workspace}.")
    return 0


def _describe(cluster: Cluster) -> dict[str, Any]:
    record = cluster.record()
    return {
        "name": cluster.name,
        "status": "Running" if control_plane.is_running(cluster) else "Stopped",
        "server": f"https://{record.listen}:{record.port}",
        "kubeconfig": str(cluster.kubeconfig),
    }
