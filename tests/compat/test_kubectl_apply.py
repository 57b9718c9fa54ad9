"""Server-side apply and managedFields with kubectl."""

from __future__ import annotations

import json

CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "doors.apply.example.com"},
    "spec": {
        "group": "apply.example.com",
        "scope": "Namespaced",
        "names": {"plural": "doors", "kind": "Door"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "locks": {
                                        "type": "array",
                                        "x-kubernetes-list-type": "map",
                                        "x-kubernetes-list-map-keys": ["name"],
                                        "items": {
                                            "type": "object",
                                            "required": ["name"],
                                            "properties": {"name": {"type": "string"}, "key": {"type": "string"}},
                                        },
                                    }
                                },
                            },
                            "status": {"type": "object", "properties": {"open": {"type": "boolean"}}},
                        },
                    }
                },
            }
        ],
    },
}


def deployment(replicas, image="host"):
    spec = {"containers": [{"name": "c", "image": image, "command": ["sleep", "100"]}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "d"}},
            "template": {"metadata": {"labels": {"app": "d"}}, "spec": spec},
        },
    }


def door(*locks):
    return {
        "apiVersion": "apply.example.com/v1",
        "kind": "Door",
        "metadata": {"name": "front"},
        "spec": {"locks": [{"name": name, "key": key} for name, key in locks]},
    }


def serverside(cluster, namespace, obj, *options):
    return cluster.kubectl("apply", "--server-side", "-n", namespace, "-f", "-", *options, stdin=json.dumps(obj))


def test_apply_scale_conflict_force(cluster, namespace):
    assert "serverside-applied" in serverside(cluster, namespace, deployment(0))
    assert "serverside-applied" in serverside(cluster, namespace, deployment(0))
    cluster.kubectl("scale", "deployment/d", "--replicas=1", "-n", namespace)
    refused = cluster.fails("apply", "--server-side", "-n", namespace, "-f", "-", stdin=json.dumps(deployment(0)))
    assert "conflict" in refused
    assert '"kubectl" with subresource "scale"' in refused
    assert ".spec.replicas" in refused
    serverside(cluster, namespace, deployment(0), "--force-conflicts")
    assert cluster.get("deployment/d", "-n", namespace)["spec"]["replicas"] == 0


def test_managed_fields_are_shown_when_asked_for(cluster, namespace):
    cluster.kubectl("create", "configmap", "c", "--from-literal=a=1", "-n", namespace, "--field-manager=me")
    hidden = cluster.get("configmap/c", "-n", namespace)
    assert "managedFields" not in hidden["metadata"]
    shown = cluster.get("configmap/c", "-n", namespace, "--show-managed-fields")["metadata"]["managedFields"]
    assert [(item["manager"], item["operation"], item["fieldsV1"]) for item in shown] == [
        ("me", "Update", {"f:data": {".": {}, "f:a": {}}})
    ]


def test_managers_of_a_custom_resource_share_a_list(cluster, namespace):
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(CRD))
    cluster.kubectl("wait", "--for=condition=Established", "crd/doors.apply.example.com")
    serverside(cluster, namespace, door(("top", "a")), "--field-manager=one")
    serverside(cluster, namespace, door(("bottom", "b")), "--field-manager=two")
    both = cluster.get("door/front", "-n", namespace)
    assert both["spec"]["locks"] == [{"name": "top", "key": "a"}, {"name": "bottom", "key": "b"}]
    serverside(cluster, namespace, {**door(), "spec": {}}, "--field-manager=one")
    assert cluster.get("door/front", "-n", namespace)["spec"]["locks"] == [{"name": "bottom", "key": "b"}]
    status = {**door(), "status": {"open": True}}
    status.pop("spec")
    serverside(cluster, namespace, status, "--subresource=status", "--field-manager=watcher")
    shown = cluster.get("door/front", "-n", namespace, "--show-managed-fields")
    assert shown["status"] == {"open": True}
    assert ("watcher", "status") in [
        (item["manager"], item.get("subresource")) for item in shown["metadata"]["managedFields"]
    ]


def test_from_client_side_to_server_side_apply(cluster, namespace):
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "1", "b": "2"}}
    cluster.apply(obj, namespace=namespace)
    serverside(cluster, namespace, {**obj, "data": {"a": "3"}})
    assert cluster.get("configmap/m", "-n", namespace)["data"]["a"] == "3"
