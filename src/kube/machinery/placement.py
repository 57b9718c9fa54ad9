"""Which nodes a pod may go to: node selectors, required node affinity, taints and tolerations.

Rules of `k8s.io/component-helpers/scheduling/corev1` and core/v1 `Toleration.ToleratesTaint`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kube.machinery.selectors import Requirement

Obj = dict[str, Any]

_OPERATORS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!", "Gt": "gt", "Lt": "lt"}


def node_selected(spec: Mapping[str, Any], labels: Mapping[str, str], name: str) -> bool:
    """Whether `nodeSelector` and required node affinity of a pod spec allow a node of this name with these labels."""
    wanted: Obj = spec.get("nodeSelector") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    return any(_term_matches(term, labels, name) for term in required.get("nodeSelectorTerms") or [])


def _term_matches(term: Obj, labels: Mapping[str, str], name: str) -> bool:
    """A term without any requirement matches nothing."""
    by_label, by_field = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not by_label and not by_field:
        return False
    fields = {"metadata.name": name}
    return all(_holds(entry, labels) for entry in by_label) and all(_holds(entry, fields) for entry in by_field)


def _holds(requirement: Obj, values: Mapping[str, str]) -> bool:
    operator = _OPERATORS[str(requirement.get("operator"))]
    wanted = tuple(requirement.get("values") or ())
    return Requirement(str(requirement.get("key")), operator, wanted).matches(values)


def tolerated(taint: Mapping[str, Any], tolerations: Iterable[Mapping[str, Any]]) -> bool:
    """Whether one of the tolerations is for the taint."""
    for toleration in tolerations:
        if toleration.get("effect") not in (None, "", taint.get("effect")):
            continue
        key, operator = toleration.get("key"), toleration.get("operator") or "Equal"
        if key and key != taint.get("key"):
            continue
        if operator == "Exists" or (key and (toleration.get("value") or "") == (taint.get("value") or "")):
            return True
    return False
