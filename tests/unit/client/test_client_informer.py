"""The informer against a scripted API server: every way in which a watch is known to go wrong."""

import asyncio
import re
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from kube.client.aio import AsyncClient
from kube.client.informer import Informer
from kube.machinery.resources import NAMESPACES, PODS

DEADLINE = 5


def pod(name, version, uid=None):
    meta = {"name": name, "namespace": "ns", "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": meta}


class Api:
    """Lists `objects`; watches are answered by the test, one after another, through `watches`."""

    def __init__(self, watch_answer, status_answer):
        self.objects: list[dict] = []
        self.version = 10
        self.refusals: list[web.Response] = []
        self.lists: list[str] = []
        self.watched_from: list[str] = []
        self.watches: asyncio.Queue = asyncio.Queue()
        self.expired_tokens = False
        self._watch_answer = watch_answer
        self.status = status_answer

    async def __call__(self, request):
        query = request.query
        if self.refusals:
            return self.refusals.pop(0)
        if query.get("watch") != "true":
            self.lists.append(request.query_string)
            return self._page(query)
        self.watched_from.append(query["resourceVersion"])
        watch = await self._watch_answer(request)
        watch.end = asyncio.Event()
        watch.transport = request.transport
        await self.watches.put(watch)
        await watch.end.wait()
        return watch.response

    def _page(self, query):
        first, size = int(query.get("continue", 0)), int(query.get("limit", 10**6))
        if first and self.expired_tokens:
            return self.status(410, "Expired")
        metadata = {"resourceVersion": str(self.version)}
        if first + size < len(self.objects):
            metadata["continue"] = str(first + size)
        return web.json_response({"metadata": metadata, "items": self.objects[first : first + size]})

    async def next_watch(self):
        return await asyncio.wait_for(self.watches.get(), DEADLINE)


@pytest.fixture
def api(watch_answer, status_answer):
    return Api(watch_answer, status_answer)


class Story:
    """Records what handlers hear, and waits for it."""

    def __init__(self):
        self.heard: list[str] = []
        self._changed = asyncio.Event()

    def __call__(self, kind, obj, old):
        before = old["metadata"]["resourceVersion"] if old else "-"
        self.heard.append(f"{kind} {obj['metadata']['name']} {before}>{obj['metadata']['resourceVersion']}")
        self._changed.set()

    async def until(self, *expected):
        async with asyncio.timeout(DEADLINE):
            while len(self.heard) < len(expected):
                self._changed.clear()
                await self._changed.wait()
        assert self.heard == list(expected)
        self.heard.clear()


@asynccontextmanager
async def running(server, resource=PODS, informer_options=None, **options):
    async with AsyncClient(server.config, watch_margin=0.2, **options) as client:
        informer = Informer(client, resource, **(informer_options or {}))
        story = Story()
        informer.add_handler(story)
        task = asyncio.create_task(informer.run())
        try:
            yield informer, story
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()


async def test_list_then_watch(serve, api):
    api.objects = [pod("a", 1), pod("b", 2)]
    server = await serve(api)
    async with running(server) as (informer, story):
        assert not informer.synced
        await informer.wait_synced(DEADLINE)
        await story.until("ADDED a ->1", "ADDED b ->2")
        assert informer.get("ns", "a")["kind"] == "Pod"
        watch = await api.next_watch()
        await watch.event("MODIFIED", pod("a", 11))
        await watch.event("DELETED", pod("b", 12))
        await watch.event("ADDED", pod("c", 13))
        await story.until("MODIFIED a 1>11", "DELETED b 2>12", "ADDED c ->13")
        assert informer.get("ns", "b") is None
        assert sorted(obj["metadata"]["name"] for obj in informer.items()) == ["a", "c"]
        late = Story()
        informer.add_handler(late)
        await late.until("ADDED a ->11", "ADDED c ->13")
        watch.end.set()
    assert re.search(r"limit=500", api.lists[0])
    assert "allowWatchBookmarks=true" in server.requests[1]
    assert re.search(r"timeoutSeconds=(2[4-9]\d|3[0-5]\d|360)", server.requests[1])


async def test_managed_fields_are_not_kept(serve, api):
    owned = pod("a", 1)
    owned["metadata"]["managedFields"] = [{"manager": "m"}]
    api.objects = [owned]
    async with running(await serve(api)) as (informer, _):
        await informer.wait_synced(DEADLINE)
        assert "managedFields" not in informer.get("ns", "a")["metadata"]


async def test_only_what_is_wanted_of_an_object_is_kept(serve, api):
    api.objects = [{**pod("a", 1), "spec": {"much": 1}}]
    keep = {"keep": lambda obj: {"metadata": obj["metadata"]}}
    async with running(await serve(api), informer_options=keep) as (informer, story):
        await informer.wait_synced(DEADLINE)
        assert list(informer.get("ns", "a")) == ["metadata"]
        watch = await api.next_watch()
        await watch.event("MODIFIED", {**pod("a", 11), "spec": {"much": 2}})
        await story.until("ADDED a ->1", "MODIFIED a 1>11")
        assert list(informer.get("ns", "a")) == ["metadata"]
        watch.end.set()


async def test_many_objects_come_in_pages(serve, api):
    api.objects = [pod(f"p{number}", number) for number in range(1101)]
    async with running(await serve(api)) as (informer, _):
        await informer.wait_synced(DEADLINE)
        assert len(informer.items()) == 1101
        (await api.next_watch()).end.set()
    assert len(api.lists) == 3


async def test_a_list_that_expires_between_pages_is_asked_for_whole(serve, api):
    api.objects = [pod(f"p{number}", number) for number in range(501)]
    api.expired_tokens = True
    async with running(await serve(api)) as (informer, _):
        await informer.wait_synced(DEADLINE)
        assert len(informer.items()) == 501
        (await api.next_watch()).end.set()
    assert api.lists == ["limit=500", "limit=500&continue=500", ""]


async def test_a_watch_resumes_from_the_last_bookmark(serve, api):
    async with running(await serve(api)) as (informer, story):
        first = await api.next_watch()
        await first.event("ADDED", pod("a", 15))
        await first.event("BOOKMARK", {"metadata": {"resourceVersion": "40"}})
        await story.until("ADDED a ->15")
        first.end.set()
        second = await api.next_watch()
        await second.event("MODIFIED", pod("a", 41))
        await story.until("MODIFIED a 15>41")
        second.transport.abort()
        (await api.next_watch()).end.set()
        second.end.set()
        assert [obj["metadata"]["name"] for obj in informer.items()] == ["a"]
    assert api.watched_from[:3] == ["10", "40", "41"]
    assert len(api.lists) == 1


async def test_a_restarted_server_is_resumed_without_listing(serve, api):
    api.objects = [pod("a", 1)]
    server = await serve(api)
    async with running(server) as (_, story):
        watch = await api.next_watch()
        await watch.event("MODIFIED", pod("a", 20))
        await story.until("ADDED a ->1", "MODIFIED a 1>20")
        watch.transport.abort()
        watch.end.set()
        await server.stop()
        await asyncio.sleep(0.15)
        await server.start()
        watch = await api.next_watch()
        await watch.event("MODIFIED", pod("a", 21))
        await story.until("MODIFIED a 20>21")
        watch.end.set()
    assert api.watched_from[:2] == ["10", "20"]
    assert len(api.lists) == 1


@pytest.mark.parametrize("in_stream", [True, False])
async def test_an_expired_version_lists_again_and_tells_the_difference(serve, api, in_stream):
    api.objects = [pod("kept", 1), pod("gone", 2), pod("changed", 3), pod("remade", 4)]
    async with running(await serve(api)) as (_, story):
        watch = await api.next_watch()
        await story.until("ADDED kept ->1", "ADDED gone ->2", "ADDED changed ->3", "ADDED remade ->4")
        api.objects = [pod("kept", 1), pod("changed", 30), pod("remade", 31, uid="other"), pod("new", 32)]
        api.version = 50
        if in_stream:
            error = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
            await watch.event("ERROR", error)
        else:
            api.refusals = [api.status(410, "Expired")]
        watch.end.set()
        await story.until(
            "DELETED gone 2>2",
            "MODIFIED changed 3>30",
            "DELETED remade 4>4",
            "ADDED remade ->31",
            "ADDED new ->32",
        )
        (await api.next_watch()).end.set()
    assert api.watched_from[-1] == "50"


async def test_a_server_that_asks_for_patience_does_not_cost_a_list(serve, api):
    async with running(await serve(api)) as (informer, _):
        watch = await api.next_watch()
        api.refusals = [api.status(503, "ServiceUnavailable"), api.status(429, "TooManyRequests")]
        watch.end.set()
        (await api.next_watch()).end.set()
        assert informer.synced
    assert len(api.lists) == 1


async def test_a_frozen_watch_is_left_and_resumed(serve, api):
    server = await serve(api)
    async with running(server, watch_seconds=0.1) as (_, story):
        frozen = await api.next_watch()
        await frozen.event("ADDED", pod("a", 11))
        await story.until("ADDED a ->11")
        second = await api.next_watch()
        assert api.watched_from == ["10", "11"]
        frozen.end.set()
        second.end.set()


async def test_a_kind_that_is_not_served_yet_and_no_more(serve, api):
    api.refusals = [api.status(404, "NotFound") for _ in range(4)]
    api.objects = [pod("a", 1)]
    async with running(await serve(api)) as (informer, story):
        with pytest.raises(TimeoutError, match=r"pods could not be listed in 0\.05 s"):
            await informer.wait_synced(0.05)
        api.refusals.clear()
        informer.retry_now()
        await informer.wait_synced(DEADLINE)
        await story.until("ADDED a ->1")
        watch = await api.next_watch()
        api.refusals = [api.status(404, "NotFound")] * 2
        watch.end.set()
        await story.until("DELETED a 1>1")
        assert not informer.synced and informer.items() == []
        api.refusals.clear()
        informer.retry_now()
        await story.until("ADDED a ->1")
        (await api.next_watch()).end.set()


async def test_retry_now_cuts_a_long_wait_short(serve, api, status_answer):
    api.refusals = [status_answer(404, "NotFound") for _ in range(5)]
    server = await serve(api)
    loop = asyncio.get_running_loop()
    async with running(server) as (informer, _):
        started = loop.time()
        while not informer.synced:
            informer.retry_now()
            await asyncio.sleep(0.01)
            assert loop.time() - started < 1.0
        (await api.next_watch()).end.set()


async def test_a_server_that_hangs_up_at_once_is_not_polled_hotly(serve, api):
    async with running(await serve(api)):

        async def hang_up():
            while True:
                (await api.watches.get()).end.set()

        hanging_up = asyncio.create_task(hang_up())
        await asyncio.sleep(0.4)
        hanging_up.cancel()
    assert 2 <= len(api.watched_from) <= 5


async def test_a_handler_that_fails_stops_nobody(serve, api, caplog):
    api.objects = [pod("a", 1)]
    async with AsyncClient((await serve(api)).config) as client:
        informer = Informer(client, PODS)

        def broken(kind, obj, old):
            raise ZeroDivisionError

        story = Story()
        informer.add_handler(broken)
        informer.add_handler(story)
        task = asyncio.create_task(informer.run())
        await story.until("ADDED a ->1")
        (await api.next_watch()).end.set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert "failed on ADDED of ('ns', 'a')" in caplog.text


async def test_a_malformed_object_is_survived(serve, api, caplog):
    async with running(await serve(api)) as (_, story):
        watch = await api.next_watch()
        await watch.event("ADDED", {"metadata": {"name": "x"}})
        api.objects = [pod("a", 1)]
        await story.until("ADDED a ->1")
        watch.end.set()
        (await api.next_watch()).end.set()
    assert "unexpected failure" in caplog.text


async def test_cluster_scoped_objects_and_selectors(serve, api):
    api.objects = [{"metadata": {"name": "n", "resourceVersion": "1", "uid": "u"}}]
    server = await serve(api)
    async with AsyncClient(server.config) as client:
        informer = Informer(client, NAMESPACES, label_selector="a=b", field_selector="c=d")
        task = asyncio.create_task(informer.run())
        await informer.wait_synced(DEADLINE)
        assert informer.get(None, "n") is informer.get("", "n") is not None
        (await api.next_watch()).end.set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert server.requests[0] == "GET /api/v1/namespaces?labelSelector=a%3Db&fieldSelector=c%3Dd&limit=500"
    assert "labelSelector=a%3Db&fieldSelector=c%3Dd&timeoutSeconds" in server.requests[1]
