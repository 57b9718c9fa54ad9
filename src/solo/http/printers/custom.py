"""Custom resources: `additionalPrinterColumns` by JSONPath, the age where there are none."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from kube.machinery.durations import human_duration, parse_rfc3339
from kube.machinery.jsonpath import compile_jsonpath
from solo.http.printers.columns import NAME, Column, Printer, name_of
from solo.registry.kinds import PrinterColumn

Obj = dict[str, Any]

_LARGE = 1e21
"""From here on Go's JSON has exponents."""
AGE = PrinterColumn("Age", "date", ".metadata.creationTimestamp")


def custom_printer(definitions: Sequence[PrinterColumn]) -> Printer:
    """The printer of one version of a custom resource (apiextensions `tableconvertor`)."""
    wanted = list(definitions) or [AGE]
    columns = [NAME]
    getters: list[Callable[[Obj], Any]] = []
    for item in wanted:
        try:
            getter = _getter(item)
        except ValueError:
            break  # as in kube-apiserver, a path that is none ends the columns: definitions may have any text there
        description = item.description or f"Custom resource definition column (in JSONPath format): {item.json_path}"
        if item is AGE:
            description = ""
        columns.append(Column(item.name, item.type, item.format, description, item.priority))
        getters.append(getter)

    def cells(obj: Obj) -> list[Any]:
        return [name_of(obj), *(getter(obj) for getter in getters)]

    return Printer(tuple(columns), cells)


def _getter(item: PrinterColumn) -> Callable[[Obj], Any]:
    if item.json_path == ".":
        return lambda _: None  # the object itself is no cell
    path = compile_jsonpath(item.json_path)

    def get(obj: Obj) -> Any:
        try:
            values = path.find(obj)
        except (ValueError, TypeError, KeyError):
            return None
        if not values:
            return None
        return _cell(item.type, values[0])

    return get


def _cell(type_: str, value: Any) -> Any:
    """A value as its column's type wants it; None where it does not fit (`cellForJSONValue`)."""
    if value is None:
        return None
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if type_ == "integer":
        return int(value) if number else None
    if type_ == "number":
        return value if number else None
    if type_ == "boolean":
        return value if isinstance(value, bool) else None
    if type_ == "date":
        return _age(value)
    return _text(value)


def _age(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    try:
        moment = parse_rfc3339(value)
    except ValueError:
        return "<invalid>"
    return human_duration(time.time() - moment.timestamp())


def _text(value: Any) -> str:
    if isinstance(value, float):
        value = int(value) if value.is_integer() and abs(value) < _LARGE else value
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
