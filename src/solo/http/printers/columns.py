"""Columns, printers and the small formats that their cells share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kube.machinery.durations import human_duration, parse_rfc3339
from solo.registry.objects import dig

Obj = dict[str, Any]
Cells = Callable[[Obj], Sequence[Any]]
Conditions = Callable[[Obj], list[Obj]]

NONE = "<none>"
UNKNOWN = "<unknown>"
UNSET = "<unset>"


@dataclass(frozen=True, slots=True)
class Column:
    """A TableColumnDefinition (meta/v1); priority 1 shows with `-o wide` only."""

    name: str
    type: str = "string"
    format: str = ""
    description: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Printer:
    """The columns of a kind and what fills a row; few kinds have conditions (meta/v1 TableRowCondition)."""

    columns: tuple[Column, ...]
    cells: Cells
    conditions: Conditions | None = None


NAME = Column("Name", format="name")
AGE = Column("Age")


def columns(names: str, *, wide: str = "") -> tuple[Column, ...]:
    """Columns from names separated by `|`; a name may carry its type, as in `Desired:integer`."""
    found = []
    for text, priority in [(name, 0) for name in names.split("|")] + [(name, 1) for name in wide.split("|") if name]:
        name, _, type_ = text.partition(":")
        found.append(NAME if name == "Name" else Column(name, type_ or "string", priority=priority))
    return tuple(found)


def age(timestamp: str | None) -> str:
    """How long ago a time was, as kubectl prints it."""
    if not timestamp:
        return UNKNOWN
    try:
        moment = parse_rfc3339(timestamp)
    except ValueError:
        return "<invalid>"
    return human_duration(time.time() - moment.timestamp())


def created(obj: Obj) -> str:
    return age((obj.get("metadata") or {}).get("creationTimestamp"))


def name_of(obj: Obj) -> str:
    return str((obj.get("metadata") or {}).get("name") or "")


def joined(values: Iterable[Any], empty: str = NONE) -> str:
    return ",".join(str(value) for value in values) or empty


def selector_text(selector: Mapping[str, Any] | None) -> str:
    """A label selector as `-o wide` shows it: requirements by key, values in order."""
    if not selector:
        return NONE
    parts = [(key, f"{key}={value}") for key, value in (selector.get("matchLabels") or {}).items()]
    parts += [(item.get("key") or "", _requirement(item)) for item in selector.get("matchExpressions") or []]
    return joined(text for _, text in sorted(parts, key=lambda part: part[0]))


def _requirement(item: Obj) -> str:
    key, operator = item.get("key") or "", item.get("operator")
    if operator == "Exists":
        return str(key)
    if operator == "DoesNotExist":
        return f"!{key}"
    return f"{key} {'in' if operator == 'In' else 'notin'} ({','.join(sorted(item.get('values') or []))})"


def first_of(values: Sequence[str], most: int, separator: str = ",") -> str:
    """The first few of a list, and how many more there are."""
    more = f" + {len(values) - most} more..." if len(values) > most else ""
    return separator.join(values[:most]) + more


def points_of(obj: Obj) -> list[str]:
    """Where a load balancer takes what it is sent, in order."""
    points = dig(obj, "status", "loadBalancer", "ingress") or []
    return sorted({address for point in points if (address := point.get("ip") or point.get("hostname"))})


def labels_text(labels: Mapping[str, Any] | None) -> str:
    return joined(f"{key}={value}" for key, value in sorted((labels or {}).items()))


def containers_of(spec: Obj) -> tuple[str, str]:
    """Names and images of a pod spec's containers."""
    containers = spec.get("containers") or []
    return joined((c.get("name") for c in containers), ""), joined((c.get("image") for c in containers), "")
