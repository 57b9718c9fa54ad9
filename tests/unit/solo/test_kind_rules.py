"""What kube-apiserver refuses of storage and network kinds is refused here, by the same field."""

from __future__ import annotations

import pytest

from solo.registry.builtins import builtin_kinds
from solo.registry.objects import copy

KINDS = {kind.resource.plural: kind.strategy for kind in builtin_kinds(lambda: ("node", {}))}
VOLUME = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}}
CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
BACKEND = {"service": {"name": "s", "port": {"number": 80}}}
PATH = {"path": "/", "pathType": "Prefix", "backend": BACKEND}


def ingress(**path):
    return {"spec": {"rules": [{"http": {"paths": [{**PATH, **path}]}}]}}


def causes(plural, obj, old=None):
    """The fields that are refused in an object, or in its change from `old`."""
    states = [copy(state) for state in (obj, old) if state is not None]
    for state in states:
        state.setdefault("metadata", {"name": "x"})
        KINDS[plural].default(state)
    return [found.field for found in KINDS[plural].validate(states[0], states[1] if old else None)]


@pytest.mark.parametrize(
    ("plural", "field", "obj"),
    [
        ("persistentvolumes", "spec.accessModes", {"spec": {**VOLUME, "accessModes": []}}),
        ("persistentvolumes", "spec.capacity", {"spec": {**VOLUME, "capacity": {}}}),
        ("persistentvolumes", "spec.nfs", {"spec": {**VOLUME, "nfs": {"server": "s", "path": "/"}}}),
        ("persistentvolumes", "spec.volumeMode", {"spec": {**VOLUME, "volumeMode": "X"}}),
        ("persistentvolumeclaims", "spec.accessModes", {"spec": {**CLAIM, "accessModes": ["X"]}}),
        ("persistentvolumeclaims", "spec.resources[storage]", {"spec": {**CLAIM, "resources": {}}}),
        ("storageclasses", "provisioner", {}),
        ("storageclasses", "volumeBindingMode", {"provisioner": "p", "volumeBindingMode": "X"}),
        ("ingresses", "spec", {"spec": {}}),
        ("ingresses", "spec.rules[0].http.paths[0].pathType", ingress(pathType=None)),
        ("ingresses", "spec.rules[0].http.paths[0].path", ingress(path="x")),
        ("ingresses", "spec.rules[0].http.paths[0].backend", ingress(backend={})),
        ("ingresses", "spec.defaultBackend.service.port", {"spec": {"defaultBackend": {"service": {"name": "s"}}}}),
        ("ingressclasses", "spec.controller", {"spec": {"controller": "x"}}),
        ("endpointslices", "addressType", {"addressType": "X"}),
        ("endpointslices", "endpoints[0].addresses[0]", {"addressType": "IPv4", "endpoints": [{"addresses": ["::1"]}]}),
        ("endpoints", "subsets[0]", {"subsets": [{"ports": [{"port": 1}]}]}),
        ("endpoints", "subsets[0].addresses[0].ip", {"subsets": [{"addresses": [{"ip": "x"}]}]}),
    ],
)  # fmt: skip
def test_refused(plural, field, obj):
    assert causes(plural, obj) == [field]


@pytest.mark.parametrize(
    ("plural", "field", "obj", "change"),
    [
        ("persistentvolumes", "spec.persistentvolumesource", VOLUME, {"hostPath": {"path": "/y"}}),
        ("persistentvolumeclaims", "spec", {**CLAIM, "storageClassName": "a"}, {"storageClassName": "b"}),
        ("ingressclasses", "spec.controller", {"controller": "a.example.com/b"}, {"controller": "a.example.com/c"}),
    ],
)
def test_what_cannot_change(plural, field, obj, change):
    assert causes(plural, {"spec": {**obj, **change}}, {"spec": obj}) == [field]


def test_what_may_change():
    bound = {**CLAIM, "volumeName": "v", "resources": {"requests": {"storage": "2Gi"}}}
    assert causes("persistentvolumeclaims", {"spec": bound}, {"spec": CLAIM}) == []
    assert causes("persistentvolumes", {"spec": {**VOLUME, "capacity": {"storage": "2Gi"}}}, {"spec": VOLUME}) == []
    assert causes("ingresses", ingress(pathType="ImplementationSpecific", path="")) == []


def test_policies_say_what_they_are_about():
    policy = {"spec": {"egress": [{"ports": [{"port": 53}]}]}}
    KINDS["networkpolicies"].default(policy)
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"] and policy["spec"]["podSelector"] == {}
    assert policy["spec"]["egress"][0]["ports"][0]["protocol"] == "TCP"
