"""Objects into protobuf: what is written is read back as it was, by the decoder, which reads what Go wrote."""

from __future__ import annotations

import struct

import pytest

from kube.machinery.protobuf import MAGIC, ProtobufError, decode_unknown, encode_unknown, encode_watch_event
from kube.machinery.protobuf.wire import fields

META = {
    "name": "x",
    "generation": 1 << 40,
    "creationTimestamp": "2026-01-02T03:04:05Z",
    "labels": {"a": "", "ä": "ö"},
    "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {"f:a": {}}}}],
}
SCHEMA = {
    "type": "object",
    "enum": [0, None, {"a": "ä"}],
    "default": {"b": [1.5]},
    "minimum": -0.5,
    "minLength": 0,
    "additionalProperties": {"type": "string"},
    "properties": {
        "any": {"type": "object", "additionalProperties": True},
        "closed": {"type": "object", "additionalProperties": False},
        "list": {"type": "array", "items": {"type": "string", "x-kubernetes-int-or-string": True}},
    },
}
PROBE = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1, "terminationGracePeriodSeconds": 0}
CONTAINER = {
    "name": "c",
    "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}},
    "readinessProbe": PROBE,
    "livenessProbe": {"tcpSocket": {"port": 80}, "exec": {"command": ["a", ""]}},
    "securityContext": {"runAsUser": -1, "privileged": False},
}
VOLUMES = [{"name": "v", "secret": {"secretName": "s", "defaultMode": 420}}, {"name": "w", "emptyDir": {}}]
OBJECTS = [
    {"apiVersion": "v1", "kind": "Secret", "metadata": META, "data": {"a": "AP8=", "b": ""}, "immutable": False},
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": META,
        "spec": {
            "containers": [CONTAINER],
            "volumes": VOLUMES,
            "securityContext": {"supplementalGroups": [1, 1 << 40]},
        },
        "status": {"startTime": "0001-01-01T00:00:01Z"},
    },
    {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "x"},
        "spec": {
            "group": "g",
            "names": {"plural": "xs", "kind": "X"},
            "scope": "Cluster",
            "versions": [{"name": "v1", "served": True, "storage": False, "schema": {"openAPIV3Schema": SCHEMA}}],
        },
        "status": {"conditions": [], "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": []},
    },
    {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "x"},
        "spec": {"renewTime": "1969-12-31T23:59:59.000001Z", "leaseTransitions": 0},
    },
    {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "metadata": {},
        "spec": {"user": "u", "extra": {"scopes": ["a", "b"], "none": []}},
        "status": {"allowed": True},
    },
]


@pytest.mark.parametrize("obj", OBJECTS, ids=[obj["kind"] for obj in OBJECTS])
def test_what_is_written_is_read_back(obj):
    api_version, kind, read = decode_unknown(encode_unknown(obj))
    assert (api_version, kind) == (obj["apiVersion"], obj["kind"])
    shown = {key: value for key, value in obj.get("status", {}).items() if value != []}
    assert read == {**obj, **({"status": shown} if "status" in obj else {})}


def test_items_of_a_list_need_no_kind():
    items = [{"metadata": {"name": "a"}}, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}}]
    listed = {"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "7"}, "items": items}
    _, _, read = decode_unknown(encode_unknown(listed))
    assert read == {**listed, "items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]}


def test_null_and_fields_without_a_number_are_left_out():
    obj = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "creationTimestamp": None},
        "new": {"a": 1},
    }
    read = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    assert decode_unknown(encode_unknown(obj))[2] == read


def test_a_kind_without_a_message():
    with pytest.raises(ProtobufError, match="Gear"):
        encode_unknown({"apiVersion": "gears.example.com/v1", "kind": "Gear", "metadata": {"name": "a"}})


def test_a_frame_of_a_watch():
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    frame = encode_watch_event({"type": "ADDED", "object": obj})
    assert struct.unpack(">I", frame[:4]) == (len(frame) - 4,)
    (_, _, type_), (_, _, extension) = fields(memoryview(frame)[4:])
    ((number, _, raw),) = fields(extension)
    assert (bytes(type_), number) == (b"ADDED", 1)
    assert bytes(raw[:4]) == MAGIC and decode_unknown(bytes(raw))[2] == obj
