"""A small API server and an agent against it, for the tests of the agent: a stand-in for a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from pathlib import Path

from aiohttp import web

from kube.client.aio import AsyncClient
from kube.client.config import KubeConfig
from kube.machinery.patch import merge_patch
from solo.node import procfs
from solo.node.agent import NodeAgent


class Api:
    """Objects by URL, list, watch, merge patch, and pods that are only marked when they are deleted."""

    def __init__(self) -> None:
        self.objects: dict[str, dict] = {}
        self.version = 0
        self.writes: list[tuple[str, str, dict]] = []
        self.watchers: list[tuple[str, asyncio.Queue]] = []
        self.port = 0

    @contextlib.asynccontextmanager
    async def serve(self):
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            await runner.cleanup()

    def changed(self, kind: str, path: str, obj: dict) -> None:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        for prefix, queue in self.watchers:
            if prefix == path.split("/")[-2]:
                queue.put_nowait({"type": kind, "object": json.loads(json.dumps(obj))})

    def put(self, path: str, obj: dict) -> dict:
        kind = "MODIFIED" if path in self.objects else "ADDED"
        obj["metadata"].setdefault("uid", str(uuid.uuid4()))
        self.objects[path] = obj
        self.changed(kind, path, obj)
        return obj

    def remove(self, path: str) -> None:
        if (obj := self.objects.pop(path, None)) is not None:
            self.changed("DELETED", path, obj)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        body = json.loads(await request.read() or b"null")
        if request.method == "POST" and path.endswith("/token"):
            status = {"token": "secret-token", "expirationTimestamp": "2099-01-01T00:00:00Z"}
            return web.json_response({"status": status}, status=201)
        if request.method != "GET":
            self.writes.append((request.method, path, body))
        if request.method == "POST":
            name = f"{path}/{body['metadata']['name']}"
            if name in self.objects:
                return self.failure(409, "AlreadyExists")
            return web.json_response(self.put(name, body), status=201)
        own = path.removesuffix("/status")
        if own in self.objects:
            return self.one(request.method, own, body)
        plural = path.split("/")[-1]
        if request.method == "GET" and plural in ("pods", "nodes", "services"):
            if request.query.get("watch"):
                return await self.watch(request, plural)
            items = [obj for name, obj in self.objects.items() if name.split("/")[-2] == plural]
            return web.json_response(
                {"kind": "List", "metadata": {"resourceVersion": str(self.version)}, "items": items}
            )
        return self.failure(404, "NotFound")

    def one(self, method: str, path: str, body: dict) -> web.Response:
        obj = self.objects[path]
        if method == "PATCH":
            obj = self.put(path, merge_patch(obj, body))
        elif method == "DELETE":
            if (body or {}).get("gracePeriodSeconds") == 0:
                self.remove(path)
            else:
                self.mark_deleted(path)
        return web.json_response(obj)

    def mark_deleted(self, path: str, grace: int = 30) -> None:
        meta = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace}
        self.put(path, merge_patch(self.objects[path], {"metadata": meta}))

    async def watch(self, request: web.Request, plural: str) -> web.StreamResponse:
        queue: asyncio.Queue = asyncio.Queue()
        self.watchers.append((plural, queue))
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(json.dumps(await queue.get()).encode() + b"\n")

    @staticmethod
    def failure(code: int, reason: str) -> web.Response:
        return web.json_response({"kind": "Status", "code": code, "reason": reason, "message": reason}, status=code)

    def pod(
        self, name: str, *command: str, container: dict | None = None, annotations: dict | None = None, **spec
    ) -> str:
        path = f"/api/v1/namespaces/default/pods/{name}"
        entry = {"name": "c", "image": "host", "command": list(command), **(container or {})}
        self.put(
            path,
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": "default", "annotations": annotations or {}},
                "spec": {
                    "nodeName": "me",
                    "restartPolicy": "Always",
                    "automountServiceAccountToken": False,
                    "containers": [entry],
                    **spec,
                },
                "status": {"phase": "Pending"},
            },
        )
        return path

    def events(self, reason: str) -> list[str]:
        return [body["message"] for method, _, body in self.writes if method == "POST" and body.get("reason") == reason]

    def status(self, path: str) -> dict:
        return self.objects[path].get("status") or {}

    def state(self, path: str) -> dict:
        return (self.status(path).get("containerStatuses") or [{"state": {}}])[0]["state"]


async def until(condition, timeout: float = 8.0):
    """Wait until `condition()` is true and return it."""
    async with asyncio.timeout(timeout):
        while not (value := condition()):
            await asyncio.sleep(0.005)
    return value


@contextlib.asynccontextmanager
async def running_agent(api: Api, root: Path):
    server = f"http://127.0.0.1:{api.port}"
    async with AsyncClient(KubeConfig(server)) as client:
        agent = NodeAgent(client, "me", root, server, b"CA")
        task = asyncio.create_task(agent.run())
        try:
            yield agent
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def marked(root: Path) -> list[int]:
    """All processes of all pods under `root`."""
    found = []
    for pid in procfs.pids():
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        stat = procfs.read_stat(pid)
        if f"{procfs.MARKER}={root.resolve()}/".encode() in environ and stat and not stat.dead:
            found.append(pid)
    return found
