"""`python -m vmruntime.controllers`: the controller manager's process."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from kube.client.aio import AsyncClient
from kube.client.config import KubeConfigError, load_kubeconfig
from vmruntime.controllers import manager
from vmruntime.engines.base import Engine


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vmruntime-controller-manager", description="Runs VM Runtime's controllers.")
    parser.add_argument("--engine", choices=["qemu"], required=True, help="how VMs are made real")
    parser.add_argument("--root", type=Path, required=True, help="directory of disks and instances")
    parser.add_argument("--images", type=Path, required=True, help="directory that file:// disk sources may come from")
    parser.add_argument("--kubeconfig", help="default: $KUBECONFIG, then the pod's service account")
    parser.add_argument("--verbose", action="store_true", help="log details")
    return parser.parse_args()


def _engine(client: AsyncClient, arguments: argparse.Namespace) -> Engine:
    # Imported late: each engine has dependencies of its own.
    from vmruntime.engines.qemu.engine import QemuEngine

    return QemuEngine(client, root=arguments.root, images=arguments.images)


async def _run(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    config = load_kubeconfig(arguments.kubeconfig)
    async with AsyncClient(config, user_agent="vmruntime-controller-manager") as client:
        await manager.run(client, _engine(client, arguments), stop)


def main() -> int:
    """Exit code 0 after SIGTERM, 1 if it cannot work."""
    arguments = _arguments()
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        asyncio.run(_run(arguments))
    except KubeConfigError as exc:
        logging.getLogger(__name__).error("%s", exc)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
