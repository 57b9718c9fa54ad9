"""Which requests an admission rule is about: resources, operations, scope and selectors (`MatchResources`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kube.machinery.selectors import LabelSelector, label_selector_from_dict
from solo.registry.catalog import Catalog
from solo.registry.kinds import Kind
from solo.registry.objects import dig
from solo.registry.registry import Attributes
from solo.store import Key, Store

Obj = dict[str, Any]


class SelectorError(Exception):
    """A selector that cannot be read. None is accepted; a store may hold some from before they were checked."""


class Matcher:
    """Decides for the policies and bindings of one server."""

    def __init__(self, store: Store, catalog: Catalog) -> None:
        self._store = store
        self._catalog = catalog

    def matches(self, match: Mapping[str, Any] | None, attributes: Attributes) -> bool:
        """Whether a request falls under `match`; without rules, or without `match`, any resource does.

        Raises SelectorError, for a request of which the rules hold.
        """
        if not match:
            return True
        return (
            self._rules_match(match, attributes)
            and self._namespace_matches(match.get("namespaceSelector"), attributes)
            and _object_matches(match.get("objectSelector"), attributes)
        )

    def _rules_match(self, match: Mapping[str, Any], attributes: Attributes) -> bool:
        versions = self._versions(match, attributes.kind)
        if any(_rule_matches(rule, attributes, versions) for rule in match.get("excludeResourceRules") or []):
            return False
        rules = match.get("resourceRules")
        return not rules or any(_rule_matches(rule, attributes, versions) for rule in rules)

    def _versions(self, match: Mapping[str, Any], kind: Kind) -> set[str]:
        """The versions under which the request counts: all that are served unless the match is to be exact."""
        if match.get("matchPolicy") == "Exact":
            return {kind.resource.version}
        return {
            item.resource.version
            for item in self._catalog
            if (item.resource.group, item.resource.plural) == (kind.resource.group, kind.resource.plural)
        }

    def _namespace_matches(self, selector: Obj | None, attributes: Attributes) -> bool:
        if not selector:
            return True
        if attributes.kind.resource.group_resource == "namespaces":
            shown = attributes.obj or attributes.old or {}
            return read_selector(selector).matches(dig(shown, "metadata", "labels"))
        if not attributes.namespace:
            return True
        namespace = self.namespace_object(attributes.namespace)
        return read_selector(selector).matches(dig(namespace, "metadata", "labels"))

    def namespace_object(self, name: str) -> Obj | None:
        """The namespace of a request, None for cluster-scoped ones."""
        stored = self._store.get(Key("namespaces", "", name)) if name else None
        return stored.obj if stored else None


def read_selector(selector: Obj) -> LabelSelector:
    """A stored selector. Raises SelectorError."""
    try:
        return label_selector_from_dict(selector)
    except ValueError as problem:
        raise SelectorError(f"invalid label selector: {problem}") from None


def _object_matches(selector: Obj | None, attributes: Attributes) -> bool:
    if not selector:
        return True
    compiled = read_selector(selector)
    return any(
        compiled.matches(dig(obj, "metadata", "labels")) for obj in (attributes.obj, attributes.old) if obj is not None
    )


def _rule_matches(rule: Mapping[str, Any], attributes: Attributes, versions: set[str]) -> bool:
    resource = attributes.kind.resource
    operations = rule.get("operations") or []
    if "*" not in operations and attributes.operation not in operations:
        return False
    groups = rule.get("apiGroups") or []
    if "*" not in groups and resource.group not in groups:
        return False
    wanted = rule.get("apiVersions") or []
    if "*" not in wanted and not versions & set(wanted):
        return False
    scope = rule.get("scope") or "*"
    if scope != "*" and scope != ("Namespaced" if resource.namespaced else "Cluster"):
        return False
    names = rule.get("resourceNames")
    if names and attributes.name not in names:
        return False
    return any(_resource_matches(item, resource.plural, attributes.subresource) for item in rule.get("resources") or [])


def _resource_matches(pattern: str, plural: str, subresource: str) -> bool:
    wanted, _, wanted_sub = pattern.partition("/")
    if wanted not in ("*", plural):
        return False
    if not subresource:
        return not wanted_sub or (wanted_sub == "*" and wanted == "*")
    return wanted_sub in ("*", subresource)
