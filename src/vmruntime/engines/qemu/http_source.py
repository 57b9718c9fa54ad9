"""Downloads of disk images by HTTP: credentials, a CA of one's own, redirects, and broken connections.

A broken connection is taken up again where it broke: with a Range request where the server has a validator for what
it sends (RFC 9110, sections 13.1.5 and 14.2), else from the start, skipping what is there already and comparing its
hash. User name and password go to the server of the URL itself and never to where it redirects to.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import BinaryIO
from urllib.parse import SplitResult, quote, urljoin

from vmruntime.engines.qemu.http_dial import Dialer
from vmruntime.engines.qemu.sources import PIECE, SourceError, check_url, shown

_REDIRECTS = (301, 302, 303, 307, 308)
_FIRST_RETRIES = 2
_TRY_AGAIN = (429, 500, 502, 503, 504)
_SAFE = "/%:=&?~+!$,;'@()*[]-._"


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
    """Without a byte."""
    total: float = 24 * 3600.0
    failures: int = 5
    """In a row, with less than PIECE bytes between two."""
    pause: float = 1.0
    """Before the second attempt; doubled for each further one."""
    redirects: int = 5


class _Hash:
    """SHA-256 of what comes in, worked out by a thread of its own while the next bytes come (hashlib lets it)."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._worker = ThreadPoolExecutor(1, "hash")
        self._pending: Future[None] | None = None

    def update(self, piece: bytes) -> None:
        self._settle()
        self._pending = self._worker.submit(self._hash.update, piece)

    def hexdigest(self) -> str:
        self._settle()
        return self._hash.hexdigest()

    def close(self) -> None:
        self._worker.shutdown()

    def _settle(self) -> None:
        if self._pending is not None:
            self._pending.result()


class HttpSource:
    """What an HTTP server has under a URL. `open` first."""

    def __init__(self, url: str, limits: Limits, access: Access) -> None:
        """Raises SourceError for certificates that cannot be read."""
        self._url = url
        self._limits = limits
        self._access = access
        self._dialer = Dialer(limits.connect, access.tls())
        self._deadline = time.monotonic() + limits.total
        self._connection: http.client.HTTPConnection | None = None
        self._response: http.client.HTTPResponse | None = None
        self._length: int | None = None
        self._validator: str | None = None
        self._seen = _Hash()

    @property
    def length(self) -> int | None:
        return self._length

    @property
    def file(self) -> BinaryIO | None:
        return None

    @property
    def sha256(self) -> str:
        return self._seen.hexdigest()

    @property
    def validator(self) -> str:
        return self._validator or ""

    def open(self) -> None:
        """The first request. Raises SourceError unless the server has something to send."""
        attempt = 0
        while True:
            try:
                response = self._request({})
                break
            except SourceError as error:
                if not error.temporary or attempt >= _FIRST_RETRIES:
                    raise
                self._pause(attempt)
                attempt += 1
        self._length = _content_length(response)
        # A weak ETag does not promise the same bytes (RFC 9110, 8.8.1), a date does well enough here.
        etag = response.getheader("ETag", "")
        self._validator = etag if etag.startswith('"') else response.getheader("Last-Modified")

    def pieces(self) -> Iterator[bytes]:
        """The content, with broken connections taken up again."""
        done = 0
        failures = 0
        while True:
            before = done
            try:
                for piece in self._read():
                    done += len(piece)
                    if self._length is not None and done > self._length:
                        promised = f"than the {self._length} bytes it announced"
                        raise SourceError("NotAnImage", f"the server sent more of {shown(self._url)} {promised}")
                    self._seen.update(piece)
                    yield piece
                if self._length is None or done >= self._length:
                    return
                problem = "it ended the connection"
            except (OSError, http.client.HTTPException) as error:
                problem = _describe(error)
            failures = 1 if done - before >= PIECE else failures + 1
            failures = self._take_up(done, failures, problem)

    def _take_up(self, done: int, failures: int, problem: str) -> int:
        """Connects until it works; returns the failures in a row, the given ones included."""
        while failures < self._limits.failures and self._length is not None:
            self._pause(failures - 1)
            try:
                self._resume(done)
                return failures
            except SourceError as error:
                if not error.temporary:
                    raise
                problem = str(error)
            except (OSError, http.client.HTTPException) as error:
                problem = _describe(error)
            failures += 1
        raise SourceError("Interrupted", self._broken(done, problem), temporary=True)

    def close(self) -> None:
        self._disconnect()
        self._seen.close()

    def _disconnect(self) -> None:
        # Where the server is to close the connection, it belongs to the response alone (http.client).
        for part in (self._response, self._connection):
            if part is not None:
                part.close()

    def _broken(self, done: int, problem: str) -> str:
        total = f" of {self._length}" if self._length is not None else ""
        return f"the download of {shown(self._url)} broke off after {done}{total} bytes: {problem}"

    def _read(self) -> Iterator[bytes]:
        response = self._response
        while response is not None and (piece := response.read1(PIECE)):
            if time.monotonic() > self._deadline:
                raise SourceError("Timeout", f"{shown(self._url)} took more than {self._limits.total:.0f} s")
            yield piece

    def _resume(self, done: int) -> None:
        """Goes on after `done` bytes, which were read already."""
        headers = {}
        if self._validator and done:
            headers = {"Range": f"bytes={done}-", "If-Range": self._validator}
        response = self._request(headers)
        changed = SourceError("Interrupted", f"{shown(self._url)} changed while it was downloaded", temporary=False)
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            if response.getheader("Content-Range", "").split("/") != [f"bytes {done}-{self._last}", str(self._length)]:
                raise changed
            return
        if _content_length(response) != self._length:
            raise changed
        again = hashlib.sha256()
        left = done
        while left:
            piece = response.read1(min(left, PIECE))
            if not piece:
                raise http.client.IncompleteRead(b"", left)
            again.update(piece)
            left -= len(piece)
        if again.hexdigest() != self._seen.hexdigest():
            raise changed

    @property
    def _last(self) -> int:
        return (self._length or 0) - 1

    def _request(self, headers: dict[str, str]) -> http.client.HTTPResponse:
        """A GET, with redirects followed. Raises SourceError for any answer but 200, or 206 to a Range request."""
        url = self._url
        for _ in range(self._limits.redirects + 1):
            response = self._get(url, headers)
            if response.status == HTTPStatus.OK or (response.status == HTTPStatus.PARTIAL_CONTENT and headers):
                encoding = response.getheader("Content-Encoding", "identity").lower()
                if encoding != "identity":
                    raise SourceError("NotAnImage", f"the server sent {shown(url)} in the encoding {encoding!r:.40}")
                return response
            if response.status not in _REDIRECTS or not (target := response.getheader("Location")):
                raise _refused(response.status, url)
            following = urljoin(url, target)
            secure = check_url(url).scheme == "https"
            url = following
            parts = check_url(url)
            if parts.scheme not in ("http", "https") or (secure and parts.scheme != "https"):
                raise SourceError("InvalidURL", f"{shown(self._url)} leads to a {parts.scheme} URL, which is refused")
        raise SourceError("InvalidURL", f"{shown(self._url)} leads on more than {self._limits.redirects} times")

    def _get(self, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        self._disconnect()
        parts = check_url(url)
        assert parts.hostname is not None
        path = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_SAFE)
        fixed = {"User-Agent": "vmruntime", "Accept-Encoding": "identity", "Accept": "*/*"}
        if _origin(parts) == _origin(check_url(self._url)):
            fixed |= self._access.headers(parts)
        try:
            self._connection = self._dialer.connect(parts.scheme, parts.hostname, parts.port)
            self._connection.sock.settimeout(self._limits.stall)
            self._connection.request("GET", path, headers=fixed | headers)
            self._response = self._connection.getresponse()
            return self._response
        except (OSError, http.client.HTTPException) as error:
            wrong = isinstance(error, ssl.SSLCertVerificationError)
            message = f"{parts.scheme}://{parts.netloc} cannot be reached: {_describe(error)}"
            raise SourceError("Unreachable", message, temporary=not wrong) from error

    def _pause(self, attempt: int) -> None:
        # A process of its own with nothing else to do: it may sleep.
        left = self._deadline - time.monotonic()
        time.sleep(max(0.0, min(self._limits.pause * 2**attempt, 60.0, left)))


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _content_length(response: http.client.HTTPResponse) -> int | None:
    """What the server announces; what it says beside chunks does not count (RFC 9112, section 6.3)."""
    if response.getheader("Transfer-Encoding"):
        return None
    value = response.getheader("Content-Length")
    with contextlib.suppress(TypeError, ValueError):
        length = int(value)  # type: ignore[arg-type]
        if length >= 0:
            return length
    return None


def _refused(status: int, url: str) -> SourceError:
    phrase = ""
    with contextlib.suppress(ValueError):
        phrase = " " + HTTPStatus(status).phrase
    reason = {401: "Forbidden", 403: "Forbidden", 404: "NotFound", 410: "NotFound"}.get(status, "ServerError")
    temporary = status in _TRY_AGAIN
    return SourceError(reason, f"the server answered {status}{phrase} for {shown(url)}", temporary=temporary)


def _describe(error: Exception) -> str:
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
