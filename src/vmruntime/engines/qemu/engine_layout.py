"""Where the engine keeps its files, and who may see them.

    ROOT/disks/NAMESPACE/NAME_UID/disk.raw|qcow2    a disk
    ROOT/disks/NAMESPACE/NAME_UID/origin.json       what is known of its source
    ROOT/disks/NAMESPACE/NAME_UID/import/           an import under way, or why it failed
    ROOT/cache/                                     downloaded images (see image_cache)
    ROOT/instances/NAMESPACE_NAME_UID/              a machine: sockets, start-up data
    ROOT/console.py                                 what connects to a machine's sockets from inside its pod

Disks, and what machines start with, are on stable storage before anybody is told of them. The rest can be lost in a
power cut: the cache is not believed after one, an import begins again, `console.py` is written anew where it differs.

Where the manager is root, each machine's QEMU runs as an unprivileged user of its own (machine_users): it may pass
through the directories above but not list them, and owns its instance directory and the disks that it writes to.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from vmruntime.engines.common import Ref
from vmruntime.engines.qemu import console, machine_users
from vmruntime.engines.qemu.config import QEMU_UID
from vmruntime.engines.qemu.formats import OUTPUT_FORMATS, qcow2_virtual_size

_PASS_THROUGH = 0o711
_HEADER_BYTES = 512
_SYSTEM_PYTHON = "/usr/bin/python3"


@dataclass(frozen=True, slots=True)
class StoredDisk:
    """A disk that is whole. `virtual_size` in bytes."""

    path: Path
    format: str
    virtual_size: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths. `owner`: user and group id of what belongs to no machine; None where all is one user's."""

    root: Path
    owner: int | None

    @classmethod
    def of(cls, root: Path) -> Layout:
        return cls(root, QEMU_UID if os.geteuid() == 0 else None)

    @property
    def disks(self) -> Path:
        return self.root / "disks"

    @property
    def instances(self) -> Path:
        return self.root / "instances"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    def prepare(self) -> None:
        """Make the upper directories. Raises OSError."""
        for directory in (self.root, self.disks, self.instances):
            _directory(directory, _PASS_THROUGH)
        # A copy, as QEMU's user may not be able to read our own installation; never half of it, as it may just be run.
        program, content = self.root / "console.py", Path(console.__file__).read_bytes()
        if not program.exists() or program.read_bytes() != content:
            new = program.with_name(".console.py.new")
            new.write_bytes(content)
            new.chmod(0o644)
            os.replace(new, program)

    def connect_command(self, socket: str) -> list[str]:
        """Connects to a socket of the machine in whose instance directory, and as whose user, it runs."""
        readable = self.owner is None or not Path(_SYSTEM_PYTHON).exists()
        # Opened by a relative path: Python itself would make the path of a program absolute, and fail below a
        # directory that this user may not search.
        load = "exec(compile(open('../../console.py').read(), 'console.py', 'exec'))"
        return [sys.executable if readable else _SYSTEM_PYTHON, "-I", "-c", load, socket]

    def user(self, machine: Ref) -> int | None:
        """The user and group id that a machine runs as; None where all is one user's."""
        return machine_users.user_of(machine.uid) if self.owner is not None else None

    def instance(self, ref: Ref) -> Path:
        return self.instances / f"{ref.namespace}_{ref.name}_{ref.uid}"

    def disk(self, ref: Ref) -> Path:
        return self.disks / ref.namespace / f"{ref.name}_{ref.uid}"

    def imports(self, ref: Ref) -> Path:
        return self.disk(ref) / "import"

    def origin(self, ref: Ref) -> Path:
        return self.disk(ref) / "origin.json"

    def orphans(self, known: frozenset[str]) -> list[Path]:
        """Directories of disks whose uids are not among those `known`."""
        found = (path for path in self.disks.glob("*/*_*") if path.is_dir())
        return sorted(path for path in found if path.name.rpartition("_")[2] not in known)

    def make_instance(self, ref: Ref) -> Path:
        """QEMU makes its sockets in there, so that the directory is its own."""
        directory, user = self.instance(ref), self.user(ref)
        _directory(directory, 0o700)
        if user is not None:
            machine_users.take_over(directory, user)
        return directory

    def make_disk(self, ref: Ref) -> Path:
        _directory(self.disks / ref.namespace, _PASS_THROUGH)
        directory = self.disk(ref)
        _directory(directory, _PASS_THROUGH if self.owner is not None else 0o700)
        return directory

    def make_imports(self, ref: Ref) -> Path:
        self.make_disk(ref)
        directory = self.imports(ref)
        _directory(directory, 0o700)
        return directory

    def let_open(self, machine: Ref, disk: Ref, read_only: bool) -> None:
        """Give a machine, which is about to open a disk, the right to. Nothing happens where there is no disk."""
        stored, user = self.stored(disk), self.user(machine)
        if stored is None or user is None:
            return
        self.make_disk(disk)
        if read_only:
            machine_users.let_read(stored.path)
        else:
            machine_users.let_write(stored.path, user)

    def stored(self, ref: Ref) -> StoredDisk | None:
        """The disk, if it is there and whole: disks appear under their name only then."""
        return _stored_in(self.disk(ref))

    def imported(self, ref: Ref) -> StoredDisk | None:
        """A disk whose import is complete but which wasn't put in its place yet."""
        return _stored_in(self.imports(ref))

    def relative_disk(self, ref: Ref, format_: str) -> str:
        """A disk's path as seen from an instance directory."""
        return f"../../disks/{ref.namespace}/{ref.name}_{ref.uid}/disk.{format_}"

    def remove_instance(self, ref: Ref) -> None:
        _remove(self.instance(ref))

    def remove_imports(self, ref: Ref) -> None:
        _remove(self.imports(ref))

    def remove_cache(self) -> None:
        _remove(self.cache)

    def remove_disk(self, ref: Ref) -> None:
        _remove(self.disk(ref))
        with contextlib.suppress(OSError):  # other disks are in there
            (self.disks / ref.namespace).rmdir()


def _directory(path: Path, mode: int) -> None:
    path.mkdir(mode=mode, exist_ok=True)
    os.chmod(path, mode)


def _remove(path: Path) -> None:
    if path.is_symlink() or not path.exists():
        return
    shutil.rmtree(path)


def _stored_in(directory: Path) -> StoredDisk | None:
    for format_ in OUTPUT_FORMATS:
        path = directory / f"disk.{format_}"
        try:
            size = path.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            continue
        if format_ == "qcow2":
            with path.open("rb") as file:
                size = qcow2_virtual_size(file.read(_HEADER_BYTES)) or 0
        return StoredDisk(path, format_, size)
    return None
