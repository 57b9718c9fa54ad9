"""The store: a watch from any revision, replayed over the list of that time, gives the list of now."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fuzz.effort import effort
from kube.machinery.errors import StatusError
from solo.store import Key, Store

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["create", "update", "delete"]),
        st.sampled_from(["pods", "nodes"]),
        st.sampled_from(["x", "y"]),
        st.sampled_from("abc"),
        st.booleans(),
    ),
    max_size=25,
)


def contents(store, resource, namespace):
    stored, revision = store.list(resource, namespace)
    return {item.key: item.raw for item in stored}, revision


async def perform(store, number, kind, key):
    body = {"metadata": {"name": key.name, "namespace": key.namespace}, "number": number}
    actions = {
        "create": lambda: store.create(key, body),
        "update": lambda: store.update(key, body, None),
        "delete": lambda: store.delete(key, None),
    }
    try:
        await actions[kind]()
    except StatusError as refused:
        assert refused.code in (404, 409)


async def replay(store, resource, namespace, snapshots):
    now, _ = contents(store, resource, namespace)
    for then, revision in snapshots:
        state, last = dict(then), revision
        with store.watch(resource, namespace, revision) as watch:
            for event in await watch.batch(timeout=0) if store.revision > revision else []:
                assert event.rv > last
                last = event.rv
                assert (event.stored.key in state) is (event.type != "ADDED")
                if event.type == "DELETED":
                    del state[event.stored.key]
                else:
                    state[event.stored.key] = event.stored.raw
        assert state == now


async def check(path, steps):
    store = Store.open(path)
    views = [("pods", None), ("pods", "x"), ("nodes", None)]
    snapshots = {view: [contents(store, *view)] for view in views}
    together = []
    for number, (kind, resource, namespace, name, at_once) in enumerate(steps):
        together.append(perform(store, number, kind, Key(resource, namespace, name)))
        if not at_once:
            await asyncio.gather(*together)
            together = []
            for view in views:
                snapshots[view].append(contents(store, *view))
    await asyncio.gather(*together)
    for view in views:
        await replay(store, *view, snapshots[view])
    before = {view: contents(store, *view) for view in views}
    await store.close()
    again = Store.open(path)
    assert {view: contents(again, *view) for view in views} == before
    for view in views:
        await replay(again, *view, snapshots[view])
    await again.close()


@effort(40)
@given(STEPS)
def test_events_since_a_list_lead_to_the_next_list(steps):
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(check(Path(directory) / "state.db", steps))
