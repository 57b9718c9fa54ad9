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
    "check vmruntimepfc",
    "install virtctl",
)
VIRT = ("console", "create vm", "delete vm", "delete disk", "restart", "start", "stop", "vnc")


def run(program: str, *args: str) -> Done:
    return subprocess.run([str(BIN / program), *args], capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("words", BMCTL)
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


@pytest.mark.parametrize("program", ["bmctl", "kubectl-virt"])
def test_without_words_the_commands_are_listed(program: str) -> None:
    """`kubectl virt` alone is how the documentation verifies that it is installed."""
    assert run(program).returncode == 0
    assert run(program).stdout == run(program, "--help").stdout


def test_install_virtctl_says_whether_kubectl_finds_it() -> None:
    for path, code in ((f"{BIN}:/usr/bin:/bin", 0), ("/usr/bin:/bin", 1)):
        done = subprocess.run(
            [str(BIN / "bmctl"), "install", "virtctl"], capture_output=True, text=True, env={"PATH": path}, check=False
        )
        assert done.returncode == code, done
        assert ("Install virtctl succeeded" in done.stdout) == (code == 0)
        assert str(BIN) in done.stdout + done.stderr


@pytest.mark.parametrize("words", [["--force", "=", "true"], ["--force=yes"]])
def test_a_force_that_is_neither_true_nor_false_is_explained(words: list[str]) -> None:
    done = run("bmctl", "disable", "vmruntime", *words)
    assert done.returncode == 2
    assert "write =true or =false, without spaces" in done.stderr


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
