"""Writing files into the instance directory of a machine, which belongs to QEMU."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from vmruntime.engines.qemu import files


def write_private(path: Path, content: bytes, owner: int | None = None) -> None:
    """Puts the content at `path`, atomically and readable by its owner only: what it holds may be secret. Blocks.

    It is on stable storage when this returns, whatever is there after a power cut is whole: an empty file in place of
    a machine's UEFI variables would keep it from ever starting again.

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
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        files.sync_directory(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
