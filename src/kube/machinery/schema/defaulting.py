"""Defaults of a structural schema, and the nulls that give way to them.

As apiextensions' pkg/apiserver/schema/defaulting: a null in a field that is not nullable counts as absent, so it is
replaced by the default or removed; then defaults are set wherever a field is absent, in the defaults themselves, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kube.machinery.schema.values import copy_json

Node = dict[str, Any]
Defaulter = Callable[[Any], None]

_SCALARS = {"string", "integer", "number", "boolean"}


class DefaulterCompiler:
    """Compiles the schema nodes of one schema, each when a value first reaches it."""

    def __init__(self) -> None:
        self._memo: dict[int, Defaulter | None] = {}

    def compile(self, node: Node) -> Defaulter | None:
        """A closure that defaults a value in place; None if below this node there is nothing to do."""
        key = id(node)
        if key not in self._memo:
            self._memo[key] = self._compile(node)
        return self._memo[key]

    def _compile(self, node: Node) -> Defaulter | None:
        if node.get("type") in _SCALARS or node.get("x-kubernetes-int-or-string"):
            return None
        of_object = self._object(node)
        items = node.get("items")
        if of_object is None and not isinstance(items, dict):
            return None

        def default(value: Any) -> None:
            if isinstance(value, dict):
                if of_object is not None:
                    of_object(value)
            elif isinstance(value, list) and isinstance(items, dict):
                self._default_items(value, items)

        return default

    def _default_items(self, value: list[Any], items: Node) -> None:
        each = self.compile(items)
        for index, element in enumerate(value):
            if element is None and "default" in items and not items.get("nullable"):
                value[index] = copy_json(items["default"])
            if each is not None:
                each(value[index])

    def _object(self, node: Node) -> Callable[[dict[str, Any]], None] | None:
        properties: dict[str, Node] = node.get("properties") or {}
        extra = node.get("additionalProperties")
        extra_node: Node | None = extra if isinstance(extra, dict) else None
        defaults = [(name, child["default"]) for name, child in properties.items() if child.get("default") is not None]
        if not properties and extra_node is None:
            return None

        def default(value: dict[str, Any]) -> None:
            if None in value.values():
                _drop_nulls(value, properties, extra_node)
            for name, initial in defaults:
                if name not in value:
                    value[name] = copy_json(initial)
            for name, child in value.items():
                if type(child) in _COMPOUND:
                    below = properties.get(name, extra_node)
                    if below is not None:
                        compiled = self.compile(below)
                        if compiled is not None:
                            compiled(child)

        return default


_COMPOUND = (dict, list)


def _drop_nulls(value: dict[str, Any], properties: dict[str, Node], extra: Node | None) -> None:
    for name in [name for name, child in value.items() if child is None]:
        node = properties.get(name, extra)
        if node is None or node.get("nullable"):
            continue
        if name not in properties and node.get("default") is not None:
            value[name] = copy_json(node["default"])
        else:
            del value[name]
