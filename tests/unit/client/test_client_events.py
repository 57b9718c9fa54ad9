"""Events: one object for a repeated event, bounded messages, and no failure that reaches the caller."""

import asyncio
import json
import re

import pytest
from aiohttp import web

from kube.client.aio import AsyncClient
from kube.client.events import EventRecorder

VM = {
    "apiVersion": "example.org/v1",
    "kind": "Machine",
    "metadata": {"name": "m", "namespace": "ns", "uid": "u1", "resourceVersion": "5"},
}


class Api:
    """Stores events; `gone` makes it forget them, `code` makes it refuse everything."""

    def __init__(self, status_answer):
        self.events: dict[str, dict] = {}
        self.code = 0
        self._status = status_answer

    async def __call__(self, request):
        body = json.loads(await request.text())
        if self.code:
            return self._status(self.code, "Refused")
        if request.method == "POST":
            await asyncio.sleep(0.01)
            self.events[f"{request.path}/{body['metadata']['name']}"] = body
            return web.json_response(body, status=201)
        if request.path not in self.events:
            return self._status(404, "NotFound")
        self.events[request.path] |= body
        return web.json_response(self.events[request.path])

    @property
    def counts(self):
        return [(event["reason"], event["message"], event["count"]) for event in self.events.values()]


@pytest.fixture
def api(status_answer):
    return Api(status_answer)


@pytest.fixture
async def recorder(serve, api):
    server = await serve(api)
    async with AsyncClient(server.config, timeout=30) as client:
        yield EventRecorder(client, "vm-controller")


async def test_an_event_says_what_and_who(recorder, api):
    await recorder.event(VM, "Warning", "Broken", "it broke")
    [(path, event)] = api.events.items()
    assert re.fullmatch(r"/api/v1/namespaces/ns/events/m\.[0-9a-f]{16}", path)
    assert event["involvedObject"] == {
        "apiVersion": "example.org/v1",
        "kind": "Machine",
        "name": "m",
        "namespace": "ns",
        "uid": "u1",
        "resourceVersion": "5",
    }
    assert event["metadata"]["namespace"] == "ns"
    assert (event["type"], event["source"], event["count"]) == ("Warning", {"component": "vm-controller"}, 1)
    assert event["firstTimestamp"] == event["lastTimestamp"]


async def test_repeats_are_counted_also_when_they_come_at_once(recorder, api):
    await asyncio.gather(*(recorder.event(VM, "Normal", "Started", "up") for _ in range(5)))
    await recorder.event(VM, "Normal", "Started", "again up")
    other = VM | {"metadata": VM["metadata"] | {"uid": "u2"}}
    await recorder.event(other, "Normal", "Started", "up")
    assert api.counts == [("Started", "up", 5), ("Started", "again up", 1), ("Started", "up", 1)]


async def test_an_event_that_expired_is_written_anew(recorder, api):
    await recorder.event(VM, "Normal", "Started", "up")
    api.events.clear()
    await recorder.event(VM, "Normal", "Started", "up")
    assert api.counts == [("Started", "up", 1)]


async def test_long_messages_are_cut_between_characters(recorder, api):
    await recorder.event(VM, "Normal", "Long", "ü" * 600)
    [(_, message, _)] = api.counts
    assert message == "ü" * 510 + "..."
    assert len(message.encode()) <= 1024


async def test_long_names_and_cluster_scoped_objects(recorder, api):
    await recorder.event(VM | {"metadata": {"name": "n" * 253}}, "Normal", "Started", "up")
    [path] = api.events
    assert path.startswith("/api/v1/namespaces/default/events/nnn")
    assert len(path.rpartition("/")[2]) <= 253


async def test_nothing_is_ever_raised(recorder, api, caplog):
    api.code = 403
    await recorder.event(VM, "Normal", "Started", "up")
    await recorder.event({}, "Normal", "Odd", "no metadata")
    assert "event Started of Machine not recorded" in caplog.text
    assert "event Odd of None not recorded" in caplog.text
    api.code = 0
    await recorder.event(VM, "Normal", "Started", "up")
    assert api.counts == [("Started", "up", 1)]


async def test_only_so_many_events_are_remembered(recorder, api, monkeypatch):
    monkeypatch.setattr("kube.client.events._REMEMBERED", 2)
    for message in ("a", "b", "c", "c", "a"):
        await recorder.event(VM, "Normal", "R", message)
    assert [(message, count) for _, message, count in api.counts] == [("a", 1), ("b", 1), ("c", 2), ("a", 1)]
