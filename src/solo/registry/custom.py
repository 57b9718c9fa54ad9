"""Custom resources: pruning, defaulting and validation by the schema of their definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from kube.machinery.errors import Cause, cause
from kube.machinery.resources import Resource
from solo.registry.objects import dig, without
from solo.registry.strategy import METADATA_FIELDS, Strategy, decode_metadata, keep

if TYPE_CHECKING:
    from kube.machinery.schema import Schema
    from solo.store import Stored

Obj = dict[str, Any]


@dataclass(eq=False, slots=True)
class Family:
    """What the versions of one custom resource share.

    `since` is the revision at which its definition came to be as it is. `webhook` is None for conversion strategy None.
    `strategies` has the versions, those that are not served among them, and `kept` objects in one, by apiVersion.
    """

    since: int
    webhook: Obj | None
    strategies: Mapping[str, Strategy]
    kept: dict[str, WeakKeyDictionary[Stored, Stored]] = field(default_factory=dict)


class CustomStrategy(Strategy):
    """The rules of one version of one custom resource. Its schema is compiled on first use."""

    allow_unconditional_update = False
    tracks_generation = True

    def __init__(
        self,
        resource: Resource,
        schema: Obj,
        *,
        has_status: bool,
        scale: Obj | None,
        selectable: Sequence[str],
        preserve_unknown: bool,
    ) -> None:
        self.group = resource.group
        self.kind = resource.kind
        self.version = resource.version
        self.namespaced = resource.namespaced
        self.has_status = has_status
        self.scale = scale
        self._schema = {**schema, "x-kubernetes-preserve-unknown-fields": True} if preserve_unknown else schema
        self._compiled: Schema | None = None
        self.fields = {**METADATA_FIELDS, **{path.lstrip("."): path_keys(path) for path in selectable}}

    @property
    def compiled(self) -> Schema:
        if self._compiled is None:
            from kube.machinery.schema import compile_schema

            self._compiled = compile_schema(self._schema)
        return self._compiled

    def decode(self, obj: Obj) -> list[str]:
        unknown = decode_metadata(obj, self.kind, self.version)
        return sorted(unknown + [f'unknown field "{path}"' for path in self.compiled.prune(obj)])

    def openapi_schema(self) -> Obj:
        return self._schema

    def reset_fields(self, subresource: str) -> tuple[tuple[str, ...], ...]:
        return (("metadata",), ("spec",)) if subresource == "status" else super().reset_fields(subresource)

    def default(self, obj: Obj) -> None:
        self.compiled.default(obj)

    def desired(self, obj: Obj) -> Obj:
        if self.has_status:
            return super().desired(obj)
        return without(obj, "apiVersion", "kind", "metadata")

    def prepare_status(self, obj: Obj, old: Obj) -> None:
        """Only the status stanza counts (CRD documentation, "Status subresource")."""
        books = obj["metadata"]
        obj["metadata"] = {**old["metadata"]}
        keep(obj["metadata"], books, "managedFields")
        for key in {*obj, *old} - {"status", "metadata", "apiVersion", "kind"}:
            keep(obj, old, key)

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        return self.compiled.validate(obj, old) + self._validate_scale(obj)

    def validate_status(self, obj: Obj, old: Obj) -> list[Cause]:
        return self.compiled.validate(obj, old)

    def _validate_scale(self, obj: Obj) -> list[Cause]:
        """Replicas must be a number that the scale subresource can show."""
        if self.scale is None:
            return []
        path = self.scale["specReplicasPath"]
        value = dig(obj, *path_keys(path))
        if value is None:
            return []
        if isinstance(value, bool) or not isinstance(value, int):
            names = {str: "string", bool: "bool", float: "float64"}
            detail = f"{path} accessor error: {value} is of the type {names.get(type(value), 'object')}, expected int64"
            return [cause("FieldValueInvalid", path, detail, "0")]
        if value < 0:
            return [cause("FieldValueInvalid", path, "should be a non-negative integer", str(value))]
        return []


def path_keys(path: str) -> tuple[str, ...]:
    """`.spec.replicas` as keys."""
    return tuple(path.lstrip(".").split("."))
