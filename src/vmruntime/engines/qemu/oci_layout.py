"""Container images in files: a directory in the OCI image layout, or an archive (tar) of one.

Source: OCI Image Format Specification 1.1, "Image Layout".
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from vmruntime.engines.qemu.container_disk import MANIFEST_BYTES, Layer
from vmruntime.engines.qemu.hashing import Hasher
from vmruntime.engines.qemu.images import ImageError
from vmruntime.engines.qemu.sources import PIECE, FileSource, Source, SourceError
from vmruntime.engines.qemu.tar_stream import TarStream

_INDEX = "index.json"
_REF_NAME = "org.opencontainers.image.ref.name"
_TAG = re.compile(r"(?P<path>.+?)(?::(?P<tag>\w[\w.-]{0,127}))?")
_MOST_ENTRIES = 10_000


class Layout:
    """A `Store` in a directory below one of those `allowed`, or in an archive there."""

    def __init__(self, url: str, allowed: Sequence[Path]) -> None:
        """`oci:///DIRECTORY[:TAG]` or `oci-archive:///FILE[:TAG]`. Raises SourceError."""
        parts = urlsplit(url)
        found = _TAG.fullmatch(unquote(parts.path))
        if found is None:
            raise SourceError("InvalidURL", f"an image in files has the form {parts.scheme}:///ABSOLUTE/PATH[:TAG]")
        self._path, self.tag = Path(found["path"]), found["tag"] or ""
        self._allowed = allowed
        self._entries = self._scan() if parts.scheme == "oci-archive" else None

    def manifest(self, reference: str) -> bytes:
        if reference != self.tag:
            return self._small(_blob_path(reference))
        index = self._small(_INDEX)
        if not self.tag:
            return index
        try:
            document = json.loads(index)
            named = [
                each for each in document["manifests"] if (each.get("annotations") or {}).get(_REF_NAME) == self.tag
            ]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SourceError("NotAnImage", f"{_INDEX} of {self._path} cannot be read") from error
        if not named:
            raise SourceError("NotFound", f"{self._path} has no image of the tag {self.tag}")
        return json.dumps({"manifests": named}).encode()

    def blob(self, layer: Layer, hasher: Hasher) -> Source:
        return self._open(_blob_path(layer.digest), hasher)

    def close(self) -> None:
        """Nothing is kept open."""

    def _open(self, name: str, hasher: Hasher) -> FileSource:
        if self._entries is None:
            return FileSource(self._path / name, self._allowed, hasher)
        if name not in self._entries:
            raise SourceError(
                "NotFound", f"{self._path} has no {name}: it is no archive of an OCI layout, or not whole"
            )
        return FileSource(self._path, self._allowed, hasher, self._entries[name])

    def _small(self, name: str) -> bytes:
        source = self._open(name, Hasher())
        try:
            if (source.length or 0) > MANIFEST_BYTES:
                raise SourceError("NotAnImage", f"{name} of {self._path} has more than {MANIFEST_BYTES} bytes")
            return b"".join(source.pieces())
        finally:
            source.close()

    def _scan(self) -> dict[str, tuple[int, int]]:
        """Where in the archive its files lie: offsets and sizes."""
        source = FileSource(self._path, self._allowed, Hasher())
        found: dict[str, tuple[int, int]] = {}
        try:
            for entry in TarStream(_content(source.file)).entries():
                if entry.kind == "file":
                    found[posixpath.normpath(entry.name)] = (entry.offset, entry.size)
                if len(found) > _MOST_ENTRIES:
                    raise SourceError("NotAnImage", f"{self._path} has more than {_MOST_ENTRIES} files")
        except ImageError as error:
            raise SourceError(
                "NotAnImage", f"{self._path} is no tar archive, which must not be compressed: {error}"
            ) from error
        finally:
            source.close()
        return found


def _content(file: BinaryIO) -> Iterator[bytes]:
    offset = 0
    while piece := os.pread(file.fileno(), PIECE, offset):
        offset += len(piece)
        yield piece


def _blob_path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/', 1)}"
