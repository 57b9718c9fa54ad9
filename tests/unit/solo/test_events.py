"""Events that nobody needs any more."""

from __future__ import annotations

import asyncio
import time

from kube.machinery.durations import parse_rfc3339
from kube.machinery.errors import StatusError
from solo.auth.user import MASTERS, User
from solo.registry.builtins import builtin_kinds
from solo.registry.catalog import Catalog
from solo.registry.cleanup import delete_events
from solo.registry.context import RequestContext
from solo.registry.registry import Registry
from solo.store import Store

ADMIN = User("admin", (MASTERS,))
OLD, NEW = "2020-01-01T00:00:00Z", "2020-01-03T00:00:00Z"
HORIZON = parse_rfc3339("2020-01-02T00:00:00Z").timestamp()


class Refusing:
    """Admission that keeps one event."""

    async def admit(self, attributes):
        if attributes.operation == "DELETE" and attributes.name == "kept":
            raise StatusError(403, "Forbidden", "no")


async def test_old_events_go_together_whatever_holds_one_of_them(tmp_path):
    store = Store.open(tmp_path / "state.db")
    registry = Registry(store, Catalog(store, builtin_kinds(lambda: ("node", {}))), [Refusing()])
    kind, namespaces = (registry.catalog.lookup("", "v1", plural) for plural in ("events", "namespaces"))
    await registry.create(namespaces, "", "", {"metadata": {"name": "ns"}}, RequestContext(ADMIN))

    async def event(name, **times):
        obj = {"metadata": {"name": name}, "involvedObject": {"kind": "Pod", "namespace": "ns"}, **times}
        await registry.create(kind, "ns", "", obj, RequestContext(ADMIN))

    old = [event(f"old-{number}", lastTimestamp=OLD) for number in range(150)]
    await asyncio.gather(*old, event("kept", lastTimestamp=OLD), event("now"))
    await event("again", lastTimestamp=OLD, series={"count": 2, "lastObservedTime": NEW})
    commits, commit = [], store._database.commit
    store._database.commit = lambda events, floor: commits.append(len(events)) or commit(events, floor)
    await delete_events(registry, HORIZON)
    assert sorted(stored.key.name for stored in store.list("events")[0]) == ["again", "kept", "now"]
    assert sum(commits) == 150 and len(commits) < 20
    await delete_events(registry, time.time() + 60)
    assert [stored.key.name for stored in store.list("events")[0]] == ["kept"]
    await store.close()
