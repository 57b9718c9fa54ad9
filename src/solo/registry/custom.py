"""Custom resources: pruning, defaulting and validation by the schema of their definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from kube.machinery import errors
from kube.machinery.errors import Cause
from kube.machinery.resources import Resource
from solo.registry.objects import dig, without
from solo.registry.scale_rules import path_keys, validate_scale, validate_scale_status
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
        pruned = sorted(self.compiled.prune(obj))
        try:
            inner = self.compiled.read_embedded(obj)
        except ValueError as problem:
            text = f'{self.kind} in version "{self.version}" cannot be handled as a {self.kind}: {problem}'
            raise errors.bad_request(text) from None
        return unknown + [f'unknown field "{path}"' for path in [*pruned, *inner]]

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
        return self.compiled.validate(obj, old) + validate_scale(obj, self.scale)

    def validate_status(self, obj: Obj, old: Obj) -> list[Cause]:
        return self.compiled.validate(obj, old) + validate_scale_status(obj, self.scale)

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        known = dig(old, "metadata", "finalizers") or ()
        return [
            f'metadata.finalizers: "{name}": {text}'
            for name in sorted(set(dig(obj, "metadata", "finalizers") or ()) - set(known))
            if (text := _finalizer_advice(name))
        ]


_STANDARD_FINALIZERS = ("orphan", "foregroundDeletion", "kubernetes")


def _finalizer_advice(name: str) -> str:
    if "/" in name or name in _STANDARD_FINALIZERS:
        return ""
    where = "finalizer name including a path (/)" if "." in name else "finalizer name"
    return f"prefer a domain-qualified {where} to avoid accidental conflicts with other finalizer writers"
