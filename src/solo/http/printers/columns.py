"""Columns, printers and the small formats that their cells share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kube.machinery.durations import human_duration, parse_rfc3339

Obj = dict[str, Any]
Cells = Callable[[Obj], Sequence[Any]]

NONE = "<none>"
UNKNOWN = "<unknown>"


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
    """The columns of a kind and the function that fills a row."""

    columns: tuple[Column, ...]
    cells: Cells


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
    """A label selector as `-o wide` shows it."""
    if not selector:
        return NONE
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for item in selector.get("matchExpressions") or []:
        operator, values = item.get("operator"), ",".join(item.get("values") or [])
        if operator == "Exists":
            parts.append(str(item.get("key")))
        elif operator == "DoesNotExist":
            parts.append(f"!{item.get('key')}")
        else:
            parts.append(f"{item.get('key')} {'in' if operator == 'In' else 'notin'} ({values})")
    return ",".join(parts) or NONE


def labels_text(labels: Mapping[str, Any] | None) -> str:
    return joined(f"{key}={value}" for key, value in sorted((labels or {}).items()))


def containers_of(spec: Obj) -> tuple[str, str]:
    """Names and images of a pod spec's containers."""
    containers = spec.get("containers") or []
    return joined((c.get("name") for c in containers), ""), joined((c.get("image") for c in containers), "")
