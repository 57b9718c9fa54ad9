"""Log files: tails, rotation, following."""

from __future__ import annotations

import asyncio
import os

import pytest

from kube.machinery.durations import parse_rfc3339
from solo.http.streams import Excerpt
from solo.node import logs, logtimes
from solo.node.logkeeper import LogKeeper


def write(path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, text.encode())
    os.close(fd)


@pytest.fixture
def log(tmp_path):
    return logs.log_path(tmp_path, "", 0)


async def collect(reader: logs.LogReader, ended=None) -> str:
    return b"".join([chunk async for chunk in reader.stream(ended)]).decode()


@pytest.mark.parametrize(
    ("text", "lines", "expected"),
    [
        ("a\nb\nc\n", 2, "b\nc\n"),
        ("a\nb\nc", 2, "b\nc"),
        ("a\nb\n", 5, "a\nb\n"),
        ("a\nb\n", 0, ""),
        ("", 3, ""),
        ("\n\n\n", 1, "\n"),
        ("x" * 70000 + "\n" + "y" * 70000 + "\n", 1, "y" * 70000 + "\n"),
    ],
)
async def test_tail(log, text, lines, expected):
    write(log, text)
    assert await collect(logs.LogReader(log, Excerpt(lines))) == expected


async def test_limit_of_bytes(log):
    write(log, "0123456789")
    assert await collect(logs.LogReader(log, Excerpt(limit_bytes=4))) == "0123"


async def test_rotation_bounds_the_file_and_readers_see_both_parts(log):
    write(log, "old 1\nold 2\n")
    fd = os.open(log, os.O_WRONLY | os.O_APPEND)
    assert await logs.rotate(log, limit=8)
    os.write(fd, b"new 1\n")
    os.close(fd)
    assert log.read_text() == "new 1\n"
    assert await collect(logs.LogReader(log, Excerpt())) == "old 1\nold 2\nnew 1\n"
    assert await collect(logs.LogReader(log, Excerpt(2))) == "old 2\nnew 1\n"
    assert not await logs.rotate(log, limit=100)


async def test_rotation_of_more_than_one_chunk(log):
    write(log, "z" * (3 << 20) + "end")
    assert await logs.rotate(log, limit=2 << 20)
    assert logs.rotated(log).stat().st_size == (3 << 20) + 3
    assert log.stat().st_size == 0


async def test_of_a_log_far_beyond_its_bounds_the_end_is_kept(timed_log):
    os.truncate(timed_log, 1 << 40)
    write(timed_log, "the end\n")
    assert await logs.rotate(timed_log)
    assert logs.rotated(timed_log).stat().st_size == logs.MAX_BYTES
    assert await collect(logs.LogReader(timed_log, Excerpt(limit_bytes=30, tail_lines=1))) != ""
    assert logs.tail_text(logs.rotated(timed_log), 1, 8) == "the end\n"


async def test_a_terabyte_without_a_line_holds_nobody_up(log):
    write(log, "a\n")
    os.truncate(log, 1 << 40)
    async with asyncio.timeout(5):
        assert len(await collect(logs.LogReader(log, Excerpt(tail_lines=3, limit_bytes=1000)))) == 1000
        assert logs.tail_text(log, 3, 100) == "\0" * 100
        reader = logs.LogReader(log, Excerpt(since=os.stat(log).st_mtime - 5, limit_bytes=10))
        assert len(await collect(reader)) == 10


def test_a_pipe_in_the_place_of_a_log_holds_nobody_up(log):
    os.mkfifo(log)
    with pytest.raises(FileNotFoundError):
        logs.LogReader(log, Excerpt())
    assert logs.tail_text(log, 3, 100) == ""
    os.close(logs.open_for_process(log, -1, -1))
    assert log.is_file()


async def test_a_log_is_rotated_as_soon_as_it_has_outgrown_its_bounds(log):
    write(log, "")
    keeper = LogKeeper()
    keeper.follow(log)
    write(log, "z" * (logs.MAX_BYTES + 1))
    async with asyncio.timeout(5):
        while not logs.rotated(log).exists() or log.stat().st_size:
            await asyncio.sleep(0.01)
    write(log, "z" * (logs.MAX_BYTES + 2))
    await keeper.finish(log)
    assert (log.stat().st_size, logs.rotated(log).stat().st_size) == (0, logs.MAX_BYTES + 2)
    await keeper.close()


async def test_rotation_ends_though_the_process_writes_as_fast_as_it_copies(log):
    write(log, "z" * (3 << 20))

    async def flood():
        with open(log, "ab") as file:
            while True:
                file.write(bytes(2 << 20))
                file.flush()
                await asyncio.sleep(0)

    writer = asyncio.create_task(flood())
    assert await asyncio.wait_for(logs.rotate(log, limit=1000), 30)
    writer.cancel()
    assert logs.rotated(log).stat().st_size < 16 << 20


async def test_follow_goes_on_over_a_rotation_until_the_end(log):
    write(log, "one\n")
    ended = asyncio.Event()
    reader = asyncio.create_task(collect(logs.LogReader(log, Excerpt()), ended.wait))
    await asyncio.sleep(0.02)
    write(log, "two\n")
    await asyncio.sleep(0.02)
    await logs.rotate(log, limit=1)
    await asyncio.sleep(0.02)
    write(log, "three\n")
    ended.set()
    assert await asyncio.wait_for(reader, 30) == "one\ntwo\nthree\n"


async def test_a_reader_that_never_begins_closes_everything(log):
    write(log, "one\n")
    before = len(os.listdir("/proc/self/fd"))
    await logs.LogReader(log, Excerpt()).stream(asyncio.Event().wait).aclose()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_follower_that_leaves_closes_everything(log):
    write(log, "one\n")
    before = len(os.listdir("/proc/self/fd"))
    stream = logs.LogReader(log, Excerpt()).stream(asyncio.Event().wait)
    assert await anext(stream) == b"one\n"
    await stream.aclose()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_link_in_the_place_of_a_log_is_not_followed(log, tmp_path):
    target = tmp_path / "target"
    target.write_text("mine")
    log.symlink_to(target)
    assert logs.tail_text(log, 10, 100) == ""
    os.close(logs.open_for_process(log, -1, -1))
    assert target.read_text() == "mine" and not log.is_symlink()


def write_at(path, text: str, seconds: float) -> None:
    """Write, as if it had happened at a time (seconds since the epoch), and have the agent see it."""
    write(path, text)
    os.utime(path, (seconds, seconds))
    logtimes.stamp(path)


FIRST, SECOND, THIRD = (f"2001-09-09T01:46:4{n}.000000000Z " for n in range(3))


@pytest.fixture
def timed_log(log):
    write_at(log, "one\ntw", 1_000_000_000)
    write_at(log, "o\nthree\n", 1_000_000_001)
    write_at(log, "four", 1_000_000_002)
    return log


@pytest.mark.parametrize(
    ("excerpt", "expected"),
    [
        (Excerpt(timestamps=True), f"{FIRST}one\n{FIRST}two\n{SECOND}three\n{THIRD}four"),
        (Excerpt(since=1_000_000_001), "three\nfour"),
        (Excerpt(since=1_000_000_001.5), "four"),
        (Excerpt(since=1_000_000_003), ""),
        (Excerpt(since=1, timestamps=True, tail_lines=1), f"{THIRD}four"),
        (Excerpt(since=1_000_000_002, tail_lines=3), "four"),
        (Excerpt(timestamps=True, limit_bytes=35), f"{FIRST}one\n{FIRST}"[:35]),
    ],
    ids=["timestamps", "since", "since-later", "since-after", "tail", "tail-and-since", "limit"],
)
async def test_times_of_lines(timed_log, excerpt, expected):
    assert await collect(logs.LogReader(timed_log, excerpt)) == expected


async def test_times_go_with_their_lines_through_a_rotation(timed_log):
    assert await logs.rotate(timed_log, limit=10)
    write_at(timed_log, " more\nfive\n", 1_000_000_003)
    whole = f"{FIRST}one\n{FIRST}two\n{SECOND}three\n{THIRD}four more\n{THIRD[:18]}3{THIRD[19:]}five\n"
    assert await collect(logs.LogReader(timed_log, Excerpt(timestamps=True))) == whole
    assert await collect(logs.LogReader(timed_log, Excerpt(since=1_000_000_001))) == "three\nfour more\nfive\n"


async def test_a_log_without_an_index_was_written_when_its_file_was(log):
    write(log, "one\n")
    os.utime(log, (1_000_000_000, 1_000_000_000))
    assert await collect(logs.LogReader(log, Excerpt(timestamps=True))) == f"{FIRST}one\n"


async def test_a_log_that_its_process_has_emptied_begins_anew(timed_log):
    os.truncate(timed_log, 0)
    write_at(timed_log, "new\n", 1_000_000_002)
    assert await collect(logs.LogReader(timed_log, Excerpt(timestamps=True))) == f"{THIRD}new\n"


async def test_a_chatty_log_is_rotated_for_its_index(log):
    for n in range(4):
        write_at(log, "x", 1_000_000_000 + n)
    assert await logs.rotate(log, limit=50)
    assert not logtimes.times_path(log).exists()


async def test_the_keeper_notes_when_lines_are_written(log, tmp_path):
    other = tmp_path / "other.log"
    write(log, "")
    write(other, "")
    keeper = LogKeeper()
    keeper.follow(log)
    keeper.follow(other)
    for n in range(3):
        write(log, f"{n}\n")
        write(other, f"{n}\n")
        await asyncio.sleep(0.25)
    keeper.leave(log)
    keeper.leave(other)
    await keeper.close()
    for path in (log, other):
        lines = (await collect(logs.LogReader(path, Excerpt(timestamps=True)))).splitlines()
        seconds = [parse_rfc3339(line.split()[0]).timestamp() for line in lines]
        assert [line.split()[1] for line in lines] == ["0", "1", "2"]
        assert seconds[1] - seconds[0] > 0.1 and seconds[2] - seconds[1] > 0.1


async def test_followed_lines_have_the_times_that_they_have_later(log):
    write(log, "one\n")
    ended = asyncio.Event()
    reader = asyncio.create_task(collect(logs.LogReader(log, Excerpt(timestamps=True)), ended.wait))
    await asyncio.sleep(0.05)
    write(log, "two\n")
    await asyncio.sleep(0.05)
    ended.set()
    assert await reader == await collect(logs.LogReader(log, Excerpt(timestamps=True)))
