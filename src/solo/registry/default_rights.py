"""Default roles and bindings that somebody changed get back what they lack at each start, and what a later version adds
to them; what others added stays (Kubernetes' "Using RBAC: Auto-reconciliation").
"""

from __future__ import annotations

from typing import Any

from solo.auth.rules import missing, rules_from
from solo.registry.objects import dig

Obj = dict[str, Any]

AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"
"""The annotation of a default role or binding; "false" leaves it to whoever changed it."""


def completed(present: Obj, wanted: Obj) -> Obj:
    """A default role or binding with what it lacks of `wanted`; equal to `present` where that is nothing."""
    metadata = present["metadata"]
    if (metadata.get("annotations") or {}).get(AUTOUPDATE) == "false":
        return present
    merged = {key: {**wanted["metadata"][key], **(metadata.get(key) or {})} for key in ("annotations", "labels")}
    complete = _role if "rules" in wanted else _binding
    reference = {"roleRef": wanted["roleRef"]} if "roleRef" in wanted else {}
    return {**present, **complete(present, wanted), **reference, "metadata": {**metadata, **merged}}


def _role(present: Obj, wanted: Obj) -> Obj:
    """The rules; of an aggregated role, whose rules are those of others, the selectors."""
    if "aggregationRule" in wanted:
        return {
            "aggregationRule": {
                "clusterRoleSelectors": _with(present, wanted, "aggregationRule", "clusterRoleSelectors")
            }
        }
    rules, held = present.get("rules") or [], rules_from(present)
    lacking = [rule for rule in wanted["rules"] if rule not in rules and missing(held, rules_from({"rules": [rule]}))]
    return {"rules": [*rules, *lacking]}


def _binding(present: Obj, wanted: Obj) -> Obj:
    return {"subjects": _with(present, wanted, "subjects")}


def _with(present: Obj, wanted: Obj, *path: str) -> list[Any]:
    """The items of a list, and after them those that it lacks."""
    items = dig(present, *path) or []
    return [*items, *(item for item in dig(wanted, *path) if item not in items)]
