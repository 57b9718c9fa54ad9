"""SPDY/3.1 framing, as much of it as port forwarding needs; no I/O.

kubectl 1.31 and newer forwards ports over SPDY streams inside a WebSocket (`SPDY/3.1+portforward.k8s.io`). Source: the
SPDY protocol draft 3.1, section 2; there is no flow control, as in the implementation that Kubernetes uses.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_VERSION = 0x8003
_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY = 1, 2, 3, 6, 7
_FIN = 0x01
_HEAD = 8
_MAX_FRAME = 4 * 1024 * 1024
_MAX_HEADERS = 64 * 1024
INTERNAL_ERROR = 6

# Section 2.6.10.1: what header blocks are likely to contain, each word with its length before it.
_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie "
    "keep-alive origin"
)
_TEXTS = (
    b"100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    b"203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    b"404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug "
    b"Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,"
    b"application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdch"
    b"charset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
_NAMES = [word.replace("_", " ").encode() for word in _WORDS.split()]
DICTIONARY = b"".join(struct.pack(">I", len(name)) + name for name in _NAMES) + _TEXTS


class SpdyError(ValueError):
    """The peer does not speak SPDY/3.1; the connection cannot go on."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer opened a stream."""

    stream: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes on a stream; `last` ends the peer's side of it."""

    stream: int
    data: bytes
    last: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """The peer gave up a stream."""

    stream: int


@dataclass(frozen=True, slots=True)
class Ping:
    """To be answered with the same number."""

    number: int


Event = Opened | Data | Reset | Ping


class Connection:
    """One side of a SPDY connection: bytes in, events out; and frames to be sent. Header blocks share a compressor
    each way, so that frames must be sent in the order in which they were made."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def receive(self, data: bytes) -> Iterator[Event]:
        """The events that are complete with these bytes. Raises SpdyError."""
        self._buffer += data
        while len(self._buffer) >= _HEAD:
            first, second = struct.unpack_from(">II", self._buffer)
            length = second & 0xFFFFFF
            if length > _MAX_FRAME:
                raise SpdyError(f"a frame of {length} bytes is too long")
            if len(self._buffer) < _HEAD + length:
                return
            payload = bytes(self._buffer[_HEAD : _HEAD + length])
            del self._buffer[: _HEAD + length]
            yield from self._read(first, second >> 24, payload)

    def _read(self, first: int, flags: int, payload: bytes) -> Iterator[Event]:
        if not first >> 31:
            yield Data(first, payload, bool(flags & _FIN))
            return
        if first >> 16 != _VERSION:
            raise SpdyError(f"version {(first >> 16) & 0x7FFF} of SPDY is not spoken")
        kind = first & 0xFFFF
        try:
            if kind == _SYN_STREAM:
                stream = struct.unpack_from(">I", payload)[0] & 0x7FFFFFFF
                yield Opened(stream, self._headers(payload[10:]))
                if flags & _FIN:
                    yield Data(stream, b"", last=True)
            elif kind == _RST_STREAM:
                yield Reset(struct.unpack_from(">I", payload)[0] & 0x7FFFFFFF)
            elif kind == _PING:
                yield Ping(struct.unpack_from(">I", payload)[0])
        except struct.error:
            raise SpdyError("a control frame is too short") from None

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            plain = self._inflate.decompress(block, _MAX_HEADERS)
        except zlib.error as problem:
            raise SpdyError(f"a header block cannot be read: {problem}") from None
        if self._inflate.unconsumed_tail:
            raise SpdyError("a header block is too long")
        count, place = struct.unpack_from(">I", plain)[0], 4
        if count > len(plain):
            raise SpdyError("a header block is cut off")
        texts = []
        for _ in range(2 * count):
            length = struct.unpack_from(">I", plain, place)[0]
            texts.append(plain[place + 4 : place + 4 + length].decode("latin-1"))
            place += 4 + length
        return dict(zip(texts[::2], texts[1::2], strict=True))

    def open(self, stream: int, headers: Mapping[str, str]) -> bytes:
        """The frame that opens a stream."""
        return _control(_SYN_STREAM, struct.pack(">IIH", stream, 0, 0) + self._block(headers))

    def accept(self, stream: int) -> bytes:
        """The frame that accepts a stream of the peer."""
        return _control(_SYN_REPLY, struct.pack(">I", stream) + self._block({}))

    def _block(self, headers: Mapping[str, str]) -> bytes:
        plain = struct.pack(">I", len(headers))
        for name, value in headers.items():
            for text in (name.lower().encode("latin-1"), value.encode("latin-1")):
                plain += struct.pack(">I", len(text)) + text
        return self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


def data_frame(stream: int, data: bytes, *, last: bool = False) -> bytes:
    """Bytes on a stream; `last` ends our side of it."""
    return struct.pack(">II", stream, (_FIN if last else 0) << 24 | len(data)) + data


def reset_frame(stream: int) -> bytes:
    """Give up a stream."""
    return _control(_RST_STREAM, struct.pack(">II", stream, INTERNAL_ERROR))


def ping_frame(number: int) -> bytes:
    """A ping, or the answer to one."""
    return _control(_PING, struct.pack(">I", number))


def goaway_frame(last_stream: int) -> bytes:
    """No further streams are accepted."""
    return _control(_GOAWAY, struct.pack(">II", last_stream, 0))


def _control(kind: int, payload: bytes) -> bytes:
    return struct.pack(">HHI", _VERSION, kind, len(payload)) + payload
