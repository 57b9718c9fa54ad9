"""Apply and update: what becomes of an object and of its `managedFields`.

The rules are those of structured-merge-diff's merge/update.go inside the managers of apimachinery's
pkg/util/managedfields/internal. Versions of a kind have the same fields here (conversion strategy None): entries that
were written in another version than the request's are compared as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from kube.machinery.apply.check import problems
from kube.machinery.apply.compare import Comparison, compare
from kube.machinery.apply.conflicts import Conflict, conflict_error, find_conflicts
from kube.machinery.apply.elements import field_element
from kube.machinery.apply.fieldset import FieldSet
from kube.machinery.apply.lastapplied import KUBECTL, fields_of_last_applied, with_annotation
from kube.machinery.apply.managers import (
    Entry,
    Managed,
    ManagerKey,
    cap_updaters,
    decode_managed_fields,
    encode_managed_fields,
)
from kube.machinery.apply.typed import collapse, field_set, merge, remove, with_parents
from kube.machinery.apply.types import ItemError, Type
from kube.machinery.errors import StatusError, bad_request
from kube.machinery.patch._values import clone, refuse_deep_nesting, same

Obj = dict[str, Any]

_BEFORE_FIRST_APPLY = "before-first-apply"
_UNKNOWN = "unknown"

# Never owned by anybody (managedfields/internal/stripmeta.go).
_METADATA_NOT_TRACKED = (
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
)
_NOT_TRACKED = FieldSet(
    {"f:apiVersion", "f:kind", "f:metadata"},
    {"f:metadata": FieldSet(set(map(field_element, _METADATA_NOT_TRACKED)))},
)


class FieldManager:
    """Keeps the books of one kind in one version, for its main resource or one subresource. It has no state.

    `reset_fields` are the paths, as (("status",),), that a write by this resource does not change: on the main
    resource the status, if it is a subresource; on the status subresource everything else.
    """

    def __init__(
        self,
        kind: Type,
        api_version: str,
        kind_name: str,
        *,
        subresource: str = "",
        reset_fields: Iterable[Iterable[str]] = (),
    ) -> None:
        self._type = kind
        self._api_version = api_version
        self._kind_name = kind_name
        self._subresource = subresource
        self._reset = FieldSet.of(map(field_element, path) for path in reset_fields)

    @refuse_deep_nesting
    def apply(self, live: Obj | None, applied: Obj, manager: str, *, force: bool, now: str) -> Obj:
        """The object after an apply, with its managedFields; `live` None: it is created.

        `now` is RFC 3339. Defaults, validation and what the server sets in the metadata come after it. The inputs are
        not changed, and the result shares nothing with them. Raises StatusError: 409 for conflicts; 400 for another
        type of object or managedFields in it; 500, as kube-apiserver answers, for a configuration that does not fit
        the schema (unknown fields, list items that are there twice).
        """
        managed = self._decode_live(live)
        self._check_applied(applied)
        current = _without_managed_fields(live) if live is not None else self._identity()
        key = ManagerKey.applier(manager or _UNKNOWN, self._subresource)
        try:
            if not managed and live is not None:
                managed = self._before_first_apply(current, now)
            managed = self._collapsed(managed)
            merged, owned = self._merge(current, applied, managed, key)
            differences = compare(self._type, current, merged).without(self._reset)
        except ItemError as error:
            raise self._failed("create typed live object", current, str(error)) from None
        conflicts = self._conflicts(current, managed, key, differences)
        if conflicts and not force:
            raise conflict_error(conflicts)
        changed = live is None or not (merged is current or same(current, merged))
        before = managed.get(key)
        time = now if changed else before.time if before is not None else ""
        managed = _disown({**managed, key: Entry(owned, self._api_version, time)}, differences, key)
        _strip(managed, key)
        if key.manager == KUBECTL:
            merged = with_annotation(merged, applied)
        return _with_managed_fields(clone(merged), managed)

    def update(self, live: Obj | None, new: Obj, manager: str, *, now: str) -> Obj:
        """The object to be written by a create (`live` None), update or patch, with its managedFields.

        `new` has been defaulted, and nothing else is changed in it: the result shares structure with it. A list of
        managedFields in it replaces the live one; an empty list, or one with an empty entry, resets it. Never fails:
        when the books cannot be kept, they stay as they were.
        """
        try:
            managed = self._decode_update(live, new)
            current = _without_managed_fields(live) if live is not None else self._empty_object()
            wanted = _without_managed_fields(new)
            if managed or live is None:
                managed = self._update(current, wanted, self._collapsed(managed), manager, now)
        except (ItemError, RecursionError):
            kept = (live or {}).get("metadata", {}).get("managedFields")
            clean = _without_managed_fields(new)
            return {**clean, "metadata": {**clean["metadata"], "managedFields": kept}} if kept else clean
        return _with_managed_fields(wanted, cap_updaters(managed))

    def _update(self, current: Obj, wanted: Obj, managed: Managed, manager: str, now: str) -> Managed:
        differences = compare(self._type, current, wanted).without(self._reset)
        managed = _disown(managed, differences, None)
        changed = differences.modified.union(differences.added).difference(_NOT_TRACKED)
        if changed:
            key = ManagerKey.updater(manager or _UNKNOWN, self._api_version, self._subresource)
            before = managed.get(key)
            fields = changed if before is None else before.fields.union(changed)
            managed[key] = Entry(fields, self._api_version, now)
        return managed

    def _merge(self, current: Obj, applied: Obj, managed: Managed, key: ManagerKey) -> tuple[Obj, FieldSet]:
        """The merged object, and what the applier owns of it.

        What it owned and gave up is removed, unless somebody else owns it.
        """
        owned = field_set(self._type, applied).recursive_difference(self._reset)
        merged: Obj = merge(self._type, current, applied)
        before = managed.get(key)
        if before is None or not before.fields.difference(owned):
            return merged, owned
        kept = with_parents(self._type, owned)
        for other, entry in managed.items():
            if other != key:
                kept = kept.union(with_parents(self._type, entry.fields))
        left: Obj = remove(self._type, merged, with_parents(self._type, before.fields).difference(kept))
        return merge(self._type, left, applied), owned  # what was applied as an empty container is there again

    def _conflicts(self, current: Obj, managed: Managed, key: ManagerKey, differences: Comparison) -> list[Conflict]:
        others = {other: entry.fields for other, entry in managed.items() if other != key}
        found = find_conflicts(others, differences.modified.union(differences.added))
        if found and key.manager == KUBECTL:
            allowed = fields_of_last_applied(self._type, current, self._api_version)
            found = [conflict for conflict in found if not allowed.has(conflict.path)]
        return found

    def _before_first_apply(self, current: Obj, now: str) -> Managed:
        """Fields of an object that nobody kept books of are owned by somebody of that name."""
        return self._update(self._empty_object(), current, {}, _BEFORE_FIRST_APPLY, now)

    def _collapsed(self, managed: Managed) -> Managed:
        return {key: replace(entry, fields=collapse(self._type, entry.fields)) for key, entry in managed.items()}

    def _identity(self) -> Obj:
        return {"apiVersion": self._api_version, "kind": self._kind_name}

    def _empty_object(self) -> Obj:
        return {**self._identity(), **self._type.empty_object()}

    def _check_applied(self, applied: Obj) -> None:
        api_version, kind = applied.get("apiVersion") or "", applied.get("kind") or ""
        if (api_version, kind) != (self._api_version, self._kind_name):
            raise bad_request(f"invalid object type: {_show_type(api_version, kind)}")
        meta = applied.get("metadata")
        if isinstance(meta, dict) and meta.get("managedFields") is not None:
            raise bad_request("metadata.managedFields must be nil")
        wrong = problems(self._type, applied)
        if wrong:
            raise self._failed("create typed patch object", applied, wrong)

    def _decode_live(self, live: Obj | None) -> Managed:
        try:
            return decode_managed_fields((live or {}).get("metadata", {}).get("managedFields"))
        except ValueError as error:
            raise StatusError(500, "", f"failed to decode managed fields: {error}") from None

    def _decode_update(self, live: Obj | None, new: Obj) -> Managed:
        """The entries to go on from: the request's own, if it has any that can be read, else the live object's."""
        given = (new.get("metadata") or {}).get("managedFields")
        if not self._subresource and given is not None:
            if given in ([], [{}]):
                return {}
            try:
                managed = decode_managed_fields(given)
                if managed:
                    return managed
            except (ValueError, TypeError):
                pass  # a client that does not understand the field shall not delete what others rely on
        try:
            return decode_managed_fields((live or {}).get("metadata", {}).get("managedFields"))
        except ValueError:
            return {}

    def _failed(self, what: str, obj: Obj, why: str) -> StatusError:
        """As kube-apiserver, which answers these with 500 and no reason."""
        meta = obj.get("metadata")
        meta = meta if isinstance(meta, dict) else {}
        name = f"{meta.get('namespace') or ''}/{meta.get('name') or ''}"
        shown = _show_type(self._api_version, self._kind_name)
        return StatusError(500, "", f"failed to {what} ({name}; {shown}): {why}")


def _disown(managed: Managed, differences: Comparison, applier: ManagerKey | None) -> Managed:
    """Nobody but the applier owns what has changed, nobody at all owns what is gone; who owns nothing is dropped."""
    taken = differences.modified.union(differences.added).union(differences.removed)
    left = {}
    for key, entry in managed.items():
        kept = entry if key == applier or not taken else replace(entry, fields=entry.fields.difference(taken))
        if kept.fields:
            left[key] = kept
    return left


def _strip(managed: Managed, key: ManagerKey) -> None:
    entry = managed.get(key)
    if entry is None:
        return
    fields = entry.fields.difference(_NOT_TRACKED)
    if fields:
        managed[key] = replace(entry, fields=fields)
    else:
        del managed[key]


def _without_managed_fields(obj: Obj) -> Obj:
    meta = obj.get("metadata")
    meta = {name: value for name, value in meta.items() if name != "managedFields"} if isinstance(meta, dict) else {}
    return {**obj, "metadata": meta}


def _with_managed_fields(obj: Obj, managed: Managed) -> Obj:
    if not managed:
        return obj
    return {**obj, "metadata": {**(obj.get("metadata") or {}), "managedFields": encode_managed_fields(managed)}}


def _show_type(api_version: str, kind: str) -> str:
    """A GroupVersionKind as Go prints it."""
    group, _, version = api_version.rpartition("/")
    return f"{group}/{version}, Kind={kind}"
