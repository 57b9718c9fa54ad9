"""How objects of one kind are decoded, defaulted, validated and changed; the base of every kind's rules.

The order of steps is kube-apiserver's: decode (unknown fields), default, prepare (server-owned fields), validate,
admission. A subclass overrides the step in which its kind differs. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kube.machinery import names, objectmeta
from kube.machinery.errors import Cause
from solo.registry import meta
from solo.registry.builtin_schema import BuiltinSchema, metadata_schema
from solo.registry.objects import dig, without

Obj = dict[str, Any]

METADATA_FIELDS: Mapping[str, tuple[str, ...]] = {
    "metadata.name": ("metadata", "name"),
    "metadata.namespace": ("metadata", "namespace"),
}


_CORE_RULES = frozenset(
    {
        "",
        "apps",
        "autoscaling",
        "batch",
        "certificates.k8s.io",
        "networking.k8s.io",
        "policy",
        "rbac.authorization.k8s.io",
        "scheduling.k8s.io",
        "storage.k8s.io",
    }
)
"""Groups whose metadata Kubernetes checks by core's `ValidateObjectMeta`."""


ALL_METADATA = ("annotations", "finalizers", "labels", "ownerReferences")
"""`kept_by_status` of a kind that calls `ResetObjectMetaForStatus`."""


class Strategy:
    """The rules of a kind. The defaults fit a plain object without spec and status, such as a ConfigMap."""

    group = ""
    kind = ""
    namespaced = True
    has_status = False
    """`status` is written only through the status subresource."""
    tracks_generation = False
    allow_unconditional_update = True
    """An update without resourceVersion replaces whatever is there."""
    creates_on_update = False
    """An update of an object that is not there makes it."""
    returns_deleted = False
    """DELETE answers with the object, not with a Status."""
    records_deletion = True
    """A deletion that waits counts as a change of the spec: it sets the grace period and a new generation."""
    kept_by_status: tuple[str, ...] = ()
    """The metadata that a write of the status subresource leaves as it is."""
    default_propagation = ""
    """What becomes of what an object owns when a deletion does not say; Background where this is empty, too."""
    fields: Mapping[str, tuple[str, ...]] = METADATA_FIELDS
    """What a field selector may name."""

    # ---- decoding

    def decode(self, obj: Obj) -> list[str]:
        """Bring a body into the stored shape, in place. Returns the paths of unknown fields, which are dropped.

        Raises 400 where a value has a type that the kind cannot hold.
        """
        return []

    def default(self, obj: Obj) -> None:
        """Fill in defaults, in place."""

    def patch_schema(self) -> str | None:
        """The definition that steers strategic merge patches; None where they are not supported."""
        return None

    def openapi_schema(self) -> Obj:
        """The OpenAPI v3 schema of the kind; not to be changed."""
        return {}

    def reset_fields(self, subresource: str) -> tuple[tuple[str, ...], ...]:
        """What a write through the kind itself ("") or a subresource leaves as it was: nobody comes to own it."""
        if subresource == "status":
            return (("spec",), *(("metadata", key) for key in self.kept_by_status))
        return (("status",),) if self.has_status else ()

    # ---- preparing

    def prepare_create(self, obj: Obj) -> None:
        if self.has_status:
            obj.pop("status", None)

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        """Undo what a client cannot change through the main resource; count generations."""
        if self.has_status:
            keep(obj, old, "status")
        if self.tracks_generation and self.desired(obj) != self.desired(old):
            obj["metadata"]["generation"] = int(dig(old, "metadata", "generation") or 0) + 1

    def prepare_status(self, obj: Obj, old: Obj) -> None:
        """Undo what a client cannot change through `/status`: all but status and most metadata."""
        for key in {*obj, *old} - {"status", "metadata", "apiVersion", "kind"}:
            keep(obj, old, key)
        for key in self.kept_by_status:
            keep(obj["metadata"], old["metadata"], key)

    def prepare_subresource(self, subresource: str, obj: Obj, old: Obj) -> None:
        """Undo what a client cannot change through another subresource than status."""
        self.prepare_update(obj, old)

    def desired(self, obj: Obj) -> Obj:
        """The part of an object whose change makes a new generation."""
        return without(obj, "apiVersion", "kind", "metadata", "status")

    # ---- validating

    def validate_name(self, name: str) -> list[str]:
        return names.dns1123_subdomain(name)

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        """What is wrong with the object itself; `old` is given on update."""
        return []

    def validate_status(self, obj: Obj, old: Obj) -> list[Cause]:
        """What is wrong with it after a write to `/status`."""
        return []

    def validate_all(self, obj: Obj, old: Obj | None, subresource: str = "") -> list[Cause]:
        """Metadata and object."""
        causes = objectmeta.validate(obj["metadata"], self.validate_name, namespaced=self.namespaced)
        if old is not None:
            causes += meta.validate_update(obj["metadata"], old["metadata"])
        if subresource in ("status", "approval", "binding") and old is not None:
            return causes + self.validate_status(obj, old)
        return causes + self.validate(obj, old)

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        """What a client should know about an object that is accepted; `old` is given on update."""
        return []

    # ---- deleting

    def deletion_grace(self, obj: Obj, requested: int | None) -> int | None:
        """Seconds that a deletion leaves to whoever runs the object; None if the kind is not deleted gracefully."""
        return None

    def begin_deletion(self, obj: Obj) -> None:
        """Called when an object is marked as being deleted but stays for now."""

    def removable(self, obj: Obj) -> bool:
        """Whether a marked object may go: no finalizer is left."""
        return not dig(obj, "metadata", "finalizers")

    def refuse_deletion(self, obj: Obj) -> None:
        """Raise if the object must not be deleted."""

    # ---- selecting

    def selectable(self, obj: Obj, field: str) -> str:
        """The value of a field selector's field, "" where it is not set."""
        value = dig(obj, *self.fields[field])
        if value is None:
            return ""
        if isinstance(value, bool):
            return "true" if value else "false"
        return str(value)


class BuiltinStrategy(Strategy):
    """Rules shared by the kinds that Kubernetes itself defines: their types come from its published definitions."""

    def __init__(self, group: str, version: str, kind: str, definition: str, *, namespaced: bool) -> None:
        self.group = group
        self.version = version
        self.kind = kind
        self.namespaced = namespaced
        self.definition = definition
        self._schema = BuiltinSchema(definition, kind, version)

    def decode(self, obj: Obj) -> list[str]:
        return self._schema.decode(obj)

    def validate_all(self, obj: Obj, old: Obj | None, subresource: str = "") -> list[Cause]:
        causes = super().validate_all(obj, old, subresource)
        if self.group in _CORE_RULES:
            causes += objectmeta.validate_standard_finalizers(obj["metadata"].get("finalizers") or [])
        return causes

    def patch_schema(self) -> str | None:
        return self.definition

    def openapi_schema(self) -> Obj:
        from kube.machinery.builtin import openapi_v3_schema

        return openapi_v3_schema(self.definition)


def decode_metadata(obj: Obj, kind: str, version: str) -> list[str]:
    """Decode the metadata of a custom resource, whose own schema does not describe it."""
    given = obj.get("metadata")
    holder = {"metadata": {} if given is None else given}
    unknown = metadata_schema(kind, version).decode(holder)
    obj["metadata"] = holder["metadata"]
    return unknown


def keep(obj: Obj, old: Obj, key: str) -> None:
    """Make `obj[key]` what it was in `old`."""
    if key in old:
        obj[key] = old[key]
    else:
        obj.pop(key, None)
