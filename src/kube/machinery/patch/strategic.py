"""Strategic merge patch, `application/strategic-merge-patch+json`: a merge patch that knows the schema.

Lists whose field says `x-kubernetes-patch-strategy: merge` are merged by `x-kubernetes-patch-merge-key` instead of
replaced. Behaviour, order of list items and error texts follow apimachinery's `strategicpatch.StrategicMergeMapPatch`
(design: sig-api-machinery/strategic-merge-patch.md). Directives in a patch:

- `$patch: replace | delete` in an object, or in an item of a merged list (`delete` with the merge key);
- `$deleteFromPrimitiveList/FIELD`: values to remove from a merged list of scalars;
- `$setElementOrder/FIELD`: the order that the items of a merged list shall have;
- `$retainKeys`: the only keys that may stay in an object (unions, such as a Deployment's strategy).

A patch on a field that the schema does not describe replaces the field.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kube.machinery.errors import bad_request
from kube.machinery.patch._values import cannot_apply, clone, refuse_deep_nesting

Schema = dict[str, Any]
Resolve = Callable[[str], Schema]

_DIRECTIVE = "$patch"
_RETAIN_KEYS = "$retainKeys"
_DELETE_VALUES = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"


@refuse_deep_nesting
def strategic_merge_patch(
    doc: dict[str, Any], patch: Any, schema: Schema, resolve: Resolve | None = None
) -> dict[str, Any]:
    """The object after the patch.

    `schema` is the OpenAPI schema of the kind; `resolve` gives the schema for the name that ends a `$ref` and is needed
    only when `schema` has any. Raises StatusError 400 for a patch that is malformed or contradicts itself, 422 for
    lists of lists.
    """
    if not isinstance(patch, dict):
        raise bad_request("invalid JSON document")
    return _merge_object(clone(doc), patch, _Type(schema, resolve))


@dataclass(frozen=True, slots=True)
class _Type:
    """What the schema says of a value; `schema` None: nothing."""

    schema: Schema | None
    resolve: Resolve | None
    merge: bool = False
    merge_key: str = ""

    def field(self, name: str) -> _Type:
        """The type of a member: a property or, in a map, any key."""
        own = self._target()
        declared = (own.get("properties") or {}).get(name)
        if declared is None:
            extra = own.get("additionalProperties")
            declared = extra if isinstance(extra, dict) else None
        if declared is None:
            return _Type(None, self.resolve)
        strategies = str(declared.get("x-kubernetes-patch-strategy", "")).split(",")
        key = str(declared.get("x-kubernetes-patch-merge-key", ""))
        return _Type(declared, self.resolve, "merge" in strategies, key)

    def item(self) -> _Type:
        """The type of a list's items."""
        items = self._target().get("items")
        return _Type(items if isinstance(items, dict) else None, self.resolve)

    def _target(self) -> Schema:
        """The schema itself, with a `$ref` (alone, or wrapped in allOf to carry a default) followed."""
        schema = self.schema or {}
        wrapped = schema.get("allOf")
        reference = schema.get("$ref") or (wrapped[0].get("$ref") if wrapped and len(wrapped) == 1 else None)
        if reference is None:
            return schema
        if self.resolve is None:
            raise ValueError(f"the schema refers to {reference}, but there is nothing to resolve it with")
        return self.resolve(str(reference).rpartition("/")[2])


def _merge_object(target: dict[str, Any], patch: dict[str, Any], kind: _Type) -> dict[str, Any]:
    """Merge into `target`, which is ours, and return the result."""
    directive = patch.get(_DIRECTIVE)
    if directive is not None:
        if directive == "replace":
            return dict(_fresh(patch))
        if directive == "delete":
            return {}
        raise bad_request(f"unknown patch type: {directive} in map: {patch}")
    if _RETAIN_KEYS in patch:
        _retain_keys(target, patch)
    for key, order in patch.items():
        if key.startswith(_ORDER):
            _merge_ordered(target, patch, key.removeprefix(_ORDER), order, kind)
    ordered = {key.removeprefix(_ORDER) for key in patch if key.startswith(_ORDER)}
    for key, value in patch.items():
        if key.startswith(_DELETE_VALUES):
            _delete_values(target, key.removeprefix(_DELETE_VALUES), value)
        elif key not in ordered and not _is_marker(key):
            _merge_member(target, key, value, kind)
    return target


def _merge_member(target: dict[str, Any], key: str, value: Any, kind: _Type) -> None:
    current = target.get(key)
    if isinstance(value, dict) and isinstance(current, dict):
        member = kind.field(key)
        merges = member.schema is not None or _is_directive(value)
        target[key] = _merge_object(current, value, member) if merges else _fresh(value)
    elif isinstance(value, list) and isinstance(current, list):
        target[key] = _merge_list(current, value, kind.field(key))
    elif value is None or _is_directive(value):
        target.pop(key, None)
    else:
        target[key] = _fresh(value)


def _merge_list(current: list[Any], patch: list[Any], kind: _Type) -> list[Any]:
    if not kind.merge:
        return list(_fresh(patch))
    if not current and not patch:
        return []
    if not _items_are_objects([*current, *patch]):
        merged = _unique([*current, *patch])
        return _ordered(merged, patch, current, "")
    if not kind.merge_key:
        raise bad_request("cannot merge lists without merge key for type map")
    kept, changes = _apply_item_directives(current, patch, kind.merge_key)
    merged = _merge_items(kept, changes, kind)
    return _ordered(merged, changes, kept, kind.merge_key)


def _merge_items(current: list[Any], changes: list[Any], kind: _Type) -> list[Any]:
    """Merge objects of equal merge key, append the others."""
    merged = list(current)
    places = {_identity(item, kind.merge_key): place for place, item in reversed(list(enumerate(merged)))}
    for change in changes:
        identity = _identity(change, kind.merge_key)
        if identity in places:
            place = places[identity]
            merged[place] = _merge_object(merged[place], change, kind.item())
        else:
            places[identity] = len(merged)
            merged.append(_fresh(change))
    return merged


def _apply_item_directives(current: list[Any], patch: list[Any], merge_key: str) -> tuple[list[Any], list[Any]]:
    """What stays of the current items after `$patch: delete` and `replace` items, and the items without directive."""
    changes: list[Any] = []
    deleted: set[Any] = set()
    replace = False
    for item in patch:
        directive = item.get(_DIRECTIVE)
        if _DIRECTIVE not in item:
            changes.append(item)
        elif directive == "delete":
            deleted.add(_identity(item, merge_key))
        elif directive == "replace":
            replace = True
        elif directive == "merge":
            raise bad_request("merging lists cannot yet be specified in the patch")
        else:
            raise bad_request(f"unknown patch type: {directive} in map: {item}")
    if replace:
        return [], changes
    if deleted:
        current = [item for item in current if _identity(item, merge_key) not in deleted]
    return current, changes


def _merge_ordered(target: dict[str, Any], patch: dict[str, Any], key: str, order: Any, kind: _Type) -> None:
    """Merge the list `key` and bring it into the order of its `$setElementOrder` list."""
    current, change = target.get(key, []), patch.get(key, [])
    for value in (order, current, change):
        if not isinstance(value, list):
            raise bad_request(f"expected a list for {_ORDER}{key}, but received {type(value).__name__}")
    if key not in target and key not in patch:
        return
    member = kind.field(key)
    merge_key = member.merge_key if _items_are_objects([*order, *current, *change]) else ""
    _check_order(change, order, merge_key)
    merged = _merge_list(current, change, member) if key in patch else current
    target[key] = _ordered(merged, order, current, merge_key)


def _check_order(change: list[Any], order: list[Any], merge_key: str) -> None:
    """Items of the patch must appear in the order list, in that order (deletions aside)."""
    if not order:
        return
    remaining = iter([_identity(item, merge_key) for item in order])
    for item in change:
        if not _is_directive(item) and _identity(item, merge_key) not in remaining:
            raise bad_request(f"The order in patch list:\n{change}\n doesn't match {_ORDER[:-1]} list:\n{order}\n")


def _ordered(merged: list[Any], order: list[Any], live: list[Any], merge_key: str) -> list[Any]:
    """Items named in `order` in that order, the others interleaved where the live list had them.

    Both sequences keep their own order; of their two heads the unnamed one goes first only when the live list had both
    and had it in front (`mergeSortedSlice`).
    """
    order_rank, live_rank = _ranks(order, merge_key), _ranks(live, merge_key)
    last = len(live_rank)
    pairs = [(_identity(item, merge_key), item) for item in merged]
    named = sorted((pair for pair in pairs if pair[0] in order_rank), key=lambda pair: order_rank[pair[0]])
    others = sorted(
        (pair for pair in pairs if pair[0] not in order_rank), key=lambda pair: live_rank.get(pair[0], last)
    )
    out: list[Any] = []
    waiting = deque(others)
    for identity, item in named:
        place = live_rank.get(identity, -1)
        while waiting and live_rank.get(waiting[0][0], last) < place:
            out.append(waiting.popleft()[1])
        out.append(item)
    return out + [item for _, item in waiting]


def _ranks(items: list[Any], merge_key: str) -> dict[Any, int]:
    ranks: dict[Any, int] = {}
    for item in items:
        ranks.setdefault(_identity(item, merge_key), len(ranks))
    return ranks


def _delete_values(target: dict[str, Any], key: str, values: Any) -> None:
    """Remove scalars from the list `key`, if it is there."""
    if not isinstance(values, list):
        raise bad_request("invalid patch format of primitive list")
    current = target.get(key)
    if isinstance(current, list):
        gone = {_identity(value, "") for value in values}
        target[key] = [value for value in current if _identity(value, "") not in gone]


def _retain_keys(target: dict[str, Any], patch: dict[str, Any]) -> None:
    """Drop every key of the live object that the patch does not retain."""
    retained = patch[_RETAIN_KEYS]
    if not isinstance(retained, list) or not all(isinstance(key, str) for key in retained):
        raise bad_request("invalid patch format of retainKeys")
    for key, value in patch.items():
        if value is not None and not _is_marker(key) and key not in retained:
            raise bad_request("invalid patch format of retainKeys")
    for key in target.keys() - set(retained):
        del target[key]


def _items_are_objects(items: list[Any]) -> bool:
    """Merged lists are lists of objects or lists of scalars."""
    if any(isinstance(item, list) for item in items):
        raise cannot_apply("lists of lists are not supported")
    objects = sum(isinstance(item, dict) for item in items)
    if objects not in (0, len(items)):
        raise bad_request(f"list element types are not identical: {items}")
    return objects > 0


def _identity(item: Any, merge_key: str) -> tuple[bool, Any]:
    """What makes two items the same: the value of the merge key or, in a list of scalars, the item. True is not 1."""
    value = item
    if merge_key:
        if not isinstance(item, dict) or merge_key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {merge_key}")
        value = item[merge_key]
    if isinstance(value, dict | list):
        raise bad_request(f"{value} identifies no list item: it is not a scalar")
    return isinstance(value, bool), value


def _unique(values: list[Any]) -> list[Any]:
    return list({_identity(value, ""): value for value in values}.values())


def _is_marker(key: str) -> bool:
    return key in (_DIRECTIVE, _RETAIN_KEYS) or key.startswith((_DELETE_VALUES, _ORDER))


def _is_directive(value: Any) -> bool:
    return isinstance(value, dict) and _DIRECTIVE in value


def _fresh(value: Any) -> Any:
    """A patch's value where the live object has nothing to merge with: without nulls and directives."""
    if isinstance(value, dict):
        return {
            key: _fresh(child)
            for key, child in value.items()
            if child is not None and not _is_marker(key) and not _is_directive(child)
        }
    if isinstance(value, list):
        return [_fresh(item) for item in value if not _is_directive(item)]
    return value
