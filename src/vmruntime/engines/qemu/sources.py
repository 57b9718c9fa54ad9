"""Where disk images come from: what every source can do, which URLs are possible, and files below allowed directories.

A source is opened first, which tells its length where it can be known, and then read once, in pieces.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import SplitResult, urlsplit

from vmruntime.engines.qemu.hashing import Hasher

PIECE = 1 << 20


class SourceError(Exception):
    """A source that cannot be read. `reason` is one CamelCase word; `temporary`: another attempt may help."""

    def __init__(self, reason: str, message: str, *, temporary: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.temporary = temporary


class Source(Protocol):
    """An opened source."""

    @property
    def name(self) -> str:
        """What it is called, where the ending may promise a format; known at the latest when the content begins."""

    @property
    def length(self) -> int | None:
        """Bytes in all; None where that is not known before the end, or before the content begins."""

    @property
    def file(self) -> BinaryIO | None:
        """The local file behind it, if there is one."""

    @property
    def seen(self) -> Hasher:
        """The checksums of what was read up to now."""

    @property
    def validator(self) -> str:
        """What tells this content from other content under the same URL; empty where nothing does."""

    def pieces(self) -> Iterator[bytes]:
        """The content, once. Raises SourceError."""

    def close(self) -> None:
        """Gives up connections and files."""


def check_url(url: str) -> SplitResult:
    """The parts of a URL that may be used. Raises SourceError otherwise."""
    try:
        parts = urlsplit(url)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError as error:
        raise SourceError("InvalidURL", f"the URL cannot be understood: {error}") from error
    if re.search(r"[\x00-\x20\x7f]", url) or not port_is_fine:
        raise SourceError("InvalidURL", "the URL holds blanks, control characters or a wrong port")
    if parts.username is not None or parts.password is not None:
        raise SourceError("InvalidURL", "the URL holds a user name or password; they would show in process listings")
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/") or parts.query or parts.fragment:
            raise SourceError("InvalidURL", "a file URL has the form file:///absolute/path")
    elif parts.scheme == "gs":
        if not re.fullmatch(r"[a-z0-9._-]+", parts.netloc) or len(parts.path) < 2:
            raise SourceError("InvalidURL", "a Cloud Storage URL has the form gs://bucket/object")
    elif parts.scheme in ("oci", "oci-archive"):
        if parts.netloc or not parts.path.startswith("/") or parts.query or parts.fragment:
            raise SourceError("InvalidURL", f"an image in files has the form {parts.scheme}:///ABSOLUTE/PATH[:TAG]")
    elif parts.scheme not in ("http", "https", "docker"):
        message = f"URLs of scheme {parts.scheme!r} are not supported; use http, https, gs, docker, oci or file"
        raise SourceError("InvalidURL", message)
    elif not parts.hostname:
        raise SourceError("InvalidURL", "the URL names no host")
    return parts


def shown(url: str) -> str:
    """A URL for messages: without its query, which may hold a signature."""
    return urlsplit(url)._replace(query="", fragment="").geturl()


class FileSource:
    """A regular file below one of the allowed directories, wherever symbolic links lead."""

    def __init__(
        self, path: Path, allowed: Sequence[Path], hasher: Hasher, part: tuple[int, int] | None = None
    ) -> None:
        """`part`: offset and length of what is wanted of the file; None: all. Raises SourceError."""
        self._path = path
        roots = [root.resolve() for root in allowed]
        try:
            descriptor = os.open(path.resolve(strict=True), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, RuntimeError) as error:
            inside = any(Path(os.path.normpath(path)).is_relative_to(root) for root in (*roots, *allowed))
            if not inside:
                raise _not_allowed(path, allowed) from error
            why = os.strerror(error.errno or errno.EIO) if isinstance(error, OSError) else "it is a loop of links"
            raise SourceError("NotFound", f"file {path} cannot be read: {why}") from error
        # What was opened decides, not what the path meant a moment ago.
        opened = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        self._status = os.fstat(descriptor)
        problem = None
        if not any(opened.is_relative_to(root) for root in roots):
            problem = _not_allowed(path, allowed)
        elif not stat.S_ISREG(self._status.st_mode):
            problem = SourceError("NotAnImage", f"{path} is not a regular file")
        if problem is not None:
            os.close(descriptor)
            raise problem
        self._file = os.fdopen(descriptor, "rb", buffering=0)
        self._seen = hasher
        self._start, self._length = part or (0, self._status.st_size)

    @property
    def name(self) -> str:
        return self._path.name

    @property
    def length(self) -> int | None:
        return self._length

    @property
    def file(self) -> BinaryIO:
        return self._file

    @property
    def seen(self) -> Hasher:
        return self._seen

    @property
    def validator(self) -> str:
        """None: what is here already needs no copy in a cache."""
        return ""

    def pieces(self) -> Iterator[bytes]:
        """The file's content; one that changes meanwhile is an error at the end."""
        offset, end = self._start, self._start + self._length
        while piece := os.pread(self._file.fileno(), min(PIECE, end - offset), offset):
            offset += len(piece)
            self._seen.update(piece)
            yield piece
        now = os.fstat(self._file.fileno())
        if (now.st_size, now.st_mtime_ns) != (self._status.st_size, self._status.st_mtime_ns):
            raise SourceError("Interrupted", f"file {self._path} changed while it was read", temporary=True)

    def close(self) -> None:
        self._file.close()
        self._seen.close()


def _not_allowed(path: Path, allowed: Sequence[Path]) -> SourceError:
    where = ", ".join(map(str, allowed)) or "none is"
    return SourceError("NotAllowed", f"file {path} is not below an allowed directory ({where})")
