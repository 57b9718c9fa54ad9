"""How often a guest is asked, and how often it can make itself heard, whatever it does."""

import asyncio
import json

import pytest

from vmruntime.engines.machine import Guest
from vmruntime.engines.qemu import guest_watch
from vmruntime.engines.qemu.guest_watch import GuestWatch
from vmruntime.engines.qemu.qmp import QmpError

LEAST = 0.05


class Channel:
    """QEMU's end of the channel, as `query-chardev` shows it; and the agent behind it, while it answers."""

    def __init__(self):
        self.open = True
        self.answers = True
        self.host_name = "one"
        self.looks = 0
        self.connected = True

    def qmp(self):
        if not self.connected:
            raise QmpError("not connected")
        return self

    async def execute(self, command):
        assert command == "query-chardev"
        self.looks += 1
        return [{"label": "qmp0"}, {"label": "agent0", "frontend-open": self.open}]

    async def serve(self, reader, writer):
        while line := await reader.readline():
            message = json.loads(line.lstrip(b"\xff"))
            said = {"host-name": self.host_name} if message["execute"] == "guest-get-host-name" else []
            if message["execute"].startswith("guest-sync"):
                said = message["arguments"]["id"]
            if self.answers:
                writer.write(json.dumps({"return": said}).encode() + b"\n")
        writer.close()


@pytest.fixture
async def world(tmp_path, monkeypatch):
    monkeypatch.setattr(guest_watch, "_LEAST_PAUSE", LEAST)
    monkeypatch.setattr(guest_watch, "_EXCHANGE_SECONDS", 0.2)
    channel, changes = Channel(), []
    server = await asyncio.start_unix_server(channel.serve, tmp_path / "ga.sock")
    watch = GuestWatch(tmp_path, channel.qmp, lambda: changes.append((watch.guest, watch.session)))
    watch.start()
    yield channel, watch, changes
    await watch.close()
    server.close()
    await asyncio.sleep(0)


async def until(check):
    async with asyncio.timeout(30):
        while not check():
            await asyncio.sleep(0.01)


async def test_what_is_said_is_known_and_told_once(world):
    _, watch, changes = world
    await until(lambda: watch.guest is not None)
    await asyncio.sleep(10 * LEAST)
    assert changes == [(Guest("one"), 1)]


async def test_a_guest_without_an_agent_costs_next_to_nothing(world):
    channel, watch, changes = world
    channel.open = False
    watch.moved()
    await until(lambda: watch.guest is None)
    channel.looks = 0
    await asyncio.sleep(20 * LEAST)
    assert channel.looks <= 5  # pauses double: not twenty
    assert len(changes) <= 2


async def test_a_channel_that_flaps_is_looked_at_no_more_often(world):
    channel, watch, changes = world
    await until(lambda: watch.guest is not None)
    channel.looks = 0
    began = asyncio.get_running_loop().time()
    for number in range(400):
        channel.host_name = f"host-{number}"
        watch.moved()
        await asyncio.sleep(0.001)
    passed = asyncio.get_running_loop().time() - began
    # Each look asks twice: whether the channel is open, and again when it is this one's turn to talk.
    assert channel.looks <= 2 * (passed / LEAST + 2)
    assert len(changes) <= passed / LEAST + 3


async def test_an_agent_that_comes_anew_is_another_session(world):
    channel, watch, _ = world
    await until(lambda: watch.session == 1)
    channel.open = False
    watch.moved()
    await until(lambda: watch.guest is None)
    channel.open = True
    watch.moved()
    await until(lambda: watch.session == 2)
    assert watch.guest == Guest("one")


async def test_one_answer_that_does_not_come_is_no_news_but_two_are(world):
    channel, watch, changes = world
    await until(lambda: watch.guest is not None)
    channel.answers = False
    watch.moved()
    await until(lambda: watch.guest is None)
    assert watch._misses == 2
    assert [guest for guest, _ in changes] == [Guest("one"), None]


async def test_a_lost_connection_to_qemu_says_nothing_of_the_guest(world):
    channel, watch, _ = world
    await until(lambda: watch.guest is not None)
    channel.connected = False
    watch.moved()
    await asyncio.sleep(3 * LEAST)
    assert watch.guest == Guest("one")


async def test_shutdown_does_not_wait_for_a_hanging_agent(world, monkeypatch):
    monkeypatch.setattr(guest_watch, "_SHUTDOWN_SECONDS", 0.2)
    channel, watch, _ = world
    await until(lambda: watch.guest is not None)
    channel.answers = False
    async with asyncio.timeout(10):
        assert await watch.shut_down() is False
