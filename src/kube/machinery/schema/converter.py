"""What CEL sees of a JSON value, by its schema (apiserver's pkg/cel/common)."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from kube.machinery.cel.conversions import to_duration, to_timestamp
from kube.machinery.cel.values import CelError, MapList, SetList
from kube.machinery.schema.common import type_names

Node = dict[str, Any]
Converter = Callable[[Any], Any]


def compile_converter(node: Node) -> Converter | None:
    """A function from a JSON value to what CEL sees of it; None where they are the same.

    A field of type number is a double even if it holds a whole number, one of format byte is bytes, times and durations
    are what their formats say, and lists know whether they are sets or maps.
    """
    types = type_names(node)
    if types == ("number",):
        return lambda value: float(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if types == ("string",):
        return _FORMATS.get(node.get("format") or "")
    items = node.get("items")
    if types == ("array",):
        return _list(node, compile_converter(items) if isinstance(items, dict) else None)
    fields = {}
    for name, child in (node.get("properties") or {}).items():
        convert = compile_converter(child)
        if convert is not None:
            fields[name] = convert
    extra = node.get("additionalProperties")
    of_extra = compile_converter(extra) if isinstance(extra, dict) else None
    if not fields and of_extra is None:
        return None

    def convert_value(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            key: converter(child) if (converter := fields.get(key, of_extra)) is not None else child
            for key, child in value.items()
        }

    return convert_value


def _list(node: Node, of_items: Converter | None) -> Converter | None:
    kind = node.get("x-kubernetes-list-type")
    keys = tuple(node.get("x-kubernetes-list-map-keys") or ())
    if of_items is None and kind not in ("set", "map"):
        return None

    def convert(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        elements = value if of_items is None else [of_items(element) for element in value]
        if kind == "set":
            return SetList(elements)
        if kind == "map":
            made = MapList(elements)
            made.keys = keys
            return made
        return elements

    return convert


def _bytes(value: Any) -> Any:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else value
    except ValueError:
        return value  # the format's own check has reported it


def _time(value: Any) -> Any:
    try:
        return to_timestamp(value) if isinstance(value, str) else value
    except CelError:
        return value


def _date(value: Any) -> Any:
    return _time(f"{value}T00:00:00Z") if isinstance(value, str) else value


def _duration(value: Any) -> Any:
    try:
        return to_duration(value) if isinstance(value, str) else value
    except CelError:
        return value


_FORMATS: dict[str, Converter] = {
    "byte": _bytes,
    "date-time": _time,
    "datetime": _time,
    "date": _date,
    "duration": _duration,
}
