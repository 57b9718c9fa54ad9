"""Decompressing an image while it comes in. What comes out at once is bounded, so that a bomb costs no memory.

How much comes out in all is for whoever writes it to bound: by then it is a disk's size, which is known.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Iterator
from typing import Protocol

from vmruntime.engines.qemu.images import ImageError

_PIECE = 1 << 20
_XZ_MEMORY = 128 << 20
"""Bytes that an xz decoder may take; `xz -9` needs 65 MiB."""
_GZIP = 16 + zlib.MAX_WBITS


class _Decoder(Protocol):
    """One gzip member or xz stream; a file may have several."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /, max_length: int) -> bytes: ...


def _decoder(compression: str) -> _Decoder:
    return zlib.decompressobj(_GZIP) if compression == "gz" else lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY)


def _decode(decoder: _Decoder, data: bytes) -> bytes:
    """At most _PIECE bytes more; to be called with nothing until nothing comes out."""
    # What did not fit into one piece is kept by the one library, and handed back by the other.
    rest: bytes = getattr(decoder, "unconsumed_tail", b"")
    return decoder.decompress(rest + data, _PIECE)


def decompressed(pieces: Iterator[bytes], compression: str) -> Iterator[bytes]:
    """The content of a gz or xz file, read to its very end. Raises ImageError where it is damaged or cut short."""
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
    except (zlib.error, lzma.LZMAError) as error:
        raise ImageError("Corrupt", f"the {compression} data is damaged: {error}") from error
    if decoder is not None:
        raise ImageError("Corrupt", f"the {compression} data is cut short")
