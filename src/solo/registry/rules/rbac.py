"""RBAC kinds: names are path segments, references are complete, what a binding refers to cannot change.

Rules of pkg/apis/rbac/validation.
"""

from __future__ import annotations

from typing import Any

from kube.machinery import names
from kube.machinery.errors import Cause, cause
from kube.machinery.resources import RBAC_GROUP
from solo.registry.objects import child, quote, quote_json
from solo.registry.rules.fieldchecks import among, label_selector
from solo.registry.strategy import BuiltinStrategy

Obj = dict[str, Any]

_RESOURCE_PARTS = ("apiGroups", "resources", "resourceNames")


class RbacStrategy(BuiltinStrategy):
    """Common to all four kinds."""

    creates_on_update = True

    def validate_name(self, name: str) -> list[str]:
        return names.path_segment(name)


class RoleStrategy(RbacStrategy):
    """Role and ClusterRole."""

    def default(self, obj: Obj) -> None:
        if obj.get("rules") is None and not obj.get("aggregationRule"):
            obj["rules"] = []

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        causes = []
        for index, rule in enumerate(obj.get("rules") or []):
            field = f"rules[{index}]"
            if not rule.get("verbs"):
                causes.append(cause("FieldValueRequired", f"{field}.verbs", "verbs must contain at least one value"))
            if rule.get("nonResourceURLs"):
                causes += self._paths(rule, f"{field}.nonResourceURLs")
                continue
            if not rule.get("apiGroups"):
                detail = "resource rules must supply at least one api group"
                causes.append(cause("FieldValueRequired", f"{field}.apiGroups", detail))
            if not rule.get("resources"):
                detail = "resource rules must supply at least one resource"
                causes.append(cause("FieldValueRequired", f"{field}.resources", detail))
        if obj.get("aggregationRule") is not None:
            selectors = obj["aggregationRule"].get("clusterRoleSelectors") or []
            causes += _aggregation(selectors, "aggregationRule.clusterRoleSelectors")
        return causes

    def _paths(self, rule: Obj, field: str) -> list[Cause]:
        """A rule for paths is for nothing else."""
        problems = ["namespaced rules cannot apply to non-resource URLs"] if self.namespaced else []
        if any(rule.get(part) for part in _RESOURCE_PARTS):
            problems.append("rules cannot apply to both regular resources and non-resource URLs")
        return [cause("FieldValueInvalid", field, text, quote_json(rule["nonResourceURLs"])) for text in problems]


def _aggregation(selectors: list[Obj], field: str) -> list[Cause]:
    if not selectors:
        detail = "at least one clusterRoleSelector required if aggregationRule is non-nil"
        return [cause("FieldValueRequired", field, detail)]
    return [
        found for index, selector in enumerate(selectors) for found in label_selector(selector, f"{field}[{index}]")
    ]


class BindingStrategy(RbacStrategy):
    """RoleBinding and ClusterRoleBinding."""

    def default(self, obj: Obj) -> None:
        referring = [each for each in obj.get("subjects") or [] if each.get("kind") in ("User", "Group")]
        for reference in (child(obj, "roleRef"), *referring):
            reference["apiGroup"] = reference.get("apiGroup") or RBAC_GROUP  # Go clients write the empty one, too

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        reference = obj["roleRef"]
        kinds = ("Role", "ClusterRole") if self.namespaced else ("ClusterRole",)
        causes = among("roleRef.apiGroup", reference["apiGroup"], (RBAC_GROUP,))
        causes += among("roleRef.kind", reference.get("kind"), kinds)
        name = reference.get("name") or ""
        if not name:
            causes.append(cause("FieldValueRequired", "roleRef.name"))
        for text in names.path_segment(name):
            causes.append(cause("FieldValueInvalid", "roleRef.name", text, quote(name)))
        for index, subject in enumerate(obj.get("subjects") or []):
            causes += self._subject(subject, f"subjects[{index}]")
        if old is not None and reference != old.get("roleRef"):
            causes.append(cause("FieldValueInvalid", "roleRef", "cannot change roleRef", quote_json(reference)))
        return causes

    def _subject(self, subject: Obj, field: str) -> list[Cause]:
        kind, name, group = subject.get("kind"), subject.get("name") or "", subject.get("apiGroup") or ""
        causes = [] if name else [cause("FieldValueRequired", f"{field}.name")]
        if kind in ("User", "Group"):
            return causes + among(f"{field}.apiGroup", group, (RBAC_GROUP,))
        if kind != "ServiceAccount":
            return causes + among(f"{field}.kind", kind, ("ServiceAccount", "User", "Group"))
        problems = names.dns1123_subdomain(name) if name else []
        causes += [cause("FieldValueInvalid", f"{field}.name", text, quote(name)) for text in problems]
        causes += among(f"{field}.apiGroup", group, ("",))
        # In a RoleBinding it is one of the same namespace.
        if not self.namespaced and not subject.get("namespace"):
            causes.append(cause("FieldValueRequired", f"{field}.namespace"))
        return causes
