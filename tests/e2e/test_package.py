"""The package as it is installed from its wheel, away from this repository."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs' directory of a clean environment with nothing but the wheel and what it needs."""
    directory = tmp_path_factory.mktemp("package")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(directory), str(REPOSITORY)]
    subprocess.run(build, check=True, capture_output=True)
    assert len(list(directory.glob("*.tar.gz"))) == 1
    (wheel,) = directory.glob("*.whl")
    venv.create(directory / "venv", with_pip=True)
    programs = directory / "venv" / "bin"
    subprocess.run([str(programs / "pip"), "install", "-q", str(wheel)], check=True, capture_output=True)
    return programs


@pytest.mark.timeout(300)
def test_the_wheel_is_all_it_takes(installed: Path, tmp_path: Path) -> None:
    def run(program: str, *args: str) -> str:
        words = [str(installed / program), *args]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("bmctl", "--version").startswith("bmctl ")
    assert "console" in run("kubectl-virt", "--help")
    run("bmctl", "create", "cluster", "-c", "wheel")
    try:
        kubeconfig = str(tmp_path / "bmctl-workspace" / "wheel" / "wheel-kubeconfig")
        run("bmctl", "enable", "vmruntime", "--kubeconfig", kubeconfig)
        run("bmctl", "disable", "vmruntime", "--kubeconfig", kubeconfig)
    finally:
        run("bmctl", "reset", "-c", "wheel", "--yes")
