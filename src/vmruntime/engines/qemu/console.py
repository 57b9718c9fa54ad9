"""Connects to a machine's serial port or screen: standard input and output to a socket of QEMU's and back.

    python -m vmruntime.engines.qemu.console SOCKET

Runs in the machine's pod, through `kubectl exec`, for `kubectl virt console` and `kubectl virt vnc`. It is a program
with nothing but the standard library, because QEMU's user may not be able to read our installation. The end of standard
input ends it, so that a lost connection does not keep the console busy: QEMU's serial socket serves one client, and a
second console is told so.

Exit code 0: left, or the machine ended; 1: there is no machine, or somebody else is connected; 2: wrong arguments.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import select
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_CONNECT_SECONDS = 5.0
_LOCK_SECONDS = 3.0
"""How long a console that is just being left may keep the next one waiting."""
_LOCK_PAUSE = 0.1
_DRAIN_SECONDS = 0.5
"""How long what the machine still says is shown after the end of the input."""
_PIECE = 65536


class ConsoleError(Exception):
    """The console cannot be had; the text is one line for the user."""


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Holds the console of this socket. Raises ConsoleError while somebody else does; a killed holder holds nothing."""
    lock = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConsoleError(f"{lock}: {error.strerror}") from error
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while not _lock(descriptor):
            if time.monotonic() > deadline:
                raise ConsoleError("somebody else is connected to it; only one can be at a time")
            time.sleep(_LOCK_PAUSE)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def open_socket(path: Path) -> socket.socket:
    """A connection to a socket, however long its path is. Raises ConsoleError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_CONNECT_SECONDS)
    try:
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{directory}/{path.name}")
        finally:
            os.close(directory)
    except OSError as error:
        connection.close()
        raise ConsoleError(f"the virtual machine does not run ({path.name}: {error.strerror or error})") from error
    connection.settimeout(None)
    return connection


def bridge(connection: socket.socket, source: int, sink: int) -> bool:
    """Copies both ways until one side ends. True when that was the machine."""
    deadline: float | None = None
    while True:
        readers = [connection.fileno()] if deadline is not None else [connection.fileno(), source]
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select(readers, [], [], timeout)
        if not ready:
            return False
        if connection.fileno() in ready:
            data = _receive(connection)
            if not data:
                return True
            _write_all(sink, data)
        if source in ready:
            typed = os.read(source, _PIECE)
            if not typed:
                deadline = time.monotonic() + _DRAIN_SECONDS
            with contextlib.suppress(OSError):  # the machine is gone; reading says so
                connection.sendall(typed)


def _receive(connection: socket.socket) -> bytes:
    with contextlib.suppress(OSError):
        return connection.recv(_PIECE)
    return b""


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def main(argv: Sequence[str]) -> int:
    """Runs the program; see the module's text."""
    parser = argparse.ArgumentParser(prog="console", description="Connect to a socket of a virtual machine.")
    parser.add_argument("socket", type=Path, help="QEMU's socket")
    path = parser.parse_args(argv).socket
    try:
        with only_one(path), contextlib.closing(open_socket(path)) as connection:
            ended = bridge(connection, sys.stdin.fileno(), sys.stdout.fileno())
    except ConsoleError as error:
        sys.stderr.write(f"console: {error}\n")
        return 1
    except (BrokenPipeError, KeyboardInterrupt):
        return 0
    if ended:
        sys.stderr.write("console: the virtual machine ended the connection\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
