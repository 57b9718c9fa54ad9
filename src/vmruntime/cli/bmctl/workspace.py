"""Where a cluster's files are: `bmctl-workspace/NAME/`, one directory a cluster, nothing outside it.

NAME-kubeconfig   admin kubeconfig, mode 0600
cluster.json      what `bmctl start cluster` must know: address and port
solo/             the control plane's data
log/solo.log      its log
images/           disk images that `file://` disk sources may name
vm/               disks and running machines
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from kube.machinery.names import dns1123_label
from vmruntime.cli.dispatch import CommandError

DEFAULT_WORKSPACE = "bmctl-workspace"


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept about a cluster between starts."""

    listen: str
    port: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster of this machine, by its name and its directory."""

    name: str
    directory: Path

    @property
    def kubeconfig(self) -> Path:
        return self.directory / f"{self.name}-kubeconfig"

    @property
    def data(self) -> Path:
        return self.directory / "solo"

    @property
    def log(self) -> Path:
        return self.directory / "log" / "solo.log"

    @property
    def images(self) -> Path:
        return self.directory / "images"

    @property
    def vm_root(self) -> Path:
        return self.directory / "vm"

    @property
    def _record_file(self) -> Path:
        return self.directory / "cluster.json"

    @property
    def _new_record_file(self) -> Path:
        return self.directory / "cluster.new"

    def exists(self) -> bool:
        return self._record_file.exists()

    def is_remnant(self) -> bool:
        """Whether this is what a `create` or `reset` left that was killed: parts of a cluster, and nothing else."""
        parts = (self.kubeconfig, self.data, self.log.parent, self.images, self.vm_root, self._new_record_file)
        ours = {part.name for part in parts}
        return self.directory.is_dir() and not self.exists() and {e.name for e in self.directory.iterdir()} <= ours

    def record(self) -> Record:
        """What was kept at creation. Raises CommandError if the file is damaged."""
        try:
            return Record(**json.loads(self._record_file.read_text()))
        except (ValueError, TypeError) as error:
            raise CommandError(f"{self._record_file} is damaged ({error}); restore it or reset the cluster") from None

    def write_record(self, record: Record) -> None:
        self._new_record_file.write_text(json.dumps(asdict(record)) + "\n")
        os.replace(self._new_record_file, self._record_file)


def named(workspace: str, name: str) -> Cluster:
    """The cluster of that name, whether it exists or not. Raises CommandError for a name that cannot be one."""
    problems = dns1123_label(name)
    if problems:
        raise CommandError(f'"{name}" is no cluster name: {problems[0]}')
    return Cluster(name, _root(workspace) / name)


def _root(workspace: str) -> Path:
    """The workspace by its one name, without `..`: making `a/../b` would make `a` too."""
    return Path(os.path.realpath(workspace))


def existing(workspace: str, name: str) -> Cluster:
    """The cluster of that name. Raises CommandError, naming those that there are, if there is none."""
    cluster = named(workspace, name)
    if cluster.is_remnant():
        hint = f"`bmctl reset -c {name}` removes what is left of it"
        raise CommandError(f'cluster "{name}" was left half-made or half-deleted; {hint}')
    if not cluster.exists():
        others = ", ".join(c.name for c in clusters(workspace)) or "none"
        raise CommandError(f'there is no cluster "{name}" in {_root(workspace)} (clusters there: {others})')
    return cluster


def clusters(workspace: str) -> list[Cluster]:
    """All clusters of a workspace, by name."""
    root = _root(workspace)
    if not root.is_dir():
        return []
    found = (Cluster(entry.name, entry) for entry in sorted(root.iterdir()) if entry.is_dir())
    return [cluster for cluster in found if cluster.exists()]
