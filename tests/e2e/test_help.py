"""What the programs say of themselves."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from e2e.cluster import BIN, Done

BMCTL = (
    "create cluster",
    "get clusters",
    "start cluster",
    "stop cluster",
    "reset",
    "enable vmruntime",
    "disable vmruntime",
)
VIRT = ("console", "create vm", "delete vm", "delete disk", "restart", "start", "stop", "vnc")


def run(program: str, *args: str) -> Done:
    return subprocess.run([str(BIN / program), *args], capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("words", [*BMCTL, "check vmruntimepfc"])
def test_every_bmctl_command_is_listed_and_has_help(words: str) -> None:
    assert words in run("bmctl", "--help").stdout
    done = run("bmctl", *words.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"usage: bmctl {words}" in done.stdout


@pytest.mark.parametrize("words", VIRT)
def test_every_virt_command_is_listed_and_has_help(words: str) -> None:
    assert words in run("kubectl-virt", "--help").stdout
    done = run("kubectl-virt", *words.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", ["nonsense", "enable nonsense", "enable", "reset --nonsense"])
def test_wrong_words_end_with_2_and_one_line(words: str) -> None:
    done = run("bmctl", *words.split())
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr


def test_kubectl_finds_the_plugin() -> None:
    done = subprocess.run(
        ["kubectl", "plugin", "list"],
        capture_output=True,
        text=True,
        env={"PATH": f"{BIN}:/usr/bin:/bin", "HOME": "/nonexistent"},
    )
    assert "kubectl-virt" in done.stdout


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "| true"])
def test_a_closed_stream_is_no_crash(closed: str, tmp_path: Path) -> None:
    """Started by a daemon or a careless script: what is asked for is done, and there is no traceback."""
    for words in ("--help", f"get clusters --workspace {tmp_path}"):
        done = subprocess.run(["bash", "-c", f"{BIN / 'bmctl'} {words} {closed}"], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), words


def test_output_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    command = f"{BIN / 'bmctl'} get clusters --workspace {tmp_path} > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "error: No space left on device\n")
