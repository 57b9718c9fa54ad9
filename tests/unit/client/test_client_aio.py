"""The async client over real sockets: verbs, errors, deadlines and watches."""

import asyncio
import json
import socket
import struct
from contextlib import aclosing

import pytest
from aiohttp import web

from kube.client.aio import AsyncClient, ConnectionFailed, StatusError
from kube.client.config import KubeConfig
from kube.machinery.resources import NAMESPACES, PODS


async def echo(request):
    body = await request.text()
    return web.json_response(
        {
            "method": request.method,
            "path": request.raw_path,
            "type": request.headers.get("Content-Type"),
            "auth": request.headers.get("Authorization"),
            "body": json.loads(body) if body else None,
        }
    )


POD = {"metadata": {"name": "x", "namespace": "ns"}}


async def collect(client, *args, **options):
    async with aclosing(client.watch(*args, **options)) as events:
        return [event async for event in events]


async def test_verbs_share_one_connection(serve):
    server = await serve(echo)
    async with AsyncClient(server.config) as client:
        seen = [
            await client.get(PODS, "x", "ns"),
            await client.list(PODS, label_selector="a=b", limit=5, continue_token="t/+"),
            await client.create(PODS, POD),
            await client.update(PODS, POD),
            await client.update_status(PODS, POD),
            await client.patch(PODS, "x", {"a": None}, "ns", type="strategic"),
            await client.delete(PODS, "x", "ns", grace=5),
            await client.delete_collection(PODS, "ns", label_selector="a", propagation="Background"),
            await client.apply(PODS, POD),
        ]
        assert await client.raw("GET", "/healthz?verbose=true") != b""
    assert [(one["method"], one["path"]) for one in seen] == [
        ("GET", "/api/v1/namespaces/ns/pods/x"),
        ("GET", "/api/v1/pods?labelSelector=a%3Db&limit=5&continue=t%2F%2B"),
        ("POST", "/api/v1/namespaces/ns/pods"),
        ("PUT", "/api/v1/namespaces/ns/pods/x"),
        ("PUT", "/api/v1/namespaces/ns/pods/x/status"),
        ("PATCH", "/api/v1/namespaces/ns/pods/x"),
        ("DELETE", "/api/v1/namespaces/ns/pods/x"),
        ("DELETE", "/api/v1/namespaces/ns/pods?labelSelector=a"),
        ("POST", "/api/v1/namespaces/ns/pods"),
    ]
    assert seen[5]["type"] == "application/strategic-merge-patch+json"
    assert seen[5]["body"] == {"a": None}
    assert seen[6]["body"]["gracePeriodSeconds"] == 5
    assert len(server.connections) == 1


async def test_a_name_cannot_leave_its_path(serve):
    server = await serve(echo)
    async with AsyncClient(server.config) as client:
        seen = await client.get(PODS, "../../secrets/x?y", "n/s")
    assert seen["path"] == "/api/v1/namespaces/n%2Fs/pods/..%2F..%2Fsecrets%2Fx%3Fy"


async def test_errors(serve, status_answer):
    async def handler(request):
        if request.path.endswith("/odd"):
            return web.Response(text="[1]")
        if request.path.endswith("/moved"):
            raise web.HTTPFound("/login")
        code, reason = (401, "Unauthorized") if request.path.endswith("/who") else (409, "Conflict")
        return status_answer(code, reason)

    server = await serve(handler)
    async with AsyncClient(server.config) as client:
        with pytest.raises(StatusError, match="no") as caught:
            await client.update(PODS, POD)
        assert (caught.value.code, caught.value.reason) == (409, "Conflict")
        with pytest.raises(StatusError, match=r"credentials in test\.kubeconfig"):
            await client.get(PODS, "who")
        for name in ("odd", "moved"):
            with pytest.raises(ConnectionFailed, match="not of a Kubernetes API"):
                await client.get(NAMESPACES, name)
    await server.stop()
    async with AsyncClient(server.config) as client:
        with pytest.raises(ConnectionFailed, match=r"nothing listens at http://localhost:\d+ ") as lost:
            await client.get(PODS, "x")
    assert lost.value.reason == "unreachable"


async def test_requests_have_a_deadline(serve):
    async def handler(request):
        await asyncio.sleep(5)
        return web.Response()

    server = await serve(handler)
    async with AsyncClient(server.config, timeout=0.1) as client:
        with pytest.raises(ConnectionFailed, match="no answer") as caught:
            await client.get(PODS, "x")
    assert caught.value.reason == "timeout"


@pytest.mark.parametrize("how", ["abort", "close"])
async def test_a_connection_that_breaks_before_the_answer_may_have_done_its_work(serve, how):
    async def handler(request):
        if how == "abort":  # With a linger time of zero the end is a reset.
            request.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        getattr(request.transport, how)()
        return web.Response()

    server = await serve(handler)
    async with AsyncClient(server.config) as client:
        with pytest.raises(ConnectionFailed) as caught:
            await client.create(PODS, POD)
    assert caught.value.reason == "lost"
    assert len(server.requests) == 1


async def test_tls_with_a_client_certificate_and_a_wrong_authority(serve, server_tls, authority):
    async def handler(request):
        return web.json_response({"subject": request.transport.get_extra_info("peercert")["subject"][0][0][1]})

    server = await serve(handler, server_tls)
    cert, key = authority.issue("alice")
    url = server.url.replace("localhost", "127.0.0.1")
    async with AsyncClient(KubeConfig(url, authority.pem, False, cert, key, tls_server_name="localhost")) as client:
        assert await client.get(PODS, "x") == {"subject": "alice"}
    stranger = type(authority).make()
    async with AsyncClient(KubeConfig(server.url, stranger.pem, False, cert, key, source="f")) as client:
        with pytest.raises(ConnectionFailed, match=r"certificate of .* is not trusted .*: f belongs to") as caught:
            await client.get(PODS, "x")
    assert caught.value.reason == "tls"


async def test_a_token_file_is_read_again_when_it_changes(serve, tmp_path):
    server = await serve(echo)
    token = tmp_path / "token"
    token.write_text("one")
    async with AsyncClient(KubeConfig(server.url, token_file=str(token))) as client:
        assert (await client.get(PODS, "x"))["auth"] == "Bearer one"
        token.write_text("second")
        assert (await client.get(PODS, "x"))["auth"] == "Bearer second"


async def test_watch_events_of_any_size_and_split(serve, watch_answer):
    async def handler(request):
        watch = await watch_answer(request)
        await watch.event("ADDED", {"n": "x" * 3_000_000})
        line = json.dumps({"type": "MODIFIED", "object": {"n": "x"}}).encode()
        for piece in (line[:10], line[10:], b"\n" + line + b"\n\n" + line + b"\n"):
            await watch.response.write(piece)
            await asyncio.sleep(0.01)
        return watch.response

    server = await serve(handler)
    async with AsyncClient(server.config) as client:
        events = await collect(
            client, PODS, "ns", "7", label_selector="a", field_selector="b=c", timeout=9, bookmarks="true"
        )
    assert [(event["type"], len(event["object"]["n"])) for event in events] == [
        ("ADDED", 3_000_000),
        ("MODIFIED", 1),
        ("MODIFIED", 1),
        ("MODIFIED", 1),
    ]
    assert server.requests == [
        "GET /api/v1/namespaces/ns/pods?watch=true&resourceVersion=7&labelSelector=a&fieldSelector=b%3Dc"
        "&timeoutSeconds=9&allowWatchBookmarks=true"
    ]


@pytest.mark.parametrize("line", [b"x" * (4 * 1024 * 1024 + 1), b"[1]\n", b"{\n", b'{"type": "ADDED"}\n'])
async def test_watch_lines_that_are_no_events(serve, watch_answer, line):
    async def handler(request):
        watch = await watch_answer(request)
        await watch.response.write(line)
        await asyncio.sleep(5)
        return watch.response

    async with AsyncClient((await serve(handler)).config) as client:
        with pytest.raises(ConnectionFailed):
            await collect(client, PODS)


async def test_watch_of_an_old_resource_version(serve, watch_answer, status_answer):
    async def handler(request):
        if "resourceVersion=1" in request.raw_path:
            return status_answer(410, "Expired")
        watch = await watch_answer(request)
        await watch.event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})
        return watch.response

    async with AsyncClient((await serve(handler)).config) as client:
        for version in ("1", "2"):
            with pytest.raises(StatusError) as caught:
                await collect(client, PODS, None, version)
            assert caught.value.code == 410


async def test_a_frozen_watch_meets_its_deadline(serve, watch_answer):
    async def handler(request):
        watch = await watch_answer(request)
        await watch.event("ADDED", {})
        await asyncio.sleep(10)
        return watch.response

    async with AsyncClient((await serve(handler)).config, watch_margin=0.1) as client:
        with pytest.raises(ConnectionFailed, match="no answer") as caught:
            await collect(client, PODS, timeout=0.1)
    assert caught.value.reason == "timeout"


@pytest.mark.parametrize("how", ["abort", "close"])
async def test_a_broken_watch_is_not_taken_for_one_that_ended(serve, watch_answer, how):
    async def handler(request):
        watch = await watch_answer(request)
        await watch.event("ADDED", {})
        getattr(request.transport, how)()
        return watch.response

    async with AsyncClient((await serve(handler)).config) as client:
        with pytest.raises(ConnectionFailed) as caught:
            await collect(client, PODS)
    assert caught.value.reason == "lost"
