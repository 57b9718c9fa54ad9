"""The server's own clients: connections inside the process, with a user that no request can change."""

from __future__ import annotations

import asyncio
import contextlib
import json
from functools import partial

import pytest
from aiohttp import web

from kube.client.aio import AsyncClient
from kube.client.config import KubeConfig
from kube.client.errors import ConnectionFailed
from kube.machinery.resources import PODS
from solo.auth.user import CONTROLLER_MANAGER
from solo.http import inprocess
from solo.http.connections import Connection, Runner


@contextlib.asynccontextmanager
async def client_of(handle):
    runner = Runner(handle, 0.1)
    await runner.setup()
    accept = partial(runner.accept, CONTROLLER_MANAGER)
    config = KubeConfig(server=inprocess.URL, source="here")
    async with AsyncClient(config, connector=lambda: inprocess.InProcess(accept)) as client:
        try:
            yield client, runner
        finally:
            await runner.cleanup()


async def test_a_request_comes_from_the_user_of_its_connection():
    seen = []

    async def handle(request):
        assert isinstance(request.protocol, Connection)
        seen.append((request.protocol.user, request.method, request.raw_path, len(await request.read())))
        return web.Response(text=json.dumps({"kind": "Pod", "filling": "y" * 500_000}))

    async with client_of(handle) as (client, _):
        pod = {"metadata": {"name": "p", "namespace": "ns"}, "filling": "x" * 500_000}  # more than a socket holds
        answer = await client.create(PODS, pod)
        await client.get(PODS, "p", "ns")
    assert len(answer["filling"]) == 500_000
    assert [(user, method, path) for user, method, path, _ in seen] == [
        (CONTROLLER_MANAGER, "POST", "/api/v1/namespaces/ns/pods"),
        (CONTROLLER_MANAGER, "GET", "/api/v1/namespaces/ns/pods/p"),
    ]
    assert seen[0][3] > 500_000


async def test_connections_from_elsewhere_have_no_user_yet():
    async def handle(request):
        return web.Response()

    async with client_of(handle) as (_, runner):
        assert runner.server().user is None


async def test_watches_side_by_side_end_with_the_server():
    opened = asyncio.Semaphore(0)

    async def handle(request):
        answer = web.StreamResponse()
        await answer.prepare(request)
        opened.release()
        await asyncio.sleep(60)
        return answer

    async def follow(client):
        async for _ in client.watch(PODS, "ns", "1"):
            pass

    async with client_of(handle) as (client, runner):
        tasks = [asyncio.create_task(follow(client)) for _ in range(150)]
        async with asyncio.timeout(20):
            for _ in tasks:
                await opened.acquire()
            await runner.cleanup()
            for task in tasks:
                with pytest.raises(ConnectionFailed):
                    await task
