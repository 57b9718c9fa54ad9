"""CronJobs: defaults, and what is wrong with one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from kube.machinery.cron import CronError, parse_cron, time_zone
from kube.machinery.errors import Cause, cause
from solo.registry.objects import child, quote, quote_json
from solo.registry.rules.amounts import negative
from solo.registry.rules.fieldchecks import one_of
from solo.registry.rules.jobs import default_job_spec, validate_job_spec
from solo.registry.rules.podwarnings import template_warnings
from solo.registry.strategy import BuiltinStrategy

Obj = dict[str, Any]

_POLICIES = ("Allow", "Forbid", "Replace")
_NAME_LENGTH = 52
"""So that a Job can be called after the CronJob and its time, 11 characters more."""
_ZONE_PART = r"(?!-)[A-Za-z.\-_0-9+]{1,14}"


class CronJobStrategy(BuiltinStrategy):
    """CronJobs."""

    has_status = True
    tracks_generation = True

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        if not spec.get("concurrencyPolicy"):
            spec["concurrencyPolicy"] = "Allow"
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
        spec, before = obj["spec"], (old or {}).get("spec")
        if spec == before:
            return []  # So that metadata can be written of what an older version let pass.
        causes = [*_schedule(spec), *negative(spec, ("startingDeadlineSeconds",), "spec")]
        if before is None or spec.get("timeZone") != before.get("timeZone"):
            causes += _zone(spec.get("timeZone"))
        if spec["concurrencyPolicy"] not in _POLICIES:
            causes.append(one_of("spec.concurrencyPolicy", spec["concurrencyPolicy"], _POLICIES))
        causes += _template(spec["jobTemplate"]["spec"], "spec.jobTemplate.spec")
        causes += negative(spec, ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"), "spec")
        name = obj["metadata"].get("name") or ""
        if old is None and len(name) > _NAME_LENGTH:
            detail = f"must be no more than {_NAME_LENGTH} characters"
            causes.append(cause("FieldValueInvalid", "metadata.name", detail, quote(name)))
        return causes

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        template = obj["spec"]["jobTemplate"]["spec"]["template"]
        return template_warnings(obj, old, template, "spec.jobTemplate.spec.template")


def _schedule(spec: Obj) -> Iterator[Cause]:
    schedule = spec.get("schedule") or ""
    if not schedule:
        yield cause("FieldValueRequired", "spec.schedule")
        return
    try:
        parse_cron(schedule)
    except CronError as problem:
        yield cause("FieldValueInvalid", "spec.schedule", str(problem), quote(schedule))


def _zone(zone: str | None) -> Iterator[Cause]:
    """A time zone is one of IANA's, by name."""
    if zone is None:
        return
    problems = []
    if not zone:
        problems = ["timeZone must be nil or non-empty string"]
    elif any(part in (".", "..") or not re.fullmatch(_ZONE_PART, part) for part in zone.split("/")):
        problems = [f"unknown time zone {zone}"]
    else:
        if zone.lower() == "local":
            problems.append("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones")
        try:
            if zone != "Local":
                time_zone(zone)
        except CronError as problem:
            problems.append(str(problem))
    for detail in problems:
        yield cause("FieldValueInvalid", "spec.timeZone", detail, quote(zone))


def _template(spec: Obj, field: str) -> Iterator[Cause]:
    """The spec of the Jobs to come, which get a selector each of their own."""
    yield from validate_job_spec({"completionMode": "NonIndexed", **spec}, field)
    if spec.get("selector") is not None:
        detail = "`selector` will be auto-generated"
        yield cause("FieldValueInvalid", f"{field}.selector", detail, quote_json(spec["selector"]))
    if spec.get("manualSelector"):
        yield one_of(f"{field}.manualSelector", True, ("nil", "false"))
