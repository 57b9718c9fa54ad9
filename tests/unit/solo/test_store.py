"""The store: concurrency rules, visibility after commit, history, watches."""

import asyncio

import pytest

from kube.machinery.errors import StatusError
from solo.store import Store
from solo.store import watch as watch_module
from solo.store.history import PARSED_EVENTS
from unit.solo.store_objects import key, obj


async def test_create_get_update_delete(store):
    first = await store.create(key("a"), obj("a"))
    assert first.obj["metadata"]["resourceVersion"] == str(first.rv)
    assert store.get(key("a")) is first
    second = await store.update(key("a"), obj("a", 1), first.rv)
    assert second.rv > first.rv and store.get(key("a")).obj["value"] == 1
    gone = await store.delete(key("a"), second.rv)
    assert gone.rv > second.rv and gone.obj["value"] == 1
    assert store.get(key("a")) is None and store.revision == gone.rv


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (lambda s: s.create(key("a"), obj("a")), 409),
        (lambda s: s.update(key("a"), obj("a"), 999), 409),
        (lambda s: s.delete(key("a"), 999), 409),
        (lambda s: s.update(key("b"), obj("b"), None), 404),
        (lambda s: s.delete(key("b"), None), 404),
    ],
)
async def test_refused_writes_change_nothing(store, action, code):
    first = await store.create(key("a"), obj("a"))
    with pytest.raises(StatusError) as caught:
        await action(store)
    assert caught.value.code == code
    assert store.list("pods") == ([first], first.rv)


async def test_the_object_given_is_not_changed(store):
    mine = obj("a")
    await store.create(key("a"), mine)
    assert "resourceVersion" not in mine["metadata"]


async def test_concurrent_updates_of_one_key_let_one_win(store):
    first = await store.create(key("a"), obj("a"))
    results = await asyncio.gather(
        *(store.update(key("a"), obj("a", n), first.rv) for n in range(10)), return_exceptions=True
    )
    assert sum(not isinstance(result, Exception) for result in results) == 1
    assert {r.code for r in results if isinstance(r, Exception)} == {409}


async def test_concurrent_creates_of_one_key_let_one_win(store):
    results = await asyncio.gather(*(store.create(key("a"), obj("a", n)) for n in range(5)), return_exceptions=True)
    assert [r.reason for r in results if isinstance(r, Exception)] == ["AlreadyExists"] * 4


async def test_nothing_is_visible_before_the_commit(store):
    task = asyncio.ensure_future(store.create(key("a"), obj("a")))
    await asyncio.sleep(0)
    assert store.get(key("a")) is None and store.revision == 0
    await task
    assert store.get(key("a")) is not None


async def test_many_writes_share_transactions(store, monkeypatch):
    sizes = []
    commit = store._database.commit
    monkeypatch.setattr(
        store._database, "commit", lambda events, floor: (sizes.append(len(events)), commit(events, floor))
    )
    await asyncio.gather(*(store.create(key(f"p{n}"), obj(f"p{n}")) for n in range(100)))
    assert sum(sizes) == 100 and len(sizes) <= 2


async def test_a_cancelled_writer_does_not_lose_the_write(store):
    task = asyncio.ensure_future(store.create(key("a"), obj("a")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.update(key("a"), obj("a", 2), None)
    assert store.get(key("a")).obj["value"] == 2


async def test_labels_are_read_without_keeping_the_object(store):
    labels = {"app": "x", "tier": "ü"}
    labelled = await store.create(key("a"), {**obj("a"), "metadata": {"name": "a", "labels": labels}})
    plain = await store.create(key("b"), obj("b"))
    assert (labelled.labels, plain.labels) == (labels, None)
    for stored in (labelled, plain):
        stored.drop_parsed()
    assert (labelled.labels, plain.labels) == (labels, None)
    assert labelled._obj is None is plain._obj


async def test_list_is_sorted_and_by_namespace(store):
    for namespace, name in [("b", "x"), ("a", "z"), ("a", "y"), ("a-b", "q")]:
        await store.create(key(name, namespace), obj(name))
    assert [(s.key.namespace, s.key.name) for s in store.list("pods")[0]] == [
        ("a", "y"), ("a", "z"), ("a-b", "q"), ("b", "x"),
    ]  # fmt: skip
    assert [s.key.name for s in store.list("pods", "a")[0]] == ["y", "z"]
    await store.delete(key("y", "a"), None)
    assert [s.key.name for s in store.list("pods", "a")[0]] == ["z"]
    assert store.list("secrets")[0] == []


async def test_watch_gets_past_and_future_in_order(store):
    first = await store.create(key("a"), obj("a"))
    second = await store.update(key("a"), obj("a", 1), None)
    with store.watch("pods", "ns", first.rv) as watch:
        await store.create(key("b", "other"), obj("b"))
        await store.create(key("c", resource="secrets"), obj("c"))
        gone = await store.delete(key("a"), None)
        events = [await anext(watch), await anext(watch)]
        assert [(e.type, e.rv) for e in events] == [("MODIFIED", second.rv), ("DELETED", gone.rv)]
        assert events[0].prev is first and events[1].prev is second
        assert events[1].wire.startswith(b'{"type":"DELETED","object":{') and events[1].wire.endswith(b"}}\n")
        assert watch.bookmark_rv == store.revision


async def test_a_watch_is_not_woken_by_what_it_does_not_want(store):
    with store.watch("pods", None, 0, lambda event: event.stored.key.name == "b") as watch:
        waiting = asyncio.ensure_future(watch.batch(5))
        other = await store.create(key("a"), obj("a"))
        assert not waiting.done() and watch.bookmark_rv == other.rv
        await store.create(key("b"), obj("b"))
        assert [event.stored.key.name for event in await waiting] == ["b"]


async def test_a_watch_that_fails_to_choose_harms_nobody(store):
    def fail(event):
        raise ValueError(event)

    with store.watch("pods", None, 0, fail) as failing, store.watch("pods", "ns", 0) as other:
        await store.create(key("a"), obj("a"))
        assert len(await failing.batch(1)) == len(await other.batch(1)) == 1


async def test_watch_batch_times_out_empty_and_ends(store):
    watch = store.watch("pods", None, 0)
    assert await watch.batch(0.01) == []
    waiting = asyncio.ensure_future(watch.batch(5))
    await store.create(key("a"), obj("a"))
    assert [e.stored.key.name for e in await waiting] == ["a"]
    watch.close()
    assert [e async for e in watch] == []
    with pytest.raises(StopAsyncIteration):
        await watch.batch(1)


async def test_a_slow_watcher_is_cut_off_and_can_resume(store, monkeypatch):
    monkeypatch.setattr(watch_module, "QUEUE_LIMIT", 3)
    slow = store.watch("pods", None, 0)
    for n in range(6):
        await store.create(key(f"p{n}"), obj(f"p{n}"))
    seen = [event async for event in slow]
    assert slow.lagged and [e.stored.key.name for e in seen] == ["p0", "p1", "p2"]
    rest = await store.watch("pods", None, seen[-1].rv).batch(1)
    assert [e.stored.key.name for e in rest] == ["p3", "p4", "p5"]


async def test_history_is_bounded_and_expires(tmp_path):
    store = Store.open(tmp_path / "state.db", max_events=10)
    for n in range(30):
        await store.create(key(f"p{n}"), obj(f"p{n}"))
    with pytest.raises(StatusError) as caught:
        store.watch("pods", None, 19)
    assert caught.value.code == 410 and caught.value.reason == "Expired"
    assert len(await store.watch("pods", None, 20).batch(1)) == 10
    with pytest.raises(StatusError, match="too large resource version"):
        store.watch("pods", None, 31)
    await store.close()


async def test_objects_are_bounded(store):
    before = store.revision
    with pytest.raises(StatusError, match=r"is too large: 2000[0-9]+ bytes, limit is 1572864") as caught:
        await store.create(key("big"), obj("big", "x" * 2_000_000))
    assert (caught.value.code, store.revision) == (413, before)
    assert (await store.create(key("a"), obj("a", "x" * 1_500_000))).rv == before + 1


async def test_a_slow_watcher_is_bounded_in_bytes(store, monkeypatch):
    monkeypatch.setattr(watch_module, "QUEUE_BYTES", 2_000_000)
    slow = store.watch("pods", None, 0)
    for n in range(6):
        await store.create(key(f"p{n}"), obj(f"p{n}", "x" * 900_000))
    seen = [event async for event in slow]
    assert slow.lagged and len(seen) == 3


async def test_a_failing_listener_disturbs_nobody(store, caplog):
    seen = []

    def fail(event):
        raise RuntimeError("listener")

    store.add_listener("pods", fail)
    store.add_listener("pods", lambda event: seen.append((event.type, store.get(event.stored.key) is not None)))
    await store.create(key("a"), obj("a"))
    assert seen == [("ADDED", True)]


async def test_writes_after_close_are_refused(tmp_path):
    store = Store.open(tmp_path / "state.db")
    watch = store.watch("pods", None, 0)
    await store.close()
    assert [event async for event in watch] == []
    with pytest.raises(StatusError, match="shutting down"):
        await store.create(key("a"), obj("a"))


async def test_objects_that_nobody_looks_at_are_kept_as_bytes(store):
    """The parsed form of what was written long ago would take several times the memory."""
    for number in range(PARSED_EVENTS + 10):
        await store.create(key(f"a{number}"), obj("a"))
    items, _ = store.list("pods")
    assert sum(stored._obj is not None for stored in items) == PARSED_EVENTS
    assert all(stored.obj["metadata"] for stored in items)


async def test_what_is_being_created_is_not_visible_yet(store):
    task = asyncio.create_task(store.create(key("a"), obj("a")))
    await asyncio.sleep(0)
    assert [event.type for event in store.on_the_way("pods")] == ["ADDED"] and store.count("pods") == 0
    assert not list(store.on_the_way("nodes"))
    await task
    assert not list(store.on_the_way("pods")) and store.count("pods") == 1


async def test_writers_of_one_object_have_their_turn_in_order(store):
    order = []

    async def write(name, *, gives_up=False):
        await store.turn(key("a"))
        order.append(name)
        if not gives_up:
            await store.update(key("a"), obj(name), store.get(key("a")).rv)

    first = asyncio.create_task(store.create(key("a"), obj("a")))
    await asyncio.sleep(0)
    tasks = [asyncio.create_task(write(name, gives_up=name == "c")) for name in "bxcde"]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.gather(first, *tasks, return_exceptions=True)
    assert order == ["b", "c", "d", "e"]
    assert store.get(key("a")).rv == 4
