"""What the API server asks of a node agent: logs, exec, attach and port-forward of a pod's containers.

The node implements these protocols; the HTTP layer only frames them. Errors are raised as `StatusError` (for example
400 `container "x" in pod "y" is waiting to start: ContainerCreating`), with the wording that kubelets use.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

STDIN, STDOUT, STDERR, ERROR, RESIZE = 0, 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Which part of a log is wanted: its last lines, what was written since a time (seconds since the epoch), at most
    so many bytes; and whether each line is to be preceded by its time."""

    tail_lines: int | None = None
    since: float | None = None
    limit_bytes: int | None = None
    timestamps: bool = False


@dataclass(frozen=True, slots=True)
class LogOptions:
    """The query parameters of `pods/log` (PodLogOptions), already checked and converted."""

    container: str = ""
    follow: bool = False
    previous: bool = False
    excerpt: Excerpt = Excerpt()


class ExecSession(Protocol):
    """One process started by exec, or an attachment to a container."""

    async def read(self) -> tuple[int, bytes] | None:
        """The next output as (STDOUT or STDERR, data); None when both have ended."""

    async def write(self, data: bytes) -> None:
        """Give `data` to the process' standard input; blocks while its pipe is full."""

    async def close_stdin(self) -> None:
        """End of input."""

    async def resize(self, columns: int, rows: int) -> None:
        """Set the size of the terminal; ignored without one."""

    async def wait(self) -> int:
        """The exit code (128 + N when signal N ended it). Called after `read` gave None."""

    async def close(self) -> None:
        """Let go, perhaps more than once: a process of exec is hung up, an attached container goes on."""


class PodStreams(Protocol):
    """The streams of the pods on one node."""

    async def open_log(self, namespace: str, pod: str, options: LogOptions) -> AsyncIterator[bytes]:
        """The log; with `follow` it goes on until the container ends or the iterator is closed.

        Errors are raised by the call itself, before the first chunk.
        """

    def check_running(self, namespace: str, pod: str, container: str) -> None:
        """Raise what is in the way of a command beside the container, whichever command that may be."""

    async def exec(
        self, namespace: str, pod: str, container: str, command: Sequence[str], *, tty: bool, stdin: bool
    ) -> ExecSession:
        """Run `command` beside the container; an empty `container` means the only or first one."""

    async def attach(self, namespace: str, pod: str, container: str, *, tty: bool, stdin: bool) -> ExecSession:
        """Follow the container's output from now on."""

    async def port_forward(
        self, namespace: str, pod: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a port of the pod."""
