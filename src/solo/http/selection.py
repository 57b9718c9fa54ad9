"""Which objects a list or watch is about: namespace, label selector, field selector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kube.machinery import errors
from kube.machinery.selectors import FieldSelector, LabelSelector, parse_field_selector, parse_label_selector
from solo.registry.kinds import Kind
from solo.store import Stored

Obj = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter on the objects of one kind; `name` is set when the field selector asks for just one."""

    kind: Kind
    labels: LabelSelector | None = None
    fields: FieldSelector | None = None
    name: str = ""

    @property
    def everything(self) -> bool:
        return self.labels is None and self.fields is None

    def matches(self, stored: Stored) -> bool:
        if self.labels is not None and not self.labels.matches(stored.labels):
            return False
        if self.fields is None:
            return True
        obj, strategy = stored.obj, self.kind.strategy
        return self.fields.matches(lambda field: strategy.selectable(obj, field))


def read_selection(kind: Kind, label_text: str, field_text: str) -> Selection:
    """The selection that the query parameters describe. Raises 400 for one that cannot be understood."""
    labels: LabelSelector | None = None
    fields: FieldSelector | None = None
    name = ""
    if label_text:
        try:
            labels = parse_label_selector(label_text)
        except ValueError as problem:
            raise errors.bad_request(str(problem)) from None
    if field_text:
        fields, name = _read_fields(kind, field_text)
    return Selection(kind, labels, fields, name)


def _read_fields(kind: Kind, text: str) -> tuple[FieldSelector | None, str]:
    try:
        fields = parse_field_selector(text)
    except ValueError as problem:
        raise errors.bad_request(str(problem)) from None
    name = ""
    known = kind.strategy.fields
    for field, operator, value in fields.requirements:
        if field not in known:
            if kind.custom or len(known) > 2:
                raise errors.bad_request(f"field label not supported: {field}")
            raise errors.bad_request(
                f'"{field}" is not a known field selector: only "metadata.name", "metadata.namespace"'
            )
        if field == "metadata.name" and operator in ("=", "=="):
            name = value
    return (fields if fields.requirements else None), name
