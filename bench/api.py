"""The API server alone, under the client of our controllers: each verb, lists, watchers, memory.

The same load runs against a peer: the kube-apiserver and etcd that `make bench-peer` builds, where they are there, or a
server elsewhere whose kubeconfig BENCH_PEER_KUBECONFIG names (of which neither start nor memory can be measured).
Objects are ConfigMaps of 4 KB, which no controller of either server does anything with.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import signal
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import chain, product
from pathlib import Path

from bench import processes
from bench.peer import run_peer
from kube.client.aio import AsyncClient
from kube.client.config import load_kubeconfig
from kube.machinery.resources import CONFIGMAPS, NAMESPACES
from solo.testing import run_server

NAMESPACE = "bench"
OBJECT_BYTES = 4000
TURNS = 5
"""Each server gets so many turns at each row, one after the other: what else the machine does meets them alike."""
WARM_UP = 100
"""Requests before each turn that are not measured: of a server that was stopped during the other's."""
ONE_BY_ONE, MANY = 300, 600
"""Requests of a turn, one after another and by all workers."""
WORKERS = 16
LISTS = 4
"""Of a turn."""
VERBS = ("create", "get", "update", "patch", "delete")
SMALL_LIST, LARGE_LIST = 1000, 5000
WATCHERS = 50
CHANGES = 60
"""Of a turn."""
IDLE, IDLE_STEP = 2000, 50
BESIDE = 60
"""Requests of a turn."""
PEER = Path(".cache/peer")
MIB = 1 << 20
CONFIGMAP_PATH = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
_JSON = {"Content-Type": "application/json"}
_MERGE = {"Content-Type": "application/merge-patch+json"}


@dataclass(slots=True)
class Figures:
    """What one server was measured at, by row: milliseconds of single requests, requests a second.

    Start in seconds, memory in MiB before and after the load and with idle watches, where its processes are ours.
    """

    p50: dict[str, float] = field(default_factory=dict)
    p99: dict[str, float] = field(default_factory=dict)
    rate: dict[str, float] = field(default_factory=dict)
    start: float = 0.0
    rest: float = 0.0
    full: float = 0.0
    idle: float = 0.0


def body(name: str, mark: int = 0) -> bytes:
    meta = {"name": name, "namespace": NAMESPACE, "labels": {"app": "bench"}}
    data = {"mark": str(mark), "filling": "x" * OBJECT_BYTES}
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}).encode()


class Load:
    """The requests, one after another or many at once, on one client."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self.figures = Figures()
        self._filled = 0
        self._times: dict[str, list[float]] = {}
        self._spent: dict[str, list[float]] = {}

    async def prepare(self) -> None:
        await self._client.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})

    async def clean_up(self) -> None:
        await self._client.delete(NAMESPACES, NAMESPACE)

    async def warm_up(self) -> None:
        for _ in range(WARM_UP):
            await self._client.raw("GET", "/version")

    async def verb(self, what: str, turn: int) -> None:
        """One turn; the last one's figures are those of all."""
        call = getattr(self, f"_{what}")
        first = turn * (ONE_BY_ONE + MANY)
        await self._single(what, call, range(first, first + ONE_BY_ONE))
        await self._at_once(what, call, range(first + ONE_BY_ONE, first + ONE_BY_ONE + MANY))

    async def _create(self, index: int) -> None:
        await self._client.raw("POST", CONFIGMAP_PATH, body(f"one-{index}"), _JSON)

    async def _get(self, index: int) -> None:
        await self._client.raw("GET", f"{CONFIGMAP_PATH}/one-{index}")

    async def _update(self, index: int) -> None:
        await self._client.raw("PUT", f"{CONFIGMAP_PATH}/one-{index}", body(f"one-{index}", 1), _JSON)

    async def _patch(self, index: int) -> None:
        await self._client.raw("PATCH", f"{CONFIGMAP_PATH}/one-{index}", b'{"data":{"mark":"2"}}', _MERGE)

    async def _delete(self, index: int) -> None:
        await self._client.raw("DELETE", f"{CONFIGMAP_PATH}/one-{index}")

    async def _single(self, what: str, call: Callable[[int], Awaitable[object]], numbers: range) -> None:
        times = []
        for index in numbers:
            began = time.perf_counter()
            await call(index)
            times.append(time.perf_counter() - began)
        self._note(what, times)

    def _note(self, what: str, times: list[float]) -> None:
        """Figures of `times` and of those that were noted of the same before."""
        noted = self._times.setdefault(what, [])
        noted += times
        ordered = sorted(noted)
        self.figures.p50[what] = 1000 * statistics.median(ordered)
        self.figures.p99[what] = 1000 * ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))]

    async def _at_once(self, what: str, call: Callable[[int], Awaitable[None]], numbers: range) -> None:
        left = iter(numbers)

        async def work() -> None:
            for index in left:
                await call(index)

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(WORKERS)))
        spent = self._spent.setdefault(what, [])
        spent.append(time.perf_counter() - began)
        self.figures.rate[what] = MANY * len(spent) / sum(spent)

    async def list_of(self, number: int) -> None:
        """A turn of lists of so many objects."""
        await self._fill(number)
        await self._single(f"list of {number:,}", lambda _: self._client.raw("GET", CONFIGMAP_PATH), range(LISTS))

    async def _fill(self, number: int) -> None:
        numbers = iter(range(self._filled, number))
        self._filled = number

        async def work() -> None:
            for index in numbers:
                await self._client.raw("POST", CONFIGMAP_PATH, body(f"listed-{index}"), _JSON)

        await asyncio.gather(*(work() for _ in range(WORKERS)))

    async def watchers(self) -> None:
        """A turn: from the PATCH of one object until the last of all watchers has the event."""
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

    async def beside_watches(self, turn: int) -> None:
        async def create(index: int) -> None:
            await self._client.raw("POST", CONFIGMAP_PATH, body(f"beside-{index}"), _JSON)

        numbers = range(turn * BESIDE, (turn + 1) * BESIDE)
        await self._single(f"create beside {IDLE:,} idle watches", create, numbers)

    @asynccontextmanager
    async def idle_watches(self) -> AsyncIterator[None]:
        """Watches that see nothing of what is created; yields when all are open."""
        meta = {"name": "lonely", "labels": {"app": "lonely"}}
        await self._client.create(CONFIGMAPS, {"metadata": meta}, NAMESPACE)
        opened = asyncio.Queue[None]()

        async def follow() -> None:
            events = self._client.watch(CONFIGMAPS, NAMESPACE, None, label_selector="app=lonely", timeout=600)
            async with aclosing(events):
                async for _ in events:
                    opened.put_nowait(None)

        tasks: list[asyncio.Task[None]] = []
        try:
            # Some at a time, as thousands of handshakes at once outlast the client's patience.
            for _ in range(0, IDLE, IDLE_STEP):
                tasks += [asyncio.create_task(follow()) for _ in range(IDLE_STEP)]
                for _ in range(IDLE_STEP):
                    await asyncio.wait_for(opened.get(), 60)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True, eq=False)
class Server:
    """What the load is put on; no processes and no start where it is somebody else's."""

    kubeconfig: str
    pids: list[int] = field(default_factory=list)
    start: float = 0.0

    def memory(self) -> float:
        """MiB."""
        return sum(processes.pss(pid) for pid in self.pids) / MIB


def _signal(servers: Iterable[Server], number: signal.Signals) -> None:
    for pid in chain.from_iterable(server.pids for server in servers):
        os.kill(pid, number)


@asynccontextmanager
async def _turn(loads: dict[Server, Load], server: Server) -> AsyncIterator[Load]:
    """The load of `server` while the other servers are stopped, as its peer has no part in a server's time.

    The client collects no garbage meanwhile, as with timeit.
    """
    others = [other for other in loads if other is not server]
    _signal(others, signal.SIGSTOP)
    gc.collect()
    gc.disable()
    try:
        await loads[server].warm_up()
        yield loads[server]
    finally:
        gc.enable()
        _signal(others, signal.SIGCONT)


async def _measure(servers: list[Server]) -> list[Figures]:
    """Put the load on each of them, in turns."""
    async with AsyncExitStack() as stack:
        loads: dict[Server, Load] = {}
        for server in servers:
            client = await stack.enter_async_context(AsyncClient(load_kubeconfig(server.kubeconfig)))
            loads[server] = load = Load(client)
            load.figures.start, load.figures.rest = server.start, server.memory()
            await load.prepare()
            stack.push_async_callback(load.clean_up)
        for what, turn, server in product(VERBS, range(TURNS), servers):
            async with _turn(loads, server) as load:
                await load.verb(what, turn)
        for number, _, server in product((SMALL_LIST, LARGE_LIST), range(TURNS), servers):
            async with _turn(loads, server) as load:
                await load.list_of(number)
        for _, server in product(range(TURNS), servers):
            async with _turn(loads, server) as load:
                await load.watchers()
        for server, load in loads.items():
            load.figures.full = server.memory()
            await stack.enter_async_context(load.idle_watches())
            load.figures.idle = server.memory()
        for turn, server in product(range(TURNS), servers):
            async with _turn(loads, server) as load:
                await load.beside_watches(turn)
        return [load.figures for load in loads.values()]


@contextmanager
def _ours() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as directory:
        began = time.perf_counter()
        with run_server(Path(directory)) as server:
            yield Server(str(server.kubeconfig), [server.process.pid], time.perf_counter() - began)


@contextmanager
def _peers() -> Iterator[list[Server]]:
    """One or none."""
    if kubeconfig := os.environ.get("BENCH_PEER_KUBECONFIG"):
        yield [Server(kubeconfig)]
    elif (PEER / "kube-apiserver").exists():
        with tempfile.TemporaryDirectory() as directory, run_peer(PEER.absolute(), Path(directory)) as peer:
            yield [Server(str(peer.kubeconfig), peer.pids, peer.ready_seconds)]
    else:
        yield []


def rows() -> list[tuple[str, str, str]]:
    """Measure a server of our own, and the peer if there is one: what, our value, the peer's and the ratio."""
    # A socket for each idle watch.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with _ours() as server, _peers() as peers:
        ours, *others = asyncio.run(_measure([server, *peers]))
    peer = others[0] if others else None
    found = [
        ("`python -m solo` → API ready", f"{ours.start:.2f} s", _against(peer and peer.start, ours.start, "s")),
        ("memory of the server (PSS), empty", f"{ours.rest:.0f} MiB", _against(peer and peer.rest, ours.rest, "MiB")),
        (
            f"the same after this load, {LARGE_LIST:,} objects of 4 KB",
            f"{ours.full:.0f} MiB",
            _against(peer and peer.full, ours.full, "MiB"),
        ),
        (
            f"the same with {IDLE:,} idle watches beside",
            f"{ours.idle:.0f} MiB",
            _against(peer and peer.idle, ours.idle, "MiB"),
        ),
    ]
    for what, p50 in ours.p50.items():
        p99 = ours.p99[what]
        against = ""
        if peer:
            ratios = f"{p50 / peer.p50[what]:.2f} and {p99 / peer.p99[what]:.2f} ×"
            against = f"peer p50 {peer.p50[what]:.2f} ms, p99 {peer.p99[what]:.2f} ms: {ratios}"
        found.append((f"API: {what}", f"p50 {p50:.2f} ms, p99 {p99:.2f} ms", against))
    for what, rate in ours.rate.items():
        found.append(
            (f"API: {what}, {WORKERS} at once", f"{rate:.0f}/s", _against(peer and peer.rate[what], rate, "/s"))
        )
    return found


def _against(theirs: float | None, ours: float, unit: str) -> str:
    return f"peer {theirs:.4g} {unit}: {ours / theirs:.2f} ×" if theirs else ""
