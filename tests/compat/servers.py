"""Servers some of whose time constants are short, so that tests need not wait for minutes."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from kube.client.config import load_kubeconfig


def address(kubeconfig: Path) -> tuple[str, int]:
    """Where the server of a kubeconfig listens."""
    parts = urllib.parse.urlsplit(load_kubeconfig(str(kubeconfig)).server)
    return parts.hostname, parts.port


@contextlib.contextmanager
def server_with(directory: Path, settings: str) -> Iterator[Path]:
    """A `python -m solo` that runs `settings` first; its kubeconfig. Its log is `directory/log`."""
    ready, tell = os.pipe()
    arguments = ["--data", str(directory / "data"), "--port", "0", "--ready-fd", str(tell)]
    script = f"{settings}; from solo.__main__ import main; raise SystemExit(main({arguments!r}))"
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-c", script], pass_fds=[tell], stdout=log, stderr=log)
    os.close(tell)
    try:
        assert select.select([ready], [], [], 30)[0] and os.read(ready, 100) == b"READY\n"
        yield directory / "data" / "kubeconfig"
        assert process.poll() is None
    finally:
        os.close(ready)
        process.terminate()
        process.wait(20)
