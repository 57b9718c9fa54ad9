"""PodDisruptionBudgets: what is wrong with one (policy `ValidatePodDisruptionBudgetSpec`)."""

from __future__ import annotations

from typing import Any

from kube.machinery.errors import Cause, cause
from solo.registry.objects import quote_json
from solo.registry.rules.amounts import count_or_percent, negative, over_all
from solo.registry.rules.core import GenerationStrategy
from solo.registry.rules.fieldchecks import one_of

Obj = dict[str, Any]

_EVICTION = ("AlwaysAllow", "IfHealthyBudget")
_COUNTS = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")


class BudgetStrategy(GenerationStrategy):
    """PodDisruptionBudgets."""

    allow_unconditional_update = False

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        spec, causes = obj["spec"], []
        if old is not None and spec == old.get("spec"):
            return []  # So that metadata can be written of what an older version let pass.
        if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
            detail = "minAvailable and maxUnavailable cannot be both set"
            causes.append(cause("FieldValueInvalid", "spec", detail, quote_json(spec)))
        for key in ("minAvailable", "maxUnavailable"):
            if spec.get(key) is not None:
                causes += count_or_percent(spec[key], f"spec.{key}")
                causes += over_all(spec[key], f"spec.{key}")
        policy = spec.get("unhealthyPodEvictionPolicy")
        if policy is not None and policy not in _EVICTION:
            causes.append(one_of("spec.unhealthyPodEvictionPolicy", policy, _EVICTION))
        return causes

    def validate_status(self, obj: Obj, old: Obj) -> list[Cause]:
        return negative(obj.get("status") or {}, _COUNTS, "status")
