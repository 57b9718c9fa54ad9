"""What the API demands of the schema of a CustomResourceDefinition (apiextensions' pkg/apis/apiextensions/validation,
ValidateCustomResourceDefinitionOpenAPISchema): it is structural, its defaults are valid, its rules can be evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from kube.machinery.errors import Cause, cause
from kube.machinery.schema import cost
from kube.machinery.schema.defaultcheck import check_defaults
from kube.machinery.schema.listcheck import check_list_type, check_map_type
from kube.machinery.schema.rulecheck import Surroundings, Total, check_expressions, check_texts
from kube.machinery.schema.structural import check_structural, unsupported
from kube.machinery.schema.values import show

Node = dict[str, Any]

_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_META_FIELDS = ("metadata", "kind", "apiVersion")
_JUNCTORS = ("allOf", "oneOf", "anyOf")
_UNSUPPORTED = ("id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref")


def check_schema(schema: Node, path: str = "") -> list[Cause]:
    """Everything that makes a schema unusable for custom resources.

    `path` is where the schema is in the CRD (`spec.validation.openAPIV3Schema`); without it, fields are relative.
    """
    problem = unsupported(schema)
    errors = [] if problem else check_structural(schema, path) or check_defaults(schema, path)
    total = Total()
    walk = _Walk([], [], total if not problem and not errors else None)
    walk.visit(schema, path, _Place(Surroundings(True, 1), root=True))
    errors = errors + walk.of_schema + walk.of_rules
    if problem and not errors:
        errors = [cause("FieldValueInvalid", path, problem, '""')]
    errors += total.problems(path)
    return [Cause(error.reason, error.message, error.field.removeprefix(".")) for error in errors]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a node is. `rules` is None inside a junctor, where there can be none."""

    rules: Surroundings | None
    root: bool = False
    inside_meta: bool = False
    no_default: str = ""
    """Why there must be no default here."""


@dataclass(slots=True)
class _Walk:
    """Collects what is wrong; `total` is None where rules are not looked at, as the schema cannot be understood."""

    of_schema: list[Cause] = field(default_factory=list)
    of_rules: list[Cause] = field(default_factory=list)
    total: Total | None = None

    def visit(self, node: Node, path: str, place: _Place) -> None:
        """Check a node and what is below it."""
        before = len(self.of_schema)
        self.of_schema += _keywords(node, path, place)
        self._additional(node, path, place)
        self._properties(node, path, place)
        self._nested(node, path, place)
        self._items(node, path, place)
        if node.get("x-kubernetes-preserve-unknown-fields") is False:
            where = f"{path}.x-kubernetes-preserve-unknown-fields"
            self.of_schema.append(cause("FieldValueInvalid", where, "must be true or undefined", "false"))
        self.of_schema += check_map_type(node, path) + check_list_type(node, path)
        rules = node.get("x-kubernetes-validations") or []
        for index, rule in enumerate(rules):
            check_texts(rule, node, f"{path}.x-kubernetes-validations[{index}]", self.of_schema)
        if len(self.of_schema) == before and self.total is not None and place.rules is not None:
            embedded = place.root or bool(node.get("x-kubernetes-embedded-resource"))
            where_it_is = replace(place.rules, whole_object=embedded)
            for index, rule in enumerate(rules):
                where = f"{path}.x-kubernetes-validations[{index}]"
                check_expressions(rule, node, where, where_it_is, self.total, self.of_rules)

    def _additional(self, node: Node, path: str, place: _Place) -> None:
        extra = node.get("additionalProperties")
        if extra is None:
            return
        if node.get("properties") and extra is not True:
            text = "additionalProperties and properties are mutual exclusive"
            self.of_schema.append(cause("FieldValueForbidden", f"{path}.additionalProperties", text))
        if isinstance(extra, dict):
            reason = "inside additionalProperties applying to object metadata" if place.inside_meta else ""
            below = replace(place, root=False, no_default=reason or place.no_default, rules=_each(place.rules, node))
            self.visit(extra, f"{path}.additionalProperties", below)

    def _properties(self, node: Node, path: str, place: _Place) -> None:
        whole = place.root or node.get("x-kubernetes-embedded-resource")
        rules = place.rules
        if rules is not None and node.get("x-kubernetes-map-type") == "atomic":
            rules = rules.without_old(path)
        for name, child in (node.get("properties") or {}).items():
            below = replace(place, root=False, rules=rules)
            if whole and name in _META_FIELDS:
                below = replace(below, inside_meta=True)
                if place.root:
                    below = replace(below, no_default=f"in top-level {name}")
            self.visit(child, f"{path}.properties[{name}]", below)

    def _nested(self, node: Node, path: str, place: _Place) -> None:
        below = replace(place, root=False, rules=None)
        if isinstance(node.get("not"), dict):
            self.visit(node["not"], f"{path}.not", below)
        for keyword in _JUNCTORS:
            for index, child in enumerate(node.get(keyword) or []):
                self.visit(child, f"{path}.{keyword}[{index}]", below)
        for keyword in ("definitions", "dependencies"):
            for name, child in (node.get(keyword) or {}).items():
                if isinstance(child, dict):
                    self.visit(child, f"{path}.{keyword}[{name}]", below)

    def _items(self, node: Node, path: str, place: _Place) -> None:
        items = node.get("items")
        rules = _each(place.rules, node)
        if rules is not None and node.get("x-kubernetes-list-type") != "map":
            rules = rules.without_old(path)
        below = replace(place, root=False, rules=rules)
        if isinstance(items, dict):
            self.visit(items, f"{path}.items", below)
        for index, child in enumerate(items if isinstance(items, list) else []):
            self.visit(child, f"{path}.items[{index}]", below)


def _each(rules: Surroundings | None, node: Node) -> Surroundings | None:
    return None if rules is None else replace(rules, times=cost.cardinality(node, rules.times))


def _keywords(node: Node, path: str, place: _Place) -> list[Cause]:
    declared = node.get("type") or ""
    found = []
    if declared and declared not in _TYPES:
        supported = f"supported values: {', '.join(map(show, _TYPES))}"
        found.append(cause("FieldValueNotSupported", f"{path}.type", supported, show(declared)))
    if node.get("default") is not None and place.no_default:
        found.append(cause("FieldValueForbidden", f"{path}.default", f"must not be set {place.no_default}"))
    given = [key for key in _UNSUPPORTED if node.get(key) or (key == "additionalItems" and key in node)]
    found += [cause("FieldValueForbidden", f"{path}.{key}", f"{key} is not supported") for key in given]
    if declared == "null":
        text = "type cannot be set to null, use nullable as an alternative"
        found.append(cause("FieldValueForbidden", f"{path}.type", text))
    if isinstance(node.get("items"), list) and node["items"]:
        found.append(cause("FieldValueForbidden", f"{path}.items", "items must be a schema object and not an array"))
    if place.inside_meta and node.get("x-kubernetes-embedded-resource"):
        text = "must not be used inside of resource meta"
        found.append(cause("FieldValueForbidden", f"{path}.x-kubernetes-embedded-resource", text))
    if node.get("uniqueItems"):
        text = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        found.append(cause("FieldValueForbidden", f"{path}.uniqueItems", text))
    return found
