"""Removing the fields that a structural schema does not specify.

As apiextensions' pkg/apiserver/schema/pruning, which also reports the paths of what it removed: kube-apiserver turns
them into warnings (`unknown field "spec.list[0].bar"`) or, with fieldValidation=Strict, into an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Node = dict[str, Any]
Pruner = Callable[[Any, str, list[str]], None]

_META_FIELDS = ("apiVersion", "kind", "metadata")


class PrunerCompiler:
    """Compiles the schema nodes of one schema, each when a value first reaches it."""

    def __init__(self) -> None:
        self._memo: dict[int, Pruner | None] = {}
        self._preserving: dict[int, Pruner | None] = {}

    def compile(self, node: Node) -> Pruner | None:
        """A closure that removes unknown fields in place and appends their paths; None where there can be none."""
        key = id(node)
        if key not in self._memo:
            self._memo[key] = self._compile(node)
        return self._memo[key]

    def _compile(self, node: Node) -> Pruner | None:
        preserve = bool(node.get("x-kubernetes-preserve-unknown-fields"))
        properties: dict[str, Node] = node.get("properties") or {}
        extra = node.get("additionalProperties")
        items = node.get("items")
        if preserve and not properties and extra is None and not isinstance(items, dict):
            return None
        prune_object = self._object(node, preserve)

        def prune(value: Any, path: str, unknown: list[str]) -> None:
            if isinstance(value, dict):
                prune_object(value, path, unknown)
            elif isinstance(value, list):
                each = self._for_items(items, preserve)
                if each is not None:
                    for index, element in enumerate(value):
                        each(element, f"{path}[{index}]", unknown)

        return prune

    def _for_items(self, items: Any, preserve: bool) -> Pruner | None:
        if not isinstance(items, dict):
            return None if preserve else _prune_all
        if not preserve:
            return self.compile(items)
        # What preserves unknown fields has the elements of its lists do so as well.
        key = id(items)
        if key not in self._preserving:
            self._preserving[key] = self._compile({**items, "x-kubernetes-preserve-unknown-fields": True})
        return self._preserving[key]

    def _object(self, node: Node, preserve: bool) -> Pruner:
        properties: dict[str, Node] = node.get("properties") or {}
        extra = node.get("additionalProperties")
        # The metadata of an embedded object is read by itself (Schema.read_embedded).
        passed = _META_FIELDS if node.get("x-kubernetes-embedded-resource") else ()

        def prune(value: dict[str, Any], path: str, unknown: list[str]) -> None:
            removed: list[str] = []
            for key, child in value.items():
                if key in passed:
                    continue
                below = properties.get(key)
                if below is None and isinstance(extra, dict):
                    below = extra
                if below is None and extra is not None:  # true or false say nothing about what is inside
                    _prune_all(child, f"{path}.{key}" if path else key, unknown)
                elif below is None and not preserve:
                    removed.append(key)
                    unknown.append(f"{path}.{key}" if path else key)
                elif below is not None and (type(child) is dict or type(child) is list):
                    pruner = self.compile(below)
                    if pruner is not None:
                        pruner(child, f"{path}.{key}" if path else key, unknown)
            for key in removed:
                del value[key]

        return prune


def _prune_all(value: Any, path: str, unknown: list[str]) -> None:
    """Nothing is specified here: objects lose every field."""
    if isinstance(value, dict):
        unknown.extend(f"{path}.{key}" if path else key for key in value)
        value.clear()
    elif isinstance(value, list):
        for index, element in enumerate(value):
            _prune_all(element, f"{path}[{index}]", unknown)
