"""What server-side apply must know of a type: is it merged or replaced, and what identifies the items of its lists.

Compiled from a CRD version's structural schema or a built-in kind's schema, each node when a value first reaches it.
The rules are kube-openapi's pkg/schemaconv: lists are atomic unless `x-kubernetes-list-type` (or, for old built-in
types, the patch strategy) says otherwise; maps and objects are granular unless `x-kubernetes-map-type: atomic`;
where the schema says nothing, the type is deduced from the value, with atomic lists and granular maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kube.machinery import builtin
from kube.machinery.apply.elements import key_element, value_element

Node = dict[str, Any]

SCALAR, LIST, MAP = 1, 2, 3  # the shapes of a value

_STRING: Node = {"type": "string"}
_NO_PROPERTIES: dict[str, Node] = {}
_SCALARS = {"integer": "numeric", "number": "numeric", "boolean": "boolean"}
_UNTYPED = "untyped"

# Defaults of list-map keys that Kubernetes' Go sources declare and its swagger file leaves out.
_BUILTIN_KEY_DEFAULTS = {"protocol": "TCP"}

# Fields that are structures, not pointers, in Kubernetes' Go types: an empty object of a built-in kind has them.
_ALWAYS_PRESENT = {
    "metadata",
    "spec",
    "status",
    "template",
    "strategy",
    "updateStrategy",
    "jobTemplate",
    "roleRef",
    "names",
    "acceptedNames",
    "involvedObject",
    "source",
    "loadBalancer",
    "nodeInfo",
    "daemonEndpoints",
    "kubeletEndpoint",
}
# Lists that Go writes as null when there is nothing in them: known, so that they are not new when they are filled.
_ALWAYS_NULL = {"containers"}


class ItemError(ValueError):
    """A list item that its list's keys cannot identify."""


class ListType:
    """A list: `atomic`, or with items that are known by their keys (a map) or by themselves (a set: no keys)."""

    __slots__ = ("_compiler", "_item", "_node", "_preserve", "atomic", "defaults", "keys")

    def __init__(self, compiler: TypeCompiler, node: Node, preserve: bool) -> None:
        self._compiler = compiler
        self._node = node
        self._preserve = preserve
        self._item: Type | None = None
        self.keys: tuple[str, ...] = ()
        self.atomic = True
        list_type = node.get("x-kubernetes-list-type")
        if list_type is not None:
            self.atomic = list_type not in ("set", "map")
            if list_type == "map":
                self.keys = tuple(node.get("x-kubernetes-list-map-keys") or ())
        elif node.get("x-kubernetes-patch-strategy") in ("merge", "merge,retainKeys"):
            self.atomic = False
            merge_key = node.get("x-kubernetes-patch-merge-key")
            self.keys = (merge_key,) if isinstance(merge_key, str) else ()
        self.defaults = self._key_defaults() if self.keys else {}

    def _key_defaults(self) -> dict[str, Any]:
        properties = (self._node.get("items") or {}).get("properties") or _NO_PROPERTIES
        declared = {key: (properties.get(key) or {}).get("default") for key in self.keys}
        known = _BUILTIN_KEY_DEFAULTS if self._compiler.native else {}
        found = {key: known.get(key) if value is None else value for key, value in declared.items()}
        return {key: value for key, value in found.items() if value is not None}

    @property
    def item(self) -> Type:
        """The type of the items."""
        if self._item is None:
            self._item = self._compiler.compile(self._node.get("items") or {}, self._preserve)
        return self._item

    def element(self, item: Any) -> str:
        """The path element of an item; of a list that is not atomic. Raises ItemError if it has none."""
        if not self.keys:
            return self._value_element(item)
        if item is None:
            raise ItemError("associative list with keys may not have a null element")
        if not isinstance(item, dict):
            raise ItemError("associative list with keys may not have non-map elements")
        values = {}
        for key in self.keys:
            if key in item:
                values[key] = item[key]
            elif key in self.defaults:
                values[key] = self.defaults[key]
            else:
                raise ItemError(
                    "associative list with keys has an element that omits key field "
                    f'"{key}" (and doesn\'t have default value)'
                )
        return key_element(values)

    def _value_element(self, item: Any) -> str:
        if isinstance(item, dict):
            raise ItemError("associative list without keys has an element that's a map type")
        if isinstance(item, list):
            raise ItemError("not supported: associative list with lists as elements")
        if item is None:
            raise ItemError("associative list without keys has an element that's an explicit null")
        return value_element(item)

    def elements(self, items: list[Any]) -> list[str]:
        """The elements of all items, in order. Raises ItemError with the index of the item that has none."""
        found = []
        for index, item in enumerate(items):
            try:
                found.append(self.element(item))
            except ItemError as error:
                raise ItemError(f"element {index}: {error}") from None
        return found


class MapType:
    """An object or a map: `atomic`, or merged member by member."""

    __slots__ = ("_compiler", "_extra", "_nodes", "_open", "_preserve", "_types", "atomic")

    def __init__(self, compiler: TypeCompiler, node: Node, properties: dict[str, Node], preserve: bool) -> None:
        extra = node.get("additionalProperties")
        self._compiler = compiler
        self._nodes = properties
        self._extra: Node | None = extra if isinstance(extra, dict) else None
        self._open = (preserve or not properties) if extra is None else extra is not False
        self._preserve = preserve
        self._types: dict[str, Type] = {}
        self.atomic = node.get("x-kubernetes-map-type") == "atomic"

    def declares(self, name: str) -> bool:
        """Whether the schema names this member, as opposed to allowing any name."""
        return name in self._nodes

    def allows(self, name: str) -> bool:
        """Whether a member of this name may be there at all."""
        return self._open or name in self._nodes

    def child(self, name: str) -> Type:
        """The type of a member; of one that the schema does not allow, the deduced type."""
        node = self._nodes.get(name, self._extra)
        if node is None:
            return DEDUCED
        key = name if name in self._nodes else ""  # no property has an empty name: it stands for all the others
        found = self._types.get(key)
        if found is None:
            found = self._types[key] = self._compiler.compile(node, self._preserve)
        return found

    def present_when_empty(self) -> dict[str, Any]:
        """The members that Go writes for an empty structure of a built-in kind."""
        found: dict[str, Any] = dict.fromkeys(self._nodes.keys() & _ALWAYS_NULL)
        for name in self._nodes.keys() & _ALWAYS_PRESENT:
            below = self.child(name).mapping
            if below is not None and below._nodes:
                found[name] = {} if below.atomic else below.present_when_empty()
        return found


@dataclass(slots=True, eq=False)
class Type:
    """What a value may be: a scalar (of which kind; empty for none), a list, a map; several if it is deduced."""

    scalar: str = ""
    listing: ListType | None = None
    mapping: MapType | None = None
    native: bool = False

    def shape(self, value: Any) -> int:
        """As what a value is handled. A value of no allowed type is handled as the first allowed one."""
        kind = value.__class__
        if kind is dict:
            if self.mapping is not None:
                return MAP
        elif kind is list:
            if self.listing is not None:
                return LIST
        elif self.scalar and value is not None:
            return SCALAR
        if self.mapping is not None:
            return MAP
        return SCALAR if self.scalar else LIST

    def empty_object(self) -> dict[str, Any]:
        """What an object of a built-in kind consists of before anything is set; nothing for other kinds."""
        return self.mapping.present_when_empty() if self.native and self.mapping is not None else {}


class TypeCompiler:
    """Compiles the nodes of one schema; shared nodes are compiled once, cycles are followed by values only."""

    def __init__(self, native: bool) -> None:
        self.native = native
        self._memo: dict[tuple[int, bool], Type] = {}

    def compile(self, node: Node, preserve: bool) -> Type:
        """The type of a node. `preserve`: a node above it keeps unknown fields, which holds for those below."""
        key = (id(node), preserve)
        if key not in self._memo:
            self._memo[key] = self._compile(node, preserve)
        return self._memo[key]

    def _compile(self, node: Node, preserve: bool) -> Type:
        preserve = preserve or bool(node.get("x-kubernetes-preserve-unknown-fields"))
        declared = node.get("type")
        properties = self._properties(node)
        if declared == "object" or (declared is None and properties):
            return Type(mapping=MapType(self, node, properties, preserve), native=self.native)
        if declared is None:
            return DEDUCED
        if declared == "array":
            return Type(listing=ListType(self, node, preserve))
        if declared == "string" and node.get("format") in (None, "", "byte"):
            return Type("string")
        return Type(_SCALARS.get(declared, _UNTYPED) if isinstance(declared, str) else _UNTYPED)

    def _properties(self, node: Node) -> dict[str, Node]:
        properties: dict[str, Node] = node.get("properties") or _NO_PROPERTIES
        return _with_metadata(properties) if node.get("x-kubernetes-embedded-resource") else properties


def compile_type(schema: Node, *, embedded_root: bool = True) -> Type:
    """The type of a schema: a CRD version's, or `builtin.openapi_v3_schema(name)`. Compile it once and keep it.

    With `embedded_root` the value is a whole Kubernetes object, so that it has apiVersion, kind and metadata whether
    the schema names them or not. The schema must not be changed afterwards.
    """
    native = "x-go-type" in schema
    if embedded_root and not native:
        schema = {**schema, "type": "object", "properties": _with_metadata(schema.get("properties") or _NO_PROPERTIES)}
    return TypeCompiler(native).compile(schema, False)


def _with_metadata(properties: dict[str, Node]) -> dict[str, Node]:
    meta = builtin.openapi_v3_schema(builtin.OBJECT_META)
    return {**properties, "apiVersion": _STRING, "kind": _STRING, "metadata": meta}


# For values that no schema describes.
_NOTHING = TypeCompiler(False)
DEDUCED = Type(_UNTYPED, ListType(_NOTHING, {}, False), MapType(_NOTHING, {}, {}, False))
