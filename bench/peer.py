"""A kube-apiserver with its etcd, as `scripts/build_peer.sh` makes them: the same load runs against both servers."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bench.processes import free_port
from kube.client.config import KubeConfigError, load_kubeconfig
from kube.client.errors import ConnectionFailed
from kube.client.sync import SyncClient
from kube.machinery.errors import StatusError

START_SECONDS = 120.0
STOP_SECONDS = 30.0
PAUSE_SECONDS = 0.02
"""Between two looks at `/readyz`; it has no way to tell when it is ready."""


@dataclass(frozen=True, slots=True)
class RunningPeer:
    """Both processes, their administrator's kubeconfig, and the seconds from their start to `/readyz`."""

    kubeconfig: Path
    pids: list[int]
    ready_seconds: float


@contextlib.contextmanager
def run_peer(binaries: Path, directory: Path) -> Iterator[RunningPeer]:
    """Start `etcd` and `kube-apiserver` of `binaries` with data in `directory`, which is empty; stop both at the end.

    With what both do unless told otherwise, on loopback; RBAC, and an administrator with a token. Raises RuntimeError
    with the end of the log where it does not get ready.
    """
    with contextlib.ExitStack() as stack:
        etcd_port, peer_port, api_port = free_port(), free_port(), free_port()
        kubeconfig = _write_credentials(directory, api_port)
        began = time.perf_counter()
        etcd = stack.enter_context(_process(_etcd(binaries, directory, etcd_port, peer_port), directory / "etcd.log"))
        log = directory / "kube-apiserver.log"
        server = stack.enter_context(_process(_kube_apiserver(binaries, directory, etcd_port, api_port), log))
        _wait_ready(kubeconfig, server, log)
        yield RunningPeer(kubeconfig, [etcd.pid, server.pid], time.perf_counter() - began)


def _write_credentials(directory: Path, api_port: int) -> Path:
    """The key of service accounts' tokens, the administrator's token and kubeconfig: what an installer would make."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = serialization.Encoding.PEM
    pkcs8 = serialization.PrivateFormat.PKCS8
    (directory / "sa.key").write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    token = secrets.token_urlsafe(32)
    (directory / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
    # The server makes its own certificate when it starts, and this file holds what signed it.
    cluster = {"server": f"https://127.0.0.1:{api_port}", "certificate-authority": str(directory / "apiserver.crt")}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "peer",
        "clusters": [{"name": "peer", "cluster": cluster}],
        "users": [{"name": "peer", "user": {"token": token}}],
        "contexts": [{"name": "peer", "context": {"cluster": "peer", "user": "peer"}}],
    }
    kubeconfig = directory / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    return kubeconfig


def _etcd(binaries: Path, directory: Path, port: int, peer_port: int) -> list[str]:
    url, peer_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
    return [
        str(binaries / "etcd"),
        f"--data-dir={directory / 'etcd'}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster=default={peer_url}",
    ]


def _kube_apiserver(binaries: Path, directory: Path, etcd_port: int, port: int) -> list[str]:
    return [
        str(binaries / "kube-apiserver"),
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={directory}",
        "--authorization-mode=Node,RBAC",
        f"--token-auth-file={directory / 'tokens.csv'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={directory / 'sa.key'}",
        f"--service-account-signing-key-file={directory / 'sa.key'}",
    ]


@contextlib.contextmanager
def _process(command: list[str], log_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log_path.open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(kubeconfig: Path, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        # Its certificate is read anew each time, as the server makes it on its way.
        with contextlib.suppress(KubeConfigError, OSError, ConnectionFailed, StatusError):
            with SyncClient(load_kubeconfig(str(kubeconfig))) as client:
                client.raw("GET", "/readyz")
            return
        time.sleep(PAUSE_SECONDS)
    raise RuntimeError(f"kube-apiserver did not get ready:\n{log.read_text()[-2000:]}")
