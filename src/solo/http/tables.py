"""Tables (meta/v1 Table): what kubectl asks for when it prints."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from kube.machinery import errors
from solo.http.negotiation import TABLE, Output
from solo.http.printers import CUSTOM_SCALE, SCALE, Column, Printer, custom_printer, printer_for
from solo.registry.kinds import Kind
from solo.registry.strategy import Strategy

Obj = dict[str, Any]

_INCLUDED = ("Metadata", "Object", "None")
_WELL_KNOWN = {"Name": "name", "Age": "creationTimestamp", "Created At": "creationTimestamp"}

_custom: WeakKeyDictionary[Strategy, Printer] = WeakKeyDictionary()


def printer_of(kind: Kind) -> Printer:
    """The printer of a kind, made once."""
    if not kind.custom:
        return printer_for(kind.store_resource)
    printer = _custom.get(kind.strategy)
    if printer is None:
        printer = _custom[kind.strategy] = custom_printer(kind.columns)
    return printer


def included(output: Output, query: Mapping[str, str]) -> str:
    """What each row of a table carries: Metadata where nothing is asked for. Raises 400."""
    asked = query.get("includeObject") or ""
    if output.transform == TABLE and asked and asked not in _INCLUDED:
        problem = f"includeObject: Invalid value: {json.dumps(asked)}: must be 'Metadata', 'Object', 'None', or empty"
        raise errors.bad_request(f"Unable to convert to Table as requested: {problem}")
    return asked or "Metadata"


def table(
    kind: Kind, objects: Iterable[Obj], list_meta: Obj, include: str, api_version: str, *, header: bool = True
) -> Obj:
    """A table of objects. `include` says what each row carries: Metadata (default), Object or None."""
    printer = printer_of(kind)
    shown = ((obj, obj if kind.form is None else kind.stored(obj)) for obj in objects)
    return {
        "kind": "Table",
        "apiVersion": api_version,
        "metadata": list_meta,
        "columnDefinitions": _definitions(printer.columns) if header else [],
        "rows": [_row(printer, stored, _row_object(obj, include, api_version)) for obj, stored in shown],
    }


def scale_table(kind: Kind, scale: Obj, include: str, api_version: str) -> Obj:
    """A table of the Scale of an object of a kind."""
    printer = CUSTOM_SCALE if kind.custom else SCALE
    return {
        "kind": "Table",
        "apiVersion": api_version,
        "metadata": {"resourceVersion": scale["metadata"].get("resourceVersion") or ""},
        "columnDefinitions": _definitions(printer.columns),
        "rows": [_row(printer, scale, _row_object(scale, include, api_version))],
    }


def _row(printer: Printer, obj: Obj, shown: Obj | None) -> Obj:
    row: Obj = {"cells": list(printer.cells(obj))}
    if printer.conditions is not None and (conditions := printer.conditions(obj)):
        row["conditions"] = conditions
    row["object"] = shown
    return row


def _row_object(obj: Obj, include: str, api_version: str) -> Obj | None:
    if include == "None":
        return None
    return obj if include == "Object" else partial(obj, api_version)


def partial(obj: Obj, api_version: str) -> Obj:
    """PartialObjectMetadata of an object."""
    return {"kind": "PartialObjectMetadata", "apiVersion": api_version, "metadata": obj.get("metadata") or {}}


def _definitions(columns: Sequence[Column]) -> list[Obj]:
    return [
        {
            "name": column.name,
            "type": column.type,
            "format": column.format,
            "description": column.description or _description(column.name),
            "priority": column.priority,
        }
        for column in columns
    ]


@lru_cache(maxsize=32)
def _description(name: str) -> str:
    """What the API documentation says of the metadata field that a column shows."""
    field = _WELL_KNOWN.get(name)
    if field is None:
        return ""
    from kube.machinery.builtin import OBJECT_META, definitions

    text: str = definitions()[OBJECT_META]["properties"][field].get("description", "")
    return text
