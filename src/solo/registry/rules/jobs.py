"""Jobs: defaults, the selector that a Job gets of its own, and what may change later."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kube.machinery import names
from kube.machinery.errors import Cause, cause
from kube.machinery.selectors import label_selector_from_dict
from solo.registry.objects import child, copy, dig, quote, quote_json
from solo.registry.rules.amounts import negative
from solo.registry.rules.fieldchecks import one_of
from solo.registry.rules.jobpolicies import default_failure_policy, failure_policy_causes, success_policy_causes
from solo.registry.rules.podspec import default_pod_spec
from solo.registry.rules.podwarnings import template_warnings
from solo.registry.rules.workloads import validate_template
from solo.registry.strategy import METADATA_FIELDS, BuiltinStrategy

Obj = dict[str, Any]

UID_LABEL = "batch.kubernetes.io/controller-uid"
NAME_LABEL = "batch.kubernetes.io/job-name"
_OLD_UID_LABEL = "controller-uid"
_OLD_NAME_LABEL = "job-name"
_NO_LIMIT = 2**31 - 1
_COUNTS = (
    "parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished",
    "backoffLimitPerIndex", "maxFailedIndexes",
)  # fmt: skip
_STATUS_COUNTS = ("active", "succeeded", "failed", "ready", "terminating")
_FROZEN = (
    "completions", "selector", "template", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy",
    "successPolicy",
)  # fmt: skip
_REPLACEMENTS = ("Failed", "TerminatingOrFailed")
_PATH = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"
_MANAGER_LENGTH = 63
_MAX_INDEXED = 100_000
"""The most pods at a time and the most failed indexes of an Indexed Job, and from where on fewer are allowed."""
_MAX_OF_MANY = 10_000


class JobStrategy(BuiltinStrategy):
    """Jobs (`pkg/registry/batch/job`)."""

    default_propagation = "Orphan"
    has_status = True
    tracks_generation = True
    fields: Mapping[str, tuple[str, ...]] = {**METADATA_FIELDS, "status.successful": ("status", "succeeded")}

    def default(self, obj: Obj) -> None:
        default_job_spec(child(obj, "spec"))

    def prepare_create(self, obj: Obj) -> None:
        super().prepare_create(obj)
        obj["status"] = {}
        if not obj["spec"].get("manualSelector"):
            _select_own(obj)

    def selectable(self, obj: Obj, field: str) -> str:
        return super().selectable(obj, field) or ("0" if field == "status.successful" else "")

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        before = _defaulted(old["spec"]) if old is not None else None
        if obj["spec"] == before:
            return []  # So that metadata can be written of what an older version let pass.
        causes = [*_generated(obj, before), *validate_job_spec(obj["spec"], "spec"), *_selector(obj["spec"])]
        causes += _hostname(obj)
        return causes + (_unchanged(obj["spec"], before) if before is not None else [])

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        return template_warnings(obj, old, obj["spec"]["template"], "spec.template")

    def validate_status(self, obj: Obj, old: Obj) -> list[Cause]:
        return negative(obj.get("status") or {}, _STATUS_COUNTS, "status")


def default_job_spec(spec: Obj) -> None:
    """Fill in what every Job has, in a Job or in a CronJob's template (batch/v1 `SetDefaults_Job`)."""
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    spec.setdefault("backoffLimit", _NO_LIMIT if spec.get("backoffLimitPerIndex") is not None else 6)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    spec.setdefault("manualSelector", False)
    spec.setdefault("podReplacementPolicy", "Failed" if spec.get("podFailurePolicy") else "TerminatingOrFailed")
    default_failure_policy(spec)
    default_pod_spec(child(child(spec, "template"), "spec"))


def _defaulted(spec: Obj) -> Obj:
    """A stored spec with the defaults that an older version did not fill in."""
    if spec.get("podFailurePolicy"):
        spec = copy(spec)
        default_failure_policy(spec)
    return spec


def _own_labels(obj: Obj) -> dict[str, str]:
    """The labels by which a Job's pods are known."""
    uid, name = obj["metadata"].get("uid") or "", obj["metadata"].get("name") or ""
    return {_OLD_UID_LABEL: uid, _OLD_NAME_LABEL: name, UID_LABEL: uid, NAME_LABEL: name}


def _select_own(obj: Obj) -> None:
    """Label the template with the Job's uid, and select by it (`generateSelector`).

    What a client gave stays, for the validation to refuse.
    """
    spec, own = obj["spec"], _own_labels(obj)
    template, selector = spec["template"], spec.get("selector") or {}
    meta = template.get("metadata") or {}
    # Copies: under a generated name that is taken, the same spec is tried again with other labels.
    template = {**template, "metadata": {**meta, "labels": {**own, **(meta.get("labels") or {})}}}
    selector = {**selector, "matchLabels": {UID_LABEL: own[UID_LABEL], **(selector.get("matchLabels") or {})}}
    obj["spec"] = {**spec, "template": template, "selector": selector}


def _generated(obj: Obj, before: Obj | None) -> Iterator[Cause]:
    """A selector of the Job's own must be just that (`validateGeneratedSelector`)."""
    spec, own = obj["spec"], _own_labels(obj)
    if spec.get("manualSelector") or not spec.get("selector"):
        return
    labels = dig(before, "template", "metadata", "labels") or {}
    if before is not None and not (UID_LABEL in labels and NAME_LABEL in labels):
        own = {key: value for key, value in own.items() if key not in (UID_LABEL, NAME_LABEL)}
    labels = dig(spec, "template", "metadata", "labels") or {}
    for key, value in own.items():
        place, detail = f"spec.template.metadata.labels[{key}]", f"must be '{value}'"
        if key not in labels:
            yield cause("FieldValueRequired", place, detail)
        elif labels[key] != value:
            yield cause("FieldValueInvalid", place, detail, quote_json(labels))
    if _misses(spec["selector"], own):
        yield cause("FieldValueInvalid", "spec.selector", "`selector` not auto-generated", quote_json(spec["selector"]))


def _misses(selector: Obj, labels: Mapping[str, str]) -> bool:
    try:
        return not label_selector_from_dict(selector).matches(labels)
    except ValueError:
        return False  # which is refused as such


def _selector(spec: Obj) -> Iterator[Cause]:
    selector = spec.get("selector")
    if selector is None:
        yield cause("FieldValueRequired", "spec.selector")
        return
    try:
        label_selector_from_dict(selector)
    except ValueError as problem:
        yield cause("FieldValueInvalid", "spec.selector", str(problem), quote_json(selector))
    labels = dig(spec, "template", "metadata", "labels") or {}
    if _misses(selector, labels):
        detail = "`selector` does not match template `labels`"
        yield cause("FieldValueInvalid", "spec.template.metadata.labels", detail, quote_json(labels))


def _hostname(obj: Obj) -> Iterator[Cause]:
    """The pods of an Indexed Job are called after it and their index, which has to be possible."""
    spec, name = obj["spec"], obj["metadata"].get("name") or ""
    if spec["completionMode"] == "Indexed" and (spec.get("completions") or 0) > 0:
        longest = f"{name}-{spec['completions'] - 1}"
        if names.dns1123_label(longest):
            detail = f"will not able to create pod with invalid DNS label: {longest}"
            yield cause("FieldValueInvalid", "metadata.name", detail, quote(name))


def validate_job_spec(spec: Obj, field: str) -> list[Cause]:
    """What is wrong with a Job's spec, in a Job or in a CronJob's template (`validateJobSpec`)."""
    causes = negative(spec, _COUNTS, field)
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        detail = "when maxFailedIndexes is specified"
        causes.append(cause("FieldValueRequired", f"{field}.backoffLimitPerIndex", detail))
    if spec.get("managedBy") is not None:
        causes += _manager(spec["managedBy"], f"{field}.managedBy")
    causes += _mode(spec, field)
    if spec.get("podFailurePolicy") is not None:
        causes += failure_policy_causes(spec, field)
    if spec.get("successPolicy") is not None:
        if spec["completionMode"] == "Indexed":
            causes += success_policy_causes(spec, field)
        else:
            detail, printed = "requires indexed completion mode", quote_json(spec["successPolicy"])
            causes.append(cause("FieldValueInvalid", f"{field}.successPolicy", detail, printed))
    replacement = spec.get("podReplacementPolicy")
    allowed = _REPLACEMENTS if spec.get("podFailurePolicy") is None else ("Failed",)
    if replacement is not None and replacement not in allowed:
        causes.append(one_of(f"{field}.podReplacementPolicy", replacement, allowed))
    causes += validate_template(spec["template"], f"{field}.template")
    return [*causes, *_restarts(spec, f"{field}.template.spec.restartPolicy")]


def _manager(value: str, field: str) -> Iterator[Cause]:
    """Who runs a Job is named by a path with a domain in front (`IsDomainPrefixedPath`)."""
    host, _, path = value.partition("/")
    if not value:
        yield cause("FieldValueRequired", field)
    elif not host or not path:
        detail = 'must be a domain-prefixed path (such as "acme.io/foo")'
        yield cause("FieldValueInvalid", field, detail, quote(value))
    else:
        for text in names.dns1123_subdomain(host):
            yield cause("FieldValueInvalid", field, text, quote(host))
        if not re.fullmatch(_PATH, path):
            detail = f"Invalid path (regex used for validation is '{_PATH}')"
            yield cause("FieldValueInvalid", field, detail, quote(path))
    if len(value.encode()) > _MANAGER_LENGTH:
        yield cause("FieldValueTooLong", field, f"may not be more than {_MANAGER_LENGTH} bytes")


def _mode(spec: Obj, field: str) -> Iterator[Cause]:
    """What depends on whether the pods of a Job have indexes."""
    mode = spec["completionMode"]
    if mode == "Indexed":
        yield from _indexed(spec, field)
    elif mode != "NonIndexed":
        yield one_of(f"{field}.completionMode", mode, ("NonIndexed", "Indexed"))
    else:
        for key in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if spec.get(key) is not None:
                detail = "requires indexed completion mode"
                yield cause("FieldValueInvalid", f"{field}.{key}", detail, str(spec[key]))


def _indexed(spec: Obj, field: str) -> Iterator[Cause]:
    completions, most, parallelism = spec.get("completions"), spec.get("maxFailedIndexes"), spec.get("parallelism") or 0
    if completions is None:
        yield cause("FieldValueRequired", f"{field}.completions", "when completion mode is Indexed")
    if parallelism > _MAX_INDEXED:
        detail = f"must be less than or equal to {_MAX_INDEXED} when completion mode is Indexed"
        yield cause("FieldValueInvalid", f"{field}.parallelism", detail, str(parallelism))
    if most is not None and completions is not None and most > completions:
        detail = "must be less than or equal to completions"
        yield cause("FieldValueInvalid", f"{field}.maxFailedIndexes", detail, str(most))
    if most is not None and most > _MAX_INDEXED:
        detail = f"must be less than or equal to {_MAX_INDEXED}"
        yield cause("FieldValueInvalid", f"{field}.maxFailedIndexes", detail, str(most))
    if (completions or 0) <= _MAX_INDEXED or spec.get("backoffLimitPerIndex") is None:
        return
    if most is None:
        detail = f"must be specified when completions is above {_MAX_INDEXED}"
        yield cause("FieldValueRequired", f"{field}.maxFailedIndexes", detail)
    above = f"when completions are above {_MAX_INDEXED} and used with backoff limit per index"
    for key, value in (("parallelism", parallelism), ("maxFailedIndexes", most or 0)):
        if value > _MAX_OF_MANY:
            detail = f"must be less than or equal to {_MAX_OF_MANY} {above}"
            yield cause("FieldValueInvalid", f"{field}.{key}", detail, str(value))


def _restarts(spec: Obj, field: str) -> Iterator[Cause]:
    policy = spec["template"]["spec"].get("restartPolicy")
    if policy in ("Always", "", None):
        yield cause("FieldValueRequired", field, 'valid values: "OnFailure", "Never"')
    elif policy not in ("OnFailure", "Never"):
        yield one_of(field, policy, ("OnFailure", "Never"))
    elif spec.get("podFailurePolicy") is not None and policy != "Never":
        # Failures are judged by pods, so their containers must not be started again.
        detail = 'only "Never" is supported when podFailurePolicy is specified'
        yield cause("FieldValueInvalid", field, detail, quote(policy))


def _unchanged(spec: Obj, old: Obj) -> list[Cause]:
    """What an update of a Job must not touch; the template may change while the Job is suspended."""
    causes = []
    for key in _FROZEN:
        if spec.get(key) == old.get(key) or (key == "template" and old.get("suspend")):
            continue
        detail = "field is immutable"
        if key == "completions" and spec["completionMode"] == "Indexed":
            if spec.get(key) in (None, spec["parallelism"]):
                continue
            detail = "can only be modified in tandem with spec.parallelism"
        causes.append(cause("FieldValueInvalid", f"spec.{key}", detail, quote_json(spec.get(key))))
    return causes
