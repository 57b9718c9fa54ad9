"""Decompressing an image while it comes in. What comes out at once is bounded, so that a bomb costs no memory.

How much comes out in all is for whoever writes it to bound: by then it is a disk's size, which is known.
"""

from __future__ import annotations

import lzma
import sys
import zlib
from collections.abc import Iterator, Mapping
from typing import Protocol

from vmruntime.engines.qemu.images import ImageError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_PIECE = 1 << 20
_XZ_MEMORY = 128 << 20
"""Bytes that an xz decoder may take; `xz -9` needs 65 MiB."""
_ZSTD_OPTIONS: Mapping[int, int] = {zstd.DecompressionParameter.window_log_max: 27}
"""128 MiB, which the `zstd` tool takes at most, too, unless it is told otherwise."""
_GZIP = 16 + zlib.MAX_WBITS


class _Decoder(Protocol):
    """One gzip member, xz stream or zstd frame; a file may have several."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /, max_length: int) -> bytes: ...


def _decoder(compression: str) -> _Decoder:
    if compression == "zst":
        return zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)
    return zlib.decompressobj(_GZIP) if compression == "gz" else lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY)


def _decode(decoder: _Decoder, data: bytes) -> bytes:
    """At most _PIECE bytes more; to be called with nothing until nothing comes out."""
    # What did not fit into one piece is handed back by zlib, and kept by the others.
    rest: bytes = getattr(decoder, "unconsumed_tail", b"")
    return decoder.decompress(rest + data, _PIECE)


def decompressed(pieces: Iterator[bytes], compression: str) -> Iterator[bytes]:
    """The content of a file of one of formats.COMPRESSIONS, to its end. Raises ImageError if it is damaged or cut."""
    decoder: _Decoder | None = _decoder(compression)
    try:
        for piece in pieces:
            data = piece
            while data:
                if decoder is None:
                    data = data.lstrip(b"\0")  # what archivers on tapes, and `xz --block`, pad with
                    if not data:
                        break
                    decoder = _decoder(compression)
                while not decoder.eof and (out := _decode(decoder, data)):
                    yield out
                    data = b""
                data = decoder.unused_data
                if decoder.eof:
                    decoder = None
    except (zlib.error, lzma.LZMAError, zstd.ZstdError) as error:
        raise ImageError("Corrupt", f"the {compression} data is damaged: {error}") from error
    if decoder is not None:
        raise ImageError("Corrupt", f"the {compression} data is cut short")
