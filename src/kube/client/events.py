"""Events: what `kubectl describe` shows of a controller's doings.

A repetition of the same event of the same object is not a new object but a higher `count` on the old one (client-go
`tools/record`, EventLogger). Recording is never allowed to fail the work that it reports on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from kube.client.aio import AsyncClient
from kube.client.verbs import Obj
from kube.machinery.durations import now_rfc3339
from kube.machinery.errors import StatusError
from kube.machinery.resources import EVENTS

log = logging.getLogger(__name__)

_REMEMBERED = 1000
_MAX_MESSAGE = 1024
"""Bytes, the API's limit (core/v1 validation of events)."""
_MAX_NAME = 236
"""Characters left for the object's name in an event's name of at most 253."""

_Identity = tuple[str, str, str, str]


@dataclass
class _Recorded:
    """An event that is in the API under `name`, seen `count` times; nothing yet when count is 0."""

    name: str = ""
    count: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class EventRecorder:
    """Writes events as `component`. For one event loop."""

    def __init__(self, client: AsyncClient, component: str) -> None:
        self._client = client
        self._component = component
        self._recorded: OrderedDict[_Identity, _Recorded] = OrderedDict()

    async def event(self, obj: Obj, type_: str, reason: str, message: str) -> None:
        """Record that `reason` (a CamelCase word) happened to `obj`; `type_` is Normal or Warning. Never raises.

        `obj` needs apiVersion, kind and metadata.
        """
        text = _cut(message)
        try:
            recorded = self._recall((str(obj["metadata"].get("uid", "")), type_, reason, text))
            async with recorded.lock:
                if recorded.count == 0 or not await self._repeat(obj, recorded):
                    await self._create(obj, type_, reason, text, recorded)
        except Exception as exc:
            log.warning("event %s of %s not recorded: %s", reason, obj.get("kind"), exc)

    def _recall(self, identity: _Identity) -> _Recorded:
        recorded = self._recorded.setdefault(identity, _Recorded())
        self._recorded.move_to_end(identity)
        if len(self._recorded) > _REMEMBERED:
            self._recorded.popitem(last=False)
        return recorded

    async def _repeat(self, obj: Obj, recorded: _Recorded) -> bool:
        """Count the event up; False when it is gone from the API, where events live for an hour or so."""
        patch = {"count": recorded.count + 1, "lastTimestamp": now_rfc3339()}
        try:
            await self._client.patch(EVENTS, recorded.name, patch, _namespace(obj))
        except StatusError as exc:
            if exc.code != 404:
                raise
            return False
        recorded.count += 1
        return True

    async def _create(self, obj: Obj, type_: str, reason: str, text: str, recorded: _Recorded) -> None:
        meta = obj["metadata"]
        name = f"{meta['name'][:_MAX_NAME]}.{time.time_ns():x}"
        namespace = _namespace(obj)
        now = now_rfc3339()
        involved = {"kind": obj["kind"], "apiVersion": obj["apiVersion"], "name": meta["name"]}
        involved |= {key: meta[key] for key in ("namespace", "uid", "resourceVersion") if meta.get(key)}
        event: Obj = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": involved,
            "type": type_,
            "reason": reason,
            "message": text,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": "",
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "eventTime": None,
        }
        await self._client.create(EVENTS, event)
        recorded.name, recorded.count = name, 1


def _namespace(obj: Obj) -> str:
    """Where an object's events live: those of cluster-scoped objects in `default`, as in Kubernetes."""
    return obj["metadata"].get("namespace") or "default"


def _cut(message: str) -> str:
    encoded = message.encode("utf-8", "replace")
    if len(encoded) <= _MAX_MESSAGE:
        return message
    return encoded[: _MAX_MESSAGE - 3].decode("utf-8", "ignore") + "..."
