"""What the Kubernetes project's conformance tests of API machinery ask and no other test here does.

Each test names the behaviour that it stands for. Requests are as they are on the wire.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import struct
import time
from urllib.parse import quote

from kube.machinery.protobuf import MAGIC, decode_unknown

MERGE = {"Content-Type": "application/merge-patch+json"}
TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
PROTOBUF = "application/vnd.kubernetes.protobuf"
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


def test_deletion_in_the_words_of_old_clients(wire, namespace):
    """Job, delete a job: `orphanDependents: false` takes the pods, also where they stay if nothing is said."""
    jobs, pods = f"/apis/batch/v1/namespaces/{namespace}/jobs", f"/api/v1/namespaces/{namespace}/pods"
    for path, options in (("owner", {"orphanDependents": False}), ("owner?orphanDependents=false", None)):
        assert wire("POST", jobs, labelled("Job", "batch/v1"))[0] == 201
        eventually(lambda: wire("GET", pods)[1]["items"])
        assert wire("DELETE", f"{jobs}/{path}", options)[0] == 200
        eventually(lambda: not wire("GET", pods)[1]["items"])


def test_owners_in_other_namespaces(wire, namespace):
    """Garbage collector: an owner in another namespace is none, and that says nothing about its own namespace."""

    def dependent(name: str, *owners: dict) -> dict:
        listed = [{"apiVersion": "v1", "kind": "ConfigMap", **owner} for owner in owners]
        return {"metadata": {"name": name, "ownerReferences": listed}}

    other = f"{namespace}-other"
    assert wire("POST", "/api/v1/namespaces", {"metadata": {"name": other}})[0] == 201
    here, there = (f"/api/v1/namespaces/{each}/configmaps" for each in (namespace, other))
    owner = {"name": "real", "uid": wire("POST", here, {"metadata": {"name": "real"}})[1]["metadata"]["uid"]}
    absent = {"name": "absent", "uid": "no such uid"}
    assert wire("POST", there, dependent("stray", owner, absent))[0] == 201
    eventually(lambda: wire("GET", f"{there}/stray")[0] == 404)
    assert wire("POST", here, dependent("good", owner, absent))[0] == 201
    eventually(lambda: len(wire("GET", f"{here}/good")[1]["metadata"]["ownerReferences"]) == 1)
    events = wire("GET", f"/api/v1/namespaces/{other}/events")[1]["items"]
    assert {each["reason"] for each in events} == {"OwnerRefInvalidNamespace"}
    wire("DELETE", f"/api/v1/namespaces/{other}")


def test_the_timeout_of_a_request(wire):
    """Server request timeout: a wish that is none is a bad request, a long one counts as the longest there is."""
    for path in ("/version", "/api/v1/namespaces"):
        code, refused = wire("GET", f"{path}?timeout=invalid")
        assert (code, refused["reason"]) == (400, "BadRequest")
        assert "invalid timeout specified in the request URL" in refused["message"]
        assert {wire("GET", f"{path}?timeout={asked}")[0] for asked in ("3m", "0s", "1h1.5s")} == {200}
    connection, stream = wire.open("GET", "/api/v1/namespaces?watch=true&timeoutSeconds=1&timeout=1ms")
    assert stream.status == 200 and stream.readline()
    connection.close()


def test_the_role_that_reads_who_vouches_for_clients(wire, cluster, namespace):
    """Admission webhook: servers of webhooks are bound to a role of kube-system that lets them read the authority."""
    role = {"apiGroup": "", "kind": "Role", "name": "extension-apiserver-authentication-reader"}
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": namespace}
    bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/rolebindings"
    body = {"metadata": {"name": namespace}, "roleRef": role, "subjects": [subject]}
    assert wire("POST", bindings, body)[1]["roleRef"] == {**role, "apiGroup": "rbac.authorization.k8s.io"}
    path = "/api/v1/namespaces/kube-system/configmaps"
    caller = {"Impersonate-User": f"system:serviceaccount:{namespace}:default"}
    code, info = wire("GET", f"{path}/extension-apiserver-authentication", headers=caller)
    assert (code, info["data"]) == (200, {"client-ca-file": wire.authority})
    assert wire("GET", path, headers=caller)[0] == 403
    wire("DELETE", f"{bindings}/{namespace}")


def test_claims_are_counted_by_their_attributes_class(wire, namespace):
    """ResourceQuota: a claim that moves from one VolumeAttributesClass to another counts for both until it is there."""

    def quota(name: str) -> None:
        scope = {"scopeName": "VolumeAttributesClass", "operator": "In", "values": [name]}
        spec = {"hard": {"persistentvolumeclaims": "1"}, "scopeSelector": {"matchExpressions": [scope]}}
        assert wire("POST", f"{base}/resourcequotas", {"metadata": {"name": name}, "spec": spec})[0] == 201

    def used() -> tuple[str, ...]:
        found = (wire("GET", f"{base}/resourcequotas/{name}")[1] for name in ("gold", "silver"))
        return tuple(each.get("status", {}).get("used", {}).get("persistentvolumeclaims", "") for each in found)

    base = f"/api/v1/namespaces/{namespace}"
    quota("gold")
    quota("silver")
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""}
    claim["volumeAttributesClassName"] = "gold"
    eventually(lambda: used() == ("0", "0"))
    code, made = wire("POST", f"{base}/persistentvolumeclaims", {"metadata": {"name": "c"}, "spec": claim})
    assert code == 201
    eventually(lambda: used() == ("1", "0"))
    code, refused = wire("POST", f"{base}/persistentvolumeclaims", {"metadata": {"name": "d"}, "spec": claim})
    assert (code, refused["reason"]) == (403, "Forbidden")
    one = f"{base}/persistentvolumeclaims/c"
    bound = {"phase": "Bound", "capacity": {"storage": "1Gi"}, "currentVolumeAttributesClassName": "gold"}
    code, made = wire("PUT", f"{one}/status", {**made, "status": bound})
    made["spec"]["volumeAttributesClassName"] = "silver"
    assert wire("PUT", one, made)[0] == 200
    eventually(lambda: used() == ("1", "1"))
    wire("PATCH", f"{one}/status", {"status": {"currentVolumeAttributesClassName": "silver"}}, MERGE)
    eventually(lambda: used() == ("0", "1"))


def test_devices_are_counted_by_their_class(wire, namespace):
    """ResourceQuota: the life of a ResourceClaim; of alternatives the largest counts, and all are as many as may be."""
    quotas, claims = (
        f"/{path}/namespaces/{namespace}/{plural}"
        for path, plural in (("api/v1", "resourcequotas"), ("apis/resource.k8s.io/v1", "resourceclaims"))
    )
    devices = [f"{name}.deviceclass.resource.k8s.io/devices" for name in ("gold", "tin")]
    hard = {"count/resourceclaims.resource.k8s.io": "9", devices[0]: "5", devices[1]: "40"}
    assert wire("POST", quotas, {"metadata": {"name": "q"}, "spec": {"hard": hard}})[0] == 201

    def used() -> tuple[str, ...]:
        found = wire("GET", f"{quotas}/q")[1].get("status", {}).get("used", {})
        return tuple(found.get(name, "") for name in devices)

    def claim(name: str, *requests: dict) -> tuple[int, dict]:
        return wire("POST", claims, {"metadata": {"name": name}, "spec": {"devices": {"requests": list(requests)}}})

    eventually(lambda: used() == ("0", "0"))
    two = {"name": "two", "exactly": {"deviceClassName": "gold", "count": 2}}
    choice = [
        {"name": "a", "deviceClassName": "gold", "count": 1},
        {"name": "b", "deviceClassName": "gold", "count": 3},
    ]
    choice.append({"name": "c", "deviceClassName": "tin", "allocationMode": "All"})
    assert claim("c", two, {"name": "either", "firstAvailable": choice})[0] == 201
    eventually(lambda: used() == ("5", "32"))
    code, refused = claim("d", {"name": "one", "exactly": {"deviceClassName": "gold"}})
    assert (code, f"requested: {devices[0]}=1, used: {devices[0]}=5" in refused["message"]) == (403, True)
    wire("DELETE", f"{claims}/c")
    eventually(lambda: used() == ("0", "0"))


def test_a_webhook_that_does_not_answer(wire, namespace):
    """Admission webhook, honor timeout: the error names the call and its deadline; the client's own comes before it."""
    hooks = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    configmaps = f"/api/v1/namespaces/{namespace}/configmaps"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/wait"
        webhook = {"name": "slow.test.example.com", "clientConfig": {"url": url}, "rules": [rule], "timeoutSeconds": 1}
        webhook |= {"sideEffects": "None", "admissionReviewVersions": ["v1"]}
        webhook["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
        assert wire("POST", hooks, {"metadata": {"name": namespace}, "webhooks": [webhook]})[0] == 201
        code, late = wire("POST", f"{configmaps}?timeout=200ms", {"metadata": {"name": "a"}})
        assert (code, late["reason"]) == (504, "Timeout")
        assert "request did not complete within requested timeout - context deadline exceeded" in late["message"]
        code, failed = wire("POST", configmaps, {"metadata": {"name": "a"}})
        assert (code, failed["reason"]) == (500, "InternalError")
        assert f'Post "{url}?timeout=1s": context deadline exceeded' in failed["message"]
        assert wire("DELETE", f"{hooks}/{namespace}")[0] == 200
    assert wire("GET", f"{configmaps}/a")[0] == 404


def said(value: object) -> object:
    """A value without what is empty, of which a Go client's objects do not tell whether it was there."""
    if isinstance(value, dict):
        return {key: found for key, item in value.items() if (found := said(item)) not in ("", 0, {}, [], None)}
    return [said(item) for item in value] if isinstance(value, list) else value


def test_clients_that_accept_nothing_but_protobuf(wire, cluster, namespace, gears):
    """client-go should negotiate: lists, objects and watches of built-in kinds in protobuf; custom ones are refused."""
    only = {"Accept": PROTOBUF}
    discovered = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
    groups = [each for root in ("/api", "/apis") for each in wire("GET", root, headers=discovered)[1]["items"]]
    compared = 0
    for group in groups:
        name = group["metadata"].get("name") or ""
        if "." in name and not name.endswith(".k8s.io"):
            continue  # custom resources
        for version in group["versions"]:
            base = f"/apis/{name}/{version['version']}" if name else f"/api/{version['version']}"
            for resource in version["resources"]:
                if "list" not in resource["verbs"]:
                    continue
                listed = wire("GET", f"{base}/{resource['resource']}")[1]
                connection, answer = wire.open("GET", f"{base}/{resource['resource']}", headers=only)
                assert (answer.status, answer.headers["Content-Type"]) == (200, PROTOBUF), resource
                read = decode_unknown(answer.read())[2]
                connection.close()
                items = [
                    {key: each[key] for key in each if key not in ("apiVersion", "kind")} for each in listed["items"]
                ]
                if read["metadata"]["resourceVersion"] == listed["metadata"]["resourceVersion"]:
                    compared += 1
                    assert said(read.get("items", [])) == said(items), resource
    assert compared > 40
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    version = wire("GET", path)[1]["metadata"]["resourceVersion"]
    connection, answer = wire.open("POST", path, {"metadata": {"name": "a"}, "data": {"b": "c"}}, only)
    assert decode_unknown(answer.read())[2]["data"] == {"b": "c"}
    connection.close()
    connection, answer = wire.open("GET", f"{path}?watch=true&resourceVersion={version}", headers=only)
    assert answer.headers["Content-Type"] == f"{PROTOBUF};stream=watch"
    (size,) = struct.unpack(">I", answer.read(4))
    frame = answer.read(size)
    assert frame.startswith(b"\n\x05ADDED")
    assert decode_unknown(frame[frame.index(MAGIC) :])[2]["data"] == {"b": "c"}
    connection.close()
    both = {"Accept": f"{PROTOBUF},application/json"}
    assert wire("GET", path, headers=both)[1]["kind"] == "ConfigMapList"
    gear = f"/apis/gears.example.com/v1/namespaces/{namespace}/gears"
    assert wire("GET", gear, headers=only)[0] == wire("GET", f"{gear}?watch=true", headers=only)[0] == 406
    assert wire("GET", gear, headers=both)[0] == 200


def test_fields_of_events_have_the_names_of_their_version(wire, namespace):
    """Events: events.k8s.io/v1 selects by `regarding` and `reportingController` what core/v1 calls otherwise."""
    events = f"/api/v1/namespaces/{namespace}/events"
    about = {"kind": "Pod", "namespace": namespace, "name": "p"}
    body = {"metadata": {"name": "e"}, "involvedObject": about, "reportingComponent": "r", "type": "Normal"}
    assert wire("POST", events, body)[0] == 201
    new = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
    for path, selector, count in (
        (events, "involvedObject.name=p,reportingComponent=r", 1),
        (events, "source=r", 1),
        (new, "regarding.name=p,reportingController=r,type=Normal", 1),
        (new, "regarding.name=q", 0),
    ):
        assert len(wire("GET", f"{path}?fieldSelector={quote(selector)}")[1]["items"]) == count
    assert wire("GET", f"{new}?fieldSelector=involvedObject.name%3Dp")[0] == 400


def test_tables_in_the_earlier_version(wire, namespace):
    """Table transformation: clients that ask for `meta.k8s.io/v1beta1` get it, also in the rows, lists and watches."""
    path = f"/api/v1/namespaces/{namespace}/podtemplates"
    template = {"spec": {"containers": [{"name": "test", "image": "test2"}]}}
    for number in range(3):
        body = {"metadata": {"name": f"template-{number:04}"}, "template": template}
        assert wire("POST", path, body)[0] == 201
    beta = "meta.k8s.io/v1beta1"
    as_table = {"Accept": "application/json;as=Table;v=v1beta1;g=meta.k8s.io"}
    page = wire("GET", f"{path}?limit=2", headers=as_table)[1]
    assert (page["kind"], page["apiVersion"]) == ("Table", beta)
    assert [row["cells"][0] for row in page["rows"]] == ["template-0000", "template-0001"]
    assert {(row["object"]["kind"], row["object"]["apiVersion"]) for row in page["rows"]} == {
        ("PartialObjectMetadata", beta)
    }
    rest = wire("GET", f"{path}?continue={quote(page['metadata']['continue'])}", headers=as_table)[1]
    assert [row["cells"][0] for row in rest["rows"]] == ["template-0002"]
    for odd in (f"{path}?includeObject=Odd", f"{path}?watch=true&includeObject=Odd"):
        code, refused = wire("GET", odd, headers=as_table)
        assert (code, "Unable to convert to Table as requested: includeObject" in refused["message"]) == (400, True)
    as_metadata = {"Accept": "application/json;as=PartialObjectMetadataList;v=v1beta1;g=meta.k8s.io"}
    listed = wire("GET", path, headers=as_metadata)[1]
    assert (listed["apiVersion"], {each["apiVersion"] for each in listed["items"]}) == (beta, {beta})
    connection, stream = wire.open("GET", f"{path}?watch=true", headers=as_table)
    assert json.loads(stream.readline())["object"]["apiVersion"] == beta
    connection.close()


def test_the_openapi_document_that_clients_read_in_protobuf(cluster, gears):
    """CRD publish OpenAPI: Swagger 2.0, which client-go asks for in protobuf alone, has built-in and custom kinds."""
    shown = cluster.kubectl("explain", "deployment.spec.strategy", "--output=plaintext-openapiv2")
    assert "DeploymentStrategy describes how to replace existing pods" in shown
    assert "rollingUpdate\t<Object>" in shown
    assert "VERSION:  gears.example.com/v1" in cluster.kubectl("explain", gears, "--output=plaintext-openapiv2")
