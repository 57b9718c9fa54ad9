"""Which kinds are served at this moment: the built-in ones and those of the CustomResourceDefinitions in the store.

It follows the store: when the write of a CRD is answered, its kinds are already here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from kube.machinery.resources import CRDS
from solo.registry.builtins import GROUP_ORDER
from solo.registry.crds import CrdStrategy, Served, established, kinds_of, version_priority
from solo.registry.kinds import Kind
from solo.registry.objects import dig
from solo.store import Event, Store, Stored

logger = logging.getLogger(__name__)


class Catalog:
    """Lookup of kinds by URL and by apiVersion and kind. `generation` counts changes, for caches of discovery."""

    def __init__(self, store: Store, builtins: Iterable[Kind]) -> None:
        self._builtins = {(kind.resource.group, kind.resource.version, kind.resource.plural): kind for kind in builtins}
        self._custom: dict[str, Served] = {}
        self._by_path: dict[tuple[str, str, str], Kind] = {}
        self.generation = 0
        definitions = self._builtins[CRDS.group, CRDS.version, CRDS.plural].strategy
        assert isinstance(definitions, CrdStrategy)
        definitions.neighbours = lambda: (stored.obj for stored in store.list(CRDS.group_resource)[0])
        for stored in store.list(CRDS.group_resource)[0]:
            self._take(stored)
        self._rebuild()
        store.add_listener(CRDS.group_resource, self._crd_changed)

    def _crd_changed(self, event: Event) -> None:
        name = event.stored.key.name
        if event.type == "DELETED":
            self._custom.pop(name, None)
        else:
            before = event.prev.obj if event.prev is not None else None
            crd = event.stored.obj
            if before is not None and same_service(before, crd):
                return
            self._take(event.stored)
        self._rebuild()

    def _take(self, stored: Stored) -> None:
        served = kinds_of(stored.obj, stored.rv)
        if served is not None:
            self._custom[stored.key.name] = served
        else:
            self._custom.pop(stored.key.name, None)

    def _rebuild(self) -> None:
        self._by_path = dict(self._builtins)
        for served in self._custom.values():
            for kind in served.kinds:
                self._by_path.setdefault((kind.resource.group, kind.resource.version, kind.resource.plural), kind)
        self.generation += 1

    def lookup(self, group: str, version: str, plural: str) -> Kind | None:
        """The kind that a URL names."""
        return self._by_path.get((group, version, plural))

    def by_kind(self, api_version: str, kind: str) -> Kind | None:
        """The kind that an object's apiVersion and kind name."""
        group, _, version = api_version.rpartition("/")
        return next(
            (
                item
                for item in self._by_path.values()
                if item.resource.kind == kind and item.resource.group == group and item.resource.version == version
            ),
            None,
        )

    def storage_kind(self, group_resource: str) -> Kind | None:
        """The kind of `widgets.example.com` in the version in which it is stored, which need not be served."""
        custom = self._custom.get(group_resource)
        if custom is not None:
            return custom.storage
        return next((kind for kind in self._builtins.values() if kind.store_resource == group_resource), None)

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._by_path.values())

    def groups(self) -> dict[str, dict[str, list[Kind]]]:
        """All kinds by group and version, in the order of discovery: best version first, resources by name."""
        found: dict[str, dict[str, list[Kind]]] = {group: {} for group in GROUP_ORDER}
        extra = sorted({kind.resource.group for kind in self} - found.keys())
        found.update({group: {} for group in extra})
        for kind in sorted(self, key=lambda kind: kind.resource.plural):
            found[kind.resource.group].setdefault(kind.resource.version, []).append(kind)
        return {
            group: dict(sorted(versions.items(), key=lambda item: version_priority(item[0]), reverse=True))
            for group, versions in found.items()
            if versions
        }


def same_service(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether two states of a CRD serve the same: a status write changes nothing."""
    return _service(before) == _service(after)


def same_storage(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether the objects of a CRD are read alike in two of its states: one that begins to end has them until they are
    gone (apiextensions `updateCustomResourceDefinition`)."""
    return _storage(before) == _storage(after)


def _service(crd: dict[str, Any]) -> tuple[object, ...]:
    deleted = bool(dig(crd, "metadata", "deletionTimestamp"))
    return established(crd), deleted, *_storage(crd)


def _storage(crd: dict[str, Any]) -> tuple[object, ...]:
    return crd["spec"], dig(crd, "status", "acceptedNames")
