"""RBAC rules as values: what one rule allows, and whether some rules cover another.

Follows Kubernetes' `pkg/apis/rbac/v1/evaluation_helpers.go` (matching) and
`component-helpers/auth/rbac/validation/policy_compact.go` / `rule.go` (covering).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ALL = "*"


@dataclass(frozen=True, slots=True)
class Rule:
    """One PolicyRule."""

    verbs: frozenset[str]
    groups: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    urls: frozenset[str] = frozenset()

    @classmethod
    def from_dict(cls, rule: Mapping[str, Any]) -> Rule:
        """Read a rule of a Role or ClusterRole; a missing or null list is an empty one."""
        return cls(
            frozenset(rule.get("verbs") or ()),
            frozenset(rule.get("apiGroups") or ()),
            frozenset(rule.get("resources") or ()),
            frozenset(rule.get("resourceNames") or ()),
            frozenset(rule.get("nonResourceURLs") or ()),
        )

    def allows_resource(self, verb: str, group: str, resource: str, subresource: str, name: str) -> bool:
        """Whether the rule allows `verb` on a resource. No `name` (a list, a create) needs a rule for all names."""
        return (
            (verb in self.verbs or ALL in self.verbs)
            and (group in self.groups or ALL in self.groups)
            and self._has_resource(resource, subresource)
            and (not self.names or (name != "" and name in self.names))
        )

    def _has_resource(self, resource: str, subresource: str) -> bool:
        if ALL in self.resources:
            return True
        if not subresource:
            return resource in self.resources
        return f"{resource}/{subresource}" in self.resources or f"{ALL}/{subresource}" in self.resources

    def allows_path(self, verb: str, path: str) -> bool:
        """Whether the rule allows `verb` on a URL path that is no resource."""
        return (verb in self.verbs or ALL in self.verbs) and any(_path_matches(url, path) for url in self.urls)

    def atoms(self) -> Iterator[Rule]:
        """The rule taken apart: one verb, one group and resource (and name) or one URL each."""
        for verb in sorted(self.verbs):
            one = frozenset((verb,))
            for group in sorted(self.groups):
                for resource in sorted(self.resources):
                    base = (one, frozenset((group,)), frozenset((resource,)))
                    if not self.names:
                        yield Rule(*base)
                    for name in sorted(self.names):
                        yield Rule(*base, frozenset((name,)))
            for url in sorted(self.urls):
                yield Rule(one, urls=frozenset((url,)))

    def covers(self, atom: Rule) -> bool:
        """Whether everything that `atom` allows is allowed by this rule."""
        if not (ALL in self.verbs or atom.verbs <= self.verbs):
            return False
        if atom.urls:
            return all(any(_path_matches(url, asked) for url in self.urls) for asked in atom.urls)
        return (
            (ALL in self.groups or atom.groups <= self.groups)
            and self._covers_resources(atom.resources)
            and (not self.names or (bool(atom.names) and atom.names <= self.names))
        )

    def _covers_resources(self, resources: Iterable[str]) -> bool:
        if ALL in self.resources:
            return True
        return all(
            resource in self.resources or ("/" in resource and f"{ALL}/{resource.split('/', 1)[1]}" in self.resources)
            for resource in resources
        )

    def __str__(self) -> str:
        """As the API server prints a rule that somebody lacks."""
        parts = [
            f"{label}:[{', '.join(_quoted(values))}]"
            for label, values in (
                ("APIGroups", self.groups),
                ("Resources", self.resources),
                ("ResourceNames", self.names),
                ("NonResourceURLs", self.urls),
                ("Verbs", self.verbs),
            )
            if values
        ]
        return "{" + ", ".join(parts) + "}"


def _path_matches(url: str, path: str) -> bool:
    return url in (ALL, path) or (url.endswith(ALL) and path.startswith(url.rstrip(ALL)))


def _quoted(values: Iterable[str]) -> list[str]:
    return [f'"{value}"' for value in sorted(values)]


def rules_from(role: Mapping[str, Any]) -> list[Rule]:
    """The rules that a Role or ClusterRole object spells out."""
    return [Rule.from_dict(rule) for rule in role.get("rules") or ()]


def missing(held: Sequence[Rule], wanted: Iterable[Rule]) -> list[Rule]:
    """What of `wanted` is not covered by `held`, put together again per group, resource and name."""
    lacking: dict[tuple[frozenset[str], ...], set[str]] = {}
    for rule in wanted:
        for atom in rule.atoms():
            if not any(own.covers(atom) for own in held):
                lacking.setdefault((atom.groups, atom.resources, atom.names, atom.urls), set()).update(atom.verbs)
    return [Rule(frozenset(verbs), *rest) for rest, verbs in lacking.items()]
