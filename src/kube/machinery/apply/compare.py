"""What differs between two objects, as sets of fields (structured-merge-diff's typed/compare.go)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from kube.machinery.apply.elements import field_element
from kube.machinery.apply.fieldset import FieldSet
from kube.machinery.apply.typed import all_paths
from kube.machinery.apply.types import LIST, MAP, SCALAR, ListType, MapType, Type
from kube.machinery.patch._values import same

_bytes = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Comparison:
    """Paths that are only in the new object, in both but different, only in the old one. Containers count, too."""

    added: FieldSet = field(default_factory=FieldSet)
    modified: FieldSet = field(default_factory=FieldSet)
    removed: FieldSet = field(default_factory=FieldSet)

    def without(self, ignored: FieldSet) -> Comparison:
        """The comparison without some fields and all below them."""
        if not ignored:
            return self
        return Comparison(
            self.added.recursive_difference(ignored),
            self.modified.recursive_difference(ignored),
            self.removed.recursive_difference(ignored),
        )


def compare(kind: Type, old: Any, new: Any) -> Comparison:
    """Compare two objects of a type. Raises ItemError for lists whose items cannot be identified."""
    walker = _Walker()
    walker.walk(kind, old, new)
    return walker.found


class _Walker:
    def __init__(self) -> None:
        self.found = Comparison()
        self._path: list[str] = []

    def walk(self, kind: Type, old: Any, new: Any) -> None:
        if old is new:
            return
        before, after = kind.shape(old), kind.shape(new)
        if before != after:
            self._as(before, kind, old, new)
        self._as(after, kind, old, new)

    def _as(self, shape: int, kind: Type, old: Any, new: Any) -> None:
        mapping, listing = kind.mapping, kind.listing
        if shape == MAP and mapping is not None and not mapping.atomic:
            left = old if old.__class__ is dict else {}
            right = new if new.__class__ is dict else {}
            if left or right:
                return self._maps(mapping, left, right)
        elif shape == LIST and listing is not None and not listing.atomic:
            first = old if old.__class__ is list else []
            second = new if new.__class__ is list else []
            if first or second:
                return self._lists(listing, first, second)
        elif shape == SCALAR and old.__class__ is str and old == new:
            return None
        if not same(old, new):
            self._insert(self.found.modified)
        return None

    def _maps(self, mapping: MapType, old: dict[str, Any], new: dict[str, Any]) -> None:
        for name, value in old.items():
            if name in new:
                other = new[name]
                if other is not value and not _plainly_same(value, other):
                    self._path.append(field_element(name))
                    self.walk(mapping.child(name), value, other)
                    self._path.pop()
            else:
                self._insert_all(self.found.removed, field_element(name), mapping.child(name), value)
        for name, value in new.items():
            if name not in old:
                self._insert_all(self.found.added, field_element(name), mapping.child(name), value)

    def _lists(self, listing: ListType, old: list[Any], new: list[Any]) -> None:
        left, right = _grouped(listing, old), _grouped(listing, new)
        for element in {**left, **right}:
            before, after = left.get(element, []), right.get(element, [])
            if len(before) == 1 and len(after) == 1:
                self._path.append(element)
                self.walk(listing.item, before[0], after[0])
                self._path.pop()
            elif len(before) > 1 and len(after) > 1:
                if not same(before, after):
                    self.found.modified.node(self._path).members.add(element)
            else:
                self._lone(self.found.removed, element, listing, before)
                self._lone(self.found.added, element, listing, after)

    def _lone(self, where: FieldSet, element: str, listing: ListType, items: list[Any]) -> None:
        """Items of one element that the other list has not, or has another number of: several are owned as one."""
        if len(items) == 1:
            self._insert_all(where, element, listing.item, items[0])
        elif items:
            where.node(self._path).members.add(element)

    def _insert(self, where: FieldSet) -> None:
        if self._path:
            where.node(self._path[:-1]).members.add(self._path[-1])

    def _insert_all(self, where: FieldSet, element: str, kind: Type, value: Any) -> None:
        at = where.node(self._path)
        at.members.add(element)
        below = all_paths(kind, value)
        if below:
            before = at.children.get(element)
            at.children[element] = below if before is None else before.union(below)


def _plainly_same(old: Any, new: Any) -> bool:
    """A quick look that spares walking what is equal; no says nothing."""
    kind = old.__class__
    if kind is not new.__class__:
        return False
    return bool(_bytes(old) == _bytes(new)) if kind is dict or kind is list else kind is str and old == new


def _grouped(listing: ListType, items: list[Any]) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for element, item in zip(listing.elements(items), items, strict=True):
        groups.setdefault(element, []).append(item)
    return groups
