"""Sets of fields: who owns what, as `metadata.managedFields` has it (`fieldsType: FieldsV1`).

A set is a tree of path elements. Each node has members, the elements that belong to the set themselves, and children,
the elements with something below them in the set; an element may be both, which FieldsV1 writes as `".": {}`.
Operations return new sets that may share subtrees: a set that has been handed out is not changed any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from kube.machinery.apply.elements import parse_element, sort_key

Path = tuple[str, ...]

_NO_FIELDS: dict[str, Any] = {}


class FieldSet:
    """A set of paths. No child is ever empty."""

    __slots__ = ("_written", "children", "members", "settled")

    settled: object
    """The type for which `typed.collapse` found nothing to change here."""

    def __init__(self, members: set[str] | None = None, children: dict[str, FieldSet] | None = None) -> None:
        self.members = set() if members is None else members
        self.children = {} if children is None else children
        self.settled = None
        self._written: dict[str, Any] | None = None

    @classmethod
    def of(cls, paths: Iterable[Iterable[str]]) -> FieldSet:
        """A set of these paths; an empty path, which would be the whole object, is not tracked."""
        made = cls()
        for path in paths:
            elements = tuple(path)
            if elements:
                made.node(elements[:-1]).members.add(elements[-1])
        return made

    @classmethod
    def from_fields_v1(cls, fields: Any) -> FieldSet:
        """Read FieldsV1. Raises ValueError if it is malformed; unknown kinds of elements are dropped."""
        found = cls()
        if fields is None:
            return found
        if not isinstance(fields, dict):
            raise ValueError("fieldsV1 must be an object")
        for text, below in fields.items():
            if text == ".":
                continue
            element = parse_element(text)
            if element is None:
                continue
            child = cls.from_fields_v1(below)
            if child:
                found.children[element] = child
            if not child or "." in below:
                found.members.add(element)
        return found

    def to_fields_v1(self) -> dict[str, Any]:
        """FieldsV1, in Kubernetes' order. It is kept and shared with every set that has this subtree: for reading."""
        if self._written is None:
            self._written = self._write()
        return self._written

    def _write(self) -> dict[str, Any]:
        written: dict[str, Any] = {}
        elements = sorted(self.members | self.children.keys())
        if elements and elements[-1][0] != "f":  # fields, by far the most, are in order already
            elements.sort(key=sort_key)
        for element in elements:
            child = self.children.get(element)
            if child is None:
                written[element] = _NO_FIELDS
            elif element in self.members:
                written[element] = {".": _NO_FIELDS, **child.to_fields_v1()}
            else:
                written[element] = child.to_fields_v1()
        return written

    def node(self, path: Iterable[str]) -> FieldSet:
        """The subtree at a path, made if it is not there: for building a set, and to be filled by the caller."""
        at = self
        for element in path:
            below = at.children.get(element)
            if below is None:
                below = at.children[element] = FieldSet()
            at = below
        return at

    def has(self, path: Path) -> bool:
        at = self
        for element in path[:-1]:
            below = at.children.get(element)
            if below is None:
                return False
            at = below
        return bool(path) and path[-1] in at.members

    def paths(self, prefix: Path = ()) -> Iterator[Path]:
        """All members, in order: those of a node before those below it."""
        for element in sorted(self.members, key=sort_key):
            yield (*prefix, element)
        for element in sorted(self.children, key=sort_key):
            yield from self.children[element].paths((*prefix, element))

    def union(self, other: FieldSet) -> FieldSet:
        children = {**self.children, **other.children}
        for element in self.children.keys() & other.children.keys():
            children[element] = self.children[element].union(other.children[element])
        return FieldSet(self.members | other.members, children)

    def intersection(self, other: FieldSet) -> FieldSet:
        children = {}
        for element in self.children.keys() & other.children.keys():
            below = self.children[element].intersection(other.children[element])
            if below:
                children[element] = below
        return FieldSet(self.members & other.members, children)

    def difference(self, other: FieldSet) -> FieldSet:
        """Members that are not in the other set. A parent and its child are different members."""
        children = {}
        for element, child in self.children.items():
            minus = other.children.get(element)
            below = child if minus is None else child.difference(minus)
            if below:
                children[element] = below
        return FieldSet(self.members - other.members, children)

    def recursive_difference(self, other: FieldSet) -> FieldSet:
        """Members that are neither in the other set nor below a member of it."""
        children = {}
        for element, child in self.children.items():
            if element in other.members:
                continue
            minus = other.children.get(element)
            below = child if minus is None else child.recursive_difference(minus)
            if below:
                children[element] = below
        return FieldSet(self.members - other.members, children)

    def leaves(self) -> FieldSet:
        """Members with nothing below them."""
        children = {element: child.leaves() for element, child in self.children.items()}
        return FieldSet(self.members - children.keys(), children)

    def __bool__(self) -> bool:
        return bool(self.members or self.children)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FieldSet):
            return NotImplemented
        return self.members == other.members and self.children == other.children

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"FieldSet({self.to_fields_v1()})"
