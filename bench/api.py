"""The API server alone, under the client of our controllers: each verb, lists, watchers, memory.

The same load runs against a peer (a kube-apiserver with its etcd, say) where BENCH_PEER_KUBECONFIG names its
kubeconfig.
Objects are ConfigMaps of 4 KB, which no controller of either server does anything with.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from bench import processes
from kube.client.aio import AsyncClient
from kube.client.config import load_kubeconfig
from kube.machinery.resources import CONFIGMAPS, NAMESPACES
from solo.testing import run_server

NAMESPACE = "bench"
OBJECT_BYTES = 4000
ONE_BY_ONE = 400
MANY = 3000
WORKERS = 16
LISTS = 20
SMALL_LIST, LARGE_LIST = 1000, 5000
WATCHERS = 50
CHANGES = 100
CONFIGMAP_PATH = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
_JSON = {"Content-Type": "application/json"}
_MERGE = {"Content-Type": "application/merge-patch+json"}


@dataclass(slots=True)
class Figures:
    """What one server was measured at, by row: milliseconds of single requests, requests a second, MiB."""

    p50: dict[str, float] = field(default_factory=dict)
    p99: dict[str, float] = field(default_factory=dict)
    rate: dict[str, float] = field(default_factory=dict)


def body(name: str, mark: int = 0) -> bytes:
    meta = {"name": name, "namespace": NAMESPACE, "labels": {"app": "bench"}}
    data = {"mark": str(mark), "filling": "x" * OBJECT_BYTES}
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}).encode()


class Load:
    """The requests, one after another or many at once, on one client."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self.figures = Figures()

    async def run(self) -> Figures:
        await self._client.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
        try:
            await self._verbs()
            await self._lists()
            await self._watchers()
        finally:
            await self._client.delete(NAMESPACES, NAMESPACE)
        return self.figures

    async def _verbs(self) -> None:
        client = self._client

        async def create(index: int) -> None:
            await client.raw("POST", CONFIGMAP_PATH, body(f"one-{index}"), _JSON)

        async def get(index: int) -> None:
            await client.raw("GET", f"{CONFIGMAP_PATH}/one-{index}")

        async def update(index: int) -> None:
            await client.raw("PUT", f"{CONFIGMAP_PATH}/one-{index}", body(f"one-{index}", 1), _JSON)

        async def patch(index: int) -> None:
            await client.raw("PATCH", f"{CONFIGMAP_PATH}/one-{index}", b'{"data":{"mark":"2"}}', _MERGE)

        async def delete(index: int) -> None:
            await client.raw("DELETE", f"{CONFIGMAP_PATH}/one-{index}")

        for what, call in {"create": create, "get": get, "update": update, "patch": patch, "delete": delete}.items():
            await self._single(what, call)
            await self._at_once(what, call)

    async def _single(self, what: str, call: Callable[[int], Awaitable[object]], number: int = ONE_BY_ONE) -> None:
        times = []
        for index in range(number):
            began = time.perf_counter()
            await call(index)
            times.append(time.perf_counter() - began)
        self._note(what, times)

    def _note(self, what: str, times: list[float]) -> None:
        ordered = sorted(times)
        self.figures.p50[what] = 1000 * statistics.median(ordered)
        self.figures.p99[what] = 1000 * ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))]

    async def _at_once(self, what: str, call: Callable[[int], Awaitable[None]]) -> None:
        numbers = iter(range(ONE_BY_ONE, ONE_BY_ONE + MANY))

        async def work() -> None:
            for index in numbers:
                await call(index)

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(WORKERS)))
        self.figures.rate[what] = MANY / (time.perf_counter() - began)

    async def _lists(self) -> None:
        for number in (SMALL_LIST, LARGE_LIST):
            await self._fill(number)
            await self._single(f"list of {number:,}", lambda _: self._client.raw("GET", CONFIGMAP_PATH), LISTS)

    async def _fill(self, number: int) -> None:
        there = len((await self._client.list(CONFIGMAPS, NAMESPACE, label_selector="app=bench"))["items"])
        numbers = iter(range(there, number))

        async def work() -> None:
            for index in numbers:
                await self._client.raw("POST", CONFIGMAP_PATH, body(f"listed-{index}"), _JSON)

        await asyncio.gather(*(work() for _ in range(WORKERS)))

    async def _watchers(self) -> None:
        """From the PATCH of one object until the last of all watchers has the event."""
        version = (await self._client.list(CONFIGMAPS, NAMESPACE, limit=1))["metadata"]["resourceVersion"]
        seen: asyncio.Queue[str] = asyncio.Queue()

        async def follow() -> None:
            async with aclosing(self._client.watch(CONFIGMAPS, NAMESPACE, version, timeout=300)) as events:
                async for event in events:
                    seen.put_nowait(event["object"]["data"].get("mark", ""))

        tasks = [asyncio.create_task(follow()) for _ in range(WATCHERS)]
        times = []
        try:
            for change in range(CHANGES + 1):
                began = time.perf_counter()
                patch = json.dumps({"data": {"mark": f"w{change}"}}).encode()
                await self._client.raw("PATCH", f"{CONFIGMAP_PATH}/listed-0", patch, _MERGE)
                for _ in range(WATCHERS):
                    if await asyncio.wait_for(seen.get(), 30) != f"w{change}":
                        raise RuntimeError("a watcher saw another change than the last")
                times.append(time.perf_counter() - began)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._note(f"change → seen by {WATCHERS} watchers", times[1:])  # the first one waits for the connections


async def _measure(kubeconfig: str) -> Figures:
    async with AsyncClient(load_kubeconfig(kubeconfig)) as client:
        return await Load(client).run()


def rows() -> list[tuple[str, str, str]]:
    """Measure a server of our own, and the peer if there is one: what, our value, the peer's and the ratio."""
    peer_kubeconfig = os.environ.get("BENCH_PEER_KUBECONFIG")
    with tempfile.TemporaryDirectory() as directory:
        began = time.perf_counter()
        with run_server(Path(directory)) as server:
            ready = time.perf_counter() - began
            at_rest = processes.pss(server.process.pid) / (1 << 20)
            ours = asyncio.run(_measure(str(server.kubeconfig)))
            after = processes.pss(server.process.pid) / (1 << 20)
    peer = asyncio.run(_measure(peer_kubeconfig)) if peer_kubeconfig else None
    found = [
        ("`python -m solo` → API ready", f"{ready:.2f} s", ""),
        ("memory of the server (PSS), empty", f"{at_rest:.0f} MiB", ""),
        (f"the same after this load, {LARGE_LIST:,} objects of 4 KB", f"{after:.0f} MiB", ""),
    ]
    for what, value in ours.p50.items():
        text = f"p50 {value:.2f} ms, p99 {ours.p99[what]:.2f} ms"
        found.append((f"API: {what}", text, _against(peer and peer.p50[what], value, "ms, p50")))
    for what, value in ours.rate.items():
        against = _against(peer and peer.rate[what], value, "/s")
        found.append((f"API: {what}, {WORKERS} at once", f"{value:.0f}/s", against))
    return found


def _against(theirs: float | None, ours: float, unit: str) -> str:
    return f"peer {theirs:.2f} {unit}: {ours / theirs:.2f} ×" if theirs else ""
