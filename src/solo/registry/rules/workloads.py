"""Kinds with a pod template: defaults and the rules that their controllers rely on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kube.machinery.errors import Cause, cause
from kube.machinery.selectors import label_selector_from_dict
from solo.registry import meta
from solo.registry.objects import child, dig, quote, quote_json
from solo.registry.rules.podspec import default_pod_spec, validate_pod_spec
from solo.registry.strategy import METADATA_FIELDS, BuiltinStrategy

Obj = dict[str, Any]


class WorkloadStrategy(BuiltinStrategy):
    """Deployment, ReplicaSet, DaemonSet and StatefulSet."""

    has_status = True
    tracks_generation = True
    fields: Mapping[str, tuple[str, ...]] = {**METADATA_FIELDS, "status.replicas": ("status", "replicas")}

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        _DEFAULTS[self.kind](spec)
        default_pod_spec(child(child(spec, "template"), "spec"))

    def prepare_create(self, obj: Obj) -> None:
        super().prepare_create(obj)
        obj["status"] = {}

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        spec = obj["spec"]
        causes = _validate_template(spec["template"], "spec.template")
        if int(spec.get("replicas") or 0) < 0:
            causes.append(
                cause("FieldValueInvalid", "spec.replicas", "must be greater than or equal to 0", str(spec["replicas"]))
            )
        causes += _validate_selector(spec)
        if spec["template"]["spec"].get("restartPolicy") != "Always":
            causes.append(
                cause(
                    "FieldValueNotSupported",
                    "spec.template.spec.restartPolicy",
                    'supported values: "Always"',
                    quote(str(spec["template"]["spec"].get("restartPolicy"))),
                )
            )
        if old is not None and dig(obj, "spec", "selector") != dig(old, "spec", "selector"):
            printed = quote_json(spec.get("selector"))
            causes.append(cause("FieldValueInvalid", "spec.selector", "field is immutable", printed))
        return causes


class JobStrategy(BuiltinStrategy):
    """Jobs, as objects: validated and defaulted."""

    has_status = True
    tracks_generation = True

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        spec.setdefault("completions", 1)
        spec.setdefault("parallelism", 1)
        spec.setdefault("backoffLimit", 6)
        spec.setdefault("completionMode", "NonIndexed")
        spec.setdefault("suspend", False)
        default_pod_spec(child(child(spec, "template"), "spec"))

    def prepare_create(self, obj: Obj) -> None:
        super().prepare_create(obj)
        obj["status"] = {}

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        causes = _validate_template(obj["spec"]["template"], "spec.template")
        policy = obj["spec"]["template"]["spec"].get("restartPolicy")
        if policy not in ("OnFailure", "Never"):
            causes.append(
                cause(
                    "FieldValueNotSupported",
                    "spec.template.spec.restartPolicy",
                    'supported values: "OnFailure", "Never"',
                    quote(str(policy)),
                )
            )
        return causes


def _validate_template(template: Obj, field: str) -> list[Cause]:
    labels = dig(template, "metadata", "labels") or {}
    return meta.validate_labels(labels, f"{field}.metadata.labels") + validate_pod_spec(
        template["spec"], f"{field}.spec"
    )


def _validate_selector(spec: Obj) -> list[Cause]:
    if not spec.get("selector"):
        return [cause("FieldValueRequired", "spec.selector")]
    try:
        selector = label_selector_from_dict(spec["selector"])
    except ValueError as problem:
        return [cause("FieldValueInvalid", "spec.selector", str(problem), quote_json(spec["selector"]))]
    if not (spec["selector"].get("matchLabels") or spec["selector"].get("matchExpressions")):
        return [cause("FieldValueInvalid", "spec.selector", "empty selector is invalid for deployment", "{}")]
    labels = dig(spec, "template", "metadata", "labels") or {}
    if not selector.matches(labels):
        detail = "`selector` does not match template `labels`"
        return [cause("FieldValueInvalid", "spec.template.metadata.labels", detail, quote_json(labels))]
    return []


def _deployment(spec: Obj) -> None:
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    strategy = child(spec, "strategy")
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = child(strategy, "rollingUpdate")
        rolling.setdefault("maxSurge", "25%")
        rolling.setdefault("maxUnavailable", "25%")


def _replicaset(spec: Obj) -> None:
    spec.setdefault("replicas", 1)


def _daemonset(spec: Obj) -> None:
    spec.setdefault("revisionHistoryLimit", 10)
    strategy = child(spec, "updateStrategy")
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = child(strategy, "rollingUpdate")
        rolling.setdefault("maxSurge", 0)
        rolling.setdefault("maxUnavailable", 1)


def _statefulset(spec: Obj) -> None:
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("podManagementPolicy", "OrderedReady")
    strategy = child(spec, "updateStrategy")
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        child(strategy, "rollingUpdate").setdefault("partition", 0)


_DEFAULTS = {
    "Deployment": _deployment,
    "ReplicaSet": _replicaset,
    "DaemonSet": _daemonset,
    "StatefulSet": _statefulset,
}
