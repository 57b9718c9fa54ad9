"""What `kubectl virt ssh` and `reset-windows-password` make of their words and of a VM's status."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from vmruntime.cli.dispatch import CommandError
from vmruntime.cli.virt import reset_windows_password, ssh


def interface(*ports: tuple[int, int], address: str = "127.64.0.1") -> dict[str, Any]:
    return {"ipAddresses": [address], "ports": [{"guest": guest, "host": host} for guest, host in ports]}


@pytest.mark.parametrize(
    ("interfaces", "expected"),
    [
        ([interface((22, 10022), (80, 10080))], ("127.64.0.1", 10022)),
        ([{"ipAddresses": []}, interface((22, 22))], ("127.64.0.1", 22)),
        ([{"ipAddresses": ["192.0.2.7/24"]}], ("192.0.2.7", 22)),
        ([{"ipAddresses": ["192.0.2.7"]}, interface((22, 22))], ("127.64.0.1", 22)),
    ],
)
def test_where_ssh_goes(interfaces: list[dict[str, Any]], expected: tuple[str, int]) -> None:
    assert ssh._address({"status": {"interfaces": interfaces}}, "m") == expected


@pytest.mark.parametrize("interfaces", [[], [{"ipAddresses": []}], [interface((80, 80))]])
def test_nowhere_to_go(interfaces: list[dict[str, Any]]) -> None:
    with pytest.raises(CommandError, match="no address with port 22"):
        ssh._address({"status": {"interfaces": interfaces}}, "m")


@pytest.mark.parametrize("words", [["m"], ["@m"], ["alice@"]])
def test_user_and_name_are_both_wanted(words: list[str]) -> None:
    with pytest.raises(CommandError, match="is not USER@NAME"):
        ssh.run(argparse.Namespace(name=words))


def test_without_a_client_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(CommandError, match="openssh-client"):
        ssh.run(argparse.Namespace(name=["alice@m"]))


def test_passwords_differ_and_have_something_of_everything() -> None:
    made = {reset_windows_password.generate() for _ in range(50)}
    assert len(made) == 50
    for password in made:
        assert len(password) == reset_windows_password.LENGTH
        assert all(any(char in alphabet for char in password) for alphabet in reset_windows_password.ALPHABETS)
