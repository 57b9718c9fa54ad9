"""The work queue's promises, and what a controller does with failures."""

import asyncio
import logging

import pytest

from kube.client.backoff import backoff
from kube.client.errors import ConnectionFailed
from kube.client.queue import Controller, QueueShutDown, WorkQueue
from kube.machinery.errors import conflict, not_found


async def get(queue):
    return await asyncio.wait_for(queue.get(), 30)


async def nothing_ready(queue):
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.01)


async def test_waiting_keys_are_not_added_twice_and_keep_their_order():
    queue = WorkQueue()
    for key in ("a", "b", "a"):
        queue.add(key)
    assert len(queue) == 2
    assert [await get(queue), await get(queue)] == ["a", "b"]
    await nothing_ready(queue)


async def test_a_key_in_work_comes_back_after_it_is_done():
    queue = WorkQueue()
    queue.add("a")
    assert await get(queue) == "a"
    queue.add("a")
    queue.add("a")
    await nothing_ready(queue)
    queue.done("a")
    assert await get(queue) == "a"
    queue.done("a")
    await nothing_ready(queue)


async def test_the_earliest_of_several_delays_holds():
    queue = WorkQueue()
    loop = asyncio.get_running_loop()
    started = loop.time()
    queue.add_after("a", 30)
    queue.add_after("a", 0.02)
    queue.add_after("a", 60)
    await nothing_ready(queue)
    assert await get(queue) == "a"
    assert loop.time() - started < 1
    queue.done("a")
    await nothing_ready(queue)
    queue.add_after("a", 0)
    assert await get(queue) == "a"


async def test_failures_wait_longer_each_time_until_forgotten():
    queue = WorkQueue(first_delay=0.01)
    loop = asyncio.get_running_loop()

    async def delay():
        started = loop.time()
        queue.add_rate_limited("a")
        assert await get(queue) == "a"
        queue.done("a")
        return loop.time() - started

    async def delay_after_success():
        queue.forget("a")
        return await delay()

    growing = [await delay() for _ in range(4)]
    assert growing[0] >= 0.007
    assert growing[3] >= 0.063
    # The shortest of ten, because a busy machine only ever makes them longer.
    assert min([await delay_after_success() for _ in range(10)]) < 0.063


def test_backoff_doubles_up_to_its_limit_with_jitter():
    for failures, expected in ((1, 0.05), (2, 0.1), (5, 0.8), (11, 30.0), (5000, 30.0)):
        delays = {backoff(failures, 0.05, 30.0) for _ in range(50)}
        assert len(delays) > 1
        assert all(0.8 * expected <= delay <= 1.2 * expected for delay in delays)


async def test_shutdown_hands_out_what_waits_and_wakes_the_waiters():
    queue = WorkQueue()
    queue.add("a")
    queue.add_after("later", 60)
    queue.shutdown()
    queue.add("b")
    queue.add_after("c", 0)
    assert await get(queue) == "a"
    with pytest.raises(QueueShutDown):
        await get(queue)

    idle = WorkQueue()
    waiters = [asyncio.create_task(idle.get()) for _ in range(2)]
    await asyncio.sleep(0)
    idle.shutdown()
    done = await asyncio.wait_for(asyncio.gather(*waiters, return_exceptions=True), 30)
    assert [type(one) for one in done] == [QueueShutDown, QueueShutDown]


async def test_one_key_is_never_worked_on_twice_at_once():
    queue = WorkQueue()
    busy: set[str] = set()
    overlaps, parallel, runs = 0, 0, 0

    async def reconcile(key):
        nonlocal overlaps, parallel, runs
        overlaps += key in busy
        busy.add(key)
        parallel = max(parallel, len(busy))
        runs += 1
        await asyncio.sleep(0.001)
        busy.discard(key)

    running = asyncio.create_task(Controller("t", queue, reconcile, workers=4).run())
    for number in range(200):
        queue.add(f"k{number % 5}")
        if number % 20 == 0:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.02)
    queue.shutdown()
    await asyncio.wait_for(running, 30)
    assert (overlaps, parallel) == (0, 4)
    assert 5 <= runs < 100


async def test_a_controller_repeats_what_failed_and_what_asked_for_it(caplog):
    caplog.set_level(logging.DEBUG, logger="kube.client.queue")
    queue = WorkQueue(first_delay=0.001)
    failures = [ValueError("boom"), conflict("pods", "x", "stale"), not_found("pods", "x"), None, None]
    failures.insert(3, ConnectionFailed("https://h", "lost", "broken", "wait"))
    seen = []

    async def reconcile(key):
        seen.append(key)
        failure = failures[len(seen) - 1]
        if failure is not None:
            raise failure
        if len(seen) < len(failures):
            return 0.001
        queue.shutdown()
        return None

    queue.add("x")
    await asyncio.wait_for(Controller("vm", queue, reconcile).run(), 30)
    assert seen == ["x"] * 6
    levels = [(record.levelname, bool(record.exc_info)) for record in caplog.records]
    assert levels == [("ERROR", True), ("DEBUG", False), ("WARNING", False), ("WARNING", False)]
    assert caplog.records[0].getMessage() == "vm: x failed"


async def test_cancelling_a_controller_ends_it():
    started = asyncio.Event()

    async def reconcile(key):
        started.set()
        await asyncio.sleep(60)

    queue = WorkQueue()
    queue.add("x")
    running = asyncio.create_task(Controller("t", queue, reconcile).run())
    await asyncio.wait_for(started.wait(), 30)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 30)


async def test_a_long_wait_is_looked_after_in_between(monkeypatch):
    monkeypatch.setattr("kube.client.queue.LONGEST_WAIT", 0.001)
    queue, seen = WorkQueue(), []

    async def reconcile(key):
        seen.append(key)
        if len(seen) == 3:
            queue.shutdown()
        return 3600.0

    queue.add("x")
    await asyncio.wait_for(Controller("vm", queue, reconcile).run(), 30)
    assert seen == ["x"] * 3
