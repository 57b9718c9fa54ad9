"""Downloads of disk images by HTTP: credentials, a CA of one's own, redirects, and broken connections.

A broken connection is taken up again where it broke: with a Range request where the server has a validator for what
it sends (RFC 9110, sections 13.1.5 and 14.2), else from the start, skipping what is there already and comparing its
hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import BinaryIO

from vmruntime.engines.qemu.hashing import Hasher
from vmruntime.engines.qemu.http_request import Limits, Requester, describe
from vmruntime.engines.qemu.sources import PIECE, SourceError, shown

_FIRST_RETRIES = 2


class HttpSource:
    """What an HTTP server has under a URL. `open` first."""

    def __init__(self, url: str, limits: Limits, requester: Requester, hasher: Hasher) -> None:
        self._url = url
        self._limits = limits
        self._requester = requester
        self._deadline = time.monotonic() + limits.total
        self._response: http.client.HTTPResponse | None = None
        self._length: int | None = None
        self._validator: str | None = None
        self._seen = hasher

    @property
    def name(self) -> str:
        return self._url.partition("?")[0]

    @property
    def length(self) -> int | None:
        return self._length

    @property
    def file(self) -> BinaryIO | None:
        return None

    @property
    def seen(self) -> Hasher:
        return self._seen

    @property
    def validator(self) -> str:
        return self._validator or ""

    def open(self) -> None:
        """The first request. Raises SourceError unless the server has something to send."""
        attempt = 0
        while True:
            try:
                response = self._response = self._requester.get(self._url, {})
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
                problem = describe(error)
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
                problem = describe(error)
            failures += 1
        raise SourceError("Interrupted", self._broken(done, problem), temporary=True)

    def close(self) -> None:
        self._requester.close()
        self._seen.close()

    def _broken(self, done: int, problem: str) -> str:
        total = f" of {self._length}" if self._length is not None else ""
        return f"the download of {shown(self._url)} broke off after {done}{total} bytes: {problem}"

    def _read(self) -> Iterator[bytes]:
        response = self._response
        came, since = 0, time.monotonic()
        while response is not None and (piece := response.read1(PIECE)):
            now = time.monotonic()
            if now > self._deadline:
                raise SourceError("Timeout", f"{shown(self._url)} took more than {self._limits.total:.0f} s")
            came += len(piece)
            if now - since > self._limits.stall:
                if came < self._limits.slowest * self._limits.stall:
                    raise TimeoutError
                came, since = 0, now
            yield piece

    def _resume(self, done: int) -> None:
        """Goes on after `done` bytes, which were read already."""
        headers, also = {}, []
        if self._validator and done:
            headers = {"Range": f"bytes={done}-", "If-Range": self._validator}
            also = [HTTPStatus.PARTIAL_CONTENT]
        response = self._response = self._requester.get(self._url, headers, also)
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

    def _pause(self, attempt: int) -> None:
        # A process of its own with nothing else to do: it may sleep.
        left = self._deadline - time.monotonic()
        time.sleep(max(0.0, min(self._limits.pause * 2**attempt, 60.0, left)))


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
