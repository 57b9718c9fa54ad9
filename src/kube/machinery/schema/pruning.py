"""Removing the fields that a structural schema does not specify.

As apiextensions' pkg/apiserver/schema/pruning, which also reports the paths of what it removed: kube-apiserver turns
them into warnings (`unknown field "spec.list[0].bar"`) or, with fieldValidation=Strict, into an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Node = dict[str, Any]
Pruner = Callable[[Any, str, list[str]], None]

_SCALARS = {"string", "integer", "number", "boolean"}
_TYPE_META = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}


class PrunerCompiler:
    """Compiles the schema nodes of one schema, each when a value first reaches it.

    `object_meta` is the schema of `metadata` in the embedded objects (x-kubernetes-embedded-resource).
    """

    def __init__(self, object_meta: Callable[[], Node]) -> None:
        self._memo: dict[int, Pruner | None] = {}
        self._object_meta = object_meta

    def compile(self, node: Node) -> Pruner | None:
        """A closure that removes unknown fields in place and appends their paths; None where there can be none."""
        key = id(node)
        if key not in self._memo:
            self._memo[key] = self._compile(node)
        return self._memo[key]

    def _compile(self, node: Node) -> Pruner | None:
        if node.get("type") in _SCALARS or node.get("x-kubernetes-int-or-string"):
            return None
        preserve = bool(node.get("x-kubernetes-preserve-unknown-fields"))
        properties = self._properties(node)
        extra = node.get("additionalProperties")
        items = node.get("items")
        if preserve and not properties and not isinstance(extra, dict) and not isinstance(items, dict):
            return None
        prune_object = self._object(properties, extra, preserve)

        def prune(value: Any, path: str, unknown: list[str]) -> None:
            if isinstance(value, dict):
                prune_object(value, path, unknown)
            elif isinstance(value, list):
                each = self._for_items(items, preserve)
                if each is not None:
                    for index, element in enumerate(value):
                        each(element, f"{path}[{index}]", unknown)

        return prune

    def _properties(self, node: Node) -> dict[str, Node]:
        properties: dict[str, Node] = node.get("properties") or {}
        if not node.get("x-kubernetes-embedded-resource"):
            return properties
        return {**properties, **_TYPE_META, "metadata": self._object_meta()}

    def _for_items(self, items: Any, preserve: bool) -> Pruner | None:
        if isinstance(items, dict):
            return self.compile(items)
        return None if preserve else _prune_all

    def _object(self, properties: dict[str, Node], extra: Any, preserve: bool) -> Pruner:
        additional = isinstance(extra, dict)

        def prune(value: dict[str, Any], path: str, unknown: list[str]) -> None:
            removed: list[str] = []
            for key, child in value.items():
                node = properties.get(key)
                if node is None:
                    if additional:
                        node = extra
                    elif preserve:
                        continue
                    elif extra:  # additionalProperties: true says nothing about what is inside
                        _prune_all(child, f"{path}.{key}" if path else key, unknown)
                        continue
                    else:
                        removed.append(key)
                        unknown.append(f"{path}.{key}" if path else key)
                        continue
                if type(child) is dict or type(child) is list:
                    below = self.compile(node)
                    if below is not None:
                        below(child, f"{path}.{key}" if path else key, unknown)
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
