"""How Deployments, DaemonSets and StatefulSets replace their pods: what is wrong with a strategy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kube.machinery.errors import Cause, cause
from solo.registry.objects import quote, quote_json
from solo.registry.rules.amounts import amount, count_or_percent, negative, over_all
from solo.registry.rules.fieldchecks import one_of

Obj = dict[str, Any]

_RETENTION = ("Retain", "Delete")


def deployment_causes(spec: Obj) -> Iterator[Cause]:
    """`ValidateDeploymentStrategy`."""
    strategy, field = spec["strategy"], "spec.strategy"
    rolling = strategy.get("rollingUpdate")
    if strategy["type"] == "RollingUpdate":
        yield from _rolling_deployment(rolling, f"{field}.rollingUpdate")
    elif strategy["type"] != "Recreate":
        yield one_of(field, strategy, ("Recreate", "RollingUpdate"))
    elif rolling is not None:
        detail = "may not be specified when strategy `type` is 'Recreate'"
        yield cause("FieldValueForbidden", f"{field}.rollingUpdate", detail)


def _rolling_deployment(rolling: Obj, field: str) -> Iterator[Cause]:
    unavailable, surge, place = rolling["maxUnavailable"], rolling["maxSurge"], f"{field}.maxUnavailable"
    yield from count_or_percent(unavailable, place)
    yield from count_or_percent(surge, f"{field}.maxSurge")
    if amount(unavailable) == amount(surge) == 0:
        detail = "may not be 0 when `maxSurge` is 0"
        yield cause("FieldValueInvalid", place, detail, quote_json(unavailable))
    yield from over_all(unavailable, place)


def daemonset_causes(spec: Obj) -> Iterator[Cause]:
    """`ValidateDaemonSetUpdateStrategy`."""
    strategy, field = spec["updateStrategy"], "spec.updateStrategy"
    if strategy["type"] == "RollingUpdate":
        yield from _rolling_daemonset(strategy["rollingUpdate"], f"{field}.rollingUpdate")
    elif strategy["type"] != "OnDelete":
        yield one_of(field, strategy, ("RollingUpdate", "OnDelete"))


def _rolling_daemonset(rolling: Obj, field: str) -> Iterator[Cause]:
    for check in (count_or_percent, over_all):
        for key in ("maxUnavailable", "maxSurge"):
            yield from check(rolling[key], f"{field}.{key}")
    unavailable, surge = amount(rolling["maxUnavailable"]), amount(rolling["maxSurge"])
    if unavailable and surge:
        detail = "may not be set when maxUnavailable is non-zero"
        yield cause("FieldValueInvalid", f"{field}.maxSurge", detail, quote_json(rolling["maxSurge"]))
    elif not unavailable and not surge:
        yield cause("FieldValueRequired", f"{field}.maxUnavailable", "cannot be 0 when maxSurge is 0")


def statefulset_causes(spec: Obj) -> Iterator[Cause]:
    """The beginning of `ValidateStatefulSetSpec`: how pods are made, replaced and cleaned up after."""
    management = spec["podManagementPolicy"]
    if management not in ("OrderedReady", "Parallel"):
        detail = "must be 'OrderedReady' or 'Parallel'"
        yield cause("FieldValueInvalid", "spec.podManagementPolicy", detail, quote(management))
    strategy, field = spec["updateStrategy"], "spec.updateStrategy"
    rolling = strategy.get("rollingUpdate")
    if strategy["type"] == "RollingUpdate":
        yield from _rolling_statefulset(rolling or {}, f"{field}.rollingUpdate")
    elif strategy["type"] != "OnDelete":
        yield cause("FieldValueInvalid", field, "must be 'RollingUpdate' or 'OnDelete'", quote_json(strategy))
    elif rolling is not None:
        detail = "only allowed for updateStrategy 'RollingUpdate'"
        yield cause("FieldValueInvalid", f"{field}.rollingUpdate", detail, quote_json(rolling))
    for key in ("whenDeleted", "whenScaled"):
        value = spec["persistentVolumeClaimRetentionPolicy"][key]
        if value not in _RETENTION:
            yield one_of(f"spec.persistentVolumeClaimRetentionPolicy.{key}", value, _RETENTION)


def _rolling_statefulset(rolling: Obj, field: str) -> Iterator[Cause]:
    yield from negative(rolling, ("partition",), field)
    unavailable, place = rolling.get("maxUnavailable"), f"{field}.maxUnavailable"
    if unavailable is None:
        return
    yield from count_or_percent(unavailable, place)
    if amount(unavailable) == 0:
        yield cause("FieldValueInvalid", place, "cannot be 0", quote_json(unavailable))
    yield from over_all(unavailable, place)
