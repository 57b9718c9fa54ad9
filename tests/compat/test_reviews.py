"""Questions about access and tokens that kube-apiserver refuses, and what it adds to a token that it gives."""

from __future__ import annotations

import contextlib

import pytest

ACCESS = "/apis/authorization.k8s.io/v1"
TOKENS = "/apis/authentication.k8s.io/v1/tokenreviews"
PODS = {"resourceAttributes": {"verb": "get", "resource": "pods"}}
PATHS = {"nonResourceAttributes": {"verb": "get", "path": "/a"}}


def fields(answer):
    return {found["field"]: found["message"] for found in answer["details"]["causes"]}


@pytest.mark.parametrize(
    ("field", "text", "body"),
    [
        ("spec.user", 'Invalid value: "": at least one of user or group must be specified', {"spec": PODS}),
        (
            "spec.nonResourceAttributes",
            "cannot be specified in combination with resourceAttributes",
            {"spec": {"user": "bob", **PODS, **PATHS}},
        ),
        ("spec.resourceAttributes", "exactly one of", {"spec": {"user": "bob"}}),
        ("metadata", "must be empty", {"metadata": {"name": "a"}, "spec": {"user": "bob", **PODS}}),
    ],
    ids=["nobody", "both", "neither", "named"],
)
def test_access_reviews(wire, field, text, body):
    code, answer = wire("POST", f"{ACCESS}/subjectaccessreviews", body)
    assert (code, answer["reason"], list(fields(answer))) == (422, "Invalid", [field])
    assert text in fields(answer)[field]


@pytest.mark.parametrize("key", ["fieldSelector", "labelSelector"])
def test_selectors_of_access_reviews(wire, key):
    def ask(selector):
        spec = {"resourceAttributes": {"verb": "list", "resource": "pods", key: selector}}
        return wire("POST", f"{ACCESS}/selfsubjectaccessreviews", {"spec": spec})

    requirements = [{"key": "a", "operator": "In", "values": ["b"]}]
    assert ask({"requirements": requirements})[0] == 201
    place = f"spec.resourceAttributes.{key}"
    code, answer = ask({"rawSelector": "a=b", "requirements": requirements})
    assert (code, list(fields(answer))) == (422, [f"{place}.rawSelector"])
    assert answer["message"].startswith("SelfSubjectAccessReview.authorization.k8s.io")
    code, answer = ask({})
    assert (code, list(fields(answer))) == (422, [f"{place}.requirements"])


def test_local_access_reviews(wire, namespace):
    path = f"{ACCESS}/namespaces/{namespace}/localsubjectaccessreviews"
    here = {"user": "bob", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": namespace}}
    assert wire("POST", path, {"metadata": {"namespace": namespace}, "spec": here})[0] == 201
    code, answer = wire("POST", path, {"metadata": {"namespace": "other"}, "spec": here})
    assert (code, "does not match the namespace sent" in answer["message"]) == (400, True)
    code, answer = wire("POST", path, {"spec": {"user": "bob", **PODS}})
    message = 'Invalid value: "": must match metadata.namespace'
    assert (code, fields(answer)) == (422, {"spec.resourceAttributes.namespace": message})
    code, answer = wire("POST", path, {"spec": {"user": "bob", **PATHS}})
    assert (code, list(fields(answer))) == (422, ["spec.nonResourceAttributes"])
    assert "disallowed on this kind of request" in answer["message"]


def test_rules_are_those_of_a_namespace(wire):
    code, answer = wire("POST", f"{ACCESS}/selfsubjectrulesreviews", {"spec": {}})
    assert (code, answer["message"]) == (400, "no namespace on request")


def test_a_token_review_needs_a_token(wire):
    code, answer = wire("POST", TOKENS, {"spec": {}})
    assert (code, answer["message"]) == (400, "token is required for TokenReview in authentication")


def test_a_token_says_what_it_is_for(wire, namespace):
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    issuer = wire("GET", "/.well-known/openid-configuration")[1]["issuer"]
    _, made = wire("POST", path, {})
    assert made["spec"] == {"audiences": [issuer], "expirationSeconds": 3600, "boundObjectRef": None}
    connection, response = wire.open("POST", path, {}, {"Accept": "application/vnd.kubernetes.protobuf"})
    with contextlib.closing(connection):
        assert (response.status, response.read()[:4]) == (201, b"k8s\0")


@pytest.mark.parametrize(
    ("code", "text", "body"),
    [
        (422, "may not specify a duration larger than 2^32 seconds", {"spec": {"expirationSeconds": (1 << 32) + 1}}),
        (422, "may not specify a duration less than 10 minutes", {"spec": {"expirationSeconds": 0}}),
        (
            400,
            "cannot bind token to object of type /v1, Kind=ConfigMap",
            {"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "ConfigMap", "name": "a"}}},
        ),
        (
            400,
            "cannot bind token to object of type apps/v1, Kind=Pod",
            {"spec": {"boundObjectRef": {"apiVersion": "apps/v1", "kind": "Pod", "name": "a"}}},
        ),
        (422, "must match the service account name if specified", {"metadata": {"name": "other"}}),
        (400, "does not match the namespace sent on the request", {"metadata": {"namespace": "other"}}),
    ],
    ids=["long", "short", "kind", "group", "name", "namespace"],
)
def test_token_requests(wire, namespace, code, text, body):
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    found, answer = wire("POST", path, body)
    assert (found, text in answer["message"]) == (code, True), answer


def test_a_token_is_bound_to_the_object_that_was_meant(wire, namespace):
    path = f"/api/v1/namespaces/{namespace}"
    wire("POST", f"{path}/secrets", {"metadata": {"name": "s"}})
    bound = {"apiVersion": "v1", "kind": "Secret", "name": "s", "uid": "other"}
    code, answer = wire("POST", f"{path}/serviceaccounts/default/token", {"spec": {"boundObjectRef": bound}})
    assert (code, answer["reason"]) == (409, "Conflict")
    assert "the UID in the bound object reference (other) does not match the UID in record" in answer["message"]
