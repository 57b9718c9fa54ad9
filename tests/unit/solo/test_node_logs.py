"""Log files: tails, rotation, following."""

from __future__ import annotations

import asyncio
import os

import pytest

from solo.node import logs


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
    assert await collect(logs.LogReader(log, lines, None)) == expected


async def test_limit_of_bytes(log):
    write(log, "0123456789")
    assert await collect(logs.LogReader(log, None, 4)) == "0123"


async def test_rotation_bounds_the_file_and_readers_see_both_parts(log):
    write(log, "old 1\nold 2\n")
    fd = os.open(log, os.O_WRONLY | os.O_APPEND)
    assert await logs.rotate(log, limit=5)
    os.write(fd, b"new 1\n")
    os.close(fd)
    assert log.read_text() == "new 1\n"
    assert await collect(logs.LogReader(log, None, None)) == "old 1\nold 2\nnew 1\n"
    assert await collect(logs.LogReader(log, 2, None)) == "old 2\nnew 1\n"
    assert not await logs.rotate(log, limit=100)


async def test_rotation_of_more_than_one_chunk(log):
    write(log, "z" * (3 << 20) + "end")
    assert await logs.rotate(log, limit=1000)
    assert logs.rotated(log).stat().st_size == (3 << 20) + 3
    assert log.stat().st_size == 0


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
    reader = asyncio.create_task(collect(logs.LogReader(log, None, None), ended.wait))
    await asyncio.sleep(0.02)
    write(log, "two\n")
    await asyncio.sleep(0.02)
    await logs.rotate(log, limit=1)
    await asyncio.sleep(0.02)
    write(log, "three\n")
    ended.set()
    assert await asyncio.wait_for(reader, 30) == "one\ntwo\nthree\n"


async def test_a_follower_that_leaves_closes_everything(log):
    write(log, "one\n")
    before = len(os.listdir("/proc/self/fd"))
    stream = logs.LogReader(log, None, None).stream(asyncio.Event().wait)
    assert await anext(stream) == b"one\n"
    await stream.aclose()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_link_in_the_place_of_a_log_is_not_followed(log, tmp_path):
    log.symlink_to("/etc/hostname")
    with pytest.raises(OSError):
        logs.open_for_process(log, -1, -1)
    assert logs.tail_text(log, 10, 100) == ""
