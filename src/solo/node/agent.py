"""The node agent: watches the pods of this machine and keeps one worker for each.

One informer on all pods serves: the cluster has one node, and the pods that it cannot take need a word as well.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

from kube.client.aio import AsyncClient
from kube.client.events import EventRecorder
from kube.client.informer import Informer
from kube.machinery.resources import NODES, PODS
from solo.http.streams import PodStreams
from solo.node import addresses, records, stray
from solo.node.cgroups import find_hierarchies
from solo.node.context import NodeContext
from solo.node.host import physical_memory
from solo.node.node_object import NodeRegistration
from solo.node.pod import PodWorker
from solo.node.streams import NodeStreams

log = logging.getLogger(__name__)

Obj = dict[str, Any]
_LOOK_SECONDS = 10.0
_CLOCK_STEP_SECONDS = 2.0
_SYNC_SECONDS = 300.0
_WORKER_RETRY = 5.0
_LEAVE_SECONDS = 4.0
"""How long the agent's end is put off for pods that are being removed: longer than their grace."""


class NodeAgent:
    """The agent of one node. Its processes outlive it; another one at the same `root` adopts them."""

    def __init__(self, client: AsyncClient, node_name: str, root: Path, api_server: str, ca_pem: bytes) -> None:
        """`root` is the directory of the pods; `api_server` and `ca_pem` are what pods get to reach the API."""
        root.mkdir(mode=0o711, parents=True, exist_ok=True)
        root.chmod(0o711)  # Processes of other users pass through to their own pod; the umask must not prevent it.
        self._context = NodeContext(
            client,
            EventRecorder(client, "kubelet"),
            node_name,
            root.resolve(),
            api_server,
            ca_pem,
            find_hierarchies(),
            physical_memory(),
        )
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._by_name: dict[tuple[str, str], str] = {}
        self._registration = NodeRegistration(client, node_name)

    @property
    def streams(self) -> PodStreams:
        """Logs, exec, attach and port-forward of the pods here."""
        return NodeStreams(self._find)

    def _find(self, namespace: str, name: str) -> PodWorker | None:
        return self._workers.get(self._by_name.get((namespace, name), ""))

    async def run(self) -> None:
        """Serve until cancelled. Pods go on running afterwards, and it may be called again."""
        pods, nodes = Informer(self._context.client, PODS), Informer(self._context.client, NODES)
        pods.add_handler(self._on_pod)
        nodes.add_handler(self._on_node)
        try:
            async with asyncio.TaskGroup() as group:
                for work in (
                    nodes.run(),
                    self._run_pods(pods, nodes),
                    self._registration.run(),
                    self._look_again(),
                    self._clear_strays(pods),
                ):
                    group.create_task(work)
        finally:
            await self._finish_leaving()
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            await self._context.drain()
            await self._context.log_keeper.close()

    async def _run_pods(self, pods: Informer, nodes: Informer) -> None:
        """Pods are looked at once it is known what the Node says of their addresses."""
        await _until_synced(nodes)
        await pods.run()

    async def _finish_leaving(self) -> None:
        """Pods whose objects are gone are nobody's: they are not left behind if it can be helped."""
        leaving = [self._tasks[uid] for uid, worker in self._workers.items() if worker.removed]
        if leaving:
            await asyncio.wait(leaving, timeout=_LEAVE_SECONDS)

    def _on_node(self, kind: str, node: Obj, _old: Obj | None) -> None:
        if node["metadata"]["name"] != self._context.node_name:
            return
        if kind == "DELETED":
            self._registration.node_deleted()
            return
        before, self._context.pod_network = self._context.pod_network, addresses.pod_network(node)
        if self._context.pod_network != before:
            for worker in self._workers.values():
                worker.look()

    def _on_pod(self, kind: str, pod: Obj, _old: Obj | None) -> None:
        uid = pod["metadata"]["uid"]
        node = pod["spec"].get("nodeName")
        if kind == "DELETED":
            if uid in self._workers:
                self._workers[uid].remove()
        elif uid in self._workers:
            self._workers[uid].update(pod)
        elif node == self._context.node_name:
            self._by_name[pod["metadata"]["namespace"], pod["metadata"]["name"]] = uid
            self._workers[uid] = PodWorker(self._context, pod)
            self._tasks[uid] = asyncio.create_task(self._work(uid, pod), name=f"pod {uid}")

    async def _work(self, uid: str, pod: Obj) -> None:
        """Keep the worker of one pod going until the pod is gone, whatever happens to it."""
        key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
        try:
            while True:
                try:
                    await self._workers[uid].run()
                    return
                except Exception:
                    log.exception("the worker of pod %s/%s failed and is started again", *key)
                await asyncio.sleep(_WORKER_RETRY)
                failed = self._workers[uid]
                self._workers[uid] = PodWorker(self._context, failed.pod)
                if failed.removed:
                    self._workers[uid].remove()
        finally:
            self._workers.pop(uid, None)
            self._tasks.pop(uid, None)
            if self._by_name.get(key) == uid:
                del self._by_name[key]

    async def _look_again(self) -> None:
        """What nothing tells of: logs where inotify cannot be had, and a clock that was set or a machine that slept."""
        ahead = time.time() - time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            before, ahead = ahead, time.time() - time.monotonic()
            for worker in self._workers.values():
                if abs(ahead - before) > _CLOCK_STEP_SECONDS:
                    worker.look()
                for container in worker.containers.values():
                    if container.running:
                        self._context.log_keeper.look(container.log)

    async def _clear_strays(self, pods: Informer) -> None:
        """Once all pods are known: end and remove what is left of pods that no longer exist."""
        await _until_synced(pods)
        known = {pod["metadata"]["uid"] for pod in pods.items()} | self._workers.keys()
        for directory in sorted(self._context.root.iterdir()):
            if directory.name not in known and directory.is_dir():
                log.info("pod %s no longer exists: ending its processes, removing its directory", directory.name)
                record = records.load(directory) or records.PodRecord(directory.name)
                try:
                    await stray.clear(directory, record, self._context.hierarchies)
                except OSError as error:
                    log.error("pod %s cannot be cleared away: %s", directory.name, error)


async def _until_synced(informer: Informer) -> None:
    while True:
        try:
            return await informer.wait_synced(_SYNC_SECONDS)
        except TimeoutError:
            continue
