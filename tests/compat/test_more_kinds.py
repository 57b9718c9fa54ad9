"""Kinds that are served as objects go through all verbs; and what the newer verbs refuse, over the wire."""

from __future__ import annotations

import base64
import json

import pytest

from kube.client.config import KubeConfig, load_kubeconfig
from kube.client.sync import SyncClient
from kube.machinery.errors import StatusError
from kube.machinery.resources import CONFIGMAPS

MERGE = {"Content-Type": "application/merge-patch+json"}
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
FLOW = "flowcontrol.apiserver.k8s.io/v1"
QUEUE = {"type": "Queue", "queuing": {}}
ATTACHED = {"attacher": "a.example.com", "nodeName": "n", "source": {"persistentVolumeName": "p"}}
POOL = {"name": "p", "generation": 1, "resourceSliceCount": 1}
KINDS = [
    (FLOW, "flowschemas", {"spec": {"priorityLevelConfiguration": {"name": "x"}}}, True),
    (FLOW, "prioritylevelconfigurations", {"spec": {"type": "Limited", "limited": {"limitResponse": QUEUE}}}, True),
    ("networking.k8s.io/v1", "ipaddresses", {"spec": {"parentRef": {"resource": "services", "name": "a"}}}, False),
    ("networking.k8s.io/v1", "servicecidrs", {"spec": {"cidrs": ["10.1.1.0/24"]}}, True),
    ("networking.k8s.io/v1", "ingressclasses", {"spec": {"controller": "example.com/c"}}, False),
    ("node.k8s.io/v1", "runtimeclasses", {"handler": "h"}, False),
    ("resource.k8s.io/v1", "deviceclasses", {"spec": {"selectors": [{"cel": {"expression": "true"}}]}}, False),
    ("resource.k8s.io/v1", "resourceslices", {"spec": {"driver": "d", "pool": POOL, "nodeName": "n"}}, False),
    ("storage.k8s.io/v1", "csidrivers", {"spec": {}}, False),
    ("storage.k8s.io/v1", "csinodes", {"spec": {"drivers": []}}, False),
    ("storage.k8s.io/v1", "volumeattachments", {"spec": ATTACHED}, True),
    ("storage.k8s.io/v1", "volumeattributesclasses", {"driverName": "d", "parameters": {"a": "b"}}, False),
]


@pytest.mark.parametrize(("version", "plural", "body", "has_status"), KINDS, ids=[kind[1] for kind in KINDS])
def test_all_verbs(wire, version, plural, body, has_status):
    base, name = f"/apis/{version}/{plural}", "10.1.1.1" if plural == "ipaddresses" else "verbs"
    one = f"{base}/{name}"
    code, made = wire("POST", base, {"metadata": {"name": name, "labels": {"test": "verbs"}}, **body})
    assert code == 201 and made["metadata"]["uid"], made
    code, listed = wire("GET", f"{base}?labelSelector=test%3Dverbs")
    assert [item["metadata"]["name"] for item in listed["items"]] == [name]
    code, changed = wire("PATCH", one, {"metadata": {"annotations": {"a": "1"}}}, MERGE)
    assert (code, changed["metadata"]["annotations"]) == (200, {"a": "1"})
    changed["metadata"]["annotations"]["a"] = "2"
    assert wire("PUT", one, changed)[1]["metadata"]["annotations"] == {"a": "2"}
    assert wire("PUT", one, changed)[1]["reason"] == "Conflict"
    code, _ = wire("PATCH", f"{one}/status", {"metadata": {"annotations": {"a": "3"}}}, MERGE)
    assert code == (200 if has_status else 404)
    assert wire("GET", one, None, TABLE)[1]["rows"][0]["cells"][0] == name
    assert wire("DELETE", f"{base}?labelSelector=test%3Dverbs")[0] == 200
    assert wire("GET", one)[0] == 404


def test_the_mandatory_objects_are_there(wire):
    for plural in ("flowschemas", "prioritylevelconfigurations"):
        names = {item["metadata"]["name"] for item in wire("GET", f"/apis/{FLOW}/{plural}")[1]["items"]}
        assert {"exempt", "catch-all"} <= names
    classes = {
        item["metadata"]["name"] for item in wire("GET", "/apis/scheduling.k8s.io/v1/priorityclasses")[1]["items"]
    }
    assert {"system-cluster-critical", "system-node-critical"} <= classes
    code, refused = wire("DELETE", "/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical")
    assert (code, refused["reason"]) == (403, "Forbidden")


def test_signing_requests(wire):
    base = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    spec = {"request": "LS0t", "signerName": "example.com/s", "usages": ["client auth"], "username": "somebody-else"}
    _, made = wire("POST", base, {"metadata": {"name": "csr"}, "spec": spec, "status": {"certificate": "LS0t"}})
    assert made["spec"]["username"] == "kubernetes-admin" and "certificate" not in made.get("status", {})
    approved = {"type": "Approved", "status": "True", "reason": "Test", "message": ""}
    status = {"status": {"conditions": [approved], "certificate": "LS0t"}}
    _, unchanged = wire("PATCH", f"{base}/csr/status", {"status": {"conditions": [approved]}}, MERGE)
    assert not unchanged.get("status", {}).get("conditions")
    _, judged = wire("PATCH", f"{base}/csr/approval", status, MERGE)
    assert judged["status"]["conditions"][0]["type"] == "Approved" and "certificate" not in judged["status"]
    _, signed = wire("PATCH", f"{base}/csr/status", {"status": {"certificate": "LS0t"}}, MERGE)
    assert signed["status"]["certificate"] == "LS0t" and signed["status"]["conditions"]
    signed["status"]["conditions"].append({**approved, "type": "Issued"})
    _, noted = wire("PUT", f"{base}/csr/status", signed)
    assert [each["type"] for each in noted["status"]["conditions"]] == ["Approved", "Issued"]
    assert all(each["lastUpdateTime"] and each["lastTransitionTime"] for each in noted["status"]["conditions"])
    code, both = wire(
        "PATCH", f"{base}/csr/approval", {"status": {"conditions": [approved, {**approved, "type": "Denied"}]}}, MERGE
    )
    assert (code, both["reason"]) == (422, "Invalid")
    wire("DELETE", f"{base}/csr")


def test_what_a_claim_for_devices_asks_for_is_fixed(wire, namespace):
    """DRA: claims and their templates have defaults and cannot change; what was found for one is its status."""
    base = f"/apis/resource.k8s.io/v1/namespaces/{namespace}"
    spec = {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}}
    _, made = wire("POST", f"{base}/resourceclaims", {"metadata": {"name": "c"}, "spec": spec})
    exactly = {"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1}
    assert made["spec"]["devices"]["requests"][0]["exactly"] == exactly
    code, refused = wire("PATCH", f"{base}/resourceclaims/c", {"spec": {"devices": {"requests": []}}}, MERGE)
    assert (code, refused["details"]["causes"][0]["field"]) == (422, "spec")
    found = {"results": [{"request": "r", "driver": "d", "pool": "p", "device": "x"}]}
    _, kept = wire("PATCH", f"{base}/resourceclaims/c/status", {"status": {"allocation": {"devices": found}}}, MERGE)
    assert kept["status"]["allocation"]["devices"] == found
    template = {"metadata": {"name": "t"}, "spec": {"spec": spec}}
    _, made = wire("POST", f"{base}/resourceclaimtemplates", template)
    assert made["spec"]["spec"]["devices"]["requests"][0]["exactly"]["count"] == 1
    spec["devices"]["requests"][0]["firstAvailable"] = [{"name": "s", "deviceClassName": "c"}]
    code, refused = wire("POST", f"{base}/resourceclaims", {"metadata": {"name": "d"}, "spec": spec})
    assert (code, refused["details"]["causes"][0]["field"]) == (422, "spec.devices.requests[0]")


def test_a_review_has_no_table(wire):
    body = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
    code, answer = wire("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body, TABLE)
    assert (code, answer["reason"]) == (406, "NotAcceptable")


def test_a_collection_is_deleted_as_far_as_the_limit(wire, namespace):
    path = f"/api/v1/namespaces/{namespace}/podtemplates"
    spec = {"containers": [{"name": "c", "image": "host"}]}
    for name in ("a", "b", "c"):
        wire("POST", path, {"metadata": {"name": name}, "template": {"spec": spec}})
    _, deleted = wire("DELETE", f"{path}?limit=2")
    assert [item["metadata"]["name"] for item in deleted["items"]] == ["a", "b"]
    assert [item["metadata"]["name"] for item in wire("GET", path)[1]["items"]] == ["c"]


def test_an_update_makes_a_lease(wire, namespace):
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/l"
    code, made = wire("PUT", path, {"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}})
    assert (code, made["spec"]["holderIdentity"]) == (201, "me")
    code, refused = wire("PUT", path, {"metadata": {"name": "l"}, "spec": {}})
    assert (code, refused["details"]["causes"][0]["field"]) == (422, "metadata.resourceVersion")
    wire("DELETE", path)
    assert wire("PUT", path, made)[0] == 404


def test_tokens_can_be_checked_by_others(wire, namespace):
    import jwt

    account = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    wire("POST", f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": "s"}})
    bound = {"apiVersion": "v1", "kind": "Secret", "name": "s"}
    _, answer = wire("POST", account, {"spec": {"audiences": ["me"], "boundObjectRef": bound}})
    token = answer["status"]["token"]
    _, about = wire("GET", "/.well-known/openid-configuration")
    _, keys = wire("GET", "/openid/v1/jwks")
    key = next(key for key in keys["keys"] if key["kid"] == jwt.get_unverified_header(token)["kid"])
    claims = jwt.decode(token, jwt.PyJWK(key), algorithms=["ES256"], audience="me", issuer=about["issuer"])
    assert claims["kubernetes.io"]["secret"]["name"] == "s"
    review = {"spec": {"token": token, "audiences": ["me"]}}
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    assert wire("POST", path, review)[1]["status"]["authenticated"] is True
    wire("DELETE", f"/api/v1/namespaces/{namespace}/secrets/s")
    assert wire("POST", path, review)[1]["status"]["authenticated"] is False


def test_secrets_of_service_accounts_are_filled_and_go_with_them(cluster, namespace, admin):
    name = "kubernetes.io/service-account.name"
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "robot-token", "annotations": {name: "robot"}},
        "type": "kubernetes.io/service-account-token",
    }
    cluster.kubectl("create", "serviceaccount", "robot", "-n", namespace)
    cluster.apply(secret, namespace=namespace)
    cluster.kubectl("wait", "--for=jsonpath={.data.token}", "secret/robot-token", "-n", namespace, "--timeout=10s")
    made = cluster.get("secret/robot-token", "-n", namespace)
    data = {key: base64.b64decode(value).decode() for key, value in made["data"].items()}
    assert data.keys() == {"ca.crt", "namespace", "token"} and data["namespace"] == namespace
    assert data["ca.crt"] == admin.get(CONFIGMAPS, "kube-root-ca.crt", namespace)["data"]["ca.crt"]
    config = load_kubeconfig(str(cluster.kubeconfig))
    with SyncClient(KubeConfig(config.server, ca_data=data["ca.crt"].encode(), token=data["token"])) as robot:
        with pytest.raises(StatusError, match=f"system:serviceaccount:{namespace}:robot"):
            robot.get(CONFIGMAPS, "kube-root-ca.crt", namespace)
        emptied = {"data": {"token": None}}
        cluster.kubectl("patch", "secret", "robot-token", "-n", namespace, "--type=merge", "-p", json.dumps(emptied))
        with pytest.raises(StatusError, match="Unauthorized"):
            robot.get(CONFIGMAPS, "kube-root-ca.crt", namespace)
        cluster.kubectl("wait", "--for=jsonpath={.data.token}", "secret/robot-token", "-n", namespace, "--timeout=10s")
        token = base64.b64decode(cluster.get("secret/robot-token", "-n", namespace)["data"]["token"]).decode()
    assert token != data["token"]
    with SyncClient(KubeConfig(config.server, ca_data=data["ca.crt"].encode(), token=token)) as robot:
        with pytest.raises(StatusError, match=f"system:serviceaccount:{namespace}:robot"):
            robot.get(CONFIGMAPS, "kube-root-ca.crt", namespace)
        cluster.kubectl("delete", "serviceaccount", "robot", "-n", namespace)
        cluster.kubectl("wait", "--for=delete", "secret/robot-token", "-n", namespace, "--timeout=10s")
        with pytest.raises(StatusError) as caught:
            robot.get(CONFIGMAPS, "kube-root-ca.crt", namespace)
        assert caught.value.code == 401


def test_namespaces_are_deleted_one_by_one(wire):
    code, refused = wire("DELETE", "/api/v1/namespaces?labelSelector=none%3Dhere")
    assert (code, refused["reason"]) == (405, "MethodNotAllowed")
    verbs = {each["name"]: each["verbs"] for each in wire("GET", "/api/v1")[1]["resources"]}
    assert "deletecollection" not in verbs["namespaces"] and "deletecollection" in verbs["nodes"]
    paths = wire("GET", "/openapi/v3/api/v1")[1]["paths"]
    assert "delete" not in paths["/api/v1/namespaces"] and "delete" in paths["/api/v1/nodes"]
