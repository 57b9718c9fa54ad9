"""The description of one served kind: where it lives, how clients may call it, and which rules its objects obey."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kube.machinery.resources import ALL_VERBS, Resource
from kube.machinery.schema.numbers import write_whole
from solo.registry.books import FieldBooks
from solo.registry.forms import Form
from solo.registry.objects import decode, encode

if TYPE_CHECKING:
    from solo.registry.custom import Family
    from solo.registry.strategy import Strategy

Obj = dict[str, Any]

CUSTOM_VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")


@dataclass(frozen=True, slots=True)
class Subresource:
    """A subresource in discovery: its name, the kind it speaks and its verbs."""

    name: str
    verbs: tuple[str, ...] = ("get", "patch", "update")
    group: str = ""
    version: str = ""
    kind: str = ""


STATUS = Subresource("status")
SCALE = Subresource("scale", group="autoscaling", version="v1", kind="Scale")


@dataclass(frozen=True, slots=True)
class PrinterColumn:
    """One of a custom resource's `additionalPrinterColumns` (apiextensions v1)."""

    name: str
    type: str
    json_path: str
    description: str = ""
    format: str = ""
    priority: int = 0


@dataclass(eq=False, slots=True)
class Kind:
    """A resource in one served version.

    `storage_version` is the apiVersion in which objects are written. The versions of a custom resource share their
    objects: `family` is what they have in common, and objects come from the store through `solo.registry.views`.
    `form` is set for a built-in kind that shares the objects of another one (autoscaling/v1 those of v2), and
    `stored_as` where that is another resource (events.k8s.io shares those of the core events).
    """

    resource: Resource
    strategy: Strategy
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    singular: str = ""
    list_kind: str = ""
    subresources: tuple[Subresource, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    storage_version: str = ""
    definition: str = ""
    custom: bool = False
    columns: tuple[PrinterColumn, ...] = ()
    deprecation_warning: str = ""
    schema: Obj | None = None
    terminating: bool = False
    family: Family | None = None
    stored_as: str = ""
    form: Form | None = None
    books: FieldBooks = field(init=False)
    prefix: bytes = field(default=b"", init=False)

    def __post_init__(self) -> None:
        self.books = FieldBooks(self.resource, self.strategy)
        self.singular = self.singular or self.resource.kind.lower()
        self.list_kind = self.list_kind or self.resource.kind + "List"
        self.storage_version = self.storage_version or self.resource.api_version
        version = self.resource.api_version if self.custom else self.storage_version
        self.prefix = f'{{"apiVersion":"{version}","kind":"{self.resource.kind}",'.encode()

    @property
    def store_resource(self) -> str:
        """The first part of the store's keys."""
        return self.stored_as or self.resource.group_resource

    @property
    def warnings(self) -> tuple[str, ...]:
        """What every answer about the kind warns of."""
        return (self.deprecation_warning,) if self.deprecation_warning else ()

    def subresource(self, name: str) -> Subresource | None:
        return next((sub for sub in self.subresources if sub.name == name), None)

    def served_raw(self, raw: bytes) -> bytes:
        """The bytes of an object in this version as they are served."""
        return raw if self.form is None else encode(self.served(decode(raw)))

    def item_raw(self, raw: bytes) -> bytes:
        """The stored bytes as an item of a list: built-in kinds leave apiVersion and kind to the list."""
        if self.custom or self.form is not None:
            return self.served_raw(raw)
        return b"{" + raw[len(self.prefix) :]

    def served(self, obj: Obj) -> Obj:
        """A shallow copy of a stored object with this version's apiVersion."""
        if self.form is not None:
            obj = self.form.served(obj)
        return {**obj, "apiVersion": self.resource.api_version}

    def stored(self, obj: Obj) -> Obj:
        """A shallow copy of a served object in the order and version in which it is stored.

        Every stored object begins with apiVersion, kind and metadata, so that `served_raw` and `item_raw` can work
        on bytes. Floats of custom resources that are whole numbers become integers, in the object itself.
        """
        if self.custom:
            write_whole(obj)
        if self.form is not None:
            obj = self.form.stored(obj)
        ordered = {
            "apiVersion": self.storage_version,
            "kind": self.resource.kind,
            "metadata": obj.get("metadata") or {},
        }
        ordered.update((key, value) for key, value in obj.items() if key not in ordered)
        return ordered
