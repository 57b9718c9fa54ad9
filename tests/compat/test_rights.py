"""Rights hold on every way to an object: paths that name it oddly, streams, methods; kube-apiserver's `requestinfo`."""

from __future__ import annotations

import json

import pytest

from compat.conftest import sleeping_pod
from kube.machinery.resources import (
    CLUSTERROLEBINDINGS,
    CLUSTERROLES,
    CRDS,
    NAMESPACES,
    PODS,
    ROLEBINDINGS,
    ROLES,
    SECRETS,
)

BOB = {"Impersonate-User": "bob"}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Protocol": "v5.channel.k8s.io",
}


@pytest.fixture
def allow(admin, namespace):
    """Give bob rights in the namespace; they go with it."""

    def give(**rule):
        rules = [{"apiGroups": [""], **rule}]
        subject = {"kind": "User", "name": "bob", "apiGroup": "rbac.authorization.k8s.io"}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "bob"}
        admin.create(ROLES, {"metadata": {"name": "bob", "namespace": namespace}, "rules": rules})
        bound = {"metadata": {"name": "bob", "namespace": namespace}, "roleRef": reference, "subjects": [subject]}
        admin.create(ROLEBINDINGS, bound)

    return give


def test_all_rights_in_a_namespace_are_none_on_another(wire, admin, namespace, allow):
    allow(apiGroups=["*"], resources=["*"], verbs=["*"])
    admin.create(NAMESPACES, {"metadata": {"name": f"{namespace}-other"}})
    try:
        inside = f"/api/v1/namespaces/{namespace}/namespaces"
        assert wire("GET", f"/api/v1/namespaces/{namespace}", headers=BOB)[0] == 200
        assert wire("GET", inside, headers=BOB)[0] == 404
        for method in ("GET", "DELETE"):
            assert wire(method, f"{inside}/{namespace}-other", headers=BOB)[0] == 404
        assert "deletionTimestamp" not in admin.get(NAMESPACES, f"{namespace}-other")["metadata"]
    finally:
        admin.delete(NAMESPACES, f"{namespace}-other")


def test_a_watch_of_one_name_shows_that_one_whatever_the_selector(wire, admin, namespace, allow):
    allow(resources=["secrets"], verbs=["watch"], resourceNames=["mine"])
    for name in ("mine", "theirs"):
        admin.create(SECRETS, {"metadata": {"name": name, "namespace": namespace}})
    path = f"/api/v1/watch/namespaces/{namespace}/secrets/mine?timeoutSeconds=1"
    for selector in ("", f"&fieldSelector=metadata.namespace={namespace}", "&fieldSelector=metadata.name!=x"):
        status, _, text = wire.headers("GET", path + selector, headers=BOB)
        names = [json.loads(line)["object"]["metadata"]["name"] for line in text.splitlines()]
        assert (status, names) == (200, ["mine"])
    assert wire("GET", path.replace("mine", "theirs"), headers=BOB)[0] == 403


def test_a_list_by_name_needs_the_right_to_that_name_only(wire, admin, namespace, allow):
    allow(resources=["secrets"], verbs=["list"], resourceNames=["mine"])
    for name in ("mine", "theirs"):
        admin.create(SECRETS, {"metadata": {"name": name, "namespace": namespace}})
    path = f"/api/v1/namespaces/{namespace}/secrets?fieldSelector="
    for selector in ("metadata.name=mine", f"metadata.namespace={namespace},metadata.name==mine"):
        status, answer = wire("GET", path + selector, headers=BOB)
        assert (status, [each["metadata"]["name"] for each in answer["items"]]) == (200, ["mine"])
    for selector in ("", "metadata.name!=theirs", "metadata.name=theirs", "type=a%5C,metadata.name=mine"):
        assert wire("GET", path + selector, headers=BOB)[0] == 403


def test_a_deletion_of_exec_runs_nothing(wire, admin, namespace, allow):
    allow(resources=[f"pods/{name}" for name in ("exec", "attach", "portforward", "log")], verbs=["delete"])
    pod = sleeping_pod("busy")
    pod["metadata"]["namespace"] = namespace
    admin.create(PODS, pod)
    path = f"/api/v1/namespaces/{namespace}/pods/busy"
    for subresource in ("exec", "attach", "portforward", "log"):
        status, answer = wire("DELETE", f"{path}/{subresource}?command=true&stdout=1", headers={**UPGRADE, **BOB})
        assert (status, answer["reason"]) == (405, "MethodNotAllowed")
    assert wire("POST", f"{path}/log")[0] == 405
    assert wire("GET", f"{path}/exec?command=true&stdout=1", headers=BOB)[0] == 403


def test_another_groups_pods_are_not_the_nodes(wire, admin, namespace):
    """Rights on `pods` of metrics.example.com must not open a shell in a pod."""
    version = {"name": "v1", "served": True, "storage": True}
    version["schema"] = {"openAPIV3Schema": {"type": "object"}}
    names = {"plural": "pods", "singular": "pod", "kind": "PodThing", "listKind": "PodThingList"}
    spec = {"group": "metrics.example.com", "scope": "Namespaced", "versions": [version], "names": names}
    definition = "pods.metrics.example.com"
    admin.create(CRDS, {"metadata": {"name": definition}, "spec": spec})
    pod = sleeping_pod("busy")
    pod["metadata"]["namespace"] = namespace
    admin.create(PODS, pod)
    rules = [{"apiGroups": ["metrics.example.com"], "resources": ["*"], "verbs": ["*"]}]
    subject = {"kind": "User", "name": "bob", "apiGroup": "rbac.authorization.k8s.io"}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": namespace}
    admin.create(CLUSTERROLES, {"metadata": {"name": namespace}, "rules": rules})
    admin.create(CLUSTERROLEBINDINGS, {"metadata": {"name": namespace}, "roleRef": reference, "subjects": [subject]})
    try:
        path = f"/apis/metrics.example.com/v1/namespaces/{namespace}/pods/busy"
        assert wire("GET", path, headers=BOB)[0] == 404
        assert wire("GET", f"{path}/exec?command=true&stdout=1", headers={**UPGRADE, **BOB})[0] == 404
        assert wire("GET", f"{path}/log", headers=BOB)[0] == 404
    finally:
        for resource in (CLUSTERROLEBINDINGS, CLUSTERROLES):
            admin.delete(resource, namespace)
        admin.delete(CRDS, definition)


@pytest.mark.parametrize(
    "spec",
    [
        {"user": {"a": 1}, "resourceAttributes": {"verb": "get", "resource": "pods"}},
        {"user": "bob", "groups": "dev", "resourceAttributes": {"verb": "get", "resource": "pods"}},
        {"user": "bob", "extra": {"a": 1}, "resourceAttributes": {"verb": "get", "resource": "pods"}},
        {"user": "bob", "resourceAttributes": {"verb": 5, "resource": "pods"}},
        {"user": "bob", "nonResourceAttributes": "x"},
        [],
    ],
    ids=["user", "groups", "extra", "verb", "attributes", "spec"],
)
def test_a_question_that_makes_no_sense_is_refused(wire, spec):
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    status, answer = wire("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
    assert (status, answer["reason"]) == (400, "BadRequest")
    assert "cannot unmarshal" in answer["message"]


def test_who_may_approve_and_who_may_sign(wire, admin, namespace):
    """Rights on the requests' subresources are not enough: it takes those on their signer."""
    group = "certificates.k8s.io"
    base, roles = f"/apis/{group}/v1/certificatesigningrequests", "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    writes = [f"certificatesigningrequests/{subresource}" for subresource in ("approval", "status")]
    rules = [{"apiGroups": [group], "resources": writes, "verbs": ["get", "patch"]}]
    merge = {"Content-Type": "application/merge-patch+json"}

    def allow(*more):
        assert wire("PATCH", f"{roles}/{namespace}", {"rules": [*rules, *more]}, merge)[0] == 200

    def patch(subresource, **status):
        return wire("PATCH", f"{base}/{namespace}/{subresource}", {"status": status}, {**merge, **BOB})

    wire("POST", roles, {"metadata": {"name": namespace}, "rules": rules})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": namespace}
    bob = {"kind": "User", "name": "bob", "apiGroup": "rbac.authorization.k8s.io"}
    bound = {"metadata": {"name": namespace}, "roleRef": role, "subjects": [bob]}
    assert wire("POST", roles.replace("roles", "rolebindings"), bound)[0] == 201
    spec = {"request": "LS0t", "signerName": "example.com/s", "usages": ["client auth"]}
    wire("POST", base, {"metadata": {"name": namespace}, "spec": spec})
    approved = {"type": "Approved", "status": "True", "reason": "Test", "message": ""}
    code, refused = patch("approval", conditions=[approved])
    assert code == 403
    assert 'user not permitted to approve requests with signerName "example.com/s"' in refused["message"]
    signers = {"apiGroups": [group], "resources": ["signers"]}
    allow({**signers, "resourceNames": ["example.com/other"], "verbs": ["approve"]})
    assert patch("approval", conditions=[approved])[0] == 403
    allow({**signers, "resourceNames": ["example.com/*"], "verbs": ["approve"]})
    assert patch("approval", conditions=[approved])[0] == 200
    code, refused = patch("status", certificate="LS0t")
    assert (code, "not permitted to sign" in refused["message"]) == (403, True)
    allow({**signers, "resourceNames": ["example.com/s"], "verbs": ["sign"]})
    assert patch("status", certificate="LS0t")[1]["status"]["certificate"] == "LS0t"
    for path in (
        f"{base}/{namespace}",
        f"{roles}/{namespace}",
        f"{roles.replace('roles', 'rolebindings')}/{namespace}",
    ):
        assert wire("DELETE", path)[0] == 200


def test_a_binding_to_what_rbac_does_not_know_is_refused(wire, namespace):
    path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    body = {
        "metadata": {"name": namespace},
        "roleRef": {"apiGroup": "x", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "User", "name": "zoe", "apiGroup": "foo"}],
    }
    code, answer = wire("POST", path, body)
    places = [found["field"] for found in answer["details"]["causes"]]
    assert (code, places) == (422, ["roleRef.apiGroup", "subjects[0].apiGroup"])
    assert wire("GET", f"{path}/{namespace}")[0] == 404
