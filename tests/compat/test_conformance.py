"""What the Kubernetes project's conformance tests of API machinery ask and no other test here does.

Each test names the behaviour that it stands for. Requests are as they are on the wire.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time

MERGE = {"Content-Type": "application/merge-patch+json"}
TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
PREFIX = "autoscaling.alpha.kubernetes.io/"


def eventually(condition, seconds: float = 20.0):
    """What `condition` returns as soon as it is something."""
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found
    return found


def test_autoscaling_is_served_in_two_versions(wire, namespace):
    """Discovery: autoscaling has v2 and v1; an autoscaler loses nothing by being read and written in v1."""
    versions = [each["version"] for each in wire("GET", "/apis/autoscaling")[1]["versions"]]
    assert versions == ["v2", "v1"]
    old, new = (f"/apis/autoscaling/{each}/namespaces/{namespace}/horizontalpodautoscalers" for each in ("v1", "v2"))
    body = {"metadata": {"name": "plain"}, "spec": {"scaleTargetRef": TARGET, "maxReplicas": 3}}
    code, made = wire("POST", old, body)
    assert (code, made["apiVersion"], made["spec"]["targetCPUUtilizationPercentage"]) == (201, "autoscaling/v1", 80)
    cpu = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}
    rate = {"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "rate"}}
    rate["target"] = {"type": "Value", "value": "10"}
    rules = {"metrics": [{"type": "Object", "object": rate}, cpu], "behavior": {"scaleUp": {"selectPolicy": "Min"}}}
    wire("POST", new, {**body, "metadata": {"name": "rich"}, "spec": {**body["spec"], **rules}})
    code, shown = wire("GET", f"{old}/rich")
    assert shown["spec"] == {**body["spec"], "minReplicas": 1, "targetCPUUtilizationPercentage": 50}
    told = json.loads(shown["metadata"]["annotations"][f"{PREFIX}metrics"])
    source = {"target": rate["describedObject"], "metricName": "rate", "targetValue": "10"}
    assert told == [{"type": "Object", "object": source}]
    shown["spec"] |= {"maxReplicas": 5, "targetCPUUtilizationPercentage": 60}
    assert wire("PUT", f"{old}/rich", shown)[0] == 200
    used = {"status": {"currentReplicas": 1, "desiredReplicas": 1, "currentCPUUtilizationPercentage": 7}}
    assert wire("PATCH", f"{old}/rich/status", used, MERGE)[1]["status"] == used["status"]
    after = wire("GET", f"{new}/rich")[1]
    cpu["resource"]["target"]["averageUtilization"] = 60
    assert after["spec"] == {**body["spec"], "minReplicas": 1, "maxReplicas": 5, **rules}
    assert after["status"]["currentMetrics"][0]["resource"]["current"] == {"averageUtilization": 7}
    assert "annotations" not in after["metadata"]
    assert {each["apiVersion"] for each in wire("GET", old)[1]["items"]} == {"autoscaling/v1"}
    connection, stream = wire.open("GET", f"{old}?watch=true&fieldSelector=metadata.name%3Drich")
    assert json.loads(stream.readline())["object"]["apiVersion"] == "autoscaling/v1"
    connection.close()


def test_the_hash_of_the_storage_version(wire):
    """Discovery: resources tell by a hash in which version they are stored."""

    def hash_of(path: str) -> str:
        listed = wire("GET", path)[1]["resources"]
        return next(each["storageVersionHash"] for each in listed if each["kind"] == "HorizontalPodAutoscaler")

    digest = hashlib.sha256(b"autoscaling/v2/HorizontalPodAutoscaler").digest()[:8]
    assert hash_of("/apis/autoscaling/v1") == hash_of("/apis/autoscaling/v2") == base64.b64encode(digest).decode()


def labelled(kind: str, api: str, **spec: object) -> dict:
    """A controller of one pod that nothing runs: there is no program for its image."""
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "none"}]}}
    template["spec"]["restartPolicy"] = "Never" if kind == "Job" else "Always"
    return {"apiVersion": api, "kind": kind, "metadata": {"name": "owner"}, "spec": {"template": template, **spec}}


def test_deletion_that_does_not_say_what_becomes_of_pods(wire, namespace):
    """Garbage collector: pods of an RC or a Job stay when the deletion names no policy, those of a ReplicaSet go."""
    pods = f"/api/v1/namespaces/{namespace}/pods"
    selector = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}}
    for path, body, stay in (
        ("api/v1", labelled("ReplicationController", "v1", replicas=1), True),
        ("apis/batch/v1", labelled("Job", "batch/v1"), True),
        ("apis/apps/v1", labelled("ReplicaSet", "apps/v1", **selector), False),
    ):
        owners = f"/{path}/namespaces/{namespace}/{body['kind'].lower()}s"
        assert wire("POST", owners, body)[0] == 201
        pod = eventually(lambda: wire("GET", pods)[1]["items"])[0]["metadata"]
        assert wire("DELETE", f"{owners}/owner", {"kind": "DeleteOptions", "apiVersion": "v1"})[0] == 200
        eventually(lambda path=owners: wire("GET", f"{path}/owner")[0] == 404)
        if stay:
            left = wire("GET", f"{pods}/{pod['name']}")[1]["metadata"]
            assert left["uid"] == pod["uid"] and not left.get("ownerReferences")
            wire("DELETE", f"{pods}/{pod['name']}", {"gracePeriodSeconds": 0})
        eventually(lambda: not wire("GET", pods)[1]["items"])
