"""What is wrong with the metrics that a HorizontalPodAutoscaler goes by (autoscaling `validateMetricSpec`)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

from kube.machinery import names
from kube.machinery.errors import Cause, cause
from kube.machinery.quantity import parse_quantity
from solo.registry.rules.fieldchecks import invalid, one_of
from solo.registry.rules.resourcechecks import container_resource

Obj = dict[str, Any]

_TYPES = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}
_TARGETS = ("Utilization", "Value", "AverageValue")


def metric_causes(metrics: list[Obj], field: str) -> Iterator[Cause]:
    """All of it. Only the first source of a metric is looked into; the others are too many."""
    for index, metric in enumerate(metrics):
        place, type_ = f"{field}[{index}]", metric.get("type") or ""
        if not type_:
            yield cause("FieldValueRequired", f"{place}.type", "must specify a metric source type")
        if type_ not in _TYPES:
            yield one_of(f"{place}.type", type_, tuple(_TYPES))
        given = [key for key in _SOURCES if metric.get(key) is not None]
        for key in given[:1]:
            yield from _SOURCES[key](metric[key], f"{place}.{key}")
        expected = _TYPES.get(type_)
        if expected is not None and expected not in given:
            detail = "must populate information for the given metric source"
            yield cause("FieldValueRequired", f"{place}.{expected}", detail)
        if len(given) > 1:
            for key in given:
                if key != expected:
                    detail = "must populate the given metric source only"
                    yield cause("FieldValueForbidden", f"{place}.{key}", detail)


def _object(source: Obj, field: str) -> Iterator[Cause]:
    described = source.get("describedObject") or {}
    for key in ("kind", "name"):
        if not described.get(key):
            yield cause("FieldValueRequired", f"{field}.describedObject.{key}")
    yield from _metric(source, field)
    target = yield from _target(source, field)
    if target.get("value") is None and target.get("averageValue") is None:
        detail = "must set either a target value or averageValue"
        yield cause("FieldValueRequired", f"{field}.target.averageValue", detail)


def _external(source: Obj, field: str) -> Iterator[Cause]:
    yield from _metric(source, field)
    target = yield from _target(source, field)
    total, each = target.get("value"), target.get("averageValue")
    if total is None and each is None:
        detail = "must set either a target value for metric or a per-pod target"
        yield cause("FieldValueRequired", f"{field}.target.averageValue", detail)
    if total is not None and each is not None:
        detail = "may not set both a target value for metric and a per-pod target"
        yield cause("FieldValueForbidden", f"{field}.target.value", detail)


def _pods(source: Obj, field: str) -> Iterator[Cause]:
    yield from _metric(source, field)
    target = yield from _target(source, field)
    if target.get("averageValue") is None:
        detail = "must specify a positive target averageValue"
        yield cause("FieldValueRequired", f"{field}.target.averageValue", detail)


def _resource(source: Obj, field: str) -> Iterator[Cause]:
    if not source.get("name"):
        yield cause("FieldValueRequired", f"{field}.name", "must specify a resource name")
    target = yield from _target(source, field)
    if target.get("averageUtilization") is None and target.get("averageValue") is None:
        detail = "must set either a target raw value or a target utilization"
        yield cause("FieldValueRequired", f"{field}.target.averageUtilization", detail)
    if target.get("averageUtilization") is not None and target.get("averageValue") is not None:
        detail = "may not set both a target raw value and a target utilization"
        yield cause("FieldValueForbidden", f"{field}.target.averageValue", detail)


def _container_resource(source: Obj, field: str) -> Iterator[Cause]:
    name, container = source.get("name") or "", source.get("container") or ""
    if name:
        yield from container_resource(name, f"{field}.name")
    if not container:
        yield cause("FieldValueRequired", f"{field}.container", "must specify a container")
    for text in names.dns1123_label(container) if container else ():
        yield invalid(f"{field}.container", container, text)
    yield from _resource(source, field)


def _metric(source: Obj, field: str) -> Iterator[Cause]:
    name = (source.get("metric") or {}).get("name") or ""
    if not name:
        yield cause("FieldValueRequired", f"{field}.metric.name", "must specify a metric name")
    yield from (invalid(f"{field}.metric.name", name, text) for text in names.path_segment(name))


def _target(source: Obj, field: str) -> Generator[Cause, None, Obj]:
    """Returns the target as well."""
    target: Obj = source.get("target") or {}
    place = f"{field}.target"
    type_ = target.get("type") or ""
    if not type_:
        yield cause("FieldValueRequired", f"{place}.type", "must specify a metric target type")
    if type_ not in _TARGETS:
        yield invalid(f"{place}.type", type_, "must be either Utilization, Value, or AverageValue")
    for key in ("value", "averageValue"):
        if target.get(key) is not None and not _positive(target[key]):
            yield invalid(f"{place}.{key}", str(target[key]), "must be positive")
    share = target.get("averageUtilization")
    if share is not None and share < 1:
        yield invalid(f"{place}.averageUtilization", share, "must be greater than 0")
    return target


def _positive(amount: Any) -> bool:
    try:
        return parse_quantity(amount) > 0
    except ValueError:
        return False


_SOURCES: dict[str, Callable[[Obj, str], Iterator[Cause]]] = {
    "object": _object,
    "external": _external,
    "pods": _pods,
    "resource": _resource,
    "containerResource": _container_resource,
}
