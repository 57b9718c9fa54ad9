"""HorizontalPodAutoscalers, as objects: in autoscaling/v2, in which they are stored, and in v1.

What v1 has no field for is in annotations (Kubernetes' `pkg/apis/autoscaling/v1/conversion.go`), so that a client of v1
that writes back what it has read takes nothing away.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from kube.machinery.errors import Cause, cause
from solo.registry.objects import child, dig, without
from solo.registry.rules.core import GenerationStrategy
from solo.registry.rules.metricchecks import metric_causes
from solo.registry.strategy import keep

Obj = dict[str, Any]

_PREFIX = "autoscaling.alpha.kubernetes.io/"
METRICS, BEHAVIOR = f"{_PREFIX}metrics", f"{_PREFIX}behavior"
CURRENT_METRICS, CONDITIONS = f"{_PREFIX}current-metrics", f"{_PREFIX}conditions"
_OF_SPEC, _OF_STATUS = (METRICS, BEHAVIOR), (CURRENT_METRICS, CONDITIONS)
_CPU_TARGET, _CPU_CURRENT = "targetCPUUtilizationPercentage", "currentCPUUtilizationPercentage"

# Where v2 has what the annotations of v1 say of a metric; * is "target" in a spec and "current" in a status.
_AMOUNTS = (("*AverageUtilization", "*.averageUtilization"), ("*AverageValue", "*.averageValue"))
_METRIC = ("metricName", "metric.name")
_SELECTOR = ("selector", "metric.selector")
_SOURCES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "resource": (("name", "name"), *_AMOUNTS),
    "containerResource": (("name", "name"), ("container", "container"), *_AMOUNTS),
    "pods": (_METRIC, _SELECTOR, _AMOUNTS[1]),
    "object": (("target", "describedObject"), _METRIC, _SELECTOR, ("*Value", "*.value"),
               ("averageValue", "*.averageValue")),
    "external": (_METRIC, ("metricSelector", "metric.selector"), ("*Value", "*.value"), _AMOUNTS[1]),
}  # fmt: skip
_TYPES = {"averageUtilization": "Utilization", "averageValue": "AverageValue"}


class AutoscalerStrategy(GenerationStrategy):
    """autoscaling/v2."""

    defaults: Mapping[str, Any] = {"minReplicas": 1}

    def default(self, obj: Obj) -> None:
        super().default(obj)
        if not obj["spec"].get("metrics"):
            obj["spec"]["metrics"] = [_cpu("target", 80)]

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        spec = obj["spec"]
        causes = []
        most, least = spec.get("maxReplicas") or 0, spec["minReplicas"]
        if most < 1:
            causes.append(cause("FieldValueInvalid", "spec.maxReplicas", "must be greater than 0", str(most)))
        if least < 1:
            causes.append(
                cause("FieldValueInvalid", "spec.minReplicas", "must be greater than or equal to 1", str(least))
            )
        if most < least:
            detail = "must be greater than or equal to `minReplicas`"
            causes.append(cause("FieldValueInvalid", "spec.maxReplicas", detail, str(most)))
        reference = spec.get("scaleTargetRef") or {}
        causes += [
            cause("FieldValueRequired", f"spec.scaleTargetRef.{key}")
            for key in ("kind", "name")
            if not reference.get(key)
        ]
        if old is None or spec.get("metrics") != old["spec"].get("metrics"):
            causes += metric_causes(spec.get("metrics") or [], "spec.metrics")
        return causes


class OldAutoscalerStrategy(AutoscalerStrategy):
    """autoscaling/v1: a write to the one of spec and status leaves the annotations that belong to the other."""

    def default(self, obj: Obj) -> None:
        child(obj, "spec").setdefault("minReplicas", 1)

    def prepare_create(self, obj: Obj) -> None:
        super().prepare_create(obj)
        _keep_annotations(obj, {}, _OF_STATUS)

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        _keep_annotations(obj, old, _OF_STATUS)
        super().prepare_update(obj, old)

    def prepare_status(self, obj: Obj, old: Obj) -> None:
        _keep_annotations(obj, old, _OF_SPEC)
        super().prepare_status(obj, old)


def _keep_annotations(obj: Obj, old: Obj, names: Iterable[str]) -> None:
    before = dig(old, "metadata", "annotations") or {}
    now = dict(dig(obj, "metadata", "annotations") or {})
    for name in names:
        keep(now, before, name)
    obj["metadata"] = _annotated(obj, now)


def _annotated(obj: Obj, annotations: Obj) -> Obj:
    """The metadata of an object with these annotations instead of its own."""
    return {**without(obj["metadata"], "annotations"), **({"annotations": annotations} if annotations else {})}


class OldForm:
    """autoscaling/v1 of what is stored in v2."""

    def served(self, obj: Obj) -> Obj:
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        metrics, current = spec.get("metrics") or [], status.get("currentMetrics") or []
        shown = {**obj, "spec": without(spec, "metrics", "behavior")}
        target = _cpu_utilization(metrics, "target")
        if target is not None:
            shown["spec"][_CPU_TARGET] = target
        if "status" in obj:
            shown["status"] = without(status, "currentMetrics", "conditions")
            used = _cpu_utilization(current, "current")
            if used is not None:
                shown["status"][_CPU_CURRENT] = used
        told = {
            METRICS: [_old_metric(each, "target") for each in metrics if _cpu_utilization([each], "target") is None],
            BEHAVIOR: spec.get("behavior"),
            CURRENT_METRICS: [_old_metric(each, "current") for each in current],
            CONDITIONS: status.get("conditions"),
        }
        written = {name: json.dumps(value, separators=(",", ":")) for name, value in told.items() if value}
        shown["metadata"] = _annotated(obj, {**(dig(obj, "metadata", "annotations") or {}), **written})
        return shown

    def stored(self, obj: Obj) -> Obj:
        annotations = dig(obj, "metadata", "annotations") or {}
        spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
        target, used = spec.pop(_CPU_TARGET, None), status.pop(_CPU_CURRENT, None)
        metrics = [_new_metric(each, "target") for each in _listed(annotations, METRICS)]
        if target is not None or not metrics:
            metrics.append(_cpu("target", 80 if target is None else target))
        current = [_new_metric(each, "current") for each in _listed(annotations, CURRENT_METRICS)]
        if used is not None and not current:
            current = [_cpu("current", used)]
        behavior = _told(annotations, BEHAVIOR)
        spec |= {"metrics": metrics, **_present("behavior", behavior if isinstance(behavior, dict) else None)}
        status |= _present("currentMetrics", current)
        status |= _present("conditions", _listed(annotations, CONDITIONS))
        metadata = _annotated(obj, without(annotations, *_OF_SPEC, *_OF_STATUS))
        return {**obj, "metadata": metadata, "spec": spec, **({"status": status} if "status" in obj else {})}


def _present(name: str, value: Any) -> Obj:
    return {name: value} if value else {}


def _cpu(part: str, percent: int) -> Obj:
    kind = {"type": "Utilization"} if part == "target" else {}
    return {"type": "Resource", "resource": {"name": "cpu", part: {**kind, "averageUtilization": percent}}}


def _cpu_utilization(metrics: Iterable[Obj], part: str) -> int | None:
    """The first utilization of CPU that is asked for (or found)."""
    for metric in metrics:
        percent: int | None = dig(metric, "resource", part, "averageUtilization")
        if metric.get("type") == "Resource" and dig(metric, "resource", "name") == "cpu" and percent is not None:
            return percent
    return None


def _told(annotations: Obj, name: str) -> Any:
    """The value of an annotation; None where it is no JSON: what is none says nothing."""
    try:
        return json.loads(annotations.get(name) or "null")
    except (ValueError, RecursionError):
        return None


def _listed(annotations: Obj, name: str) -> list[Obj]:
    value = _told(annotations, name)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _source_of(metric: Obj) -> str:
    type_ = str(metric.get("type") or "")
    return type_[:1].lower() + type_[1:]


def _old_metric(metric: Obj, part: str) -> Obj:
    source = _source_of(metric)
    told = metric.get(source) or {}
    found: Obj = {}
    for old, new in _SOURCES.get(source, ()):
        value = dig(told, *new.replace("*", part).split("."))
        if value is not None:
            found[old.replace("*", part)] = value
    return {"type": metric.get("type"), source: found}


def _new_metric(metric: Obj, part: str) -> Obj:
    source = _source_of(metric)
    told = metric.get(source)
    found: Obj = {}
    for old, new in _SOURCES.get(source, ()):
        value = told.get(old.replace("*", part)) if isinstance(told, dict) else None
        if value is not None:
            *above, last = new.replace("*", part).split(".")
            place = child(found, above[0]) if above else found
            place[last] = value
    if part == "target":
        target = child(found, "target")
        found["target"] = {"type": next((kind for key, kind in _TYPES.items() if key in target), "Value"), **target}
    return {"type": metric.get("type"), source: found}
