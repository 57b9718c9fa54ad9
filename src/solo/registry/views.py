"""Stored objects as the version of a request has them.

Built-in kinds are stored as they are served. An object of a custom resource is stored in the version that was the
storage version when it was last written, with the schema of that time. So it is brought up to date when it is read, as
kube-apiserver decodes what etcd has: pruned and defaulted by the schema of the version it is stored in, converted, and
pruned again by the schema of the version it is asked for. An object that was written after its definition, in the
version asked for, is up to date, and its bytes are served as they are. The others are kept as long as they are stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from solo.registry.calling import Caller, no_calls
from solo.registry.conversion import convert_by_webhook
from solo.registry.custom import CustomStrategy, Family
from solo.registry.kinds import Kind
from solo.registry.objects import copy, encode, without
from solo.store import Event, Stored

Obj = dict[str, Any]

BATCH = 500
"""Objects that are converted with one call of a webhook, as kube-apiserver reads lists in pages."""

_CONVERTIBLE = ("labels", "annotations")
"""What a webhook may change of an object's metadata."""


class Views:
    """Reads stored objects in the version of a kind, and brings objects into the version in which they are stored.

    `post` calls conversion webhooks; without it, they fail.
    """

    def __init__(self, post: Caller = no_calls) -> None:
        self._post = post

    async def one(self, kind: Kind, stored: Stored) -> Stored:
        """One object. Raises StatusError when it cannot be converted."""
        return stored if current(kind, stored) else (await self.all(kind, [stored]))[0]

    def next(self, kind: Kind, shown: Stored, stored: Stored) -> Stored:
        """What `shown`, a view of an object, is like after a step that changed only metadata of the server's own.

        No webhook is asked: what has been stored already cannot fail any more for want of an answer.
        """
        if current(kind, stored):
            return stored
        mine = {name: shown.obj["metadata"][name] for name in _CONVERTIBLE if name in shown.obj["metadata"]}
        metadata = {**without(stored.obj["metadata"], *_CONVERTIBLE), **mine}
        return Stored(stored.key, stored.rv, encode({**shown.obj, "metadata": metadata}))

    async def all(self, kind: Kind, items: Sequence[Stored]) -> list[Stored]:
        """Several objects, in order. Raises StatusError when one cannot be converted."""
        family = kind.family
        stale = [stored for stored in items if not current(kind, stored)] if family is not None else []
        if family is None or not stale:
            return list(items)
        kept = family.kept.setdefault(kind.resource.api_version, WeakKeyDictionary())
        missing = [stored for stored in stale if stored not in kept]
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            objects = [_read(family, stored) for stored in batch]
            for stored, obj in zip(batch, await self._convert(kind, objects, kind.resource.api_version), strict=True):
                shown = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], **obj}
                kept[stored] = Stored(stored.key, stored.rv, encode(shown))
        return [stored if current(kind, stored) else kept[stored] for stored in items]

    async def events(self, kind: Kind, events: Sequence[Event]) -> list[Event]:
        """What happened, with the objects in the version of a kind."""
        if kind.family is None or all(current(kind, item) for event in events for item in (event.stored, event.prev)):
            return list(events)
        before = [event.prev for event in events if event.prev is not None]
        views = iter(await self.all(kind, [*(event.stored for event in events), *before]))
        after = [next(views) for _ in events]
        return [
            Event(event.type, stored, None if event.prev is None else next(views))
            for event, stored in zip(events, after, strict=True)
        ]

    async def to_storage(self, kind: Kind, obj: Obj) -> Obj:
        """An object of a request as it is to be stored. Raises StatusError when it cannot be converted."""
        if kind.family is None or kind.storage_version == kind.resource.api_version:
            return kind.stored(obj)
        return kind.stored((await self._convert(kind, [copy(obj)], kind.storage_version))[0])

    async def _convert(self, kind: Kind, objects: list[Obj], wanted: str) -> list[Obj]:
        """The objects, which are changed, in another version."""
        family = kind.family
        assert family is not None
        places = [index for index, obj in enumerate(objects) if obj["apiVersion"] != wanted]
        if family.webhook is None:
            converted: Iterable[Obj] = [{**objects[index], "apiVersion": wanted} for index in places]
        elif places:
            others = [objects[index] for index in places]
            converted = await convert_by_webhook(family.webhook, others, wanted, self._post)
        else:
            converted = []
        strategy = family.strategies.get(wanted)
        for index, obj in zip(places, converted, strict=True):
            if isinstance(strategy, CustomStrategy):
                strategy.compiled.prune(obj)
            objects[index] = obj
        return objects


def current(kind: Kind, stored: Stored | None) -> bool:
    """Whether the stored bytes are what the kind serves."""
    family = kind.family
    return family is None or stored is None or (stored.rv > family.since and stored.raw.startswith(kind.prefix))


def _read(family: Family, stored: Stored) -> Obj:
    """A stored object by the schema that its version has now; a value of its own."""
    obj: Obj = copy(stored.obj)
    strategy = family.strategies.get(obj["apiVersion"])
    if isinstance(strategy, CustomStrategy):
        strategy.compiled.prune(obj)
        strategy.compiled.default(obj)
    return obj
