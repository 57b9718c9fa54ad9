"""Admission by LimitRanges: defaults for containers, bounds for containers, pods and claims (plug-in LimitRanger)."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from kube.machinery import errors
from kube.machinery.quantity import format_quantity, parse_quantity
from solo.registry.objects import child, copy, dig
from solo.registry.registry import Attributes
from solo.registry.usage import Amounts, containers_of, pod_amounts, storage_of
from solo.store import Store

Obj = dict[str, Any]

_RANGES = "limitranges"
_CLAIMS = "persistentvolumeclaims"
_NOTE = "kubernetes.io/limit-ranger"


class LimitAdmission:
    """Applies the LimitRanges of a namespace to its new pods and claims."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _items(self, attributes: Attributes) -> list[Obj]:
        if (
            attributes.operation != "CREATE"
            or attributes.subresource
            or attributes.kind.store_resource not in ("pods", _CLAIMS)
        ):
            return []
        if not self._store.count(_RANGES):
            return []
        ranges = self._store.list(_RANGES, attributes.namespace)[0]
        return [item for stored in ranges for item in dig(stored.obj, "spec", "limits") or []]

    async def mutate(self, attributes: Attributes) -> None:
        """Give containers the defaults of the namespace."""
        if attributes.kind.store_resource != "pods" or attributes.obj is None:
            return
        items = [item for item in self._items(attributes) if item.get("type") == "Container"]
        if not items:
            return
        obj = copy(attributes.obj)
        notes = [note for item in items for each in containers_of(obj["spec"]) for note in _fill(each, item)]
        if notes:
            child(obj["metadata"], "annotations")[_NOTE] = "LimitRanger plugin set: " + "; ".join(notes)
            attributes.obj = obj

    async def admit(self, attributes: Attributes) -> None:
        """Raises 403 with everything that is out of bounds."""
        items = self._items(attributes)
        if not items or attributes.obj is None:
            return
        problems = [text for item in items for text in _problems(item, attributes.obj)]
        if problems:
            text = problems[0] if len(problems) == 1 else "[" + ", ".join(problems) + "]"
            raise errors.forbidden(attributes.kind.resource.group_resource, attributes.shown_name, text)


def _fill(container: Obj, item: Obj) -> Iterator[str]:
    resources = child(container, "resources")
    for what, part, source in (("request", "requests", "defaultRequest"), ("limit", "limits", "default")):
        missing = {
            name: amount for name, amount in (item.get(source) or {}).items() if name not in (resources.get(part) or {})
        }
        if missing:
            child(resources, part).update(missing)
            yield f"{', '.join(sorted(missing))} {what} for container {container.get('name')}"


def _problems(item: Obj, obj: Obj) -> Iterator[str]:
    """What of an object is outside one item of a LimitRange."""
    type_ = item.get("type")
    if "containers" in (obj.get("spec") or {}):
        if type_ == "Container":
            for container in containers_of(obj["spec"]):
                resources = container.get("resources") or {}
                yield from _bounds(item, _parsed(resources.get("requests")), _parsed(resources.get("limits")))
        elif type_ == "Pod":
            yield from _bounds(item, pod_amounts(obj["spec"], "requests"), pod_amounts(obj["spec"], "limits"))
    elif type_ == "PersistentVolumeClaim":
        asked = {"storage": storage_of(obj)}
        yield from _bounds(item, asked, asked)


def _bounds(item: Obj, requests: Amounts, limits: Amounts) -> Iterator[str]:
    type_ = item["type"]
    for name, least in (item.get("min") or {}).items():
        start = f"minimum {name} usage per {type_} is {least}"
        if name not in requests:
            yield f"{start}.  No request is specified"
        elif requests[name] < parse_quantity(least):
            yield f"{start}, but request is {_show(requests[name])}"
        elif name in limits and limits[name] < parse_quantity(least):
            yield f"{start}, but limit is {_show(limits[name])}"
    for name, most in (item.get("max") or {}).items():
        start = f"maximum {name} usage per {type_} is {most}"
        if name not in limits:
            yield f"{start}.  No limit is specified"
        elif limits[name] > parse_quantity(most):
            yield f"{start}, but limit is {_show(limits[name])}"
        elif name in requests and requests[name] > parse_quantity(most):
            yield f"{start}, but request is {_show(requests[name])}"
    for name, ratio in (item.get("maxLimitRequestRatio") or {}).items():
        start = f"{name} max limit to request ratio per {type_} is {ratio}"
        if not requests.get(name):
            yield f"{start}, but no request is specified or request is 0"
        elif not limits.get(name):
            yield f"{start}, but no limit is specified or limit is 0"
        elif limits[name] / requests[name] > parse_quantity(ratio):
            yield f"{start}, but provided ratio is {limits[name] / requests[name]:.6f}"


def _parsed(amounts: Obj | None) -> Amounts:
    return {name: parse_quantity(amount) for name, amount in (amounts or {}).items()}


def _show(value: Decimal) -> str:
    return format_quantity(value, binary=value >= 1024)
