"""What becomes of a Job: counting, ends, indexes and waiting."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from kube.machinery.durations import rfc3339
from solo.controllers import job_indexes, job_rules
from solo.controllers.job_tracking import TRACKING, Ended

NOW = datetime(2026, 1, 1, tzinfo=UTC)
numbers = itertools.count()


def job(status=None, **spec):
    template = {"spec": {"restartPolicy": spec.pop("restartPolicy", "Never")}}
    base = {"parallelism": 2, "completions": 2, "backoffLimit": 1, "completionMode": "NonIndexed", "template": template}
    return {"metadata": {"name": "j", "uid": "job"}, "spec": {**base, **spec}, "status": status or {}}


def pod(phase, seconds_ago=0, index=None, code=0, restarts=0):
    ended = {"state": {"terminated": {"exitCode": code, "finishedAt": rfc3339(NOW - timedelta(seconds=seconds_ago))}}}
    meta = {"name": "p", "namespace": "ns", "uid": f"pod-{next(numbers)}", "annotations": {TRACKING: ""}}
    if index is not None:
        meta["annotations"][job_indexes.INDEX] = str(index)
    entry = {"name": "c", "restartCount": restarts, **(ended if phase in ("Succeeded", "Failed") else {})}
    return {"metadata": meta, "status": {"phase": phase, "containerStatuses": [entry]}}


@pytest.mark.parametrize(
    ("spec", "pods", "reason"),
    [
        ({}, ["Succeeded", "Running"], None),
        ({}, ["Succeeded", "Succeeded"], "CompletionsReached"),
        ({}, ["Failed"], None),
        ({}, ["Failed", "Failed"], "BackoffLimitExceeded"),
        ({"completions": None}, ["Succeeded", "Running"], None),
        ({"completions": None}, ["Succeeded", "Failed"], "CompletionsReached"),
        ({"completions": 0}, [], "CompletionsReached"),
    ],
)
def test_ends(spec, pods, reason):
    _, outcome = job_rules.count(job(**spec), [pod(each) for each in pods], NOW)
    assert (outcome.reason if outcome else None) == reason


def test_restarts_count_where_containers_are_restarted():
    _, outcome = job_rules.count(job(restartPolicy="OnFailure", backoffLimit=2), [pod("Running", restarts=2)], NOW)
    assert outcome.reason == "BackoffLimitExceeded"


def test_the_deadline():
    started = {"startTime": rfc3339(NOW - timedelta(seconds=10))}
    assert job_rules.count(job(started, activeDeadlineSeconds=11), [], NOW)[1] is None
    assert job_rules.count(job(started, activeDeadlineSeconds=10), [], NOW)[1].reason == "DeadlineExceeded"


def test_what_was_counted_stays_counted():
    status, _ = job_rules.count(job({"succeeded": 1, "failed": 1}), [pod("Running")], NOW)
    assert (status["succeeded"], status["failed"]) == (1, 1)


def test_counters_go_up_by_what_is_new():
    done, counted = pod("Failed"), pod("Failed")
    del counted["metadata"]["annotations"][TRACKING]
    before = {"succeeded": 1, "failed": 1, "uncountedTerminatedPods": {"succeeded": ["gone"]}}
    status, _ = job_rules.count(job(before, completions=5, backoffLimit=5), [done, counted, pod("Succeeded")], NOW)
    assert (status["succeeded"], status["failed"]) == (3, 2)
    noted = status["uncountedTerminatedPods"]
    assert noted["failed"] == [done["metadata"]["uid"]] and len(noted["succeeded"]) == 2
    again, _ = job_rules.count(job({**before, "uncountedTerminatedPods": noted}, backoffLimit=5), [done], NOW)
    assert (again["succeeded"], again["failed"]) == (3, 2)


def test_what_runs_when_a_job_fails_has_failed():
    pods = [pod("Running"), pod("Failed"), pod("Failed")]
    status, outcome = job_rules.count(job(), pods, NOW)
    assert (status["failed"], outcome.success) == (3, False)


def test_indexes():
    indexed = job({"completedIndexes": "0"}, completionMode="Indexed", completions=5, parallelism=3)
    status, _ = job_rules.count(indexed, [pod("Succeeded", index=2), pod("Succeeded", index=3)], NOW)
    assert (status["completedIndexes"], status["succeeded"]) == ("0,2,3", 3)
    assert job_rules.free_indexes(indexed, status, [pod("Running", index=1)]) == [4]
    assert job_indexes.show_indexes({0, 1, 2, 5, 7, 8}) == "0-2,5,7,8"
    assert job_indexes.parse_indexes("0-2,5") == {0, 1, 2, 5}


def test_the_pod_failure_policy():
    codes = {"operator": "In", "values": [42]}
    policy = {"rules": [{"action": "FailJob", "onExitCodes": codes}]}
    _, outcome = job_rules.count(job(podFailurePolicy=policy), [pod("Failed", code=42)], NOW)
    assert (outcome.success, outcome.reason) == (False, "PodFailurePolicy")
    assert outcome.message == "Container c for pod ns/p failed with exit code 42 matching FailJob rule at index 0"
    disrupted = pod("Failed")
    disrupted["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
    conditions = {"rules": [{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget"}]}]}
    _, outcome = job_rules.count(job(podFailurePolicy=conditions), [disrupted], NOW)
    assert outcome.message == "Pod ns/p has condition DisruptionTarget matching FailJob rule at index 0"
    policy["rules"][0]["action"] = "Ignore"
    status, outcome = job_rules.count(job(podFailurePolicy=policy, backoffLimit=0), [pod("Failed", code=42)], NOW)
    assert (status["failed"], outcome) == (0, None)


def test_failures_are_counted_by_index():
    """backoffLimitPerIndex, maxFailedIndexes and the action FailIndex."""
    spec = {"completionMode": "Indexed", "completions": 3, "backoffLimit": 2**31 - 1, "backoffLimitPerIndex": 1}
    again = pod("Failed", index=0)
    again["metadata"]["annotations"][job_indexes.FAILURES] = "1"
    status, outcome = job_rules.count(job(**spec), [pod("Failed", index=1)], NOW)
    assert (status["failedIndexes"], outcome) == ("", None)
    status, outcome = job_rules.count(job(**spec), [again, pod("Failed", index=1)], NOW)
    assert (status["failedIndexes"], outcome) == ("0", None)
    assert job_rules.free_indexes(job(**spec), status, []) == [1, 2]
    assert job_indexes.due([1, 2], [pod("Failed", 4, index=1)], NOW) == ([2], [6.0])
    _, outcome = job_rules.count(job(**spec, maxFailedIndexes=0), [again], NOW)
    assert outcome.reason == "MaxFailedIndexesExceeded"
    others = [pod("Succeeded", index=1), pod("Succeeded", index=2)]
    _, outcome = job_rules.count(job({"failedIndexes": "0"}, **spec), others, NOW)
    assert (outcome.success, outcome.reason) == (False, "FailedIndexes")
    policy = {"rules": [{"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [42]}}]}
    status, _ = job_rules.count(job(**spec, podFailurePolicy=policy), [pod("Failed", index=2, code=42)], NOW)
    assert status["failedIndexes"] == "2"


@pytest.mark.parametrize(
    ("pods", "seconds"),
    [
        ([], 0),
        ([("Failed", 4)], 6),
        ([("Failed", 4), ("Failed", 30)], 16),
        ([("Failed", 4), ("Succeeded", 2)], 0),
        ([("Failed", 60)], 0),
    ],
)
def test_failures_are_waited_for(pods, seconds):
    assert job_indexes.backoff_left([pod(*each) for each in pods], NOW) == seconds


def test_failures_are_waited_for_when_their_pods_are_gone():
    ended = Ended()
    place, mine = ("ns", "j"), job()
    stopped = pod("Failed")
    stopped["metadata"] |= {"annotations": {}, "deletionTimestamp": rfc3339(NOW)}
    assert ended.learn(place, mine, [stopped, pod("Succeeded", 9), pod("Failed", 5)])
    known = ended.learn(place, mine, [pod("Failed", 4)])
    assert job_indexes.backoff_left(known, NOW) == 16
    assert job_indexes.backoff_left(ended.learn(place, mine, [pod("Succeeded", 1)]), NOW) == 0
    other = job()
    other["metadata"]["uid"] = "made anew"
    assert ended.learn(place, other, []) == []


def test_an_index_is_not_given_up_because_its_pod_was_stopped():
    spec = {"completionMode": "Indexed", "completions": 3, "backoffLimit": 2**31 - 1, "backoffLimitPerIndex": 0}
    stopped = pod("Failed", index=1)
    del stopped["metadata"]["annotations"][TRACKING]
    assert job_rules.count(job(**spec), [stopped], NOW)[0]["failedIndexes"] == "1"
    stopped["metadata"]["deletionTimestamp"] = rfc3339(NOW)
    assert job_rules.count(job(**spec), [stopped], NOW)[0]["failedIndexes"] == ""


def test_which_pods_are_stopped():
    pending, first, second, again, beyond = [
        pod(phase, index=index)
        for phase, index in (("Pending", 1), ("Running", 0), ("Running", 1), *[("Running", 2)] * 2)
    ]
    for each, time in ((first, 1), (second, 2), (again, 3), (beyond, 4), (pending, 5)):
        each["metadata"]["creationTimestamp"] = rfc3339(NOW + timedelta(seconds=time))
    plain = job()
    assert job_rules.spare(plain, [first, second, pending], 1, NOW) == [pending, second]
    assert job_rules.spare(plain, [first], 2, NOW) == []
    indexed = job(completionMode="Indexed", completions=2)
    assert job_rules.spare(indexed, [first, second, again, beyond], 2, NOW) == [beyond, again]
    assert job_rules.spare(indexed, [first, pending, second], 2, NOW) == [pending]
    assert job_rules.spare(indexed, [first, second], 1, NOW) == [second]


def test_how_many_run():
    assert job_rules.wanted_active(job(completions=5), {"succeeded": 4}, 0) == 1
    assert job_rules.wanted_active(job(completions=None), {"succeeded": 0}, 1) == 2
    assert job_rules.wanted_active(job(completions=None), {"succeeded": 1}, 1) == 1
