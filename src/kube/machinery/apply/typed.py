"""Objects walked along their types: which fields they have, what a merge of two gives, what they look like without
some fields. The rules are structured-merge-diff's package typed.

Results may share structure with what they were made from; nothing is changed in place.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from kube.machinery.apply.elements import field_element
from kube.machinery.apply.fieldset import FieldSet
from kube.machinery.apply.types import LIST, MAP, SCALAR, ListType, MapType, Type
from kube.machinery.patch._values import same


class _Marker:
    """A value that no JSON document has."""


_LEAF = _Marker()
_NOTHING = _Marker()


def field_set(kind: Type, obj: Any) -> FieldSet:
    """The fields that an applied configuration is about: its leaves, and every item of its lists and maps.

    Fields that the schema names are not in the set just because something below them is. An empty map is in it; an
    empty list whose items would be merged is not. Raises ItemError.
    """
    found = _field_set(kind, obj)
    return found if isinstance(found, FieldSet) else FieldSet()


def _field_set(kind: Type, value: Any) -> FieldSet | _Marker:
    shape = kind.shape(value)
    if shape == SCALAR:
        return _LEAF
    if shape == MAP:
        return _map_set(kind, value)
    listing = kind.listing
    if listing is None or listing.atomic:
        return _LEAF
    found = FieldSet()
    if value.__class__ is not list:
        return found
    elements = listing.elements(value)
    repeated = _repeated(elements)
    for element, item in zip(elements, value, strict=True):
        found.members.add(element)
        if element not in repeated:
            below = _field_set(listing.item, item)
            if isinstance(below, FieldSet) and below:
                found.children[element] = below
    return found


def _map_set(kind: Type, value: Any) -> FieldSet | _Marker:
    mapping = kind.mapping
    if mapping is None or mapping.atomic:
        return _LEAF
    found = FieldSet()
    if value.__class__ is not dict:
        return found
    for name, member in value.items():
        element = field_element(name)
        below = _field_set(mapping.child(name), member)
        if below is _LEAF or member is None or member == {} or not mapping.declares(name):
            found.members.add(element)
        if isinstance(below, FieldSet) and below:
            found.children[element] = below
    return found


def all_paths(kind: Type, value: Any) -> FieldSet:
    """Every path below a value, containers included: what is new where there was nothing. Raises ItemError."""
    return _all_paths(kind, value) or FieldSet()


def _all_paths(kind: Type, value: Any) -> FieldSet | None:
    """The same, None for nothing: most values are leaves, and this runs for each of them on every create."""
    if value.__class__ is not dict and value.__class__ is not list:
        return None
    shape = kind.shape(value)
    if shape == MAP and kind.mapping is not None and not kind.mapping.atomic and value.__class__ is dict:
        child = kind.mapping.child
        found = FieldSet({"f:" + name for name in value})
        for name, member in value.items():
            if member.__class__ is dict or member.__class__ is list:
                below = _all_paths(child(name), member)
                if below:
                    found.children[field_element(name)] = below
        return found
    if shape == LIST and kind.listing is not None and not kind.listing.atomic and value.__class__ is list:
        elements = kind.listing.elements(value)
        repeated = _repeated(elements)
        found = FieldSet(set(elements))
        for element, item in zip(elements, value, strict=True):
            below = None if element in repeated else _all_paths(kind.listing.item, item)
            if below:
                found.children[element] = below
        return found
    return None


def _repeated(elements: list[str]) -> set[str]:
    """Elements that occur more than once: such items are owned as one."""
    if len(set(elements)) == len(elements):
        return set()
    return {element for element, times in Counter(elements).items() if times > 1}


def merge(kind: Type, live: Any, applied: Any) -> Any:
    """The live value with the applied one merged into it; the live value itself when that changes nothing.

    Raises ItemError for a live list whose items cannot be identified.
    """
    if live is applied or live.__class__ is str:  # the usual case, before anything is looked up
        return live if live == applied else applied
    shape = kind.shape(applied)
    if shape == MAP and kind.mapping is not None and not kind.mapping.atomic:
        if live.__class__ is dict and live:
            return _merge_map(kind.mapping, live, applied) if applied.__class__ is dict else live
    elif shape == LIST and kind.listing is not None and not kind.listing.atomic and live.__class__ is list and live:
        return _merge_list(kind.listing, live, applied) if applied.__class__ is list else live
    return live if same(live, applied) else applied


def _merge_map(mapping: MapType, live: dict[str, Any], applied: dict[str, Any]) -> dict[str, Any]:
    merged = None
    for name, member in applied.items():
        old = live.get(name, _NOTHING)
        new = member if old is _NOTHING else merge(mapping.child(name), old, member)
        if new is not old:
            merged = dict(live) if merged is None else merged
            merged[name] = new
    return live if merged is None else merged


def _merge_list(listing: ListType, live: list[Any], applied: list[Any]) -> list[Any]:
    """Items that both have follow each other as in the applied list; the live list's own items keep their places.

    An applied item that is new goes in front of the common item that it precedes, else to the end.
    """
    elements = listing.elements(live)
    new = dict(zip(listing.elements(applied), applied, strict=True))
    repeated = _repeated(elements)
    old = {element: item for element, item in zip(elements, live, strict=True) if element not in repeated}
    known = set(elements)
    waiting = list(new)  # applied items that are not in the result yet
    common = [element for element in waiting if element in known]

    def merged(element: str) -> Any:
        item = new[element]
        return merge(listing.item, old[element], item) if element in old else item

    out: list[Any] = []
    place = turn = 0
    for element, item in zip(elements, live, strict=True):
        if element not in new:
            out.append(item)
        elif turn < len(common) and element == common[turn]:
            until = waiting.index(element, place) + 1
            out.extend(map(merged, waiting[place:until]))
            place, turn = until, turn + 1
    out.extend(map(merged, waiting[place:]))
    unchanged = len(out) == len(live) and all(one is other for one, other in zip(out, live, strict=True))
    return live if unchanged else out


def remove(kind: Type, value: Any, gone: FieldSet) -> Any:
    """The value without the fields of a set; a container that loses its last member goes, too."""
    kept = _remove(kind, value, gone)
    return {} if kept is _NOTHING else kept


def _remove(kind: Type, value: Any, gone: FieldSet) -> Any:
    shape = kind.shape(value)
    if not value or not gone:
        return value
    kept: Any
    if shape == MAP and kind.mapping is not None and value.__class__ is dict and not kind.mapping.atomic:
        kept = {}
        for name, member in value.items():
            element = field_element(name)
            if element in gone.members:
                continue
            below = gone.children.get(element)
            left = member if below is None else _remove(kind.mapping.child(name), member, below)
            if left is not _NOTHING:
                kept[name] = left
    elif shape == LIST and kind.listing is not None and value.__class__ is list and not kind.listing.atomic:
        kept = []
        for element, item in zip(kind.listing.elements(value), value, strict=True):
            if element in gone.members:
                continue
            below = gone.children.get(element)
            left = item if below is None else _remove(kind.listing.item, item, below)
            if left is not _NOTHING:
                kept.append(left)
    else:
        return value
    return kept or _NOTHING


def with_parents(kind: Type, fields: FieldSet) -> FieldSet:
    """The set with those parents of its members that the schema names: they stay as long as something below stays."""
    members = set(fields.members)
    children = {}
    for element, child in fields.children.items():
        if element[0] == "f" and kind.mapping is not None and kind.mapping.declares(element[2:]):
            members.add(element)
        children[element] = with_parents(_below(kind, element), child)
    return FieldSet(members, children)


def collapse(kind: Type, fields: FieldSet) -> FieldSet:
    """The set after a change of schema: whoever owned fields of what is atomic now, owns the whole of it.

    Returns the set itself when there is nothing to change, and remembers that.
    """
    if fields.settled is kind:
        return fields
    members: set[str] | None = None
    children = dict(fields.children)
    for element, child in fields.children.items():
        below = _below(kind, element)
        if _is_atomic(below):
            members = set(fields.members) if members is None else members
            members.add(element)
            del children[element]
            continue
        children[element] = collapse(below, child)
    changed = members is not None or any(children[element] is not fields.children[element] for element in children)
    if changed:
        return FieldSet(fields.members if members is None else members, children)
    fields.settled = kind
    return fields


def _is_atomic(kind: Type) -> bool:
    if kind.mapping is not None:
        return kind.mapping.atomic
    return kind.listing is not None and kind.listing.atomic


def _below(kind: Type, element: str) -> Type:
    if element[0] == "f":
        return kind.mapping.child(element[2:]) if kind.mapping is not None else kind
    return kind.listing.item if kind.listing is not None else kind
