"""Failures below the API: no answer came, and what the user can do about it.

An answer that is an error is a `kube.machinery.errors.StatusError`. Everything that keeps an answer from coming
(nobody listens, TLS fails, the answer is late, the connection breaks) is a `ConnectionFailed`, whose one-line message
names the server and the remedy. Both clients turn their library's exceptions into these two through this module.
"""

from __future__ import annotations

import json
import socket
import ssl
from typing import Any

from kube.machinery.errors import StatusError

_MAX_TEXT = 300


class ConnectionFailed(Exception):
    """No usable answer from the server.

    `reason` is one of `unreachable` (nothing was sent), `tls`, `timeout` and `lost`; after the last two a request that
    writes may have been carried out or not.
    """

    def __init__(self, server: str, reason: str, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}: {remedy}")
        self.server = server
        self.reason = reason


def connection_failed(exc: BaseException, server: str, source: str) -> ConnectionFailed:
    """Say what `exc`, raised by a socket, by TLS or by an HTTP parser, means for the user.

    `source` names where the address and the credentials came from, usually the kubeconfig's path.
    """
    if isinstance(exc, ssl.SSLCertVerificationError):
        why = exc.verify_message or str(exc)
        problem = f"the certificate of {server} is not trusted ({why})"
        return ConnectionFailed(
            server, "tls", problem, f"{source} belongs to another or an older cluster; get a new one"
        )
    if isinstance(exc, ssl.SSLError):
        return _tls_failed(exc, server, source)
    if isinstance(exc, TimeoutError):
        return ConnectionFailed(
            server, "timeout", f"no answer from {server} in time", "check that it is up, or try again"
        )
    if isinstance(exc, socket.gaierror):
        problem = f"the host name of {server} cannot be resolved"
        return ConnectionFailed(server, "unreachable", problem, f"check `server` in {source} and the name service")
    if isinstance(exc, ConnectionRefusedError):
        problem = f"nothing listens at {server} (connection refused)"
        return ConnectionFailed(server, "unreachable", problem, f"start the cluster, or check `server` in {source}")
    if isinstance(exc, OSError) and exc.errno and not isinstance(exc, ConnectionError):
        problem = f"cannot reach {server} ({exc.strerror or exc})"
        return ConnectionFailed(server, "unreachable", problem, f"check the network and `server` in {source}")
    problem = f"the connection to {server} broke ({_one_line(str(exc)) or type(exc).__name__})"
    remedy = "the server may have been restarted; try again"
    if server.startswith("https:"):
        # Some servers hang up on a client certificate that they do not know, without a word about it.
        remedy += f", and if it breaks again get a new kubeconfig: the client certificate in {source} may be refused"
    return ConnectionFailed(server, "lost", problem, remedy)


def _tls_failed(exc: ssl.SSLError, server: str, source: str) -> ConnectionFailed:
    why = (exc.reason or str(exc)).replace("_", " ").lower()
    problem = f"TLS with {server} failed ({why})"
    if "wrong version number" in why or "record layer failure" in why:
        remedy = f"the server does not speak TLS; check `server` in {source}"
    elif "alert" in why:
        remedy = f"the server refused the client certificate in {source}; get a new kubeconfig"
    else:
        remedy = f"check `server` and the certificates in {source}"
    return ConnectionFailed(server, "tls", problem, remedy)


def status_error(code: int, body: bytes, server: str, source: str) -> StatusError:
    """The exception for an HTTP answer of 400 and above; a proxy's or a load balancer's page is no `Status` object."""
    error = _from_body(code, body)
    if code == 401:
        error.message = (
            f"{server} does not accept the credentials in {source} (401 Unauthorized): "
            "they are missing, expired or another cluster's; get a new kubeconfig"
        )
        error.args = (error.message,)
    return error


def _from_body(code: int, body: bytes) -> StatusError:
    try:
        decoded: Any = json.loads(body)
    except ValueError:
        decoded = None
    if isinstance(decoded, dict) and decoded.get("kind") == "Status":
        return StatusError.from_status(decoded, code)
    text = _one_line(body.decode("utf-8", "replace"))
    message = f"the server answered with HTTP status {code}" + (f": {text}" if text else "")
    return StatusError(code, "", message)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_MAX_TEXT]
