"""Lists that are sets or maps: `x-kubernetes-list-type` and what follows from it.

Elements of a set are unique as wholes, elements of a map by their keys (apiextensions' pkg/apiserver/schema/listtype).
The same keys say which old element a new one corresponds to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kube.machinery.errors import Cause, cause
from kube.machinery.schema.values import show

Node = dict[str, Any]
ListChecker = Callable[[Any, str, list[Cause]], None]
_NO_ITEMS: Node = {}


class ListCorrelation:
    """Finds the old counterpart of a list's element: for maps by key, for sets the equal element, else none."""

    def __init__(self, node: Node) -> None:
        self._type = node.get("x-kubernetes-list-type")
        self._keys: list[str] = node.get("x-kubernetes-list-map-keys") or []
        properties = (node.get("items") or _NO_ITEMS).get("properties") or {}
        self._defaults = {key: (properties.get(key) or _NO_ITEMS).get("default") for key in self._keys}

    def key(self, element: Any) -> str | None:
        """What identifies an element; None when nothing does."""
        if self._type == "map" and isinstance(element, dict):
            return show([element.get(key, self._defaults[key]) for key in self._keys])
        if self._type == "set":
            return show(element)
        return None

    def index(self, old: list[Any]) -> Callable[[Any, Any], Any]:
        """A function `find(element, default)` over the old list's elements."""
        by_key = {key: element for element in old if (key := self.key(element)) is not None}

        def find(element: Any, default: Any) -> Any:
            key = self.key(element)
            return default if key is None else by_key.get(key, default)

        return find


class ListCheckCompiler:
    """Compiles the uniqueness checks of a schema; nodes without any compile to None and are never visited."""

    def __init__(self) -> None:
        self._memo: dict[int, ListChecker | None] = {}
        self._active: set[int] = set()

    def compile(self, node: Node) -> ListChecker | None:
        """A closure that reports duplicates below a value, or None if the schema has no sets and maps."""
        key = id(node)
        if key in self._active:  # a recursive definition: decided when the value gets there
            return lambda value, path, errors: self._run(node, value, path, errors)
        if key not in self._memo:
            self._active.add(key)
            self._memo[key] = self._compile(node)
            self._active.discard(key)
        return self._memo[key]

    def _run(self, node: Node, value: Any, path: str, errors: list[Cause]) -> None:
        check = self.compile(node)
        if check is not None:
            check(value, path, errors)

    def _compile(self, node: Node) -> ListChecker | None:
        of_list, of_object = self._list(node), self._object(node)
        if of_list is None and of_object is None:
            return None

        def check(value: Any, path: str, errors: list[Cause]) -> None:
            if isinstance(value, list):
                if of_list is not None:
                    of_list(value, path, errors)
            elif isinstance(value, dict) and of_object is not None:
                of_object(value, path, errors)

        return check

    def _list(self, node: Node) -> ListChecker | None:
        items = node.get("items")
        each = self.compile(items) if isinstance(items, dict) else None
        list_type = node.get("x-kubernetes-list-type")
        unique = _check_set if list_type == "set" else _map_check(node) if list_type == "map" else None
        if each is None:
            return unique

        def check(value: list[Any], path: str, errors: list[Cause]) -> None:
            if unique is not None:
                unique(value, path, errors)
            for index, element in enumerate(value):
                each(element, f"{path}[{index}]", errors)

        return check

    def _object(self, node: Node) -> ListChecker | None:
        properties: dict[str, ListChecker] = {}
        for name, child in (node.get("properties") or {}).items():
            compiled = self.compile(child)
            if compiled is not None:
                properties[name] = compiled
        extra_node = node.get("additionalProperties")
        extra = self.compile(extra_node) if isinstance(extra_node, dict) else None
        if not properties and extra is None:
            return None

        def check(value: dict[str, Any], path: str, errors: list[Cause]) -> None:
            for name, below in properties.items():
                if name in value:
                    below(value[name], f"{path}.{name}" if path else name, errors)
            if extra is not None:
                for name, child in value.items():
                    if name not in properties:
                        extra(child, f"{path}[{name}]", errors)

        return check


def _duplicates(keys: list[str]) -> list[int]:
    """Indexes of the second occurrence of every key that occurs more than once."""
    seen: dict[str, int] = {}
    second = []
    for index, key in enumerate(keys):
        seen[key] = seen.get(key, 0) + 1
        if seen[key] == 2:
            second.append(index)
    return second


def _duplicate(path: str, index: int, shown: str) -> Cause:
    return cause("FieldValueDuplicate", f"{path}[{index}]", value=shown)


def _check_set(value: list[Any], path: str, errors: list[Cause]) -> None:
    if len(value) > 1:
        shown = [show(element) for element in value]
        errors.extend(_duplicate(path, index, shown[index]) for index in _duplicates(shown))


def _map_check(node: Node) -> ListChecker:
    names: list[str] = node.get("x-kubernetes-list-map-keys") or []

    def check(value: list[Any], path: str, errors: list[Cause]) -> None:
        for index, element in enumerate(value):
            if element is not None and not isinstance(element, dict):
                detail = "must be an object for an array of list-type map"
                errors.append(cause("FieldValueInvalid", f"{path}[{index}]", detail, show(element)))
                return
        if len(value) > 1:
            keys = [show({name: item[name] for name in names if name in item}) for item in (e or {} for e in value)]
            errors.extend(_duplicate(path, index, keys[index]) for index in _duplicates(keys))

    return check
