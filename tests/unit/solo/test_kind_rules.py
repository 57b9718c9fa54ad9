"""What kube-apiserver refuses of storage and network kinds is refused here, by the same field."""

from __future__ import annotations

import pytest

from solo.registry.builtins import builtin_kinds
from solo.registry.objects import copy

KINDS = {kind.resource.plural: kind.strategy for kind in builtin_kinds(lambda: ("node", {}))}
VOLUME = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}}
CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
CPU = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
PODS = {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1"}}
ONCE = ["ReadWriteOncePod", "ReadWriteOnce"]
SLICE, PLACE = {"addressType": "IPv4"}, {"addresses": ["10.0.0.1"]}
BACKEND = {"service": {"name": "s", "port": {"number": 80}}}
PATH = {"path": "/", "pathType": "Prefix", "backend": BACKEND}


def ingress(**path):
    return {"spec": {"rules": [{"http": {"paths": [{**PATH, **path}]}}]}}


def peer(who):
    return {"spec": {"ingress": [{"from": [who]}]}}


def block(cidr, *parts):
    return peer({"ipBlock": {"cidr": cidr, "except": list(parts)}})


def egress(**port):
    return {"spec": {"egress": [{"ports": [port]}]}}


def scoped(**expression):
    expression = {"scopeName": "PriorityClass", "operator": "Exists", **expression}
    return {"spec": {"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [expression]}}}


def limits(*items):
    return {"spec": {"limits": list(items)}}


def scaler(**metric):
    target = {"kind": "Deployment", "name": "d"}
    return {"spec": {"maxReplicas": 2, "scaleTargetRef": target, "metrics": [metric]}}


def cpu(**target):
    return scaler(type="Resource", resource={"name": "cpu", "target": target})


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
        ("persistentvolumeclaims", "spec.accessModes", {"spec": {**CLAIM, "accessModes": ONCE}}),
        ("storageclasses", "provisioner", {}),
        ("storageclasses", "volumeBindingMode", {"provisioner": "p", "volumeBindingMode": "X"}),
        ("ingresses", "spec", {"spec": {}}),
        ("ingresses", "spec.rules[0].http.paths[0].pathType", ingress(pathType=None)),
        ("ingresses", "spec.rules[0].http.paths[0].path", ingress(path="x")),
        ("ingresses", "spec.rules[0].http.paths[0].backend", ingress(backend={})),
        ("ingresses", "spec.defaultBackend.service.port", {"spec": {"defaultBackend": {"service": {"name": "s"}}}}),
        ("ingresses", "spec.rules[0].host", {"spec": {"rules": [{"host": "A.example.com"}]}}),
        ("ingresses", "spec.rules[0].host", {"spec": {"rules": [{"host": "*x.example.com"}]}}),
        ("ingresses", "spec.rules[0].host", {"spec": {"rules": [{"host": "10.0.0.1"}]}}),
        ("networkpolicies", "spec.policyTypes[0]", {"spec": {"policyTypes": ["X"]}}),
        ("networkpolicies", "spec.policyTypes", {"spec": {"policyTypes": ["Ingress"] * 3}}),
        ("networkpolicies", "spec.podSelector.matchLabels", {"spec": {"podSelector": {"matchLabels": {"a b": ""}}}}),
        ("networkpolicies", "spec.ingress[0].from[0]", peer({})),
        ("networkpolicies", "spec.ingress[0].from[0]", peer({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}})),
        ("networkpolicies", "spec.ingress[0].from[0].ipBlock.cidr", peer({"ipBlock": {"cidr": "10.0.0.0"}})),
        ("networkpolicies", "spec.ingress[0].from[0].ipBlock.cidr", peer({"ipBlock": {}})),
        ("networkpolicies", "spec.ingress[0].from[0].ipBlock.except[0]", block("10.0.0.0/8", "11.0.0.0/16")),
        ("networkpolicies", "spec.ingress[0].from[0].ipBlock.except[0]", block("10.0.0.0/8", "10.0.0.0/8")),
        ("networkpolicies", "spec.egress[0].ports[0].port", egress(port=65536)),
        ("networkpolicies", "spec.egress[0].ports[0].port", egress(port="a--b")),
        ("networkpolicies", "spec.egress[0].ports[0].protocol", egress(protocol="X")),
        ("networkpolicies", "spec.egress[0].ports[0].endPort", egress(endPort=1)),
        ("networkpolicies", "spec.egress[0].ports[0].endPort", egress(port="a", endPort=1)),
        ("networkpolicies", "spec.egress[0].ports[0].endPort", egress(port=2, endPort=1)),
        ("resourcequotas", "spec.hard[pods]", {"spec": {"hard": {"pods": "1500m"}}}),
        ("resourcequotas", "spec.hard[count/pods]", {"spec": {"hard": {"count/pods": "0.5"}}}),
        ("resourcequotas", "spec.hard[cpu]", {"spec": {"hard": {"cpu": "-1"}}}),
        ("resourcequotas", "spec.hard[storage]", {"spec": {"hard": {"storage": "1"}}}),
        ("resourcequotas", "spec.hard[a b/c]", {"spec": {"hard": {"a b/c": "1"}}}),
        ("resourcequotas", "spec.scopes", {"spec": {"scopes": ["X"]}}),
        ("resourcequotas", "spec.scopes", {"spec": {"scopes": ["BestEffort", "NotBestEffort"], "hard": {"pods": "1"}}}),
        ("resourcequotas", "spec.scopes", {"spec": {"scopes": ["BestEffort"], "hard": {"cpu": "1"}}}),
        ("resourcequotas", "spec.scopeSelector.matchExpressions.values", scoped(operator="In")),
        ("resourcequotas", "spec.scopeSelector.matchExpressions.operator", scoped(operator="X")),
        ("resourcequotas", "spec.scopeSelector.matchExpressions.scopeName", scoped(scopeName="X")),
        ("limitranges", "spec.limits[0].type", limits({"type": "X"})),
        ("limitranges", "spec.limits[1].type", limits({"type": "Pod"}, {"type": "Pod"})),
        ("limitranges", "spec.limits[0].default", limits({"type": "Pod", "default": {"cpu": "1"}})),
        ("limitranges", "spec.limits[0].limits", limits({"type": "PersistentVolumeClaim"})),
        ("limitranges", "spec.limits[0].max[storage]", limits({"type": "Pod", "max": {"storage": "1"}})),
        ("limitranges", "spec.limits[0].min[cpu]", limits({"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "1"}})),
        (
            "limitranges",
            "spec.limits[0].maxLimitRequestRatio[cpu]",
            limits({"type": "Pod", "maxLimitRequestRatio": {"cpu": "500m"}}),
        ),
        ("nodes", "metadata.taints[0].effect", {"spec": {"taints": [{"key": "a", "effect": "X"}]}}),
        ("nodes", "metadata.taints[0].key", {"spec": {"taints": [{"key": "a b", "effect": "NoExecute"}]}}),
        ("nodes", "metadata.taints[1]", {"spec": {"taints": [{"key": "a", "effect": "NoExecute"}] * 2}}),
        ("horizontalpodautoscalers", "spec.metrics[0].resource", scaler(type="Resource")),
        ("horizontalpodautoscalers", "spec.metrics[0].type", scaler(type="X")),
        ("horizontalpodautoscalers", "spec.metrics[0].resource.target.averageUtilization", cpu(type="Utilization")),
        (
            "horizontalpodautoscalers",
            "spec.metrics[0].resource.target.averageValue",
            cpu(type="AverageValue", averageValue="0"),
        ),
        ("horizontalpodautoscalers", "spec.metrics[0].resource.target.type", cpu(type="X", averageValue="1")),
        ("horizontalpodautoscalers", "spec.metrics[0].pods", scaler(type="Resource", resource=CPU, pods=PODS)),
        ("endpointslices", "ports[1].name", {"addressType": "IPv4", "ports": [{"port": 1}, {"port": 2}]}),
        ("endpointslices", "ports[0].protocol", {"addressType": "IPv4", "ports": [{"protocol": "X"}]}),
        ("endpointslices", "endpoints[0].hostname", {**SLICE, "endpoints": [{**PLACE, "hostname": "A"}]}),
        ("endpointslices", "endpoints[0].addresses", {"addressType": "IPv4", "endpoints": [{}]}),
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
    bound = {**CLAIM, "volumeName": "v", "resources": {"requests": {"storage": "1024Mi"}}}
    assert causes("persistentvolumeclaims", {"spec": bound}, {"spec": CLAIM}) == []
    assert causes("persistentvolumes", {"spec": {**VOLUME, "capacity": {"storage": "2Gi"}}}, {"spec": VOLUME}) == []
    assert causes("ingresses", ingress(pathType="ImplementationSpecific", path="")) == []


def test_only_claims_with_a_volume_can_grow():
    bound = {"phase": "Bound", "capacity": {"storage": "1Gi"}}
    for change in ({"resources": {"requests": {"storage": "2Gi"}}}, {"volumeAttributesClassName": "fast"}):
        new = {"spec": {**CLAIM, **change}}
        assert causes("persistentvolumeclaims", new, {"spec": CLAIM, "status": {"phase": "Pending"}}) == ["spec"]
        assert causes("persistentvolumeclaims", new, {"spec": CLAIM, "status": bound}) == []
    less = {"spec": {**CLAIM, "resources": {"requests": {"storage": "1Mi"}}}}
    field = "spec.resources.requests.storage"
    assert causes("persistentvolumeclaims", less, {"spec": CLAIM, "status": bound}) == [field]
    more = {"spec": {**CLAIM, "resources": {"requests": {"storage": "1Gi"}, "limits": {"storage": "1Gi"}}}}
    assert causes("persistentvolumeclaims", more, {"spec": CLAIM, "status": bound}) == ["spec"]


@pytest.mark.parametrize(
    ("plural", "obj"),
    [
        ("ingresses", {"spec": {"rules": [{"host": "*.example.com"}, {"host": "a.example.com"}, {}]}}),
        ("networkpolicies", {"spec": {"ingress": [{}], "egress": [{"to": []}], "policyTypes": ["Egress", "Egress"]}}),
        ("networkpolicies", peer({"podSelector": {}, "namespaceSelector": {"matchLabels": {"a": "b"}}})),
        ("networkpolicies", block("10.1.2.3/8", "10.1.0.0/16", "010.2.0.0/16")),
        ("networkpolicies", block("2001:db8::/32", "2001:db8:1::/48")),
        ("networkpolicies", egress(port=80, endPort=80)),
        ("networkpolicies", egress(port="http")),
        ("networkpolicies", egress()),
        ("resourcequotas", {"spec": {"hard": {"requests.example.com/a": "1", "count/jobs.batch": "2", "cpu": "0.5"}}}),
        ("resourcequotas", {"spec": {"hard": {"pods": "1", "hugepages-2Mi": "4Mi", "services.nodeports": "1k"}}}),
        ("resourcequotas", {"spec": {"scopes": ["Terminating", "BestEffort"], "hard": {"pods": "1", "count/x": "1"}}}),
        ("resourcequotas", scoped(operator="In", values=["high"])),
        ("resourcequotas", {"spec": {}}),
        ("limitranges", limits({"type": "Container", "max": {"cpu": "1", "example.com/a": "1"}, "min": {"cpu": "1m"}})),
        ("limitranges", limits({"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}}, {"type": "a.io/x"})),
        ("nodes", {"spec": {"taints": [{"key": "a", "effect": e} for e in ("NoExecute", "NoSchedule")]}}),
        ("horizontalpodautoscalers", scaler(type="Resource", resource=CPU)),
        ("endpointslices", {"addressType": "IPv4", "ports": [{"port": 1}, {"name": "b", "appProtocol": "http"}]}),
    ],
)  # fmt: skip
def test_what_is_right_is_taken(plural, obj):
    assert causes(plural, obj) == []


def test_what_an_older_version_let_pass_can_stay():
    for plural, obj in (
        ("networkpolicies", block("x")),
        ("resourcequotas", {"spec": {"hard": {"foo": "1"}}}),
        ("limitranges", limits({"type": "X"})),
        ("nodes", {"spec": {"taints": [{"key": "a b"}]}}),
        ("horizontalpodautoscalers", scaler(type="X")),
        ("ingresses", {"spec": {"rules": [{"host": "A"}]}}),
    ):
        assert causes(plural, obj, obj) == []
    changed = block("x")
    changed["spec"]["egress"] = [{}]
    assert causes("networkpolicies", changed, block("x")) == []


def test_policies_say_what_they_are_about():
    policy = {"spec": {"egress": [{"ports": [{"port": 53}]}]}}
    KINDS["networkpolicies"].default(policy)
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"] and policy["spec"]["podSelector"] == {}
    assert policy["spec"]["egress"][0]["ports"][0]["protocol"] == "TCP"
