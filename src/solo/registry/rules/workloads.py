"""Kinds with a pod template: defaults and the rules that their controllers rely on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from kube.machinery import objectmeta
from kube.machinery.errors import Cause, cause
from kube.machinery.selectors import label_selector_from_dict
from solo.registry.objects import child, dig, quote_json, without
from solo.registry.rules.amounts import negative
from solo.registry.rules.fieldchecks import one_of
from solo.registry.rules.podspec import default_pod_spec, validate_pod_spec
from solo.registry.rules.podwarnings import pod_warnings, template_warnings
from solo.registry.rules.replicas import status_causes
from solo.registry.rules.rollouts import daemonset_causes, deployment_causes, statefulset_causes
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


class WorkloadStrategy(BuiltinStrategy, ABC):
    """What the kinds have in common that keep pods running."""

    has_status = True
    tracks_generation = True
    fields: Mapping[str, tuple[str, ...]] = {**METADATA_FIELDS, "status.replicas": ("status", "replicas")}
    pods_of = ""
    """The kind of which messages say that it has no deadline: a Deployment's pods are its ReplicaSets'."""
    empty_selector = "empty selector is invalid for deployment"

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        _DEFAULTS[self.kind](spec)
        default_pod_spec(child(child(spec, "template"), "spec"))

    def prepare_create(self, obj: Obj) -> None:
        super().prepare_create(obj)
        obj["status"] = {}

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        if old is not None and obj["spec"] == old["spec"]:
            return []  # So that metadata can be written of what an older version let pass.
        return self._spec_causes(obj["spec"]) + (self._frozen_causes(obj, old) if old is not None else [])

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        return template_warnings(obj, old, obj["spec"]["template"], "spec.template")

    def validate_status(self, obj: Obj, old: Obj) -> list[Cause]:
        return status_causes(self.kind, obj.get("status") or {}, old.get("status") or {})

    @abstractmethod
    def _spec_causes(self, spec: Obj) -> list[Cause]:
        """What is wrong with the spec, in Kubernetes' order."""

    def _template_causes(self, spec: Obj) -> list[Cause]:
        """The selector, and the template that has to suit it."""
        causes = _validate_selector(spec, self.empty_selector) + validate_template(spec["template"], "spec.template")
        return causes + self._pod_causes(spec["template"]["spec"], "spec.template.spec")

    def _pod_causes(self, pod: Obj, field: str) -> list[Cause]:
        """Pods that are kept running do not end."""
        causes = []
        if pod.get("restartPolicy") != "Always":
            causes.append(one_of(f"{field}.restartPolicy", str(pod.get("restartPolicy")), ("Always",)))
        if pod.get("activeDeadlineSeconds") is not None:
            detail = f"activeDeadlineSeconds in {self.pods_of or self.kind} is not Supported"
            causes.append(cause("FieldValueForbidden", f"{field}.activeDeadlineSeconds", detail))
        return causes

    def _frozen_causes(self, obj: Obj, old: Obj) -> list[Cause]:
        """What an update must not touch."""
        if dig(obj, "spec", "selector") == dig(old, "spec", "selector"):
            return []
        return [
            cause("FieldValueInvalid", "spec.selector", "field is immutable", quote_json(obj["spec"].get("selector")))
        ]


class DeploymentStrategy(WorkloadStrategy):
    """Deployments (`ValidateDeploymentSpec`)."""

    kept_by_status = ("labels",)
    pods_of = "ReplicaSet"

    def desired(self, obj: Obj) -> Obj:
        """Annotations, too, as they are copied to the ReplicaSets."""
        return {**super().desired(obj), "annotations": obj["metadata"].get("annotations")}

    def _spec_causes(self, spec: Obj) -> list[Cause]:
        causes = negative(spec, ("replicas",), "spec") + self._template_causes(spec)
        causes += deployment_causes(spec)
        causes += negative(spec, ("minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"), "spec")
        deadline = spec["progressDeadlineSeconds"]
        if deadline <= (spec.get("minReadySeconds") or 0):
            detail = "must be greater than minReadySeconds"
            causes.append(cause("FieldValueInvalid", "spec.progressDeadlineSeconds", detail, str(deadline)))
        return causes


class ReplicaSetStrategy(WorkloadStrategy):
    """ReplicaSets (`ValidateReplicaSetSpec`)."""

    def _spec_causes(self, spec: Obj) -> list[Cause]:
        return negative(spec, ("replicas", "minReadySeconds"), "spec") + self._template_causes(spec)


class DaemonSetStrategy(WorkloadStrategy):
    """DaemonSets (`ValidateDaemonSetSpec`)."""

    empty_selector = "empty selector is invalid for daemonset"

    def _spec_causes(self, spec: Obj) -> list[Cause]:
        causes = self._template_causes(spec) + negative(spec, ("minReadySeconds",), "spec")
        causes += daemonset_causes(spec)
        return causes + negative(spec, ("revisionHistoryLimit",), "spec")


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

    def _spec_causes(self, spec: Obj) -> list[Cause]:
        selector, template = spec.get("selector"), spec["template"]
        causes = negative(spec, ("minReadySeconds",), "spec")
        if not selector:
            causes.append(cause("FieldValueRequired", "spec.selector"))
        causes += negative(spec, ("replicas",), "spec")
        labels = dig(template, "metadata", "labels") or {}
        if selector and not selector.items() <= labels.items():
            detail = "`selector` does not match template `labels`"
            causes.append(cause("FieldValueInvalid", "spec.template.metadata.labels", detail, quote_json(labels)))
        causes += validate_template(template, "spec.template")
        return causes + self._pod_causes(template["spec"], "spec.template.spec")

    def _frozen_causes(self, obj: Obj, old: Obj) -> list[Cause]:
        return []


class StatefulSetStrategy(WorkloadStrategy):
    """StatefulSets (`ValidateStatefulSetSpec`): only some fields may change."""

    empty_selector = "empty selector is invalid for statefulset"

    def _spec_causes(self, spec: Obj) -> list[Cause]:
        causes = [*statefulset_causes(spec), *negative(spec, ("replicas", "minReadySeconds"), "spec")]
        causes += negative(spec.get("ordinals") or {}, ("start",), "spec.ordinals")
        return causes + self._template_causes(spec)

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

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        return pod_warnings(obj["template"]["spec"], "template.spec")


def validate_template(template: Obj, field: str) -> list[Cause]:
    """What is wrong with a pod template."""
    labels = dig(template, "metadata", "labels") or {}
    return objectmeta.validate_labels(labels, f"{field}.metadata.labels") + validate_pod_spec(
        template["spec"], f"{field}.spec"
    )


def _validate_selector(spec: Obj, empty: str) -> list[Cause]:
    if not spec.get("selector"):
        return [cause("FieldValueRequired", "spec.selector")]
    try:
        selector = label_selector_from_dict(spec["selector"])
    except ValueError as problem:
        return [cause("FieldValueInvalid", "spec.selector", str(problem), quote_json(spec["selector"]))]
    if not (spec["selector"].get("matchLabels") or spec["selector"].get("matchExpressions")):
        return [cause("FieldValueInvalid", "spec.selector", empty, "{}")]
    labels = dig(spec, "template", "metadata", "labels") or {}
    if not selector.matches(labels):
        detail = "`selector` does not match template `labels`"
        return [cause("FieldValueInvalid", "spec.template.metadata.labels", detail, quote_json(labels))]
    return []


def _chosen(part: Obj, key: str, default: str) -> Any:
    """A choice, with the default for the empty string, too: Go cannot tell that from an absent one."""
    if not part.get(key):
        part[key] = default
    return part[key]


def _deployment(spec: Obj) -> None:
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    strategy = child(spec, "strategy")
    if _chosen(strategy, "type", "RollingUpdate") == "RollingUpdate":
        rolling = child(strategy, "rollingUpdate")
        rolling.setdefault("maxSurge", "25%")
        rolling.setdefault("maxUnavailable", "25%")


def _replicaset(spec: Obj) -> None:
    spec.setdefault("replicas", 1)


def _daemonset(spec: Obj) -> None:
    spec.setdefault("revisionHistoryLimit", 10)
    strategy = child(spec, "updateStrategy")
    if _chosen(strategy, "type", "RollingUpdate") == "RollingUpdate":
        rolling = child(strategy, "rollingUpdate")
        rolling.setdefault("maxSurge", 0)
        rolling.setdefault("maxUnavailable", 1)


def _statefulset(spec: Obj) -> None:
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    _chosen(spec, "podManagementPolicy", "OrderedReady")
    retention = child(spec, "persistentVolumeClaimRetentionPolicy")
    _chosen(retention, "whenDeleted", "Retain")
    _chosen(retention, "whenScaled", "Retain")
    for claim in spec.get("volumeClaimTemplates") or []:
        child(claim, "spec").setdefault("volumeMode", "Filesystem")
    strategy = child(spec, "updateStrategy")
    if _chosen(strategy, "type", "RollingUpdate") == "RollingUpdate":
        child(strategy, "rollingUpdate").setdefault("partition", 0)


_DEFAULTS = {
    "Deployment": _deployment,
    "ReplicaSet": _replicaset,
    "ReplicationController": _replicaset,
    "DaemonSet": _daemonset,
    "StatefulSet": _statefulset,
}
