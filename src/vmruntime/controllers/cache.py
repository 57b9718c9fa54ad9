"""A watched copy of one kind that a controller can trust after its own writes, and that can be switched on and off.

An informer lags behind: right after a write it still shows the old object, and a decision made on that would repeat
the step just taken. So the answer of a write is kept until the watch has caught up with it. The kinds of VMs exist
only while the runtime is enabled or objects of them do, hence the switch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from kube.client.aio import AsyncClient
from kube.client.informer import Informer
from kube.machinery.resources import Resource
from vmruntime.api.meta import Obj, dig, name_of, namespace_of, uid_of

_log = logging.getLogger(__name__)

Handler = Callable[[str, Obj, Obj | None], None]
Key = tuple[str, str]


def version(obj: Obj) -> int:
    """The resource version as a number (Kubernetes orders them since 1.35; solo always does)."""
    text = str(dig(obj, "metadata", "resourceVersion", default="0"))
    return int(text) if text.isdigit() else 0


class Cache:
    """All objects of one kind, in one namespace or in all."""

    def __init__(
        self, client: AsyncClient, resource: Resource, namespace: str | None = None, label_selector: str | None = None
    ) -> None:
        self.resource = resource
        self._client = client
        self._namespace = namespace
        self._label_selector = label_selector
        self._handlers: list[Handler] = []
        self._written: dict[Key, Obj] = {}
        self._informer: Informer | None = None
        self._task: asyncio.Task[None] | None = None

    def add_handler(self, handler: Handler) -> None:
        """Call `handler(event, object, previous object)` for every change that the watch shows."""
        self._handlers.append(handler)

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Begin to watch; nothing happens if it does already."""
        if self.running:
            return
        self._written.clear()
        self._informer = Informer(
            self._client, self.resource, namespace=self._namespace, label_selector=self._label_selector
        )
        self._informer.add_handler(self._changed)
        self._task = asyncio.create_task(self._informer.run(), name=f"watch {self.resource.plural}")
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            _log.error("the watch on %s ended: %r", self.resource.plural, error)

    async def synced(self, timeout: float) -> bool:
        """Whether the first list is in, after waiting for it for at most `timeout` seconds."""
        if self._informer is None or not self.running:
            return False
        try:
            await self._informer.wait_synced(timeout)
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """Stop watching and forget what was seen. No handler is called for that."""
        task, self._task, self._informer = self._task, None, None
        self._written.clear()
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def get(self, namespace: str, name: str) -> Obj | None:
        """The newest object known, of the watch or of our own writes."""
        if self._informer is None:
            return None
        seen = self._informer.get(namespace, name)
        if seen is None:
            return None
        return self._newest(seen)

    def items(self) -> list[Obj]:
        if self._informer is None:
            return []
        return [self._newest(obj) for obj in self._informer.items()]

    def wrote(self, obj: Obj) -> None:
        """Remember the answer of a write until the watch has it."""
        key = (namespace_of(obj), name_of(obj))
        seen = self._informer.get(*key) if self._informer else None
        if seen is not None and uid_of(seen) == uid_of(obj) and version(obj) > version(seen):
            self._written[key] = obj

    def _newest(self, seen: Obj) -> Obj:
        written = self._written.get((namespace_of(seen), name_of(seen)))
        if written is not None and uid_of(written) == uid_of(seen) and version(written) > version(seen):
            return written
        return seen

    def _changed(self, event: str, obj: Obj, old: Obj | None) -> None:
        key = (namespace_of(obj), name_of(obj))
        written = self._written.get(key)
        if written is not None and (event == "DELETED" or version(obj) >= version(written)):
            del self._written[key]
        for handler in self._handlers:
            handler(event, obj, old)
