"""The guest agent's side played by a program that may lie, flood or fall silent; and what is put into an account."""

import asyncio
import base64
import json
import os
import stat
import subprocess

import pytest

from vmruntime.engines.machine import Guest, GuestInterface
from vmruntime.engines.qemu import guest_access, guest_text
from vmruntime.engines.qemu.guest_agent import AgentError, AgentRefused, connect, shut_down

HONEST = {"return": {"host-name": "web-1"}}


class Played:
    """An agent whose answers come from `answers`: by command an object, bytes as they are, or None for none."""

    def __init__(self, answers):
        self.answers = answers
        self.heard = []
        self.first = b""

    async def serve(self, reader, writer):
        writer.write(self.first)
        try:
            while line := await reader.readline():
                message = json.loads(line.lstrip(b"\xff"))
                self.heard.append(message)
                command = message["execute"]
                answer = self.answers.get(command, {"return": {}})
                if callable(answer):
                    await answer(message, writer)
                elif isinstance(answer, bytes):
                    writer.write(answer)
                elif answer is not None:
                    writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


async def sync(message, writer):
    writer.write(b"\xff" + json.dumps({"return": message["arguments"]["id"]}).encode() + b"\n")


async def flood(message, writer):
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def flood_lines(message, writer):
    while True:
        writer.write(b'{"return": 0}\n' * 4096)
        await writer.drain()


@pytest.fixture
def agent(tmp_path, monkeypatch):
    """Starts a played agent in `tmp_path`; to be used as an asynchronous context."""

    class Running:
        def __init__(self, first=b"", **answers):
            named = {f"guest-{name.replace('_', '-')}": answer for name, answer in answers.items()}
            self.played = Played({"guest-sync-delimited": sync, **named})
            self.played.first = first

        async def __aenter__(self):
            # As QEMU does: by a relative path, in the instance directory.
            self.server = await asyncio.start_unix_server(self.played.serve, tmp_path / "ga.sock")
            return self.played

        async def __aexit__(self, *_):
            self.server.close()
            await asyncio.sleep(0)

    return Running


async def ask(tmp_path, timeout=30.0, command="guest-get-host-name"):
    async with connect(tmp_path, timeout) as found:
        return await found.execute(command)


async def test_an_answer(agent, tmp_path):
    async with agent(get_host_name=HONEST):
        assert await ask(tmp_path) == {"host-name": "web-1"}


async def test_older_answers_and_half_ones_are_passed_over(agent, tmp_path):
    async with agent(first=b'{"return": 5}\n{"ret\x00\n\xff{"return": 77}\n', get_host_name=HONEST):
        assert await ask(tmp_path) == {"host-name": "web-1"}


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({"sync_delimited": None}, "did not answer within 0.3 s"),
        ({"get_host_name": None}, "did not answer within 0.3 s"),
        ({"sync_delimited": flood_lines}, "more than"),
        ({"sync_delimited": flood}, "a line of more than"),
        ({"get_host_name": flood}, "a line of more than"),
        ({"get_host_name": b"nonsense\n"}, "not JSON"),
        ({"get_host_name": b"[" * 100_000 + b"\n"}, "not JSON"),
        ({"get_host_name": {"unasked": 1}}, "no answer"),
        ({"get_host_name": {"error": "x"}}, "no answer"),
    ],
)
async def test_lies_floods_and_silence_end_the_exchange(agent, tmp_path, answers, says):
    async with agent(**answers):
        with pytest.raises(AgentError, match=says):
            await ask(tmp_path, timeout=0.3 if "within" in says else 30)


async def test_a_refusal_is_in_the_guests_words_but_short_and_printable(agent, tmp_path):
    desc = "no\x1b[2J" + "y" * 1000
    async with agent(get_host_name={"error": {"class": "GenericError", "desc": desc}}):
        with pytest.raises(AgentRefused) as refused:
            await ask(tmp_path)
    assert str(refused.value).startswith("no[2Jyyy")
    assert len(str(refused.value)) <= 256


async def test_nobody_there(tmp_path):
    with pytest.raises(AgentError, match="cannot be reached"):
        await ask(tmp_path)


async def test_a_program_is_run_to_its_end(agent, tmp_path):
    states = iter([{"exited": False}, {"exited": True, "exitcode": 0}])

    async def status(message, writer):
        writer.write(json.dumps({"return": next(states)}).encode() + b"\n")

    async with agent(exec={"return": {"pid": 7}}, exec_status=status) as played, connect(tmp_path, 5) as found:
        await found.run("/bin/sh", ["-c", "x", "$(y)"])
    assert played.heard[1]["arguments"] == {"path": "/bin/sh", "arg": ["-c", "x", "$(y)"], "capture-output": True}


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ({"exited": True, "exitcode": 3}, "code 3"),
        ({"exited": True, "exitcode": 1, "err-data": base64.b64encode(b"no such\nuser\n").decode()}, "no such user"),
        ({"exited": True, "exitcode": 1, "err-data": "%%%"}, "code 1"),
        ({"exited": True, "signal": 9}, "code None"),
        ("gone", "did not end"),
    ],
)
async def test_a_program_that_fails(agent, tmp_path, status, says):
    async with agent(exec={"return": {"pid": 7}}, exec_status={"return": status}), connect(tmp_path, 5) as found:
        with pytest.raises(AgentRefused, match=says):
            await found.run("/bin/false", [])


@pytest.mark.parametrize(
    ("answers", "seconds", "obeys"),
    [
        ({"shutdown": None}, 8, True),
        ({"shutdown": {"error": {"desc": "disabled"}}}, 8, False),
        ({"sync_delimited": None}, 0.5, False),
    ],
)
async def test_shutdown(agent, tmp_path, answers, seconds, obeys):
    async with agent(**answers) as played:
        assert await shut_down(tmp_path, seconds) is obeys
    if obeys:
        assert played.heard[-1] == {"execute": "guest-shutdown", "arguments": {"mode": "powerdown"}}


def test_what_an_honest_guest_says():
    cards = [
        {"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1", "prefix": 8}]},
        {
            "name": "eth0",
            "hardware-address": "52:54:00:AA:bb:cc",
            "ip-addresses": [
                {"ip-address": "10.0.2.15", "prefix": 24, "ip-address-type": "ipv4"},
                {"ip-address": "fe80::1", "prefix": 64, "ip-address-type": "ipv6"},
            ],
        },
    ]
    said = guest_text.guest({"host-name": "web-1"}, {"pretty-name": "Debian", "kernel-release": "6.1"}, cards)
    eth0 = GuestInterface("eth0", "52:54:00:aa:bb:cc", ("10.0.2.15/24", "fe80::1/64"))
    assert said == Guest("web-1", "Debian", "6.1", (eth0,))


@pytest.mark.parametrize("nonsense", [None, 5, "x", [], {}, [1, None, {"name": 3}], {"host-name": "a b", "name": 7}])
def test_nonsense_says_nothing(nonsense):
    assert guest_text.guest(nonsense, nonsense, nonsense) == Guest()


def test_what_is_said_is_bounded():
    card = {
        "name": "e\x1b" + "t" * 500,
        "hardware-address": "x",
        "ip-addresses": [{"ip-address": "1.2.3.4", "prefix": 8}],
    }
    card["ip-addresses"] += [{"ip-address": bad, "prefix": 8} for bad in ("evil", "1.2.3.4/5", "", None, "0.0.0.0")]
    card["ip-addresses"] += [{"ip-address": "5.6.7.8", "prefix": bad} for bad in (True, -1, 999, "8")]
    card["ip-addresses"] += [{"ip-address": f"9.9.9.{n}", "prefix": 32} for n in range(200)]
    said = guest_text.guest({"host-name": "h" * 300}, {"pretty-name": "P" * 10_000}, [card] * 1000)
    assert said.host_name == ""
    assert len(said.os_name) <= 128
    assert len(said.interfaces) <= 16
    first = said.interfaces[0]
    assert first.name.isprintable()
    assert len(first.name) <= 64
    assert first.mac == ""
    assert len(first.addresses) <= 16
    assert first.addresses[0] == "1.2.3.4/8"
    assert not any(address.startswith("5.") for address in first.addresses)


@pytest.fixture
def home(tmp_path):
    return tmp_path


def entry(home, mark, line=None):
    """What runs in the guest as the account."""
    words = ["sh", "-c", guest_access._ENTRY, "vm-runtime", mark, *([line] if line else [])]
    return subprocess.run(words, env={"HOME": str(home), "PATH": os.environ["PATH"]}, capture_output=True, check=True)


def test_an_entry_comes_goes_and_leaves_the_others(home):
    file = home / ".ssh" / "authorized_keys"
    file.parent.mkdir(mode=0o755)
    file.write_text("ssh-rsa MINE me@home")  # without an end of line
    entry(home, "vmar=1", "key one vmar=1")
    entry(home, "vmar=2", "key two vmar=2")
    entry(home, "vmar=1", "key one vmar=1")
    assert file.read_text().splitlines() == ["ssh-rsa MINE me@home", "key two vmar=2", "key one vmar=1"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    entry(home, "vmar=1")
    entry(home, "vmar=2")
    entry(home, "vmar=2")
    assert file.read_text() == "ssh-rsa MINE me@home\n"
    assert [path.name for path in file.parent.iterdir()] == ["authorized_keys"]


def test_an_entry_is_text_and_nothing_else(home):
    line = "key $(touch hacked) `touch hacked` \\n %s ; touch hacked vmar=1"
    entry(home, "vmar=1", line)
    assert (home / ".ssh" / "authorized_keys").read_text() == line + "\n"
    assert not (home / "hacked").exists()


def test_removing_makes_nothing(home):
    entry(home, "vmar=1")
    assert list(home.iterdir()) == []
