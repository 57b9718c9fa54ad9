"""Files that are whole after a power cut: there with all their content, or not at all. All blocks."""

from __future__ import annotations

import os
from pathlib import Path


def write_private(path: Path, content: bytes, owner: int | None = None) -> None:
    """Puts the content at `path`, atomically and readable by its owner only: what it holds may be secret.

    It is on stable storage when this returns; whatever is there after a power cut is whole. `owner` (user and group id)
    is set where given. What is at `path` before is not looked at: in a directory that belongs to somebody else there
    could be a pipe, which has no end. Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if owner is not None:
                os.fchown(file.fileno(), owner, owner)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_directory(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_directory(path: Path) -> None:
    """Makes names in a directory durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
