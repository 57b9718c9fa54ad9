"""Downloaded images, kept for the next disk from the same source.

    ROOT/BOOT/NAMESPACE/KEY.SHA256.LABEL

An image is kept as it was downloaded (decompressed, where it came compressed), so that keeping it costs no work, and
is inspected and converted again for each disk. KEY stands for the URL and the validator that its server sends, which
is asked each time: an image that changed, or that somebody may no longer have, does not come from here. A namespace
has only what its own disks brought in.

Nothing here is on stable storage: files of before the last boot are not believed but deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vmruntime.engines.qemu import files

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MOST_BYTES = 20 << 30
_SHARE = 0.1
"""Of the file system, at most."""
_LARGEST = 0.5
"""Of all that the cache may hold, in one image."""


@dataclass(frozen=True, slots=True)
class CachedImage:
    """An image that is here, open. `sha256` is of what was downloaded; `label` names its format for people."""

    file: BinaryIO
    sha256: str
    label: str


class ImageCache:
    """The images of one namespace, and the room that those of all namespaces take."""

    def __init__(self, root: Path, namespace: str, limit: int | None = None) -> None:
        """`limit` in bytes; by default 20 GiB, but not more than a tenth of the file system. Raises OSError."""
        boot = _BOOT_ID.read_text().strip()
        self._all = root / boot
        self._directory = self._all / namespace
        root.mkdir(mode=0o700, exist_ok=True)
        for former in root.iterdir():
            if former.name != boot:
                shutil.rmtree(former, ignore_errors=True)
        self._all.mkdir(mode=0o700, exist_ok=True)
        status = os.statvfs(root)
        self._limit = limit if limit is not None else min(_MOST_BYTES, int(_SHARE * status.f_blocks * status.f_frsize))

    @staticmethod
    def key(url: str, validator: str, length: int | None, checksum: str = "") -> str:
        """The key of an image; empty where nothing tells whether the server still has the same one.

        `checksum`: what it has to have. Whoever asks for one does not get an image that was not held against it.
        """
        if not validator:
            return ""
        return hashlib.sha256("\0".join((url, validator, str(length), checksum)).encode()).hexdigest()[:32]

    def find(self, key: str) -> CachedImage | None:
        """The image, marked as used now. The file is the caller's to close."""
        for path in sorted(self._directory.glob(f"{key}.*")) if key else ():
            _, sha256, label = path.name.split(".", 2)
            with contextlib.suppress(FileNotFoundError):
                file = path.open("rb", buffering=0)
                os.utime(path)
                return CachedImage(file, sha256, label)
        return None

    def takes(self, length: int | None) -> bool:
        """Whether an image of so many bytes may be kept; of unknown length it may until it is known."""
        return (length or 0) <= _LARGEST * self._limit

    def add(self, file: BinaryIO, key: str, sha256: str, label: str) -> None:
        """Keeps a `nameless_file` of the same file system; others that were not used for long go for it."""
        size = os.fstat(file.fileno()).st_blocks * 512
        if not key or not self.takes(size):
            return
        self._evict(self._limit - size)
        # It may be there already, or another one evict what the directory had just now: nothing is lost.
        with contextlib.suppress(OSError):
            self._directory.mkdir(mode=0o700, exist_ok=True)
            files.give_name(file, self._directory / f"{key}.{sha256}.{label}")

    def make_room(self, wanted: int) -> None:
        """Gives up as many images as it takes to have `wanted` bytes free in the file system."""
        if (missing := wanted - files.free_bytes(self._all)) > 0:
            self._evict(sum(map(files.allocated, self._all.glob("*/*"))) - missing)

    def _evict(self, allowed: int) -> None:
        """Deletes the images that were not used for longest until the rest takes at most `allowed` bytes."""
        known = []
        for path in self._all.glob("*/*"):
            with contextlib.suppress(FileNotFoundError):
                known.append((path.stat().st_mtime_ns, path))
        total = sum(files.allocated(path) for _, path in known)
        for _, path in sorted(known):
            if total <= allowed:
                return
            total -= files.allocated(path)
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it has others
                path.parent.rmdir()
