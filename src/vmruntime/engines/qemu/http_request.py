"""Requests by HTTP for what an import needs: credentials, a CA of one's own, redirects, addresses that are allowed.

User name, password and tokens go to the server of the URL itself and never to where it redirects to.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol
from urllib.parse import SplitResult, quote, urljoin

from vmruntime.engines.qemu.http_dial import Dialer
from vmruntime.engines.qemu.sources import SourceError, check_url, shown

_REDIRECTS = (301, 302, 303, 307, 308)
_TRY_AGAIN = (429, 500, 502, 503, 504)
_SAFE = "/%:=&?~+!$,;'@()*[]-._"
_FIXED = {"User-Agent": "vmruntime", "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Access:
    """What a server wants, or is known by. `certificates`: of authorities to trust besides the usual ones, PEM."""

    user: str = ""
    password: str = field(default="", repr=False)
    certificates: str = ""

    def tls(self) -> ssl.SSLContext | None:
        """None: the usual authorities. Raises SourceError for certificates that cannot be read."""
        if not self.certificates:
            return None
        context = ssl.create_default_context()
        try:
            context.load_verify_locations(cadata=self.certificates)
        except (ssl.SSLError, ValueError) as error:
            raise SourceError("InvalidCertificate", f"the CA certificates cannot be read: {error}") from error
        return context

    def headers(self, _parts: SplitResult) -> dict[str, str]:
        """What a request of this URL needs: basic authentication (RFC 7617)."""
        if not self.user and not self.password:
            return {}
        credentials = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return {"Authorization": f"Basic {credentials}"}


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and counts after which a source is given up."""

    connect: float = 15.0
    stall: float = 60.0
    """Without a byte, or until an answer's head is there."""
    slowest: int = 1024
    """Bytes a second, on average over as long as a stall may take."""
    total: float = 24 * 3600.0
    failures: int = 5
    """In a row, with less than PIECE bytes between two."""
    pause: float = 1.0
    """Before the second attempt; doubled for each further one."""
    redirects: int = 5


class Authorization(Protocol):
    """What goes with requests to a server."""

    def tls(self) -> ssl.SSLContext | None:
        """Which authorities are trusted; None: the usual ones. Raises SourceError."""

    def headers(self, parts: SplitResult, /) -> dict[str, str]:
        """What a request of this URL needs. Raises SourceError."""


class Requester:
    """Makes one request after the other; the connection of the last one is closed by the next one."""

    def __init__(self, limits: Limits, access: Authorization, dialer: Dialer | None = None) -> None:
        """`dialer`: of another requester whose server led to this one. Raises SourceError for bad certificates."""
        self._limits = limits
        self._access = access
        self.dialer = dialer or Dialer(limits.connect, access.tls())
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._response: http.client.HTTPResponse | None = None

    def close(self) -> None:
        # Where the server is to close the connection, it belongs to the response alone (http.client).
        for part in (self._response, self._connection):
            if part is not None:
                part.close()

    def get(self, first: str, headers: dict[str, str], also: Sequence[int] = ()) -> http.client.HTTPResponse:
        """A GET, with redirects followed. Raises SourceError for any answer but 200, and those in `also`."""
        url = first
        for _ in range(self._limits.redirects + 1):
            parts = check_url(url)
            own = self._access.headers(parts) if _origin(parts) == _origin(check_url(first)) else {}
            response = self._send("GET", parts, {"Accept": "*/*"} | own | headers)
            if response.status == HTTPStatus.OK or response.status in also:
                encoding = response.getheader("Content-Encoding", "identity").lower()
                if encoding != "identity":
                    raise SourceError("NotAnImage", f"the server sent {shown(url)} in the encoding {encoding!r:.40}")
                return response
            if response.status not in _REDIRECTS or not (target := response.getheader("Location")):
                raise refused(response.status, url)
            url = urljoin(url, target)
            following = check_url(url)
            if following.scheme not in ("http", "https") or (parts.scheme == "https" and following.scheme != "https"):
                raise SourceError("InvalidURL", f"{shown(first)} leads to a {following.scheme} URL, which is refused")
        raise SourceError("InvalidURL", f"{shown(first)} leads on more than {self._limits.redirects} times")

    def post(self, url: str, body: bytes, content_type: str) -> http.client.HTTPResponse:
        """A POST, whatever its answer is; no redirect is followed."""
        return self._send("POST", check_url(url), {"Content-Type": content_type}, body)

    def body(self, response: http.client.HTTPResponse, limit: int) -> bytes:
        """All of a small answer. Raises SourceError where it is larger than `limit` bytes or does not come."""
        try:
            with self._deadline():
                content = response.read(limit + 1)
        except (OSError, http.client.HTTPException) as error:
            raise SourceError(
                "Interrupted", f"the server's answer broke off: {describe(error)}", temporary=True
            ) from error
        if len(content) > limit:
            raise SourceError("ServerError", f"the server's answer has more than {limit} bytes")
        return content

    def _send(
        self, method: str, parts: SplitResult, headers: dict[str, str], body: bytes | None = None
    ) -> http.client.HTTPResponse:
        self.close()
        assert parts.hostname is not None
        path = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_SAFE)
        try:
            self._connection = self.dialer.connect(parts.scheme, parts.hostname, parts.port)
            self._socket = self._connection.sock
            self._socket.settimeout(self._limits.stall)
            with self._deadline():
                self._connection.request(method, path, body=body, headers=_FIXED | headers)
                self._response = self._connection.getresponse()
            return self._response
        except (OSError, http.client.HTTPException) as error:
            wrong = isinstance(error, ssl.SSLCertVerificationError)
            message = f"{parts.scheme}://{parts.netloc} cannot be reached: {describe(error)}"
            raise SourceError("Unreachable", message, temporary=not wrong) from error

    @contextlib.contextmanager
    def _deadline(self) -> Iterator[None]:
        """Ends what is done meanwhile when the time is up, also where the server sends a byte now and then."""
        expired = threading.Event()
        timer = threading.Timer(self._limits.stall, _cut, (self._socket, expired))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
        if expired.is_set():  # what ended that way may look like an answer
            raise TimeoutError


def _cut(sock: socket.socket, expired: threading.Event) -> None:
    expired.set()
    # Below TLS, whose own method is not for use beside another thread's.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def refused(status: int, url: str) -> SourceError:
    """What an answer of another status means."""
    phrase = ""
    with contextlib.suppress(ValueError):
        phrase = " " + HTTPStatus(status).phrase
    reason = {401: "Forbidden", 403: "Forbidden", 404: "NotFound", 410: "NotFound"}.get(status, "ServerError")
    temporary = status in _TRY_AGAIN
    return SourceError(reason, f"the server answered {status}{phrase} for {shown(url)}", temporary=temporary)


def describe(error: Exception) -> str:
    """What went wrong with a connection, for people."""
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, socket.gaierror):
        return "its name cannot be resolved"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        return error.strerror
    if isinstance(error, http.client.IncompleteRead):
        return "it ended the connection"
    return f"{type(error).__name__}: {error}"[:200]
