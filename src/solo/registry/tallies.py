"""What the objects in the store use of each quota, kept up to date by every change of them.

A quota's namespace is counted when somebody first asks; from then on a change adds what it brings and takes off what
it takes away, so that a question costs nothing, however many objects there are. Nothing of it is written: a restart
counts again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from decimal import Context, Decimal
from typing import Any

from kube.machinery.resources import RESOURCEQUOTAS
from solo.registry.usage import Amounts, counted_resource, in_scopes, usage_of
from solo.store import Event, Store, Stored

Obj = dict[str, Any]
Place = tuple[str, str]

QUOTAS = RESOURCEQUOTAS.group_resource
# Wide enough for the largest and the smallest quantity together: what is added and taken off leaves nothing behind.
_EXACT = Context(prec=1024)


def usage_in(quota: Obj, obj: Obj | None, resource: str) -> Amounts:
    """What an object counts for in a quota, by the names that this has; nothing where there is none."""
    if obj is None or not in_scopes(quota, obj, resource):
        return {}
    hard = quota["spec"].get("hard") or {}
    return {name: amount for name, amount in usage_of(obj, resource).items() if name in hard}


def increase(quota: Obj, before: Obj | None, after: Obj, resource: str) -> Amounts:
    """What an object uses more of a quota after a change."""
    present = usage_in(quota, before, resource)
    risen = {
        name: _EXACT.subtract(amount, present.get(name, Decimal(0)))
        for name, amount in usage_in(quota, after, resource).items()
    }
    return {name: amount for name, amount in risen.items() if amount > 0}


def add(total: Amounts, amounts: Amounts, sign: int = 1) -> None:
    """Add amounts to those of a total, in place."""
    for name, amount in amounts.items():
        total[name] = _EXACT.fma(amount, sign, total.get(name, Decimal(0)))


class _Tally:
    """The sum of one quota."""

    def __init__(self, quota: Obj, namespace: str, store: Store) -> None:
        self.quota = quota
        names = quota["spec"].get("hard") or {}
        self.resources = {counted_resource(name) for name in names}
        self.total: Amounts = dict.fromkeys(names, Decimal(0))
        for resource in self.resources:
            for stored in store.list(resource, namespace)[0]:
                add(self.total, usage_in(quota, stored.look(), resource))

    def take(self, event: Event) -> None:
        resource = event.stored.key.resource
        if event.prev is not None:
            add(self.total, usage_in(self.quota, event.prev.look(), resource), -1)
        if event.type != "DELETED":
            add(self.total, usage_in(self.quota, event.stored.look(), resource))


class Tallies:
    """The sums of all quotas. `changed` is told of the namespaces whose sums, or quotas, may be others now."""

    def __init__(self, store: Store) -> None:
        self.changed: Callable[[str], None] = lambda namespace: None
        self._store = store
        self._by_namespace: dict[str, dict[str, _Tally]] = {}
        self._counted: Counter[str] = Counter()
        store.add_listener(QUOTAS, self._quota_changed)

    def used(self, quota: Stored) -> Amounts:
        """What of a quota's amounts the objects in the store use; not to be changed. `quota` is the present one."""
        _, namespace, name = quota.key
        there = self._by_namespace.setdefault(namespace, {})
        if name not in there:
            tally = there[name] = _Tally(quota.obj, namespace, self._store)
            for resource in tally.resources:
                if not self._counted[resource]:
                    self._store.add_listener(resource, self._object_changed)
                self._counted[resource] += 1
        return there[name].total

    def _quota_changed(self, event: Event) -> None:
        _, namespace, name = event.stored.key
        tally = self._by_namespace.get(namespace, {}).get(name)
        if tally is not None and (event.type == "DELETED" or tally.quota["spec"] != event.stored.obj["spec"]):
            self._forget(namespace, name)
        self.changed(namespace)

    def _forget(self, namespace: str, name: str) -> None:
        there = self._by_namespace[namespace]
        for resource in there.pop(name).resources:
            self._counted[resource] -= 1
            if not self._counted[resource]:
                del self._counted[resource]
                self._store.remove_listener(resource, self._object_changed)
        if not there:
            del self._by_namespace[namespace]

    def _object_changed(self, event: Event) -> None:
        key = event.stored.key
        concerned = [
            tally for tally in self._by_namespace.get(key.namespace, {}).values() if key.resource in tally.resources
        ]
        for tally in concerned:
            tally.take(event)
        if concerned:
            self.changed(key.namespace)
