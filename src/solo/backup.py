"""`python -m solo backup --data DIR FILE`: a copy of a cluster, running or not, in one tar file.

In it: `state.db`, all objects at one moment, and `pki/`, so that kubeconfigs and tokens stay good. Unpacked into an
empty directory it is the data directory of a server. Not in it: `pods/` (processes, logs, files of this machine).

A restored server must not give a revision for a second time that clients have seen since the backup: the copy's
revision is far ahead of the server's, and its history is empty, so that every watch starts over (as etcd has it with
`--bump-revision --mark-compacted`).
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from kube.durable import sync_directory
from solo.auth import pki
from solo.store.database import SCHEMA_STEPS, forget_past, migrate, read_only, schema_of

REVISION_GAP = 1_000_000_000


class BackupError(Exception):
    """There is no backup; the message says why and what helps."""


def back_up(data: Path, file: Path) -> None:
    """Write the backup of the cluster in `data` to `file`, mode 0600, whole or not at all.

    Raises:
        BackupError: there is nothing to back up, the file exists, or it cannot be written.
    """
    if not (data / "state.db").exists():
        raise BackupError(f"{data} is not the data directory of a server: it has no state.db")
    if file.exists():
        raise BackupError(f"{file} exists: name another file, or remove it")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.absolute().parent) as name:
            directory = Path(name)
            _copy_store(data / "state.db", directory / "state.db")
            archive = directory / "archive"
            with os.fdopen(os.open(archive, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as out:
                with tarfile.open(fileobj=out, mode="w") as tar, pki.locked(data / "pki"):
                    tar.add(directory / "state.db", "state.db")
                    tar.add(data / "pki", "pki")
                out.flush()
                os.fsync(out.fileno())
            archive.rename(file)
        sync_directory(file.absolute().parent)
    except (OSError, sqlite3.Error, tarfile.TarError) as exc:
        raise BackupError(f"the backup {file} cannot be written: {exc}") from exc


def _copy_store(source: Path, target: Path) -> None:
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(target, isolation_level=None)) as copy:
        with closing(read_only(source)) as store:
            schema = schema_of(store)
            if schema > len(SCHEMA_STEPS):
                raise BackupError(f"{source} was written by a newer version of this program: use that one")
            store.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a write-ahead log beside it
        migrate(copy, target)
        forget_past(copy, REVISION_GAP)
        copy.execute("VACUUM")


def main(arguments: Sequence[str]) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m solo backup",
        description="Copy a cluster, running or not, into a tar file. To restore it, unpack the file into an empty "
        "directory and start a server with that as its --data.",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the server's data directory")
    parser.add_argument("file", type=Path, metavar="FILE", help="where to write the backup; it must not exist")
    options = parser.parse_args(arguments)
    os.umask(0o077)
    try:
        back_up(options.data, options.file)
    except BackupError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    print(f"{options.file} written")
    return 0
