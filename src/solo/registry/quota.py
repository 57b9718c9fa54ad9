"""ResourceQuotas at work: admission refuses what goes beyond them, a keeper writes `status.used`.

An object is held against its quotas at the last moment, when nothing can come between the question and the store. What
counts is what is in the store and what is on its way to the disk; so a write that fails frees at once what it asked
for, nothing has to be written before an object is, and a restart has nothing to repair.
"""

from __future__ import annotations

import asyncio
import logging
from decimal import Decimal
from typing import Any

from kube.machinery import errors
from kube.machinery.errors import StatusError
from kube.machinery.quantity import format_quantity, is_binary, parse_quantity
from solo.registry.bootstrap import SYSTEM
from solo.registry.context import RequestContext
from solo.registry.kinds import Kind
from solo.registry.objects import copy, dig
from solo.registry.registry import Registry
from solo.registry.tallies import QUOTAS, Tallies, add, increase
from solo.registry.usage import CLAIMS, Amounts, counted_resource, in_scopes, unspecified
from solo.store import Key, Store, Stored

logger = logging.getLogger(__name__)

Obj = dict[str, Any]

HELD_ON_UPDATE = frozenset({"services", CLAIMS})
"""The kinds whose updates are held against quotas, too (those whose evaluator handles them in Kubernetes)."""
PAUSE_SECONDS = 0.1
"""After the status of quotas was written, what happens for so long is written at once."""
_RETRY_SECONDS = 1.0


class QuotaAdmission:
    """Refuses objects, and changes of them, that go beyond a quota of their namespace. A commit check."""

    def __init__(self, store: Store, tallies: Tallies) -> None:
        self._store = store
        self._tallies = tallies

    def check(self, kind: Kind, key: Key, obj: Obj) -> None:
        """Raises 403 for what goes beyond a quota, or for a new object that hides what it would use."""
        if not key.namespace or not self._store.count(QUOTAS):
            return
        stored = self._store.get(key)
        if stored is not None and key.resource not in HELD_ON_UPDATE:
            return
        present = stored.obj if stored is not None else None
        for quota in self._store.list(QUOTAS, key.namespace)[0]:
            if _concerns(quota.obj, obj, key.resource):
                self._hold(quota, kind, key, present, obj)

    def _hold(self, quota: Stored, kind: Kind, key: Key, present: Obj | None, obj: Obj) -> None:
        hard: Obj = quota.obj["spec"].get("hard") or {}
        group_resource = kind.resource.group_resource
        if key.resource == "pods":
            missing = unspecified(obj["spec"], hard)
            if missing:
                text = f"failed quota: {quota.key.name}: must specify {'; '.join(missing)}"
                raise errors.forbidden(group_resource, key.name, text)
        asked = increase(quota.obj, present, obj, key.resource)
        if not asked:
            return
        total = self._with_what_comes(quota, key)
        over = sorted(name for name in asked if total[name] + asked[name] > parse_quantity(hard[name]))
        if over:
            parts = (
                ",".join(f"{name}={_show(asked[name], hard[name])}" for name in over),
                ",".join(f"{name}={_show(total[name], hard[name])}" for name in over),
                ",".join(f"{name}={hard[name]}" for name in over),
            )
            text = f"exceeded quota: {quota.key.name}, requested: {parts[0]}, used: {parts[1]}, limited: {parts[2]}"
            raise errors.forbidden(group_resource, key.name, text)

    def _with_what_comes(self, quota: Stored, key: Key) -> Amounts:
        """What is used of a quota when all writes of the key's resource are done that are on their way to the disk.

        What they free does not count before that, as they may fail.
        """
        total = dict(self._tallies.used(quota))
        for event in self._store.on_the_way(key.resource):
            if event.stored.key.namespace == key.namespace and event.type != "DELETED":
                before = event.prev.obj if event.prev is not None else None
                add(total, increase(quota.obj, before, event.stored.obj, key.resource))
        return total


def _concerns(quota: Obj, obj: Obj, resource: str) -> bool:
    names = quota["spec"].get("hard") or {}
    return any(counted_resource(name) == resource for name in names) and in_scopes(quota, obj, resource)


def _show(value: Decimal, like: Any) -> str:
    return format_quantity(value, binary=is_binary(like))


class QuotaKeeper:
    """Writes `status` of the quotas whose namespaces change. Level-triggered: a pass looks at the present state."""

    def __init__(self, registry: Registry, tallies: Tallies) -> None:
        self._registry = registry
        self._tallies = tallies
        self._wake = asyncio.Event()
        self._dirty: set[str] = set()
        tallies.changed = self._changed

    def _changed(self, namespace: str) -> None:
        self._dirty.add(namespace)
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled."""
        for stored in self._registry.store.list(QUOTAS)[0]:
            self._changed(stored.key.namespace)
        while True:
            await self._wake.wait()
            self._wake.clear()
            namespaces, self._dirty = self._dirty, set()
            store = self._registry.store
            keys = [stored.key for namespace in namespaces for stored in store.list(QUOTAS, namespace)[0]]
            for key in keys:
                quota = store.get(key)
                if quota is not None:
                    await self._keep(quota)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _keep(self, quota: Stored) -> None:
        hard = quota.obj["spec"].get("hard") or {}
        total = self._tallies.used(quota)
        shown = {name: _show(total[name], hard[name]) for name in hard}
        status = {"hard": hard, "used": shown}
        if {key: value for key, value in (dig(quota.obj, "status") or {}).items() if value} == {
            key: value for key, value in status.items() if value
        }:
            return
        kind = self._registry.catalog.storage_kind(QUOTAS)
        assert kind is not None

        def change(obj: Obj) -> Obj:
            return {**copy(obj), "status": status}

        try:
            await self._registry.update(
                kind, quota.key.namespace, quota.key.name, change, RequestContext(SYSTEM), subresource="status"
            )
        except StatusError as problem:
            if problem.reason != "NotFound":
                logger.warning("cannot write the status of quota %s yet: %s", quota.key.name, problem)
                self._dirty.add(quota.key.namespace)
                asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._wake.set)
