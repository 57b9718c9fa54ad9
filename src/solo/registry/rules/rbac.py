"""RBAC kinds: names are path segments, references are complete, what a binding refers to cannot change."""

from __future__ import annotations

from typing import Any

from kube.machinery import names
from kube.machinery.errors import Cause, cause
from kube.machinery.resources import RBAC_GROUP
from solo.registry.objects import child, quote, quote_json
from solo.registry.strategy import BuiltinStrategy

Obj = dict[str, Any]


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
                if self.namespaced:
                    detail = "namespaced rules cannot apply to non-resource URLs"
                    printed = quote_json(rule["nonResourceURLs"])
                    causes.append(cause("FieldValueInvalid", f"{field}.nonResourceURLs", detail, printed))
                continue
            if not rule.get("apiGroups"):
                detail = "resource rules must supply at least one api group"
                causes.append(cause("FieldValueRequired", f"{field}.apiGroups", detail))
            if not rule.get("resources"):
                detail = "resource rules must supply at least one resource"
                causes.append(cause("FieldValueRequired", f"{field}.resources", detail))
        return causes


class BindingStrategy(RbacStrategy):
    """RoleBinding and ClusterRoleBinding."""

    def default(self, obj: Obj) -> None:
        referring = [each for each in obj.get("subjects") or [] if each.get("kind") in ("User", "Group")]
        for reference in (child(obj, "roleRef"), *referring):
            reference["apiGroup"] = reference.get("apiGroup") or RBAC_GROUP  # Go clients write the empty one, too

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        causes = []
        reference = obj["roleRef"]
        kinds = ("Role", "ClusterRole") if self.namespaced else ("ClusterRole",)
        if reference.get("kind") not in kinds:
            listed = ", ".join(f'"{kind}"' for kind in kinds)
            printed = quote(str(reference.get("kind") or ""))
            causes.append(cause("FieldValueNotSupported", "roleRef.kind", f"supported values: {listed}", printed))
        if not reference.get("name"):
            causes.append(cause("FieldValueRequired", "roleRef.name"))
        for index, subject in enumerate(obj.get("subjects") or []):
            causes += _subject(subject, f"subjects[{index}]")
        if old is not None and reference != old.get("roleRef"):
            causes.append(cause("FieldValueInvalid", "roleRef", "cannot change roleRef", quote_json(reference)))
        return causes


def _subject(subject: Obj, field: str) -> list[Cause]:
    causes = []
    kind = subject.get("kind")
    if not subject.get("name"):
        causes.append(cause("FieldValueRequired", f"{field}.name"))
    if kind not in ("ServiceAccount", "User", "Group"):
        detail = 'supported values: "ServiceAccount", "User", "Group"'
        causes.append(cause("FieldValueNotSupported", f"{field}.kind", detail, quote(str(kind or ""))))
    if kind == "ServiceAccount" and not subject.get("namespace"):
        causes.append(cause("FieldValueRequired", f"{field}.namespace"))
    return causes
