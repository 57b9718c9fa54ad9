"""ResourceQuotas at work: admission refuses what goes beyond them, a keeper writes `status.used`.

Admission counts what is in the store, and what was admitted a moment ago and is not there yet; so nothing has to be
written before an object is created, and a restart has nothing to repair.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from kube.machinery import errors
from kube.machinery.errors import StatusError
from kube.machinery.quantity import format_quantity, is_binary, parse_quantity
from kube.machinery.resources import RESOURCEQUOTAS
from solo.registry.bootstrap import SYSTEM
from solo.registry.context import RequestContext
from solo.registry.objects import copy, dig
from solo.registry.registry import Attributes, Registry
from solo.registry.usage import Amounts, counted_resource, in_scopes, unspecified, usage_of
from solo.store import Event, Key, Store, Stored

logger = logging.getLogger(__name__)

Obj = dict[str, Any]

_QUOTAS = RESOURCEQUOTAS.group_resource
ADMITTED_SECONDS = 10.0
"""For how long an admitted object that has not come into the store is counted; then its creation has failed."""
_RETRY_SECONDS = 1.0


def used(store: Store, quota: Obj, namespace: str) -> Amounts:
    """What of a quota's amounts the objects in the store use."""
    names = (quota["spec"].get("hard") or {}).keys()
    total: Amounts = dict.fromkeys(names, Decimal(0))
    for resource in {counted_resource(name) for name in names}:
        for stored in store.list(resource, namespace)[0]:
            if in_scopes(quota, stored.obj, resource):
                _add(total, usage_of(stored.obj, resource))
    return total


def _add(total: Amounts, amounts: Amounts, sign: int = 1) -> None:
    for name, amount in amounts.items():
        if name in total:
            total[name] += sign * amount


class QuotaAdmission:
    """The admission plug-in; it has to be the last, since what it lets pass counts as used."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._admitted: dict[Key, tuple[float, Obj]] = {}

    async def admit(self, attributes: Attributes) -> None:
        """Raises 403 for an object that goes beyond a quota of its namespace, or hides what it would use."""
        obj, resource = attributes.obj, attributes.kind.store_resource
        if attributes.operation != "CREATE" or attributes.subresource or obj is None or not attributes.namespace:
            return
        if not self._store.count(_QUOTAS):
            return
        quotas = self._store.list(_QUOTAS, attributes.namespace)[0]
        relevant = [quota for quota in quotas if _concerns(quota.obj, obj, resource)]
        for quota in relevant:
            self._check(quota, attributes, obj, resource)
        if relevant and not attributes.context.dry_run:
            self._admitted[Key(resource, attributes.namespace, attributes.name)] = (time.monotonic(), obj)

    def _check(self, quota: Stored, attributes: Attributes, obj: Obj, resource: str) -> None:
        hard: Obj = quota.obj["spec"].get("hard") or {}
        name, group_resource = attributes.name, attributes.kind.resource.group_resource
        if resource == "pods":
            missing = unspecified(obj["spec"], hard)
            if missing:
                text = f"failed quota: {quota.key.name}: must specify {'; '.join(missing)}"
                raise errors.forbidden(group_resource, name, text)
        total = used(self._store, quota.obj, attributes.namespace)
        for each in self._on_the_way(attributes.namespace, resource):
            if in_scopes(quota.obj, each, resource):
                _add(total, usage_of(each, resource))
        asked = {key: amount for key, amount in usage_of(obj, resource).items() if key in hard and amount}
        over = sorted(key for key, amount in asked.items() if total[key] + amount > parse_quantity(hard[key]))
        if over:
            parts = (
                ",".join(f"{key}={_show(asked[key], hard[key])}" for key in over),
                ",".join(f"{key}={_show(total[key], hard[key])}" for key in over),
                ",".join(f"{key}={hard[key]}" for key in over),
            )
            text = f"exceeded quota: {quota.key.name}, requested: {parts[0]}, used: {parts[1]}, limited: {parts[2]}"
            raise errors.forbidden(group_resource, name, text)

    def _on_the_way(self, namespace: str, resource: str) -> Iterable[Obj]:
        """Objects that were admitted and are not in the store yet."""
        horizon = time.monotonic() - ADMITTED_SECONDS
        for key, (since, _) in list(self._admitted.items()):
            if since < horizon or self._store.get(key) is not None:
                del self._admitted[key]
        return [
            obj for key, (_, obj) in self._admitted.items() if key.namespace == namespace and key.resource == resource
        ]


def _concerns(quota: Obj, obj: Obj, resource: str) -> bool:
    names = quota["spec"].get("hard") or {}
    return any(counted_resource(name) == resource for name in names) and in_scopes(quota, obj, resource)


def _show(value: Decimal, like: Any) -> str:
    return format_quantity(value, binary=is_binary(like))


class QuotaKeeper:
    """Writes `status` of the quotas whose namespaces change. Level-triggered: a pass looks at the present state."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._wake = asyncio.Event()
        self._dirty: set[str] = set()
        self._counted: set[str] = set()
        registry.store.add_listener(_QUOTAS, self._quota_changed)

    def _quota_changed(self, event: Event) -> None:
        if event.type != "DELETED":
            self._listen(event.stored.obj)
        self._changed(event)

    def _listen(self, quota: Obj) -> None:
        for name in quota["spec"].get("hard") or {}:
            resource = counted_resource(name)
            if resource not in self._counted and resource != _QUOTAS:
                self._counted.add(resource)
                self._registry.store.add_listener(resource, self._changed)

    def _changed(self, event: Event) -> None:
        self._dirty.add(event.stored.key.namespace)
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled."""
        for stored in self._registry.store.list(_QUOTAS)[0]:
            self._listen(stored.obj)
            self._dirty.add(stored.key.namespace)
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            namespaces, self._dirty = self._dirty, set()
            for namespace in namespaces:
                for stored in self._registry.store.list(_QUOTAS, namespace)[0]:
                    await self._keep(stored)

    async def _keep(self, quota: Stored) -> None:
        hard = quota.obj["spec"].get("hard") or {}
        total = used(self._registry.store, quota.obj, quota.key.namespace)
        shown = {name: _show(total[name], hard[name]) for name in hard}
        status = {"hard": hard, "used": shown}
        if {key: value for key, value in (dig(quota.obj, "status") or {}).items() if value} == {
            key: value for key, value in status.items() if value
        }:
            return
        kind = self._registry.catalog.storage_kind(_QUOTAS)
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
