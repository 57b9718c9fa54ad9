"""`python -m solo`: one process with an API server, its controllers and a node agent; and commands for its data."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from solo.server import Server, Settings, StartError

logger = logging.getLogger("solo")

OPEN_FILES = 16_384
"""Each watch is an open file: the usual soft limit of 1024 would be reached by a few hundred clients."""
COLLECT_EVERY = 10_000
"""New containers between two looks for cycles."""


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m solo",
        description="A Kubernetes API for one machine.",
        epilog="Commands for the data of a server, running or not: `python -m solo backup` and `python -m solo certs`.",
    )
    parser.add_argument(
        "--data", type=_directory, required=True, metavar="DIR", help="directory of all state (made if needed)"
    )
    parser.add_argument("--listen", default="127.0.0.1", metavar="ADDRESS", help="address to listen on")
    parser.add_argument("--port", type=_port, default=6443, help="port to listen on; 0 takes a free one")
    parser.add_argument("--kubeconfig", type=Path, metavar="PATH", help="where to write the admin's kubeconfig")
    parser.add_argument("--cluster-name", default="solo", metavar="NAME", help="the cluster's name in the kubeconfig")
    parser.add_argument("--node-name", default=socket.gethostname().lower(), metavar="HOST", help="the node's name")
    parser.add_argument("--ready-fd", type=int, metavar="N", help="file descriptor to report READY or ERROR on")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    return parser.parse_args(arguments)


def _directory(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("it is empty: name a directory")
    return Path(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 65535")
    return int(text)


@contextlib.contextmanager
def _locked(data: Path) -> Iterator[None]:
    """Own the data directory: a lock that ends with the process, and the pid beside it for people."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data / "solo.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise StartError(f"cannot use the data directory {data}: {problem.strerror}") from problem
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(f"another server is running on {data} (pid {_read_pid(data)})") from None
        pid_file = data / "solo.pid"
        try:
            pid_file.write_text(f"{os.getpid()}\n")
        except OSError as problem:
            raise StartError(f"cannot use the data directory {data}: {problem.strerror}") from problem
        yield
        pid_file.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _read_pid(data: Path) -> str:
    try:
        return (data / "solo.pid").read_text().strip() or "unknown"
    except OSError:
        return "unknown"


def _allow_open_files() -> None:
    """Raise the soft limit as far as the hard one lets us. Pods inherit it, which is why it is not unlimited."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _settle_garbage_collector() -> None:
    """What a start leaves is there to stay and need not be looked at again. Cycles are few: to look for them every 700
    containers, as is the default, takes a tenth of a busy server's time."""
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY, 20, 20)


class _Ready:
    """Reports the outcome of the start to whoever started us, once."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def tell(self, line: str) -> None:
        """Raises StartError if whoever started us is gone: nobody knows of this server."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        try:
            os.write(descriptor, f"{line}\n".encode())
        except OSError as problem:
            raise StartError(f"whoever started this server did not wait for it: {problem.strerror}") from problem
        finally:
            os.close(descriptor)


async def _serve(settings: Settings, ready: _Ready) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    server = Server(settings)
    try:
        await server.start()
        _settle_garbage_collector()
        ready.tell("READY")
        logger.info("serving %s at %s", settings.cluster_name, server.url)
        await stopping.wait()
        logger.info("stopping; pods go on running")
    finally:
        await server.stop()


def main(arguments: list[str] | None = None) -> int:
    """Run until a signal, or do what a command says; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["backup"]:
        from solo import backup

        return backup.main(given[1:])
    if given[:1] == ["certs"]:
        from solo import certs

        return certs.main(given[1:])
    return _run_server(parse_arguments(given))


def _run_server(options: argparse.Namespace) -> int:
    os.umask(0o077)
    _allow_open_files()
    logging.basicConfig(
        stream=sys.stderr,
        level=options.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    ready = _Ready(options.ready_fd)
    data = options.data.absolute()
    settings = Settings(
        data,
        options.listen,
        options.port,
        options.kubeconfig or data / "kubeconfig",
        options.cluster_name,
        options.node_name,
    )
    try:
        with _locked(data):
            import uvloop

            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(settings, ready))
    except StartError as problem:
        logger.error("%s", problem)
        return _fail(ready, problem)
    except Exception as problem:
        logger.exception("the server failed")
        return _fail(ready, problem)
    return 0


def _fail(ready: _Ready, problem: Exception) -> int:
    with contextlib.suppress(StartError):
        ready.tell(f"ERROR {problem}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
