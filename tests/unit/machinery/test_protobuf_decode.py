"""Protobuf bodies into objects: bodies that kubectl 1.37 sent, made-up ones for the corners, and broken ones."""

from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kube.machinery.protobuf import MAGIC, ProtobufError, decode_unknown, table

# What `kubectl create` sent, and what `kubectl create --dry-run=client -o json` printed for the same command.
RECORDED = {
    "configmap": (
        "azhzAAoPCgJ2MRIJQ29uZmlnTWFwEjsKEQoBeBIAGgAiACoAMgA4AEIAEgYKAWESAWISBQoBZRIAEgoKAmYyEgR0ZXh0GgsKAmYx"
        "EgX/AGJpbhoAIgA=",
        {
            "kind": "ConfigMap",
            "apiVersion": "v1",
            "metadata": {"name": "x"},
            "data": {"a": "b", "e": "", "f2": "text"},
            "binaryData": {"f1": "/wBiaW4="},
        },
    ),
    "deployment": (
        "azhzAAoVCgdhcHBzL3YxEgpEZXBsb3ltZW50ErgBChsKAXgSABoAIgAqADIAOABCAFoICgNhcHASAXgSigEIARIKCggKA2FwcBIB"
        "eBpyChoKABIAGgAiACoAMgA4AEIAWggKA2FwcBIBeBJUEjYKBGhvc3QSBGhvc3QaBXNsZWVwGgExKgAyCgoAEAAYUCIAKgBCAGoA"
        "cgCAAQCIAQCQAQCiAQAaADIAQgBKAFIAWABgAGgAggEAigEAmgEAwgEAIgIKACgAOAAaDAgAEAAYACAAKAA4ABoAIgA=",
        {
            "kind": "Deployment",
            "apiVersion": "apps/v1",
            "metadata": {"name": "x", "labels": {"app": "x"}},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"app": "x"}},
                "template": {
                    "metadata": {"labels": {"app": "x"}},
                    "spec": {
                        "containers": [
                            {
                                "name": "host",
                                "image": "host",
                                "command": ["sleep", "1"],
                                "ports": [{"containerPort": 80}],
                                "resources": {},
                            }
                        ]
                    },
                },
                "strategy": {},
            },
            "status": {},
        },
    ),
    "ingress": (
        "azhzAAofChRuZXR3b3JraW5nLms4cy5pby92MRIHSW5ncmVzcxKSAQoZCgF4EgAaACIAKgAyADgAQgBiBgoBYRIBYhJxCgsiCQoB"
        "ZRIECgAQWhIOCglhLmV4YW1wbGUSAXQaKgoJYS5leGFtcGxlEh0KGwoZCgIvYhILIgkKAWMSBAoAEFAaBlByZWZpeBojCgASHwod"
        "ChsKAS8SDyINCgFkEggKBGh0dHAQABoFRXhhY3QiAWsaAgoAGgAiAA==",
        {
            "kind": "Ingress",
            "apiVersion": "networking.k8s.io/v1",
            "metadata": {"name": "x", "annotations": {"a": "b"}},
            "spec": {
                "ingressClassName": "k",
                "defaultBackend": {"service": {"name": "e", "port": {"number": 90}}},
                "tls": [{"hosts": ["a.example"], "secretName": "t"}],
                "rules": [
                    {
                        "host": "a.example",
                        "http": {
                            "paths": [
                                {
                                    "path": "/b",
                                    "pathType": "Prefix",
                                    "backend": {"service": {"name": "c", "port": {"number": 80}}},
                                }
                            ]
                        },
                    },
                    {
                        "http": {
                            "paths": [
                                {
                                    "path": "/",
                                    "pathType": "Exact",
                                    "backend": {"service": {"name": "d", "port": {"name": "http"}}},
                                }
                            ]
                        }
                    },
                ],
            },
            "status": {"loadBalancer": {}},
        },
    ),
    "poddisruptionbudget": (
        "azhzAAogCglwb2xpY3kvdjESE1BvZERpc3J1cHRpb25CdWRnZXQSNgoRCgF5EgAaACIAKgAyADgAQgASFRIICgYKAWESAWIaCQgB"
        "EAAaAzMwJRoKCAAYACAAKAAwABoAIgA=",
        {
            "kind": "PodDisruptionBudget",
            "apiVersion": "policy/v1",
            "metadata": {"name": "y"},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "maxUnavailable": "30%"},
            "status": {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0},
        },
    ),
    "rolebinding": (
        "azhzAAorChxyYmFjLmF1dGhvcml6YXRpb24uazhzLmlvL3YxEgtSb2xlQmluZGluZxKuAQoRCgF4EgAaACIAKgAyADgAQgASJgoE"
        "VXNlchIZcmJhYy5hdXRob3JpemF0aW9uLms4cy5pbxoBdSIAEicKBUdyb3VwEhlyYmFjLmF1dGhvcml6YXRpb24uazhzLmlvGgFn"
        "IgASGAoOU2VydmljZUFjY291bnQSABoBYiIBYRouChlyYmFjLmF1dGhvcml6YXRpb24uazhzLmlvEgtDbHVzdGVyUm9sZRoEdmll"
        "dxoAIgA=",
        {
            "kind": "RoleBinding",
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "metadata": {"name": "x"},
            "subjects": [
                {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "u"},
                {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "g"},
                {"kind": "ServiceAccount", "name": "b", "namespace": "a"},
            ],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        },
    ),
    "quota": (
        "azhzAAoTCgJ2MRINUmVzb3VyY2VRdW90YRJQChEKAXgSABoAIgAqADIAOABCABI5Cg0KA2NwdRIGCgQ1MDBtCg8KBm1lbW9yeRIF"
        "CgMxR2kKCwoEcG9kcxIDCgExEgpCZXN0RWZmb3J0GgAaACIA",
        {
            "kind": "ResourceQuota",
            "apiVersion": "v1",
            "metadata": {"name": "x"},
            "spec": {"hard": {"cpu": "500m", "memory": "1Gi", "pods": "1"}, "scopes": ["BestEffort"]},
            "status": {},
        },
    ),
    "priorityclass": (
        "azhzAAolChRzY2hlZHVsaW5nLms4cy5pby92MRINUHJpb3JpdHlDbGFzcxIqChEKAXgSABoAIgAqADIAOABCABD7//////////8B"
        "GAEiAWQqBU5ldmVyGgAiAA==",
        {
            "kind": "PriorityClass",
            "apiVersion": "scheduling.k8s.io/v1",
            "metadata": {"name": "x"},
            "value": -5,
            "globalDefault": True,
            "description": "d",
            "preemptionPolicy": "Never",
        },
    ),
}


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    return MAGIC + field(1, field(1, api_version) + field(2, kind)) + field(2, raw)


def decode(api_version: str, kind: str, *fields: bytes) -> dict:
    decoded_version, decoded_kind, obj = decode_unknown(envelope(api_version, kind, b"".join(fields)))
    assert (decoded_version, decoded_kind) == (api_version, kind)
    assert (obj.pop("apiVersion"), obj.pop("kind")) == (api_version, kind)
    return obj


@pytest.mark.parametrize("name", RECORDED)
def test_what_kubectl_sends_is_what_it_prints(name):
    body, printed = RECORDED[name]
    api_version, kind, obj = decode_unknown(base64.b64decode(body))
    assert obj == printed
    assert (api_version, kind) == (printed["apiVersion"], printed["kind"])


def test_zero_behind_a_pointer_is_a_value_and_elsewhere_none():
    assert decode("apps/v1", "Deployment", field(2, field(1, 0) + field(5, 0))) == {"spec": {"replicas": 0}}
    assert decode("v1", "ConfigMap", field(4, 0)) == {"immutable": False}


def test_times():
    moment = field(1, 1_700_000_000) + field(2, 5_999)
    spec = field(1, "me") + field(4, moment) + field(3, b"")
    lease = decode("coordination.k8s.io/v1", "Lease", field(1, field(9, moment) + field(8, b"")), field(2, spec))
    assert lease == {
        "metadata": {"deletionTimestamp": "2023-11-14T22:13:20Z"},
        "spec": {"holderIdentity": "me", "renewTime": "2023-11-14T22:13:20.000005Z"},
    }


@pytest.mark.parametrize("moment", [field(1, 1 << 50), field(1, -(1 << 40)), field(1, 1) + field(2, -1)])
def test_times_that_are_none(moment):
    with pytest.raises(ProtobufError, match="a time "):
        decode("v1", "ConfigMap", field(1, field(9, moment)))


def test_zero_time_is_left_out():
    assert decode("v1", "ConfigMap", field(1, field(9, field(1, -62135596800)))) == {"metadata": {}}


def test_managed_fields_are_embedded_json():
    entry = field(1, "me") + field(7, field(1, '{"f:data":{}}'))
    assert decode("v1", "ConfigMap", field(1, field(17, entry))) == {
        "metadata": {"managedFields": [{"manager": "me", "fieldsV1": {"f:data": {}}}]}
    }


@pytest.mark.parametrize("text", ["{", "NaN", '"\\ud800"', b"\xff", "[" * 100_000])
def test_embedded_values_that_are_no_json(text):
    with pytest.raises(ProtobufError, match="embedded"):
        decode("v1", "ConfigMap", field(1, field(17, field(7, field(1, text)))))


def test_unknown_fields_that_say_nothing():
    # ObjectMeta.clusterName, which clients before 1.24 always send, and a number.
    assert decode("v1", "ConfigMap", field(1, field(1, "n") + field(15, "") + field(99, 0))) == {
        "metadata": {"name": "n"}
    }


def test_probes_and_volumes_are_inlined():
    probe = field(1, field(2, field(1, "/ok") + field(2, field(1, 1) + field(3, "http")))) + field(2, 5)
    container = field(1, "c") + field(10, probe) + field(8, b"")
    volume = field(1, "v") + field(2, field(2, b""))
    pod = decode("v1", "Pod", field(2, field(1, volume) + field(2, container)))
    assert pod["spec"] == {
        "volumes": [{"name": "v", "emptyDir": {}}],
        "containers": [
            {
                "name": "c",
                "resources": {},
                "livenessProbe": {"httpGet": {"path": "/ok", "port": "http"}, "initialDelaySeconds": 5},
            }
        ],
    }


def test_repeated_integers_packed_or_not():
    groups = field(4, 1) + field(4, varint(2) + varint(-3))
    assert decode("v1", "Pod", field(2, field(14, groups)))["spec"]["securityContext"] == {
        "supplementalGroups": [1, 2, -3]
    }


def test_a_list_in_a_message_is_a_list():
    extra = field(1, "k") + field(2, field(1, "a") + field(1, "b"))
    assert decode("authorization.k8s.io/v1", "SubjectAccessReview", field(2, field(5, extra)))["spec"]["extra"] == {
        "k": ["a", "b"]
    }


def test_entries_of_maps_may_leave_out_zero():
    data = field(2, b"") + field(2, field(1, "k"))
    assert decode("v1", "Secret", data, field(2, field(1, "b") + field(2, b"\x00\xff"))) == {
        "data": {"": "", "k": "", "b": "AP8="}
    }


def test_options_of_deletion_in_any_group_and_subresources():
    options = field(1, 0) + field(2, field(1, "u")) + field(4, "Orphan")
    expected = {"gracePeriodSeconds": 0, "preconditions": {"uid": "u"}, "propagationPolicy": "Orphan"}
    assert decode("v1", "DeleteOptions", options) == expected
    assert decode("made.up.example/v1", "DeleteOptions", options) == expected
    assert decode("policy/v1", "Eviction", field(2, options)) == {"deleteOptions": expected}
    assert decode("autoscaling/v1", "Scale", field(2, field(1, 3))) == {"spec": {"replicas": 3}}


def test_custom_resource_definitions():
    leaf = field(5, "string") + field(13, 9) + field(14, 0) + field(15, "") + field(8, field(1, '"x"'))
    listed = field(5, "array") + field(24, field(1, leaf)) + field(44, field(1, "true"))
    number = field(5, "number") + varint(11 << 3 | 1) + struct.pack("<d", -0.5)
    open_ = field(5, "object") + field(30, field(1, 1)) + field(38, 1) + field(20, field(1, "0"))
    properties = (("l", listed), ("n", number), ("o", open_))
    schema = b"".join(field(29, field(1, name) + field(2, item)) for name, item in properties)
    version = field(1, "v1") + field(2, 1) + field(3, 0) + field(4, field(1, schema)) + field(7, 0)
    spec = field(1, "g") + field(7, version)
    crd = decode("apiextensions.k8s.io/v1", "CustomResourceDefinition", field(2, spec))
    (shown,) = crd["spec"]["versions"]
    assert shown == {"name": "v1", "served": True, "storage": False, "schema": shown["schema"]}
    assert shown["schema"]["openAPIV3Schema"]["properties"] == {
        "l": {
            "type": "array",
            "items": {"type": "string", "maxLength": 9, "minLength": 0, "default": "x"},
            "x-kubernetes-validations": [{"rule": "true"}],
        },
        "n": {"type": "number", "minimum": -0.5},
        "o": {
            "type": "object",
            "additionalProperties": True,
            "x-kubernetes-preserve-unknown-fields": True,
            "enum": [0],
        },
    }


def nested(levels: int) -> bytes:
    schema = b""
    for _ in range(levels):
        schema = field(28, schema)
    spec = field(7, field(4, field(1, schema)))
    return envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", field(2, spec))


def test_depth_is_limited():
    assert decode_unknown(nested(90))[1] == "CustomResourceDefinition"
    with pytest.raises(ProtobufError, match="nested more than 100 levels"):
        decode_unknown(nested(110))
    with pytest.raises(ProtobufError, match="nested more than 100 levels"):
        decode_unknown(nested(5_000))


TYPE_META = field(1, field(1, "v1") + field(2, "ConfigMap"))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "expected prefix"),
        (b"{}", "expected prefix"),
        (MAGIC, 'no kind "" of version ""'),
        (envelope("v1", "Widget", b""), 'no kind "Widget" of version "v1"'),
        (envelope("v2", "Pod", b""), 'no kind "Pod" of version "v2"'),
        (MAGIC + TYPE_META + field(3, "gzip"), "content encoding"),
        (MAGIC + TYPE_META + field(4, "application/json"), "content type"),
        (MAGIC + TYPE_META + field(9, "x"), "Unknown has no field 9"),
        (MAGIC + TYPE_META + TYPE_META, "Unknown.typeMeta comes twice"),
        (MAGIC + field(1, 7), "unexpected wire type"),
        (envelope("v1", "ConfigMap", field(99, "x")), "io.k8s.api.core.v1.ConfigMap has no field 99"),
        (envelope("v1", "ConfigMap", field(1, field(15, "x"))), "ObjectMeta has no field 15"),
        (envelope("v1", "ConfigMap", field(1, b"") * 2), "field 1 \\(metadata\\) twice"),
        (envelope("v1", "ConfigMap", field(1, 5)), "ConfigMap.metadata has an unexpected wire type"),
        (envelope("v1", "ConfigMap", field(2, 5)), "ConfigMap.data has an unexpected wire type"),
        (envelope("v1", "ConfigMap", field(2, field(1, 5))), "ConfigMap.data has an unexpected wire type"),
        (envelope("v1", "ConfigMap", field(2, field(3, "x"))), "unexpected field 3"),
        (envelope("v1", "ConfigMap", field(2, b"") * 2), 'the key "" twice'),
        (envelope("v1", "ConfigMap", field(1, field(1, b"\xff"))), "not UTF-8"),
        (envelope("v1", "ConfigMap", field(1, field(1, "n")))[:-1], "unexpected end"),
        (envelope("apps/v1", "Deployment", field(2, field(1, 1 << 31))), "does not fit in 32 bits"),
        (envelope("v1", "Service", field(2, field(1, field(4, field(1, 2))))), "2 is no type of IntOrString"),
    ],
)
def test_refused(body, text):
    with pytest.raises(ProtobufError, match=text):
        decode_unknown(body)


def refused_or_object(body: bytes) -> None:
    try:
        _, kind, obj = decode_unknown(body)
    except ValueError:
        return
    assert obj["kind"] == kind


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data):
    refused_or_object(MAGIC + data)


@given(st.sampled_from(sorted(RECORDED)), st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_bodies_are_read_or_refused(name, data):
    body = bytearray(base64.b64decode(RECORDED[name][0]))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    refused_or_object(bytes(body[: data.draw(st.integers(1, len(body)))]))


@st.composite
def messages(draw, name, depth=4):
    """A message of the right fields, most of them of the right wire types."""
    known = table.message(name)
    out = b""
    for number in draw(st.lists(st.sampled_from(sorted(known)), max_size=4, unique=True)) if known else ():
        item = known[number]
        value = st.one_of(st.binary(max_size=4), st.integers(-(1 << 63), (1 << 64) - 1), st.just(0))
        if item.kind == "message" and depth:
            value = messages(item.message, depth - 1)
        drawn = draw(value)
        out += field(number, field(1, draw(st.binary(max_size=3))) + field(2, drawn) if item.shape == "map" else drawn)
    return out


@pytest.mark.parametrize("kind", ["Pod", "Event", "PersistentVolume", "Node"])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_message_is_read_or_refused(kind, data):
    refused_or_object(envelope("v1", kind, data.draw(messages(table.message_of("v1", kind)))))
