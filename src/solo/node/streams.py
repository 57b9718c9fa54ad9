"""Logs, exec, attach and port-forward of this node's pods: `solo.http.streams.PodStreams`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from kube.machinery.errors import StatusError, bad_request, internal, not_found
from kube.machinery.podports import reached_at
from solo.http.streams import STDOUT, Excerpt, ExecSession, LogOptions
from solo.node import exec as execution
from solo.node import logs
from solo.node.container import Container
from solo.node.environment import ConfigError
from solo.node.launch import LaunchError
from solo.node.pod import PodWorker

_CONNECT_SECONDS = 10.0


class NodeStreams:
    """The streams of the pods that `find` (namespace, name) knows."""

    def __init__(self, find: Callable[[str, str], PodWorker | None]) -> None:
        self._find = find

    async def open_log(self, namespace: str, pod: str, options: LogOptions) -> AsyncIterator[bytes]:
        """The log of the present or latest run, or with `previous` of the one before. Raises 400 when there is none."""
        container = self._container(namespace, pod, options.container)
        record = container.record
        # While it waits to be restarted, the run that just ended is the previous one: it is the status' lastState.
        between = not record.pid and container.waiting is not None
        run = record.restarts - 1 if options.previous and not between else record.restarts
        if run < 0:
            raise bad_request(f'previous terminated container "{container.name}" in pod "{pod}" not found')
        if not record.started_at and not options.previous:
            reason = container.waiting[0] if container.waiting else "ContainerCreating"
            raise bad_request(f'container "{container.name}" in pod "{pod}" is waiting to start: {reason}')
        follow = options.follow and not options.previous
        try:
            path = logs.log_path(container.directory.parent, container.name, run)
            reader = logs.LogReader(path, options.excerpt)
        except FileNotFoundError:
            raise bad_request(f'the log of container "{container.name}" in pod "{pod}" is no longer there') from None
        return reader.stream(container.ended.wait if follow else None)

    def check_running(self, namespace: str, pod: str, container: str) -> None:
        """Raises 404 or 400 unless the container is there and runs."""
        self._running(namespace, pod, container)

    async def exec(
        self, namespace: str, pod: str, container: str, command: Sequence[str], *, tty: bool, stdin: bool
    ) -> ExecSession:
        """Run `command` beside a running container."""
        worker = self._worker(namespace, pod)
        target = self._running(namespace, pod, container)
        if not command:
            raise bad_request("you must specify at least one command for the container")
        try:
            plan = await worker.beside.plan(target, list(command))
            return await execution.start(plan, terminal=tty, stdin=stdin)
        except (LaunchError, ConfigError, OSError) as error:
            raise internal(f"error executing command in container: {error}") from error

    async def attach(self, namespace: str, pod: str, container: str, *, tty: bool, stdin: bool) -> ExecSession:
        """Follow a running container's output. It has no input and no terminal to attach to."""
        target = self._running(namespace, pod, container)
        if stdin or tty:
            raise bad_request("containers have no standard input here; use kubectl exec -it, or attach without -i")
        reader = logs.LogReader(target.log, Excerpt(tail_lines=0))
        return _Attachment(reader.stream(target.ended.wait), target)

    async def port_forward(
        self, namespace: str, pod: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a port of the pod."""
        self._running(namespace, pod, "")
        worker = self._worker(namespace, pod)
        address = worker.planner.addresses.pod
        if not address:
            raise bad_request(f"pod {namespace}/{pod} has no address: it is not on the node's pod network")
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                return await asyncio.open_connection(address, reached_at(worker.pod, address, port))
        except (OSError, TimeoutError) as error:
            raise internal(f"failed to connect to port {port} of pod {namespace}/{pod}: {error}") from error

    def _worker(self, namespace: str, pod: str) -> PodWorker:
        worker = self._find(namespace, pod)
        if worker is None:
            raise not_found("pods", pod)
        return worker

    def _container(self, namespace: str, pod: str, name: str) -> Container:
        worker = self._worker(namespace, pod)
        ordinary = [container for container in worker.containers.values() if not container.init]
        if name:
            found = worker.containers.get(name)
        else:
            wanted = (worker.pod["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
            found = worker.containers.get(wanted, ordinary[0]) if wanted else ordinary[0]
        if found is None:
            raise bad_request(f"container {name} is not valid for pod {pod}")
        return found

    def _running(self, namespace: str, pod: str, name: str) -> Container:
        container = self._container(namespace, pod, name)
        if not container.running:
            message = f'container not found ("{container.name}"): it is not running in pod {pod}'
            raise StatusError(404, "NotFound", message)
        return container


class _Attachment:
    """Follows a container's output; implements `ExecSession`. It never touches the container itself."""

    def __init__(self, stream: AsyncIterator[bytes], container: Container) -> None:
        self._stream = stream
        self._container = container

    async def read(self) -> tuple[int, bytes] | None:
        """The next output; None when the container has ended."""
        async for data in self._stream:
            return STDOUT, data
        return None

    async def write(self, data: bytes) -> None:
        """There is no input."""

    async def close_stdin(self) -> None:
        """There is no input."""

    async def resize(self, columns: int, rows: int) -> None:
        """There is no terminal."""

    async def wait(self) -> int:
        """The container's exit code."""
        await self._container.ended.wait()
        ended = self._container.record.terminated or self._container.record.last
        return ended.exit_code if ended else 0

    async def close(self) -> None:
        """Stop following."""
        close = getattr(self._stream, "aclose", None)
        if close is not None:
            await close()
