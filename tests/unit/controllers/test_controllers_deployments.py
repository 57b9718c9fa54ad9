"""Deployments and replica sets, with all controllers at work."""

import asyncio

import pytest

from kube.machinery import errors
from kube.machinery.resources import (
    DEPLOYMENTS,
    PODS,
    REPLICASETS,
)
from unit.controllers.fake_api import settle, until


def deployment(api, replicas=2, image="one", **spec):
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}}
    selector = {"matchLabels": {"app": "web"}}
    return api.put(
        DEPLOYMENTS, "web", "ns", spec={"replicas": replicas, "selector": selector, "template": template, **spec}
    )


class Kubelet:
    """Makes pods ready, and lets them go."""

    def __init__(self, api):
        self.api = api

    async def run(self, hold=()):
        while True:
            for name in self.api.names(PODS, "ns"):
                pod = self.api.find(PODS, name, "ns")
                image = pod["spec"]["containers"][0]["image"]
                if "status" not in pod and image not in hold:
                    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
                    self.api.edit(PODS, name, "ns", status={"phase": "Running", "conditions": [ready]})
            await self.api.changed.wait()


@pytest.fixture
async def kubelet(api):
    task = asyncio.create_task(Kubelet(api).run(hold=("broken",)))
    yield
    task.cancel()


def available(api):
    conditions = (api.find(DEPLOYMENTS, "web", "ns").get("status") or {}).get("conditions") or []
    return {c["type"]: (c["status"], c["reason"]) for c in conditions}


def complete(api, replicas):
    status = api.find(DEPLOYMENTS, "web", "ns").get("status") or {}
    return status.get("updatedReplicas") == status.get("replicas") == status.get("availableReplicas") == replicas


async def test_deployment_comes_up(api, kubelet):
    made = deployment(api)
    await until(lambda: complete(api, 2))
    (name,) = api.names(REPLICASETS, "ns")
    replica_set = api.find(REPLICASETS, name, "ns")
    digest = replica_set["metadata"]["labels"]["pod-template-hash"]
    assert name == f"web-{digest}" and replica_set["spec"]["selector"]["matchLabels"]["pod-template-hash"] == digest
    assert replica_set["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
    for pod in api.names(PODS, "ns"):
        obj = api.find(PODS, pod, "ns")
        assert pod.startswith(name + "-") and obj["metadata"]["labels"] == {"app": "web", "pod-template-hash": digest}
        assert obj["metadata"]["ownerReferences"][0]["uid"] == replica_set["metadata"]["uid"]
    await until(lambda: available(api).get("Progressing") == ("True", "NewReplicaSetAvailable"))
    assert available(api)["Available"] == ("True", "MinimumReplicasAvailable")
    found = api.find(DEPLOYMENTS, "web", "ns")
    assert found["metadata"]["annotations"] == {"deployment.kubernetes.io/revision": "1"}
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
    await settle(api)
    before = api.writes
    await settle(api)
    assert api.writes == before and len(api.names(PODS, "ns")) == 2


async def test_a_lost_pod_is_replaced(api, kubelet):
    deployment(api, 1)
    await until(lambda: complete(api, 1))
    (pod,) = api.names(PODS, "ns")
    await api.delete(PODS, pod, "ns")
    await until(lambda: api.names(PODS, "ns") not in ([], [pod]) and complete(api, 1))


async def test_scaling(api, kubelet):
    deployment(api, 1)
    await until(lambda: complete(api, 1))
    api.edit(DEPLOYMENTS, "web", "ns", spec={"replicas": 3})
    await until(lambda: complete(api, 3))
    api.edit(DEPLOYMENTS, "web", "ns", spec={"replicas": 0})
    await until(lambda: not api.names(PODS, "ns"))
    await until(lambda: "replicas" not in api.find(DEPLOYMENTS, "web", "ns")["status"])


def change_image(api, image):
    api.edit(DEPLOYMENTS, "web", "ns", spec={"template": {"spec": {"containers": [{"name": "c", "image": image}]}}})


async def test_rolling_update_keeps_its_bounds(api, kubelet):
    deployment(api, 4, strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}})
    await until(lambda: complete(api, 4))
    (first,) = api.names(REPLICASETS, "ns")
    counts = []

    def look():
        pods = [api.find(PODS, name, "ns") for name in api.names(PODS, "ns")]
        counts.append((len(pods), sum("status" in pod for pod in pods)))
        return api.find(REPLICASETS, first, "ns")["spec"]["replicas"] == 0 and complete(api, 4)

    change_image(api, "two")
    await until(look)
    assert max(total for total, _ in counts) <= 5 and min(ready for _, ready in counts) >= 3
    assert api.find(DEPLOYMENTS, "web", "ns")["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
    change_image(api, "one")
    await until(lambda: api.find(REPLICASETS, first, "ns")["spec"]["replicas"] == 4 and complete(api, 4))
    assert len(api.names(REPLICASETS, "ns")) == 2
    assert api.find(REPLICASETS, first, "ns")["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"


async def test_a_broken_update_leaves_the_old_pods(api, kubelet):
    deployment(api, 2)
    await until(lambda: complete(api, 2))
    change_image(api, "broken")
    await until(lambda: api.find(DEPLOYMENTS, "web", "ns")["status"].get("updatedReplicas") == 1)
    await settle(api)
    status = api.find(DEPLOYMENTS, "web", "ns")["status"]
    assert (status["availableReplicas"], status["unavailableReplicas"]) == (2, 1)
    assert available(api)["Progressing"] == ("True", "ReplicaSetUpdated")


async def test_recreate_ends_the_old_pods_first(api, kubelet):
    deployment(api, 1, strategy={"type": "Recreate"})
    await until(lambda: complete(api, 1))
    (pod,) = api.names(PODS, "ns")
    api.edit(PODS, pod, "ns", metadata={"finalizers": ["example.com/hold"]}, spec={"nodeName": "me"})
    change_image(api, "two")
    await until(lambda: api.find(PODS, pod, "ns")["metadata"].get("deletionTimestamp"))
    await settle(api)
    assert api.names(PODS, "ns") == [pod]
    api.edit(PODS, pod, "ns", metadata={"finalizers": None})
    await until(lambda: complete(api, 1) and pod not in api.names(PODS, "ns"))


async def test_progress_deadline(api, kubelet):
    deployment(api, 1, "broken", progressDeadlineSeconds=1)
    await until(lambda: available(api).get("Progressing") == ("False", "ProgressDeadlineExceeded"), 4.0)
    assert available(api)["Available"] == ("False", "MinimumReplicasUnavailable")


async def test_a_rollback_takes_the_old_set_again_and_notes_its_revisions(api, kubelet):
    deployment(api, 1)
    await until(lambda: complete(api, 1))
    (first,) = api.names(REPLICASETS, "ns")

    def annotations():
        return api.find(REPLICASETS, first, "ns")["metadata"]["annotations"]

    for number, image in enumerate(("two", "one", "two", "one"), 2):
        change_image(api, image)
        await until(lambda number=number: revision_of(api) == str(number))
    await until(lambda: annotations()["deployment.kubernetes.io/revision"] == "5")
    assert annotations()["deployment.kubernetes.io/revision-history"] == "1,3"


def revision_of(api):
    return api.find(DEPLOYMENTS, "web", "ns")["metadata"]["annotations"]["deployment.kubernetes.io/revision"]


async def test_history_is_limited(api, kubelet):
    deployment(api, 1, revisionHistoryLimit=1)
    await until(lambda: complete(api, 1))
    for image in ("two", "three", "four"):
        change_image(api, image)
        generation = api.find(DEPLOYMENTS, "web", "ns")["metadata"]["generation"]
        await until(
            lambda generation=generation: (
                complete(api, 1) and api.find(DEPLOYMENTS, "web", "ns")["status"]["observedGeneration"] == generation
            )
        )
    await until(lambda: len(api.names(REPLICASETS, "ns")) == 2)


async def test_pods_that_cannot_be_created_are_reported(api, kubelet, monkeypatch):
    create = api.create

    async def refuse(resource, obj, *args, **more):
        if resource is PODS:
            raise errors.forbidden("pods", "", "no service account")
        return await create(resource, obj, *args, **more)

    monkeypatch.setattr(api, "create", refuse)
    deployment(api, 1)
    await until(lambda: available(api).get("ReplicaFailure") == ("True", "FailedCreate"))
    monkeypatch.setattr(api, "create", create)
    await until(lambda: complete(api, 1) and "ReplicaFailure" not in available(api))


async def test_deleting_a_deployment_takes_its_pods(api, kubelet):
    deployment(api, 2)
    await until(lambda: complete(api, 2))
    await api.delete(DEPLOYMENTS, "web", "ns", "Background")
    await until(lambda: not api.names(PODS, "ns") and not api.names(REPLICASETS, "ns"))


async def test_orphaned_sets_are_adopted_again(api, kubelet):
    deployment(api, 1)
    await until(lambda: complete(api, 1))
    (pod,) = api.names(PODS, "ns")
    await api.delete(DEPLOYMENTS, "web", "ns", "Orphan")
    await until(lambda: not api.names(DEPLOYMENTS, "ns"))
    again = deployment(api, 1)
    await until(lambda: complete(api, 1))
    (name,) = api.names(REPLICASETS, "ns")
    owner = api.find(REPLICASETS, name, "ns")["metadata"]["ownerReferences"][0]
    assert owner["uid"] == again["metadata"]["uid"] and api.names(PODS, "ns") == [pod]
