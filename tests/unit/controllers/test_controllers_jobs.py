"""The controllers of Jobs and CronJobs, pass by pass."""

import types

import pytest

from kube.client.queue import WorkQueue
from kube.machinery.durations import now_rfc3339
from kube.machinery.errors import StatusError
from kube.machinery.resources import CRONJOBS, EVENTS, JOBS, NAMESPACES, PODS
from solo.controllers.cronjobs import CronJobController
from solo.controllers.jobs import JobController
from unit.controllers.fake_api import FakeApi, owned_by

PLACE = ("ns", "j")
WATCHES = types.SimpleNamespace(subscribe=lambda resource, handler: None)


@pytest.fixture
def api():
    fake = FakeApi()
    fake.resources[JOBS.group_resource] = JOBS
    fake.put(NAMESPACES, "ns")
    return fake


@pytest.fixture
def jobs(api):
    return JobController(api, WATCHES, WorkQueue())


def put_job(api, **spec):
    template = {"metadata": {"labels": {"job": "j"}}, "spec": {"restartPolicy": "Never", "containers": []}}
    base = {"parallelism": 1, "completions": 3, "backoffLimit": 2, "completionMode": "NonIndexed"}
    selector = {"matchLabels": {"job": "j"}}
    return api.put(JOBS, "j", "ns", spec={**base, "selector": selector, "template": template, **spec})


def finish(api, phase, ended=None):
    """All pods that run end."""
    terminated = {"terminated": {"exitCode": 1, "finishedAt": ended or "2026-01-01T00:00:00Z"}}
    for name in api.names(PODS, "ns"):
        status = {"phase": phase, "containerStatuses": [{"name": "c", "state": terminated}]}
        api.edit(PODS, name, "ns", status=status)


async def delete_pods(api):
    for name in api.names(PODS, "ns"):
        await api.delete(PODS, name, "ns")


def status_of(api):
    return api.find(JOBS, "j", "ns")["status"]


def events(api):
    found = [api.find(EVENTS, name, "ns") for name in api.names(EVENTS, "ns")]
    return [(each["reason"], each["message"], each["count"]) for each in found]


async def test_failures_add_up_though_their_pods_are_deleted(api, jobs):
    put_job(api)
    await jobs.reconcile(PLACE)
    for failed in (1, 2, 3):
        finish(api, "Failed")
        await jobs.reconcile(PLACE)
        assert (status_of(api)["failed"], status_of(api)["uncountedTerminatedPods"]) == (failed, {})
        await delete_pods(api)
        await jobs.reconcile(PLACE)
        assert status_of(api)["failed"] == failed
    assert status_of(api)["conditions"][-1]["reason"] == "BackoffLimitExceeded"


async def test_successes_add_up_though_their_pods_are_deleted(api, jobs):
    put_job(api)
    for _ in range(3):
        await jobs.reconcile(PLACE)
        finish(api, "Succeeded")
        await jobs.reconcile(PLACE)
        await delete_pods(api)
    await jobs.reconcile(PLACE)
    assert (status_of(api)["succeeded"], status_of(api)["conditions"][-1]["type"]) == (3, "Complete")


async def test_what_has_ended_is_counted_though_no_pod_can_be_made(api, jobs):
    put_job(api)
    await jobs.reconcile(PLACE)
    finish(api, "Succeeded")
    create = api.create

    async def refusing(resource, obj, *arguments, **options):
        if resource is PODS:
            raise StatusError(403, "Forbidden", "exceeded quota")
        return await create(resource, obj, *arguments, **options)

    api.create = refusing
    with pytest.raises(StatusError):
        await jobs.reconcile(PLACE)
    assert (status_of(api)["succeeded"], status_of(api)["uncountedTerminatedPods"]) == (1, {})


async def test_an_index_fails_for_good_though_its_pods_are_deleted(api, jobs):
    put_job(api, completionMode="Indexed", completions=1, backoffLimit=2**31 - 1, backoffLimitPerIndex=1)
    for _ in range(2):
        await jobs.reconcile(PLACE)
        finish(api, "Failed")
        # Nothing is made in the pass that sees the failure.
        api.edit(JOBS, "j", "ns", spec={"parallelism": 0})
        await jobs.reconcile(PLACE)
        await delete_pods(api)
        api.edit(JOBS, "j", "ns", spec={"parallelism": 1})
    assert (status_of(api)["failed"], status_of(api)["failedIndexes"]) == (2, "0")


async def test_what_is_adopted_counts_also_when_it_has_ended(api, jobs):
    put_job(api)
    api.put(PODS, "orphan", "ns", metadata={"labels": {"job": "j"}}, status={"phase": "Succeeded"})
    await jobs.reconcile(PLACE)
    assert (status_of(api)["succeeded"], status_of(api)["active"]) == (1, 1)
    await jobs.reconcile(PLACE)
    assert status_of(api)["succeeded"] == 1


async def test_a_pod_is_not_made_sooner_because_the_failed_one_is_deleted(api, jobs):
    put_job(api)
    await jobs.reconcile(PLACE)
    finish(api, "Failed", now_rfc3339())
    await jobs.reconcile(PLACE)
    await delete_pods(api)
    assert 5 < await jobs.reconcile(PLACE) <= 10
    assert api.names(PODS, "ns") == []


@pytest.mark.parametrize("write", range(1, 4))
async def test_each_pod_is_counted_once_whatever_write_fails(api, jobs, write):
    put_job(api)
    await jobs.reconcile(PLACE)
    finish(api, "Failed")
    real, calls = (api.update_status, api.patch), []

    def failing(verb):
        async def attempt(*arguments, **options):
            calls.append(verb)
            if len(calls) == write:
                raise StatusError(500, "InternalError", "the server is gone")
            return await verb(*arguments, **options)

        return attempt

    api.update_status, api.patch = map(failing, real)
    with pytest.raises(StatusError):
        await jobs.reconcile(PLACE)
    api.update_status, api.patch = real
    await jobs.reconcile(PLACE)
    assert (status_of(api)["failed"], status_of(api)["uncountedTerminatedPods"]) == (1, {})


@pytest.mark.parametrize("change", [{"suspend": True}, {"parallelism": 0}])
async def test_what_is_stopped_has_not_failed(api, jobs, change):
    put_job(api, parallelism=3, backoffLimit=0)
    await jobs.reconcile(PLACE)
    for name in api.names(PODS, "ns"):
        api.edit(PODS, name, "ns", metadata={"finalizers": ["example.com/hold"]})
    api.edit(JOBS, "j", "ns", spec=change)
    await jobs.reconcile(PLACE)
    finish(api, "Failed", now_rfc3339())
    await jobs.reconcile(PLACE)
    status = status_of(api)
    assert "failed" not in status and not any(each["type"] == "Failed" for each in status.get("conditions", ()))
    api.edit(JOBS, "j", "ns", spec={"suspend": False, "parallelism": 3})
    assert await jobs.reconcile(PLACE) is None
    assert status_of(api)["active"] == 3


async def test_events_of_a_pause(api, jobs):
    put_job(api, suspend=True)
    await jobs.reconcile(PLACE)
    await jobs.reconcile(PLACE)
    api.edit(JOBS, "j", "ns", spec={"suspend": False})
    await jobs.reconcile(PLACE)
    await jobs.reconcile(PLACE)
    told = [each for each in events(api) if each[0] != "SuccessfulCreate"]
    assert told == [("Suspended", "Job suspended", 1), ("Resumed", "Job resumed", 1)]


async def test_a_job_that_does_not_select_its_pods_makes_none(api, jobs):
    put_job(api, selector={"matchLabels": {"job": "another"}}, manualSelector=True)
    assert await jobs.reconcile(PLACE) is None
    assert api.names(PODS, "ns") == []
    text = "Error creating: `selector` does not match template `labels`"
    assert events(api) == [("FailedCreate", text, 1)]


@pytest.mark.parametrize("end", ["Complete", "Failed"])
async def test_a_cron_job_says_how_its_job_ended(api, end):
    api.resources[CRONJOBS.group_resource] = CRONJOBS
    limits = {"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 1}
    cron = api.put(CRONJOBS, "cj", "ns", spec={"suspend": True, **limits})
    condition = {"type": end, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    job = api.put(
        JOBS, "j", "ns", metadata=owned_by(cron, controller=True), spec={}, status={"conditions": [condition]}
    )
    active = [{"name": "j", "uid": job["metadata"]["uid"]}]
    api.edit(CRONJOBS, "cj", "ns", status={"active": active})
    await CronJobController(api, WATCHES, WorkQueue()).reconcile(("ns", "cj"))
    assert events(api) == [("SawCompletedJob", f"Saw completed job: j, condition: {end}", 1)]
