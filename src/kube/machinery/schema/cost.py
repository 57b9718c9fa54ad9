"""What a rule may cost at worst, estimated when its definition is written (KEP-2876, "Resource constraints").

As cel-go's checker/cost.go with the sizes that apiextensions' pkg/apiserver/schema/cel takes from the schema: a unit is
about one operation, a list without `maxItems` is as long as fits into a request, and a rule below such a list is
evaluated as often.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from kube.machinery.cel.escape import unescape
from kube.machinery.cel.syntax import Call, Collection, Const, Expr, Ident, Loop, Select

Node = dict[str, Any]

RULE_LIMIT = 10_000_000
"""Of one rule, as often as it may be evaluated for one object."""
TOTAL_LIMIT = 100_000_000
"""Of all rules of a schema."""

MAX = 2**64 - 1
_REQUEST = 3 * 1024 * 1024
_TRAVERSAL, _REGEX = 0.1, 0.25
_LIST, _MAP = 10, 30
_FORMAT_SIZES = {"date": 10, "date-time": 29, "datetime": 29, "duration": 32}
_EMPTY: Node = {}
_STRING: Node = {"type": "string", "maxLength": 0}
_COMPARISONS = frozenset({"_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_"})
_TEXT_FUNCTIONS = frozenset({
    "lowerAscii", "upperAscii", "substring", "trim", "replace", "split", "join", "quote", "reverse", "url", "isURL",
    "quantity", "isQuantity", "ip", "isIP", "cidr", "isCIDR", "string", "bytes", "format",
})  # fmt: skip
_LIST_FUNCTIONS = frozenset(["isSorted", "sum", "min", "max", "indexOf", "lastIndexOf"])


def times(left: int, right: int) -> int:
    """A product that does not grow over what 64 bits hold."""
    return min(left * right, MAX)


def max_items(node: Node) -> int:
    """How many elements a value of a schema has at most: of a list or map elements, of a string bytes."""
    kind = node.get("type")
    if node.get("x-kubernetes-int-or-string"):
        return _REQUEST - 2
    if kind == "array":
        limit = node.get("maxItems")
        return max(int(limit), 0) if limit is not None else (_REQUEST - 2) // (min_size(node.get("items")) + 1)
    if kind == "object":
        extra = node.get("additionalProperties")
        if not isinstance(extra, dict):
            return 0
        limit = node.get("maxProperties")
        return max(int(limit), 0) if limit is not None else (_REQUEST - 2) // (min_size(extra) + 6)
    if kind == "string":
        limit = node.get("maxLength")
        if limit is not None:
            return max(int(limit), 0) * 4
        if node.get("enum"):
            return max(len(str(value)) for value in node["enum"])
        return _FORMAT_SIZES.get(node.get("format") or "", _REQUEST - 2)
    return 0


def min_size(node: Node | None) -> int:
    """The least bytes that a value of a schema takes in a request."""
    node = node or _EMPTY
    kind = node.get("type")
    if node.get("x-kubernetes-int-or-string") or kind in ("integer", "number"):
        return 1
    if kind == "boolean":
        return 4
    if kind != "object":
        return 2
    properties, size = node.get("properties") or {}, 2
    for name in node.get("required") or ():
        child = properties.get(name)
        if child is not None and child.get("default") is None:
            size += len(name) + min_size(child) + 4
    return size


def cardinality(node: Node, parent: int | None) -> int | None:
    """How often a rule on the elements of a list or map is evaluated; None when the schema sets no bound."""
    limit = node.get("maxItems") if node.get("type") == "array" else node.get("maxProperties")
    return None if parent is None or limit is None else times(parent, int(limit))


def unbounded_cardinality(node: Node) -> int:
    """How many values of a schema fit into a request."""
    return _REQUEST // (min_size(node) + 1)


def rule_cost(expression: Expr, node: Node) -> int:
    """The most that one evaluation of an expression costs, with `self` and `oldSelf` of a schema."""
    place = Place(0, None, node)
    return _Estimator({"self": place, "oldSelf": place}).of(expression).cost


@dataclass(frozen=True, slots=True)
class Place:
    """A part of an expression: what it costs, its size if that is known, and the schema of what it refers to."""

    cost: int
    size: int | None = None
    node: Node | None = None

    @property
    def largest(self) -> int:
        """The size that is reckoned with."""
        if self.size is not None:
            return self.size
        return MAX if self.node is None else max_items(self.node)


def _share(size: int, factor: float) -> int:
    """Part of a size, rounded up."""
    return MAX if size >= MAX else int(-(-size * factor // 1))


class _Estimator:
    def __init__(self, variables: dict[str, Place]) -> None:
        self._variables = variables

    def of(self, expression: Expr) -> Place:
        if isinstance(expression, Const):
            return Place(0, expression.size)
        if isinstance(expression, Ident):
            return replace(self._variables.get(expression.name, Place(0)), cost=1)
        if isinstance(expression, Select):
            below = self.of(expression.operand)
            if expression.presence:
                return Place(below.cost, 1)
            return Place(min(below.cost + 1, MAX), None, _field(below.node, unescape(expression.field)))
        if isinstance(expression, Collection):
            cost = sum(self.of(item).cost for item in expression.elements) + (_MAP if expression.is_map else _LIST)
            return Place(min(cost, MAX), len(expression.elements) // (2 if expression.is_map else 1))
        if isinstance(expression, Loop):
            return self._loop(expression)
        return self._call(expression)

    def _loop(self, loop: Loop) -> Place:
        over, initial = self.of(loop.over), self.of(loop.initial)
        inner = dict(self._variables)
        inner[loop.accumulator] = Place(0, initial.largest)
        element = _element(over.node)
        is_map = over.node is not None and over.node.get("type") == "object"
        inner[loop.variable] = Place(0, None, _STRING if is_map else element)
        if loop.second:
            inner[loop.second] = Place(0, None, element)
        within = _Estimator(inner)
        each = within.of(loop.condition).cost + within.of(loop.step).cost
        cost = over.cost + initial.cost + within.of(loop.result).cost + times(over.largest, each)
        builds = isinstance(loop.initial, Collection)
        return Place(min(cost, MAX), over.largest if builds else 1, over.node if builds else None)

    def _call(self, call: Call) -> Place:
        target = self.of(call.target) if call.target is not None else None
        arguments = [self.of(item) for item in call.arguments]
        everything = [*([target] if target is not None else []), *arguments]
        paid = min(sum(item.cost for item in everything), MAX)
        own, size, node = _function(call.function, everything)
        return Place(min(paid + own, MAX), size, node)


def _function(name: str, given: list[Place]) -> tuple[int, int | None, Node | None]:
    """The cost of a call itself, and size and schema of its result."""
    sizes = [item.largest for item in given]
    if name in ("_&&_", "_||_"):
        return 0, 1, None
    if name == "_?_:_":
        return 0, max(sizes[1:]), given[1].node
    if name in _COMPARISONS and len(sizes) == 2:
        return _share(min(sizes), _TRAVERSAL), 1, None
    if name == "_[_]":
        return 1, None, _element(given[0].node)
    if name == "@in" and len(sizes) == 2:
        return sizes[1], 1, None
    if name in ("startsWith", "endsWith") and len(sizes) == 2:
        return _share(sizes[1], _TRAVERSAL), 1, None
    if name == "contains" and len(sizes) == 2:
        return times(_share(sizes[0], _TRAVERSAL), _share(sizes[1], _TRAVERSAL)), 1, None
    if name in ("matches", "find", "findAll") and len(sizes) >= 2:
        text = _share(min(sizes[0] + 1, MAX), _TRAVERSAL)
        return times(text, _share(sizes[1], _REGEX)), 1 if name == "matches" else sizes[0], None
    if name == "_+_" and len(sizes) == 2:
        total = min(sum(sizes), MAX)
        is_text = any(item.node is not None and item.node.get("type") == "string" for item in given)
        return (_share(total, _TRAVERSAL) if is_text else 1), total, None
    if name in _TEXT_FUNCTIONS and sizes:
        return max(_share(sizes[0], _TRAVERSAL), 1), sizes[0], None
    if name in _LIST_FUNCTIONS and sizes:
        return max(sizes[0], 1), 1, None
    return 1, 1, None


def _field(node: Node | None, name: str) -> Node | None:
    if node is None:
        return None
    found = (node.get("properties") or _EMPTY).get(name)
    return found if found is not None else _element(node)


def _element(node: Node | None) -> Node | None:
    """The schema of a list's items or a map's values."""
    found = None if node is None else node.get("items") or node.get("additionalProperties")
    return found if isinstance(found, dict) else None
