"""Custom resources with kubectl: definition, validation, columns, status, admission policies."""

from __future__ import annotations

import json
import subprocess

import pytest

CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "gadgets.test.example.com"},
    "spec": {
        "group": "test.example.com",
        "scope": "Namespaced",
        "names": {"plural": "gadgets", "kind": "Gadget", "shortNames": ["gd"], "categories": ["all"]},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
                },
                "additionalPrinterColumns": [
                    {"name": "Color", "type": "string", "jsonPath": ".spec.color"},
                    {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas", "priority": 1},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                ],
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "description": "A gadget.",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "required": ["color"],
                                "x-kubernetes-validations": [
                                    {"rule": "self.replicas <= 10", "message": "too many replicas"}
                                ],
                                "properties": {
                                    "color": {"type": "string", "enum": ["red", "blue"], "description": "Its colour."},
                                    "replicas": {"type": "integer", "default": 1, "minimum": 0},
                                },
                            },
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        },
                    }
                },
            }
        ],
    },
}


def gadget(name="g", **spec):
    return {"apiVersion": "test.example.com/v1", "kind": "Gadget", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def gadgets(cluster):
    """The definition, and an object made right after it: nothing has to be waited for."""
    cluster.apply(CRD)
    cluster.apply(gadget("first", color="red"))
    yield cluster
    cluster.kubectl("delete", "crd", "gadgets.test.example.com")


def test_columns_short_names_and_categories(gadgets):
    header, row = gadgets.kubectl("get", "gd").splitlines()
    assert header.split() == ["NAME", "COLOR", "AGE"]
    assert row.split()[:2] == ["first", "red"]
    assert gadgets.kubectl("get", "gadget", "first", "-o", "wide").splitlines()[1].split()[1:3] == ["red", "1"]
    assert "gadget.test.example.com/first" in gadgets.kubectl("get", "all")


def test_explain(gadgets):
    assert "Its colour." in gadgets.kubectl("explain", "gadget.spec.color")
    assert "replicas\t<integer>" in gadgets.kubectl("explain", "gadget.spec")


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"color": "green"}, 'spec.color: Unsupported value: "green": supported values: "red", "blue"'),
        ({}, "spec.color: Required value"),
        ({"color": "red", "replicas": 11}, "spec: Invalid value: too many replicas"),
        ({"color": "red", "replicas": -1}, "should be greater than or equal to 0"),
        ({"color": "red", "odd": 1}, 'unknown field "spec.odd"'),
    ],
)
def test_validation(gadgets, spec, text):
    assert text in gadgets.fails("apply", "-f", "-", stdin=json.dumps(gadget("bad", **spec)))


def test_status_and_wait_for_condition(gadgets):
    gadgets.apply(gadget("st", color="red"))
    status = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    gadgets.kubectl("patch", "gd", "st", "--type=merge", "-p", json.dumps(status))
    assert "status" not in gadgets.get("gd", "st")
    gadgets.kubectl("patch", "gd", "st", "--subresource=status", "--type=merge", "-p", json.dumps(status))
    gadgets.kubectl("wait", "gd/st", "--for=condition=Ready", "--timeout=40s")
    assert gadgets.get("gd", "st")["metadata"]["generation"] == 1


def test_scale(gadgets):
    gadgets.apply(gadget("sc", color="red"))
    gadgets.kubectl("scale", "gd/sc", "--replicas=4")
    header, row = gadgets.kubectl("get", "gd/sc", "--subresource=scale").splitlines()
    assert (header.split(), row.split()[:3]) == (["NAME", "DESIRED", "AVAILABLE", "AGE"], ["sc", "4", "0"])
    assert gadgets.get("gd", "sc")["spec"]["replicas"] == 4


def test_conflict_on_replace(gadgets):
    gadgets.apply(gadget("cf", color="red"))
    old = gadgets.get("gd", "cf")
    gadgets.kubectl("patch", "gd", "cf", "--type=merge", "-p", '{"spec":{"color":"blue"}}')
    old["spec"]["color"] = "red"
    text = gadgets.fails("replace", "-f", "-", stdin=json.dumps(old))
    assert "the object has been modified" in text


def test_a_definition_that_is_not_structural(cluster):
    bad = json.loads(json.dumps(CRD).replace("gadgets", "gizmos").replace('"Gadget"', '"Gizmo"'))
    bad["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["x"] = {"minimum": 1}
    text = cluster.fails("create", "-f", "-", stdin=json.dumps(bad))
    assert "must not be empty for specified object fields" in text


def test_admission_policy_with_a_custom_parameter(gadgets, namespace):
    gadgets.apply(gadget("limits", color="red", replicas=2), namespace=namespace)
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    group = "admissionregistration.k8s.io/v1"
    policy = {
        "apiVersion": group,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "few-keys"},
        "spec": {
            "paramKind": {"apiVersion": "test.example.com/v1", "kind": "Gadget"},
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [
                {
                    "expression": "!has(object.data) || object.data.size() <= params.spec.replicas",
                    "messageExpression": "'at most ' + string(params.spec.replicas) + ' keys'",
                }
            ],
        },
    }
    binding = {
        "apiVersion": group,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "few-keys"},
        "spec": {
            "policyName": "few-keys",
            "validationActions": ["Deny"],
            "paramRef": {"name": "limits", "namespace": namespace, "parameterNotFoundAction": "Deny"},
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}},
        },
    }
    try:
        gadgets.apply(policy, binding)
        keys = [f"--from-literal=k{number}=v" for number in range(3)]
        text = gadgets.fails("create", "configmap", "big", *keys, "-n", namespace)
        wanted = (
            "configmaps \"big\" is forbidden: ValidatingAdmissionPolicy 'few-keys' with binding 'few-keys' "
            "denied request: at most 2 keys"
        )
        assert wanted in text
        gadgets.kubectl("create", "configmap", "small", *keys[:2], "-n", namespace)
    finally:
        gadgets.kubectl("delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", "few-keys")


def test_a_watch_ends_with_its_definition_and_after_its_objects(cluster):
    names = {"gadgets": "gizmos", "Gadget": "Gizmo", '"gd"': '"gz"'}
    crd, plain, held = json.dumps(CRD), gadget("plain", color="red"), gadget("held", color="red")
    held["metadata"]["finalizers"] = ["x.example.com/y"]
    for before, after in names.items():
        crd = crd.replace(before, after)
    cluster.kubectl("create", "-f", "-", stdin=crd)
    cluster.apply({**plain, "kind": "Gizmo"}, {**held, "kind": "Gizmo"})
    path = "/apis/test.example.com/v1/gizmos?watch=1&timeoutSeconds=60"
    path += "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    with subprocess.Popen([*cluster.command, "get", "--raw", path], stdout=subprocess.PIPE) as watching:
        assert [event_of(watching)[0] for _ in range(3)] == ["ADDED", "ADDED", "BOOKMARK"]
        cluster.kubectl("delete", "crd", "gizmos.test.example.com", "--wait=false")
        assert {event_of(watching) for _ in range(2)} == {("DELETED", "plain"), ("MODIFIED", "held")}
        cluster.kubectl(
            "patch", "gizmo", "held", "--type=json", "-p", '[{"op":"remove","path":"/metadata/finalizers"}]'
        )
        assert event_of(watching) == ("DELETED", "held")
        assert watching.stdout.read() == b"" and watching.wait(10) == 0


def event_of(watching):
    """Type and name of the next event that a watching process prints."""
    event = json.loads(watching.stdout.readline())
    return event["type"], event["object"]["metadata"].get("name")


def test_the_server_is_a_service(cluster):
    service = cluster.get("service/kubernetes", "-n", "default")
    port = service["spec"]["ports"][0]["targetPort"]
    server = cluster.kubectl("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}")
    assert server.endswith(f":{port}")
    slices = cluster.get("endpointslices", "-n", "default", "-l", "kubernetes.io/service-name=kubernetes")
    assert slices["items"][0]["ports"][0]["port"] == port
