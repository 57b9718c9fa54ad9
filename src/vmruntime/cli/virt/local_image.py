"""A disk image on this machine, for a cluster of this machine: put where its disks may come from."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from vmruntime.cli.bmctl.workspace import Cluster
from vmruntime.cli.dispatch import CommandError

_SUFFIX = "-kubeconfig"


def images_directory(kubeconfig: str) -> Path | None:
    """That of the cluster whose kubeconfig this is; None for a copy of one, or a cluster elsewhere."""
    path = Path(kubeconfig).absolute()
    cluster = Cluster(path.name.removesuffix(_SUFFIX), path.parent)
    return cluster.images.resolve() if cluster.kubeconfig == path and cluster.exists() else None


@contextlib.contextmanager
def copied(image: Path, target: Path) -> Iterator[None]:
    """A copy of an image, sharing its blocks where the file system can; gone again if the block fails.

    Raises CommandError where it cannot be made; one that is there already is not replaced.
    """
    print(f"Copying {image} to {target}")
    try:
        target.touch(mode=0o600, exist_ok=False)
    except OSError as error:
        raise CommandError(f"{image} cannot be copied to {target}: {error.strerror}") from None
    try:
        done = subprocess.run(
            ["cp", "--reflink=auto", "--sparse=auto", "--", image, target], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise CommandError(f"{image} cannot be copied: {done.stderr.strip()}")
        yield
    except BaseException:
        target.unlink(missing_ok=True)
        raise
