"""Kinds with a pod template: defaults and the rules that their controllers rely on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kube.machinery import objectmeta
from kube.machinery.errors import Cause, cause
from kube.machinery.selectors import label_selector_from_dict
from solo.registry.objects import child, dig, quote, quote_json, without
from solo.registry.rules.podspec import default_pod_spec, validate_pod_spec
from solo.registry.strategy import METADATA_FIELDS, BuiltinStrategy

Obj = dict[str, Any]

_STATEFUL_CHANGES = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)


class WorkloadStrategy(BuiltinStrategy):
    """Deployment, ReplicaSet and DaemonSet; the base of StatefulSet and ReplicationController."""

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
        if old is not None and spec == old["spec"]:
            return []  # So that metadata can be written of what an older version let pass.
        causes = validate_template(spec["template"], "spec.template")
        if int(spec.get("replicas") or 0) < 0:
            causes.append(
                cause("FieldValueInvalid", "spec.replicas", "must be greater than or equal to 0", str(spec["replicas"]))
            )
        causes += self._selector_causes(spec)
        if spec["template"]["spec"].get("restartPolicy") != "Always":
            causes.append(
                cause(
                    "FieldValueNotSupported",
                    "spec.template.spec.restartPolicy",
                    'supported values: "Always"',
                    quote(str(spec["template"]["spec"].get("restartPolicy"))),
                )
            )
        return causes + (self._frozen_causes(obj, old) if old is not None else [])

    def _selector_causes(self, spec: Obj) -> list[Cause]:
        return _validate_selector(spec)

    def _frozen_causes(self, obj: Obj, old: Obj) -> list[Cause]:
        """What an update must not touch."""
        if dig(obj, "spec", "selector") == dig(old, "spec", "selector"):
            return []
        return [
            cause("FieldValueInvalid", "spec.selector", "field is immutable", quote_json(obj["spec"].get("selector")))
        ]


class ReplicationStrategy(WorkloadStrategy):
    """ReplicationControllers: selector and labels follow from the template where they are not given.

    Deleted with no word about their pods, they leave them, as ever since before there was a choice.
    """

    default_propagation = "Orphan"

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        labels = dig(spec, "template", "metadata", "labels")
        if labels:
            if not spec.get("selector"):
                spec["selector"] = dict(labels)
            if not dig(obj, "metadata", "labels"):
                child(obj, "metadata")["labels"] = dict(labels)
        super().default(obj)

    def _selector_causes(self, spec: Obj) -> list[Cause]:
        selector = spec.get("selector")
        if not selector:
            return [cause("FieldValueRequired", "spec.selector")]
        labels = dig(spec, "template", "metadata", "labels") or {}
        if not selector.items() <= labels.items():
            detail = "`selector` does not match template `labels`"
            return [cause("FieldValueInvalid", "spec.template.metadata.labels", detail, quote_json(labels))]
        return []

    def _frozen_causes(self, obj: Obj, old: Obj) -> list[Cause]:
        return []


class StatefulSetStrategy(WorkloadStrategy):
    """StatefulSets: only some fields may change."""

    def _frozen_causes(self, obj: Obj, old: Obj) -> list[Cause]:
        if without(obj["spec"], *_STATEFUL_CHANGES) == without(old["spec"], *_STATEFUL_CHANGES):
            return []
        listed = ", ".join(f"'{name}'" for name in _STATEFUL_CHANGES[:-1])
        detail = (
            f"updates to statefulset spec for fields other than {listed} and '{_STATEFUL_CHANGES[-1]}' are forbidden"
        )
        return [cause("FieldValueForbidden", "spec", detail)]


class TemplateStrategy(BuiltinStrategy):
    """PodTemplates."""

    tracks_generation = True
    returns_deleted = True

    def default(self, obj: Obj) -> None:
        default_pod_spec(child(child(obj, "template"), "spec"))

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        return validate_template(obj["template"], "template")


def validate_template(template: Obj, field: str) -> list[Cause]:
    """What is wrong with a pod template."""
    labels = dig(template, "metadata", "labels") or {}
    return objectmeta.validate_labels(labels, f"{field}.metadata.labels") + validate_pod_spec(
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
    retention = child(spec, "persistentVolumeClaimRetentionPolicy")
    retention.setdefault("whenDeleted", "Retain")
    retention.setdefault("whenScaled", "Retain")
    for claim in spec.get("volumeClaimTemplates") or []:
        child(claim, "spec").setdefault("volumeMode", "Filesystem")
    strategy = child(spec, "updateStrategy")
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        child(strategy, "rollingUpdate").setdefault("partition", 0)


_DEFAULTS = {
    "Deployment": _deployment,
    "ReplicaSet": _replicaset,
    "ReplicationController": _replicaset,
    "DaemonSet": _daemonset,
    "StatefulSet": _statefulset,
}
