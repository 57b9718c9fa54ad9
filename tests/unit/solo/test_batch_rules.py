"""What kube-apiserver refuses of Jobs and CronJobs is refused here, in its words; what it takes is taken."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kube.machinery.cron import parse_cron
from kube.machinery.durations import rfc3339
from solo.controllers.cronjobs import _times
from solo.registry.builtins import builtin_kinds
from solo.registry.objects import copy

KINDS = {kind.resource.plural: kind.strategy for kind in builtin_kinds(lambda: ("node", {}))}
POD = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
NEGATIVE = "must be greater than or equal to 0"
INDEXED = {"completionMode": "Indexed", "completions": 5, "parallelism": 5}
CODES = {"operator": "In", "values": [1, 3]}
OWN = {
    "controller-uid": "u", "job-name": "x", "batch.kubernetes.io/controller-uid": "u",
    "batch.kubernetes.io/job-name": "x",
}  # fmt: skip


def template(labels=None, **pod):
    return {"metadata": {"labels": labels or {}}, "spec": {**POD, **pod}}


def job(spec, name="x"):
    """A new Job as it is validated."""
    obj = copy({"metadata": {"name": name, "uid": "u"}, "spec": {"template": template(), **spec}})
    KINDS["jobs"].default(obj)
    KINDS["jobs"].prepare_create(obj)
    return obj


def cron(spec=None, jobs=None, name="x"):
    jobs = {"template": template(), **(jobs or {})}
    base = {"schedule": "@hourly", "jobTemplate": {"spec": jobs}, **(spec or {})}
    obj = copy({"metadata": {"name": name}, "spec": base})
    KINDS["cronjobs"].default(obj)
    return obj


def texts(causes):
    return [f"{each.field}: {each.message}" for each in causes]


def refused(spec):
    return texts(KINDS["jobs"].validate(job(spec), None))


def failing(**rule):
    return {"podFailurePolicy": {"rules": [{"action": "FailJob", **rule}]}}


def done(*rules):
    return {**INDEXED, "successPolicy": {"rules": list(rules)}}


RULE, MET = "spec.podFailurePolicy.rules[0]", "spec.successPolicy.rules[0]"
ONE_OF_BOTH = "specifying one of OnExitCodes and OnPodConditions is required"


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({"selector": {"matchLabels": {"a": "b"}}, "template": template({"a": "b"})},
         ['spec.selector: Invalid value: {"matchLabels":{"a":"b","batch.kubernetes.io/controller-uid":"u"}}: '
          "`selector` not auto-generated"]),
        ({"template": template({**OWN, "job-name": "y"})},
         ["spec.template.metadata.labels[job-name]: Invalid value: "
          '{"batch.kubernetes.io/controller-uid":"u","batch.kubernetes.io/job-name":"x","controller-uid":"u",'
          "\"job-name\":\"y\"}: must be 'x'"]),
        ({"manualSelector": True}, ["spec.selector: Required value"]),
        ({"manualSelector": True, "selector": {"matchLabels": {"a": "b"}}},
         ["spec.template.metadata.labels: Invalid value: {}: `selector` does not match template `labels`"]),
        ({"completionMode": "Indexed", "parallelism": 1},
         ["spec.completions: Required value: when completion mode is Indexed"]),
        ({"completionMode": "X"},
         ['spec.completionMode: Unsupported value: "X": supported values: "NonIndexed", "Indexed"']),
        ({"podReplacementPolicy": "X"},
         ['spec.podReplacementPolicy: Unsupported value: "X": supported values: "Failed", "TerminatingOrFailed"']),
        ({**failing(onExitCodes=CODES), "podReplacementPolicy": "TerminatingOrFailed"},
         ['spec.podReplacementPolicy: Unsupported value: "TerminatingOrFailed": supported values: "Failed"']),
        ({"parallelism": -1, "activeDeadlineSeconds": -1, "ttlSecondsAfterFinished": -2},
         [f"spec.parallelism: Invalid value: -1: {NEGATIVE}",
          f"spec.activeDeadlineSeconds: Invalid value: -1: {NEGATIVE}",
          f"spec.ttlSecondsAfterFinished: Invalid value: -2: {NEGATIVE}"]),
        ({"managedBy": ""}, ["spec.managedBy: Required value"]),
        ({"managedBy": "me"},
         ['spec.managedBy: Invalid value: "me": must be a domain-prefixed path (such as "acme.io/foo")']),
        ({"managedBy": "acme.io/" + "x" * 60}, ["spec.managedBy: Too long: may not be more than 63 bytes"]),
        ({"template": template(restartPolicy="Always")},
         ['spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"']),
        ({**failing(onExitCodes=CODES), "template": template(restartPolicy="OnFailure")},
         ['spec.template.spec.restartPolicy: Invalid value: "OnFailure": '
          'only "Never" is supported when podFailurePolicy is specified']),
        ({"backoffLimitPerIndex": 1},
         ["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"]),
        ({**INDEXED, "maxFailedIndexes": 6},
         ["spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
          "spec.maxFailedIndexes: Invalid value: 6: must be less than or equal to completions"]),
        ({**INDEXED, "parallelism": 100_001},
         ["spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is "
          "Indexed"]),
        ({**INDEXED, "completions": 100_001, "backoffLimitPerIndex": 1},
         ["spec.maxFailedIndexes: Required value: must be specified when completions is above 100000"]),
    ],
)  # fmt: skip
def test_jobs(spec, found):
    assert refused(spec) == found


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (failing(), [f"{RULE}: Invalid value: {ONE_OF_BOTH}"]),
        (failing(action="", onExitCodes=CODES),
         [f'{RULE}.action: Required value: valid values: ["Count" "FailIndex" "FailJob" "Ignore"]']),
        (failing(action="FailIndex", onExitCodes=CODES),
         [f'{RULE}.action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set']),
        (failing(onExitCodes={**CODES, "operator": "X", "containerName": "y"}),
         [f'{RULE}.onExitCodes.operator: Unsupported value: "X": supported values: "In", "NotIn"',
          f'{RULE}.onExitCodes.containerName: Invalid value: "y": '
          "must be one of the container or initContainer names in the pod template"]),
        (failing(onExitCodes={"operator": "In", "values": [3, 0, 3]}),
         [f"{RULE}.onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
          f"{RULE}.onExitCodes.values[2]: Duplicate value: 3",
          f"{RULE}.onExitCodes.values: Invalid value: [3,0,3]: must be ordered"]),
        (failing(onExitCodes={"operator": "In"}),
         [f"{RULE}.onExitCodes.values: Invalid value: []: at least one value is required"]),
        (failing(onPodConditions=[{"type": "X", "status": "Y"}]),
         [f'{RULE}.onPodConditions[0].status: Unsupported value: "Y": supported values: "False", "True", "Unknown"']),
        ({"podFailurePolicy": {"rules": [{"action": "Count", "onExitCodes": CODES}] * 21}},
         ["spec.podFailurePolicy.rules: Too many: 21: must have at most 20 items"]),
        ({"successPolicy": {"rules": [{"succeededCount": 1}]}},
         ['spec.successPolicy: Invalid value: {"rules":[{"succeededCount":1}]}: requires indexed completion mode']),
        (done(), ["spec.successPolicy.rules: Required value: "
                  "at least one rules must be specified when the successPolicy is specified"]),
        (done({}), [f"{MET}: Required value: at least one of succeededCount or succeededIndexes must be specified"]),
        (done({"succeededCount": 6}),
         [f"{MET}.succeededCount: Invalid value: 6: "
          "must be less than or equal to 5 (the number of specified completions)"]),
        (done({"succeededCount": 3, "succeededIndexes": "0-1"}),
         [f"{MET}.succeededCount: Invalid value: 3: must be less than or equal to 2 "
          "(the number of indexes in the specified succeededIndexes field)"]),
        (done({"succeededIndexes": "2,1"}),
         [f'{MET}.succeededIndexes: Invalid value: "2,1": '
          "error parsing succeededIndexes: non-increasing order, previous: 2, current: 1"]),
        (done({"succeededIndexes": "5"}),
         [f'{MET}.succeededIndexes: Invalid value: "5": error parsing succeededIndexes: too large index: "5"']),
    ],
)  # fmt: skip
def test_policies(spec, found):
    assert refused(spec) == found


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"template": template({"a": "b"}, restartPolicy="OnFailure")},
        {"template": template(OWN)},
        {"selector": {"matchLabels": {"job-name": "x"}}},
        {"manualSelector": True, "selector": {"matchLabels": {"a": "b"}}, "template": template({"a": "b"})},
        {"completionMode": "Indexed"},
        {**INDEXED, "backoffLimitPerIndex": 1, "maxFailedIndexes": 5, "template": template(restartPolicy="OnFailure")},
        {"parallelism": 0, "backoffLimit": 0, "managedBy": "kueue.x-k8s.io/multikueue"},
        {"podReplacementPolicy": "Failed"},
        {"podFailurePolicy": {"rules": []}},
        failing(onPodConditions=[{"type": "DisruptionTarget"}]),
        failing(onExitCodes={**CODES, "containerName": "c"}),
        failing(onExitCodes={"operator": "NotIn", "values": [0]}),
        done({"succeededCount": 3, "succeededIndexes": "0,2-4"}, {"succeededCount": 0}),
    ],
)
def test_accepted_jobs(spec):
    assert refused(spec) == []


def test_the_pods_of_an_indexed_job_must_have_names():
    assert texts(KINDS["jobs"].validate(job(INDEXED, "a.b"), None)) == [
        'metadata.name: Invalid value: "a.b": will not able to create pod with invalid DNS label: a.b-4'
    ]


def test_a_selector_is_made_anew_for_another_name():
    """A name that was generated and is taken already is followed by another, for the same object."""
    given = {"template": template()}
    for name in ("x-1", "x-2"):
        made = {"metadata": {"name": name, "uid": name}, "spec": given}
        KINDS["jobs"].default(made)
        KINDS["jobs"].prepare_create(made)
        assert KINDS["jobs"].validate(made, None) == []


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({}, {"managedBy": "a.b/c"}, ['spec.managedBy: Invalid value: "a.b/c": field is immutable']),
        ({"completions": 2}, {"completions": 3}, ["spec.completions: Invalid value: 3: field is immutable"]),
        (INDEXED, {"completions": 6, "parallelism": 6}, []),
        (INDEXED, {"completions": 6},
         ["spec.completions: Invalid value: 6: can only be modified in tandem with spec.parallelism"]),
        ({}, {"parallelism": 3, "suspend": True}, []),
        ({}, {"parallelism": -3}, [f"spec.parallelism: Invalid value: -3: {NEGATIVE}"]),
    ],
)  # fmt: skip
def test_changes_of_jobs(before, after, found):
    old = job(before)
    assert texts(KINDS["jobs"].validate({**old, "spec": {**old["spec"], **after}}, old)) == found


def test_what_an_older_version_did_not_fill_in_is_no_change():
    new = job(failing(onPodConditions=[{"type": "DisruptionTarget"}]))
    old = copy(new)
    del old["spec"]["podFailurePolicy"]["rules"][0]["onPodConditions"][0]["status"]
    assert KINDS["jobs"].validate(new, old) == []
    new["spec"]["suspend"] = True
    assert KINDS["jobs"].validate(new, old) == []


def test_the_status_of_jobs():
    status = {"active": 0, "failed": -1, "ready": -1}
    found = KINDS["jobs"].validate_status({"status": status}, {"status": {}})
    assert [each.field for each in found] == ["status.failed", "status.ready"]


JOBS = "spec.jobTemplate.spec"


@pytest.mark.parametrize(
    ("obj", "found"),
    [
        (cron(name="x" * 53),
         [f'metadata.name: Invalid value: "{"x" * 53}": must be no more than 52 characters']),
        (cron(jobs={"manualSelector": True}),
         [f'{JOBS}.manualSelector: Unsupported value: true: supported values: "nil", "false"']),
        (cron(jobs={"selector": {"matchLabels": {"a": "b"}}}),
         [f'{JOBS}.selector: Invalid value: {{"matchLabels":{{"a":"b"}}}}: `selector` will be auto-generated']),
        (cron(jobs={"backoffLimit": -1}), [f"{JOBS}.backoffLimit: Invalid value: -1: {NEGATIVE}"]),
        (cron({"successfulJobsHistoryLimit": -1, "failedJobsHistoryLimit": -1, "startingDeadlineSeconds": -1}),
         [f"spec.{key}: Invalid value: -1: {NEGATIVE}"
          for key in ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit")]),
        (cron({"timeZone": ""}), ['spec.timeZone: Invalid value: "": timeZone must be nil or non-empty string']),
        (cron({"timeZone": "No/Where"}), ['spec.timeZone: Invalid value: "No/Where": unknown time zone No/Where']),
        (cron({"timeZone": "../etc"}), ['spec.timeZone: Invalid value: "../etc": unknown time zone ../etc']),
        (cron({"timeZone": "Local"}),
         ['spec.timeZone: Invalid value: "Local": timeZone must be an explicit time zone as defined in '
          "https://www.iana.org/time-zones"]),
        (cron({"concurrencyPolicy": "X"}),
         ['spec.concurrencyPolicy: Unsupported value: "X": supported values: "Allow", "Forbid", "Replace"']),
        (cron({"schedule": ""}), ["spec.schedule: Required value"]),
        (cron({"schedule": "@every x"}),
         ['spec.schedule: Invalid value: "@every x": failed to parse duration @every x: time: invalid duration "x"']),
    ],
)  # fmt: skip
def test_cronjobs(obj, found):
    assert texts(KINDS["cronjobs"].validate(obj, None)) == found


@pytest.mark.parametrize(
    "obj",
    [
        cron(name="x" * 52),
        cron({"schedule": "@every 1h30m", "timeZone": "Europe/Berlin", "concurrencyPolicy": ""}),
        cron({"startingDeadlineSeconds": 0, "successfulJobsHistoryLimit": 0, "failedJobsHistoryLimit": 0}),
        cron({"timeZone": "Etc/GMT+1"}, {"manualSelector": False, **INDEXED}),
    ],
)
def test_accepted_cronjobs(obj):
    assert KINDS["cronjobs"].validate(obj, None) == []


def test_changes_of_cronjobs():
    old = cron({"timeZone": "No/Where"}, name="x" * 53)
    new = copy(old)
    assert KINDS["cronjobs"].validate(new, old) == []
    new["spec"]["suspend"] = True
    assert KINDS["cronjobs"].validate(new, old) == []
    new["spec"]["timeZone"] = "No/How"
    assert [each.field for each in KINDS["cronjobs"].validate(new, old)] == ["spec.timeZone"]


@pytest.mark.parametrize(
    ("ago", "late", "due", "wait"),
    [(30, None, None, 30), (60, None, 0, 60), (150, None, 30, 30), (150, 20, None, 30), (150, 40, 30, 30),
     (86400 * 90 + 5, None, 5, 55)],
)  # fmt: skip
def test_intervals_follow_from_the_last_time(ago, late, due, wait):
    now = datetime(2026, 1, 1, tzinfo=UTC)
    obj = cron({"startingDeadlineSeconds": late} if late is not None else {})
    obj["status"] = {"lastScheduleTime": rfc3339(now - timedelta(seconds=ago))}
    found, following = _times(parse_cron("@every 1m"), obj, now)
    assert found == (now - timedelta(seconds=due) if due is not None else None)
    assert following == now + timedelta(seconds=wait)
