"""The entries of a tar archive while it comes in.

The standard library's reader is not for archives of strangers: it takes headers of any length into memory, and keeps
every entry. Sources: POSIX.1-2017, "pax Interchange Format"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vmruntime.engines.qemu.images import ImageError

_BLOCK = 512
_LONGEST_HEADER = 1 << 20
"""Bytes of an extended header: it holds a path and a few attributes."""
_LONGEST_NUMBER = 20
"""Characters of the length of a header's record, which cannot be longer than the header."""
_FILES, _LINKS, _DIRECTORY = (b"0", b"\0", b"7"), (b"1", b"2"), b"5"
_LONG_NAME, _PAX, _LONG_LINK, _PAX_OF_ALL = b"L", b"x", b"K", b"g"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry; `kind` is file, link, directory or other. `offset` is where its data begin in the archive."""

    name: str
    kind: str
    size: int
    offset: int


class TarStream:
    """Reads an archive once, from its pieces. Raises ImageError (Corrupt) for what is no archive, or cut short."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""
        self._at = 0
        self._left = self._padding = 0

    def entries(self) -> Iterator[Entry]:
        """The entries. Data that were not read by then are skipped when the next one is asked for."""
        path, size = "", None
        while (header := self._header()) is not None:
            kind = header[156:157]
            length = _number(header[124:136])
            if kind in (_LONG_NAME, _PAX, _LONG_LINK, _PAX_OF_ALL):
                extended = self._extended(length)
                if kind == _LONG_NAME:
                    path = extended.rstrip(b"\0").decode(errors="replace")
                elif kind == _PAX:
                    more = _attributes(extended)
                    path, size = more.get("path", path), _decimal(more["size"]) if "size" in more else size
                    if any(key.startswith("GNU.sparse.") for key in more):
                        raise ImageError("UnsupportedFormat", "the archive holds sparse files, which are not supported")
                continue
            named = _KINDS.get(kind, "other")
            length = size if size is not None else length
            self._expect(length if named in ("file", "other") else 0)
            yield Entry(path or _name(header), named, self._left, self._at)
            path, size = "", None
            for _ in self.data():
                pass
            self._read_exactly(self._padding)

    def data(self) -> Iterator[bytes]:
        """What is left of the present entry's data."""
        while self._left:
            piece = self._some(self._left)
            self._left -= len(piece)
            yield piece

    def rest(self) -> None:
        """Reads what stands behind the archive's end."""
        for _ in self._pieces:
            pass

    def _expect(self, length: int) -> None:
        self._left, self._padding = length, -length % _BLOCK

    def _header(self) -> bytes | None:
        """The next header, None at the archive's end: a block of zeros, or nothing any more."""
        if not self._rest:
            self._rest = next(self._pieces, b"")
            if not self._rest and self._at:
                return None
        header = self._read_exactly(_BLOCK)
        if not any(header):
            return None
        # The checksum is of the header with blanks in its own place.
        if _number(header[148:156]) != sum(header[:148]) + 8 * 32 + sum(header[156:]):
            raise ImageError("Corrupt", "the archive is damaged, or is none")
        return header

    def _extended(self, length: int) -> bytes:
        if length > _LONGEST_HEADER:
            raise ImageError("Corrupt", f"the archive has a header of {length} bytes")
        content = self._read_exactly(length)
        self._read_exactly(-length % _BLOCK)
        return content

    def _read_exactly(self, length: int) -> bytes:
        parts = []
        while length:
            parts.append(self._some(length))
            length -= len(parts[-1])
        return b"".join(parts)

    def _some(self, most: int) -> bytes:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                raise ImageError("Corrupt", "the archive is cut short")
            self._rest = piece
        piece, self._rest = self._rest[:most], self._rest[most:]
        self._at += len(piece)
        return piece


_KINDS = {_DIRECTORY: "directory"} | dict.fromkeys(_FILES, "file") | dict.fromkeys(_LINKS, "link")


def _name(header: bytes) -> str:
    name, prefix = header[:100].partition(b"\0")[0], header[345:500].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and prefix:
        name = prefix + b"/" + name
    return name.decode(errors="replace")


def _number(field: bytes) -> int:
    """Octal digits or, with the highest bit set, binary (GNU)."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    return _decimal(field.strip(b"\0 ").decode(errors="replace") or "0", 8)


def _decimal(text: str, base: int = 10) -> int:
    try:
        number = int(text, base)
    except ValueError:
        number = -1
    if number < 0:
        raise ImageError("Corrupt", "the archive is damaged, or is none")
    return number


def _attributes(content: bytes) -> dict[str, str]:
    """The records of a pax header: `LENGTH KEY=VALUE` and a line feed, where LENGTH is of all of that."""
    found, at = {}, 0
    while at < len(content):
        digits, _, _ = content[at : at + _LONGEST_NUMBER].partition(b" ")
        length = _decimal(digits.decode(errors="replace"))
        key, separator, value = content[at + len(digits) + 1 : at + length].partition(b"=")
        if not separator or length <= len(digits):
            raise ImageError("Corrupt", "the archive is damaged: a header cannot be read")
        found[key.decode(errors="replace")] = value.removesuffix(b"\n").decode(errors="replace")
        at += length
    return found
