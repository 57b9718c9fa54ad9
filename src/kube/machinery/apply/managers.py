"""`metadata.managedFields`: who owns which fields, read and written as kube-apiserver does.

Sources: apimachinery's pkg/util/managedfields/internal (managedfields.go, capmanagers.go).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from kube.machinery.apply.fieldset import FieldSet

APPLY, UPDATE = "Apply", "Update"
MAX_UPDATE_MANAGERS = 10
_ANCIENT = "ancient-changes"
_INTERNED = 512
_INTERNED_BYTES = 8 * 1024
_TEXTS = ("operation", "apiVersion", "manager", "subresource", "time")


class ManagerKey(NamedTuple):
    """What tells entries apart. Appliers have no version here: a manager applies with one at a time."""

    operation: str
    manager: str
    api_version: str
    subresource: str

    @classmethod
    def applier(cls, manager: str, subresource: str) -> ManagerKey:
        return cls(APPLY, manager, "", subresource)

    @classmethod
    def updater(cls, manager: str, api_version: str, subresource: str) -> ManagerKey:
        return cls(UPDATE, manager, api_version, subresource)

    def __str__(self) -> str:
        """How a conflict names the manager: `"kubectl" using apps/v1`."""
        text = f'"{self.manager}"'
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        return f"{text} using {self.api_version}" if self.operation == UPDATE else text


@dataclass(frozen=True, slots=True)
class Entry:
    """What a manager owns, in which version it wrote it, and when (RFC 3339; empty if unknown)."""

    fields: FieldSet
    api_version: str
    time: str = ""


Managed = dict[ManagerKey, Entry]


def decode_managed_fields(entries: Any) -> Managed:
    """Read the list. Raises ValueError for entries that kube-apiserver would not take."""
    managed: Managed = {}
    if not isinstance(entries or [], list):
        raise ValueError("managed fields must be a list")
    for index, raw in enumerate(entries or ()):
        if not isinstance(raw, dict):
            raise ValueError(f"managed fields entry {index} is not an object")
        operation, api_version, manager, subresource, time = (_text(raw, name) for name in _TEXTS)
        if operation not in (APPLY, UPDATE):
            raise ValueError("operation must be `Apply` or `Update`")
        if not api_version:
            raise ValueError("apiVersion must not be empty")
        fields_type = raw.get("fieldsType")
        if not fields_type:
            raise ValueError(f"missing fieldsType in managed fields entry {index}")
        if fields_type != "FieldsV1":
            raise ValueError(f'invalid fieldsType "{fields_type}" in managed fields entry {index}')
        key = ManagerKey(operation, manager, "" if operation == APPLY else api_version, subresource)
        managed[key] = Entry(_read_fields(raw.get("fieldsV1")), api_version, time)
    return managed


_known: dict[bytes, FieldSet] = {}
_bytes = msgspec.json.Encoder().encode


def _read_fields(fields: Any) -> FieldSet:
    """FieldsV1 as a set; one that has been seen lately is not read again. Raises ValueError."""
    found = _known.get(_bytes(fields))
    return FieldSet.from_fields_v1(fields) if found is None else found


def _interned(fields: FieldSet) -> FieldSet:
    """The set that stands for all equal ones: objects of a kind mostly have the same fields by the same managers, so
    that what is in memory once serves all of them."""
    written = _bytes(fields.to_fields_v1())
    if len(written) > _INTERNED_BYTES:
        return fields
    if len(_known) >= _INTERNED:
        _known.clear()
    return _known.setdefault(written, fields)


def _text(raw: dict[str, Any], name: str) -> str:
    value = raw.get(name) or ""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string")
    return value


def encode_managed_fields(managed: Managed) -> list[dict[str, Any]]:
    """The list: appliers first, then by time, manager, version and subresource."""
    return [_encode(key, entry) for key, entry in sorted(managed.items(), key=_order)]


def _order(item: tuple[ManagerKey, Entry]) -> tuple[str, ...]:
    key, entry = item
    return key.operation, entry.time, key.manager, entry.api_version, key.subresource


def _encode(key: ManagerKey, entry: Entry) -> dict[str, Any]:
    written: dict[str, Any] = {}
    if key.manager:
        written["manager"] = key.manager
    written["operation"] = key.operation
    written["apiVersion"] = entry.api_version
    if entry.time:
        written["time"] = entry.time
    written["fieldsType"] = "FieldsV1"
    written["fieldsV1"] = _interned(entry.fields).to_fields_v1()
    if key.subresource:
        written["subresource"] = key.subresource
    return written


def cap_updaters(managed: Managed) -> Managed:
    """At most 10 entries of updates: the oldest of a version are united as `ancient-changes`.

    Updates come from anybody, so their number must have a bound. There may be more than 10 when the updates are of
    many versions, because each version keeps one entry.
    """
    updaters = [key for key in managed if key.operation == UPDATE]
    excess = len(updaters) - MAX_UPDATE_MANAGERS
    if excess <= 0:
        return managed
    updaters.sort(key=lambda key: (managed[key].time, key))
    capped = dict(managed)
    first_of: dict[str, ManagerKey] = {}
    for key in updaters:
        if excess <= 0:
            break
        entry = capped[key]
        first = first_of.setdefault(entry.api_version, key)
        if first == key:
            continue
        bucket = ManagerKey.updater(_ANCIENT, entry.api_version, "")
        base = capped.pop(first) if bucket in (first, key) or bucket not in capped else capped.pop(bucket)
        capped.pop(key, None)
        # The time is that of the newest change in it.
        capped[bucket] = Entry(entry.fields.union(base.fields), entry.api_version, max(entry.time, base.time))
        excess -= 1
    return capped
