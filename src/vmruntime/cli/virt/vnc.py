"""Show the screen of a running VM: a port of this machine's loopback address leads to it; a viewer is started on it.

With --proxy-only, or where there is no viewer, the port stays until Ctrl+C; any VNC viewer can be pointed at it. It has
no password, so that other users of this machine reach it too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
from collections.abc import Sequence

from kube.client.aio import AsyncClient
from kube.client.config import KubeConfig
from kube.client.errors import ConnectionFailed
from kube.client.streams import STDERR, exec_stream
from kube.machinery.errors import StatusError
from kube.machinery.resources import PODS
from vmruntime.api import names
from vmruntime.cli.dispatch import CommandError
from vmruntime.cli.terminal import say
from vmruntime.cli.virt import inside, target

LOOPBACK = "127.0.0.1"
CHUNK = 65536


def configure(parser: argparse.ArgumentParser) -> None:
    target.configure(parser)
    parser.add_argument("--proxy-only", action="store_true", help="start no viewer; print the port as JSON")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="the port to listen on (default: a free one)")


def run(args: argparse.Namespace) -> int:
    vm = target.resolve(args)
    pod = inside.pod_name(vm.read(), vm.name, "screen")
    words = inside.command(vm.client.get(PODS, pod, vm.namespace), vm.name, names.VNC_COMMAND_ANNOTATION, "screen")
    screen = Screen(vm.client.config, vm.namespace, pod, words)
    try:
        return asyncio.run(_show(screen, vm.name, args.port, proxy_only=args.proxy_only))
    except KeyboardInterrupt:
        return 0


class Screen:
    """A VM's screen: each connection to the local port is a program of its own in the VM's pod."""

    def __init__(self, config: KubeConfig, namespace: str, pod: str, command: Sequence[str]) -> None:
        self._client = AsyncClient(config)
        self._namespace = namespace
        self._pod = pod
        self._command = list(command)

    async def close(self) -> None:
        await self._client.close()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one viewer's connection. What goes wrong is said on stderr, and ends the connection only."""
        try:
            complaint = await self._carry(reader, writer)
        except (StatusError, ConnectionFailed, OSError) as error:
            complaint = str(error)
        finally:
            writer.close()
        if complaint:
            say(complaint)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        complaint = b""
        async with exec_stream(
            self._client, self._namespace, self._pod, container="compute", command=self._command, stdin=True
        ) as stream:

            async def send() -> None:
                while data := await reader.read(CHUNK):
                    await stream.send(data)
                await stream.close_stdin()

            sending = asyncio.create_task(send())
            try:
                async for channel, data in stream:
                    if channel == STDERR:
                        complaint += data
                        continue
                    writer.write(data)
                    await writer.drain()
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
        return complaint.decode(errors="replace").strip() if stream.exit_code else ""


async def _show(screen: Screen, name: str, port: int, *, proxy_only: bool) -> int:
    try:
        server = await asyncio.start_server(screen.connect, LOOPBACK, port)
    except (OSError, OverflowError) as error:  # no port has a number like that
        await screen.close()
        reason = error.strerror if isinstance(error, OSError) else "it is no port"
        raise CommandError(f"cannot listen on port {port} of {LOOPBACK}: {reason}") from None
    try:
        port = server.sockets[0].getsockname()[1]
        viewer = None if proxy_only else viewer_command(port)
        if proxy_only:
            print(json.dumps({"port": port}), flush=True)
        elif viewer is None:
            say(f"no VNC viewer (remote-viewer, vncviewer) is installed; the screen of {name} is at {LOOPBACK}:{port}")
        if viewer is None:
            await asyncio.Event().wait()
            return 0
        process = await asyncio.create_subprocess_exec(*viewer)
        try:
            return await process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
    finally:
        server.close()
        await screen.close()


def viewer_command(port: int) -> list[str] | None:
    """The viewer that is installed here, and how it is told of the port; None if there is none."""
    for program, where in (("remote-viewer", f"vnc://{LOOPBACK}:{port}"), ("vncviewer", f"{LOOPBACK}::{port}")):
        if found := shutil.which(program):
            return [found, where]
    return None
