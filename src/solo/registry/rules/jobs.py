"""Jobs and CronJobs: defaults, the selector that a Job gets of its own, and what may change later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kube.machinery.cron import CronError, parse_cron
from kube.machinery.errors import Cause, cause
from solo.registry.objects import child, dig, quote, quote_json
from solo.registry.rules.podspec import default_pod_spec
from solo.registry.rules.workloads import validate_template
from solo.registry.strategy import METADATA_FIELDS, BuiltinStrategy

Obj = dict[str, Any]

UID_LABEL = "batch.kubernetes.io/controller-uid"
NAME_LABEL = "batch.kubernetes.io/job-name"
_OLD_LABELS = {"controller-uid": UID_LABEL, "job-name": NAME_LABEL}
_NO_LIMIT = 2**31 - 1
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_COUNTS = (
    "parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished",
    "backoffLimitPerIndex", "maxFailedIndexes",
)  # fmt: skip
_FROZEN = ("selector", "completionMode", "podFailurePolicy", "successPolicy", "backoffLimitPerIndex")
_CRON_CHOICES = ("Allow", "Forbid", "Replace")


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
        if old is not None and obj["spec"] == old["spec"]:
            return []  # So that metadata can be written of what an older version let pass.
        causes = validate_job_spec(obj["spec"], "spec")
        if old is not None:
            causes += _unchanged(obj["spec"], old["spec"])
        elif not obj["spec"].get("selector"):
            causes.append(cause("FieldValueRequired", "spec.selector"))
        return causes


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
    default_pod_spec(child(child(spec, "template"), "spec"))


def _select_own(obj: Obj) -> None:
    """Label the template with the Job's uid, and select by it (`generateSelector`)."""
    uid, name = obj["metadata"]["uid"], obj["metadata"].get("name") or ""
    labels = child(child(obj["spec"]["template"], "metadata"), "labels")
    values = {UID_LABEL: uid, NAME_LABEL: name}
    labels.update(values)
    labels.update({old: values[new] for old, new in _OLD_LABELS.items()})
    obj["spec"]["selector"] = {"matchLabels": {UID_LABEL: uid}}


def validate_job_spec(spec: Obj, field: str) -> list[Cause]:
    """What is wrong with a Job's spec."""
    causes = validate_template(spec["template"], f"{field}.template")
    for key in _COUNTS:
        if int(spec.get(key) or 0) < 0:
            detail = "must be greater than or equal to 0"
            causes.append(cause("FieldValueInvalid", f"{field}.{key}", detail, str(spec[key])))
    mode = spec["completionMode"]
    if mode not in ("NonIndexed", "Indexed"):
        detail = 'supported values: "Indexed", "NonIndexed"'
        causes.append(cause("FieldValueNotSupported", f"{field}.completionMode", detail, quote(str(mode))))
    if mode == "Indexed" and spec.get("completions") is None:
        detail = "when completion mode is Indexed"
        causes.append(cause("FieldValueRequired", f"{field}.completions", detail))
    policy = spec["template"]["spec"].get("restartPolicy")
    if policy not in ("OnFailure", "Never"):
        detail = 'supported values: "OnFailure", "Never"'
        place = f"{field}.template.spec.restartPolicy"
        causes.append(cause("FieldValueNotSupported", place, detail, quote(str(policy))))
    return causes + _index_causes(spec, field) + _policy_causes(spec, field)


def _index_causes(spec: Obj, field: str) -> list[Cause]:
    """What only Jobs with indexes can have."""
    causes = []
    indexed, by_index = spec["completionMode"] == "Indexed", spec.get("backoffLimitPerIndex") is not None
    for key in ("backoffLimitPerIndex", "successPolicy"):
        if spec.get(key) is not None and not indexed:
            detail = "requires indexed completion mode"
            causes.append(cause("FieldValueInvalid", f"{field}.{key}", detail, quote_json(spec[key])))
    most = spec.get("maxFailedIndexes")
    if most is not None and not by_index:
        detail = "when maxFailedIndexes is specified"
        causes.append(cause("FieldValueRequired", f"{field}.backoffLimitPerIndex", detail))
    if most is not None and most > int(spec.get("completions") or 0):
        detail = "must be less than or equal to completions"
        causes.append(cause("FieldValueInvalid", f"{field}.maxFailedIndexes", detail, str(most)))
    return causes


def _policy_causes(spec: Obj, field: str) -> list[Cause]:
    """Failures are judged by pods, so their containers must not be started again."""
    causes = []
    policy = spec["template"]["spec"].get("restartPolicy")
    for key in ("podFailurePolicy", "backoffLimitPerIndex"):
        if spec.get(key) is not None and policy != "Never":
            detail = f'only "Never" is supported when {key} is specified'
            place = f"{field}.template.spec.restartPolicy"
            causes.append(cause("FieldValueInvalid", place, detail, quote(str(policy))))
    for index, rule in enumerate((spec.get("podFailurePolicy") or {}).get("rules") or []):
        place, action = f"{field}.podFailurePolicy.rules[{index}].action", rule.get("action") or ""
        if action not in _ACTIONS:
            listed = ", ".join(quote(each) for each in _ACTIONS)
            causes.append(cause("FieldValueNotSupported", place, f"supported values: {listed}", quote(action)))
        elif action == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
            detail = "requires the backoffLimitPerIndex to be set"
            causes.append(cause("FieldValueInvalid", place, detail, quote(action)))
    return causes


def _unchanged(spec: Obj, old: Obj) -> list[Cause]:
    """What an update of a Job must not touch; the template may change while the Job is suspended."""
    frozen = [*_FROZEN, *(() if old.get("suspend") else ("template",))]
    if spec["completionMode"] != "Indexed":
        frozen.append("completions")
    return [
        cause("FieldValueInvalid", f"spec.{key}", "field is immutable", quote_json(spec.get(key)))
        for key in frozen
        if spec.get(key) != old.get(key)
    ]


class CronJobStrategy(BuiltinStrategy):
    """CronJobs."""

    has_status = True
    tracks_generation = True

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        spec.setdefault("concurrencyPolicy", "Allow")
        spec.setdefault("suspend", False)
        spec.setdefault("successfulJobsHistoryLimit", 3)
        spec.setdefault("failedJobsHistoryLimit", 1)
        template = child(child(spec, "jobTemplate"), "spec")
        default_job_spec(template)
        for key in ("manualSelector", "podReplacementPolicy", "suspend", "completionMode"):
            if template.get(key) in (False, "TerminatingOrFailed", "NonIndexed"):
                del template[key]

    def prepare_create(self, obj: Obj) -> None:
        super().prepare_create(obj)
        obj["status"] = {}

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        spec = obj["spec"]
        job: Obj = {**spec["jobTemplate"]["spec"]}
        job.setdefault("completionMode", "NonIndexed")
        causes = validate_job_spec(job, "spec.jobTemplate.spec")
        schedule = spec.get("schedule") or ""
        if not schedule:
            causes.append(cause("FieldValueRequired", "spec.schedule"))
        else:
            try:
                parse_cron(schedule, spec.get("timeZone"))
            except CronError as problem:
                where = "spec.timeZone" if problem.zone else "spec.schedule"
                printed = quote(str(spec.get("timeZone") if problem.zone else schedule))
                causes.append(cause("FieldValueInvalid", where, str(problem), printed))
        policy = spec["concurrencyPolicy"]
        if policy not in _CRON_CHOICES:
            detail = 'supported values: "Allow", "Forbid", "Replace"'
            causes.append(cause("FieldValueNotSupported", "spec.concurrencyPolicy", detail, quote(str(policy))))
        if int(dig(spec, "startingDeadlineSeconds") or 0) < 0:
            detail, printed = "must be greater than or equal to 0", str(spec["startingDeadlineSeconds"])
            causes.append(cause("FieldValueInvalid", "spec.startingDeadlineSeconds", detail, printed))
        return causes
