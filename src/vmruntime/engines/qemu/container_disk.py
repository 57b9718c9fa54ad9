"""Disks in container images: the one file below `/disk/`, as KubeVirt's containerDisks have it.

A layer is unpacked while it comes in, and only the disk's bytes are taken from it. Manifests and layers are what their
digests say, or are refused. Sources: OCI Image Format Specification 1.1 (manifest, index, "Representing Changes");
Docker Image Manifest V2, Schema 2.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from vmruntime.engines.qemu import formats
from vmruntime.engines.qemu.decompress import decompressed
from vmruntime.engines.qemu.hashing import Hasher
from vmruntime.engines.qemu.sources import Source, SourceError
from vmruntime.engines.qemu.tar_stream import Entry, TarStream

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
MANIFEST_BYTES = 4 << 20
"""More a manifest or index may not have; registries don't take larger ones either."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DIRECTORY = "disk"
_PLATFORM = ("linux", "amd64")
_NESTING = 3
_MOST_LAYERS = 127
_MAGIC_BYTES = 16
"""So many of a layer tell how it is compressed."""
_MOST_HIDDEN = 1000
"""Of a layer. What an upper layer hides is kept in memory while a stranger's next one is read."""
_LONGEST_PATH = 4096
_HIDES, _HIDES_ALL = ".wh.", ".wh..wh..opq"


@dataclass(frozen=True, slots=True)
class Layer:
    """A blob: `digest` as `sha256:HEX`, `size` in bytes."""

    digest: str
    size: int


class Store(Protocol):
    """Where manifests and blobs are: a registry, or files."""

    def manifest(self, reference: str) -> bytes:
        """By its tag, or by a digest of the form `sha256:HEX`. Raises SourceError."""

    def blob(self, layer: Layer, hasher: Hasher) -> Source:
        """A blob, open. Raises SourceError."""

    def close(self) -> None:
        """Gives up connections and files."""


class ContainerDisk:
    """The disk in a container image; its length and name are known once its first bytes are there. `open` first."""

    def __init__(self, store: Store, reference: str, hasher: Hasher) -> None:
        self._store = store
        self._reference = reference
        self._seen = hasher
        self._layers: Sequence[Layer] = ()
        self._validator = self._name = ""
        self._length: int | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def length(self) -> int | None:
        return self._length

    @property
    def file(self) -> BinaryIO | None:
        return None

    @property
    def seen(self) -> Hasher:
        """Of the layer that the disk is in."""
        return self._seen

    @property
    def validator(self) -> str:
        """The manifest's digest."""
        return self._validator

    def open(self) -> None:
        """Finds the manifest of this platform. Raises SourceError."""
        reference = self._reference
        for _ in range(_NESTING):
            content = self._store.manifest(reference)
            digest = "sha256:" + hashlib.sha256(content).hexdigest()
            if _DIGEST.fullmatch(reference) and digest != reference:
                raise SourceError("ChecksumMismatch", f"the manifest has the digest {digest}, not {reference}")
            document = _parsed(content)
            if "manifests" not in document:
                self._layers, self._validator = _layers(document), digest
                return
            reference = _of_this_platform(document)
        raise SourceError("UnsupportedFormat", "the container image's index leads to further ones only")

    def pieces(self) -> Iterator[bytes]:
        """The disk's content; at its end the layer turned out to be what its digest says. Raises SourceError."""
        hidden: set[str] = set()
        for index, layer in enumerate(reversed(self._layers)):
            hasher = self._seen if index == len(self._layers) - 1 else Hasher()
            with contextlib.closing(hasher):
                yield from self._disk_in(layer, hidden, hasher)
            if self._length is not None:
                self._seen = hasher
                return
        raise SourceError("NotAnImage", "the container image has no disk: there is no file in its directory /disk")

    def close(self) -> None:
        self._store.close()
        self._seen.close()

    def _disk_in(self, layer: Layer, hidden: set[str], hasher: Hasher) -> Iterator[bytes]:
        """The disk in a layer, if it has one that no upper layer hides; adds what it hides itself to `hidden`."""
        hides: set[str] = set()
        with contextlib.closing(self._store.blob(layer, hasher)) as blob:
            tar = TarStream(_unpacked(_bounded(blob.pieces(), layer)))
            for entry in tar.entries():
                path = posixpath.normpath("/" + entry.name).lstrip("/")
                if what := _whiteout(path):
                    if posixpath.dirname(what) == _DIRECTORY or what.rstrip("/") == _DIRECTORY:
                        hides.add(what)
                    if len(hides) > _MOST_HIDDEN or len(what) > _LONGEST_PATH:
                        raise SourceError("UnsupportedFormat", "the container image hides too many files of its own")
                elif self._is_disk(path, entry) and path not in hidden and not hidden & {_DIRECTORY, _DIRECTORY + "/"}:
                    self._length, self._name = entry.size, path
                    yield from tar.data()
            tar.rest()
        digest = "sha256:" + hasher.hexdigest()
        if digest != layer.digest:
            raise SourceError("ChecksumMismatch", f"a layer has the digest {digest}, not {layer.digest}")
        hidden |= hides

    def _is_disk(self, path: str, entry: Entry) -> bool:
        if posixpath.dirname(path) != _DIRECTORY or entry.kind == "directory":
            return False
        if entry.kind != "file":
            raise SourceError("UnsupportedFormat", f"/{path} of the container image is no regular file")
        if self._length is not None:
            raise SourceError("NotAnImage", f"the container image has more than one disk: /{self._name} and /{path}")
        return True


def _whiteout(path: str) -> str:
    """What a marker hides in the layers below (with a slash: only what is in the directory), empty if it is none."""
    directory, name = posixpath.split(path)
    if name == _HIDES_ALL:
        return directory + "/"
    return posixpath.join(directory, name.removeprefix(_HIDES)) if name.startswith(_HIDES) else ""


def _bounded(pieces: Iterator[bytes], layer: Layer) -> Iterator[bytes]:
    """Raises SourceError beyond the size that the manifest states."""
    left = layer.size
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise SourceError("ChecksumMismatch", f"layer {layer.digest} is larger than the {layer.size} bytes stated")
        yield piece


def _unpacked(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """By its first bytes: media types of layers differ by who made them."""
    first = next(pieces, b"")
    while len(first) < _MAGIC_BYTES and (more := next(pieces, b"")):
        first += more

    def content() -> Iterator[bytes]:
        yield first
        yield from pieces

    compression = formats.detect_format(first)
    return decompressed(content(), compression) if compression in formats.COMPRESSIONS else content()


def _parsed(content: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(content)
        if isinstance(document, dict):
            return document
    raise SourceError("NotAnImage", "the manifest of the container image cannot be read")


def _of_this_platform(index: dict[str, Any]) -> str:
    """The digest of the manifest for linux/amd64; of the only one, where no platforms are stated."""
    entries = [entry for entry in index["manifests"] if isinstance(entry, dict)] if index["manifests"] else []
    offered = []
    for entry in entries:
        platform = entry.get("platform") or {}
        named = (str(platform.get("os", "")), str(platform.get("architecture", "")))
        if named == _PLATFORM or (named == ("", "") and len(entries) == 1):
            return _digest(entry)
        offered.append("/".join(named))
    what = ", ".join(sorted(set(offered))) or "none"
    raise SourceError("NotFound", f"the container image is not there for {'/'.join(_PLATFORM)}, but for: {what}"[:300])


def _layers(manifest: dict[str, Any]) -> list[Layer]:
    entries = manifest.get("layers")
    if not isinstance(entries, list) or not 0 < len(entries) <= _MOST_LAYERS:
        raise SourceError(
            "UnsupportedFormat", "the manifest is not one of an OCI or Docker (schema 2) image with layers"
        )
    layers = []
    for entry in entries:
        size = entry.get("size") if isinstance(entry, dict) else None
        if not isinstance(size, int) or size < 0:
            raise SourceError("NotAnImage", "the manifest of the container image cannot be read")
        layers.append(Layer(_digest(entry), size))
    return layers


def _digest(entry: dict[str, Any]) -> str:
    digest = str(entry.get("digest"))
    if not _DIGEST.fullmatch(digest):
        raise SourceError("UnsupportedFormat", f"the container image has a digest that is no SHA-256: {digest!r:.80}")
    return digest
