"""Connect this terminal to the serial console of a running VM; Ctrl+] leaves it.

What the guest printed before is in the log of the VM's pod: `kubectl logs POD`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import termios
import tty
from collections.abc import Iterator, Sequence

from kube.client.aio import AsyncClient
from kube.client.config import KubeConfig
from kube.client.streams import STDERR, PodStream, exec_stream
from kube.machinery.resources import PODS
from vmruntime.api import names
from vmruntime.cli.dispatch import CommandError
from vmruntime.cli.virt import inside, target

ESCAPE = b"\x1d"  # Ctrl+]
CHUNK = 4096
_ENDED_BY_SIGNAL = (137, 143)  # as the shell counts SIGKILL and SIGTERM: with what ends a pod


def configure(parser: argparse.ArgumentParser) -> None:
    target.configure(parser)


def run(args: argparse.Namespace) -> int:
    vm = target.resolve(args)
    pod_name = inside.pod_name(vm.read(), vm.name, "console")
    pod = vm.client.get(PODS, pod_name, vm.namespace)
    command = inside.command(pod, vm.name, names.CONSOLE_COMMAND_ANNOTATION, "console")
    greeting = f"Successfully connected to {vm.name} console. The escape sequence is ^]\r\n"
    with _raw_terminal(sys.stdin.fileno()):
        code, complaint = asyncio.run(_bridge(vm.client.config, vm.namespace, pod_name, command, greeting))
    print()
    if code:
        how = "because the machine ended" if code in _ENDED_BY_SIGNAL else f"with exit code {code}"
        raise CommandError(complaint.strip() or f"the console of {vm.name} ended {how}")
    return 0


@contextlib.contextmanager
def _raw_terminal(descriptor: int) -> Iterator[None]:
    """Every key goes to the guest, Ctrl+C included. Without a terminal there is nothing to set or restore."""
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor, termios.TCSADRAIN)  # what was typed ahead stays
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


async def _bridge(
    config: KubeConfig, namespace: str, pod: str, command: Sequence[str], greeting: str
) -> tuple[int, str]:
    """Copy both ways until the user leaves or the console ends; exit code and what was said on stderr."""
    async with (
        AsyncClient(config) as client,
        exec_stream(client, namespace, pod, container="compute", command=list(command), stdin=True) as stream,
    ):
        print(greeting, end="", flush=True)
        typing = asyncio.create_task(_send_keys(stream))
        printing = asyncio.create_task(_print_output(stream))
        done, _ = await asyncio.wait((typing, printing), return_when=asyncio.FIRST_COMPLETED)
        if printing not in done and typing.result():
            # Input that ended by itself (a pipe) still gets the answers to what it sent.
            await stream.close_stdin()
            await printing
        for task in (typing, printing):
            task.cancel()
        await asyncio.gather(typing, printing, return_exceptions=True)
        complaint = printing.result() if printing in done or not printing.cancelled() else ""
        return stream.exit_code or 0, complaint


async def _send_keys(stream: PodStream) -> bool:
    """True when the input ended, False when the user typed the escape sequence."""
    loop = asyncio.get_running_loop()
    typed: asyncio.Queue[bytes] = asyncio.Queue()
    descriptor = sys.stdin.fileno()
    try:
        # Read right where the loop has just found it readable: the terminal is the shell's too and stays blocking.
        loop.add_reader(descriptor, lambda: typed.put_nowait(os.read(descriptor, CHUNK)))
    except PermissionError:  # a file, which is always readable
        await stream.send(sys.stdin.buffer.read())
        return True
    try:
        while keys := await typed.get():
            before, escape, _ = keys.partition(ESCAPE)
            if before:
                await stream.send(before)
            if escape:
                return False
        return True
    finally:
        loop.remove_reader(descriptor)


async def _print_output(stream: PodStream) -> str:
    """Print what the console says; what its program says on stderr is returned."""
    complaint = ""
    async for channel, data in stream:
        if channel == STDERR:
            complaint += data.decode(errors="replace")
            continue
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    return complaint
