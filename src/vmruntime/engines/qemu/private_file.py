"""Writing files into the instance directory of a machine, which belongs to QEMU."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_private(path: Path, content: bytes, owner: int | None = None) -> None:
    """Puts the content at `path`, atomically and readable by its owner only: what it holds may be secret.

    `owner` (user and group id) is set where given. What is at `path` before is not looked at: the directory is QEMU's
    own, and a QEMU that a guest has broken out of could have put a pipe there, which has no end.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if owner is not None:
                os.fchown(file.fileno(), owner, owner)
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
