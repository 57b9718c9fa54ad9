"""What kube-apiserver refuses in a Service is refused here, by the same field."""

from __future__ import annotations

import pytest

from solo.registry.builtins import builtin_kinds
from solo.registry.objects import copy
from solo.registry.rules.services import settle

STRATEGY = {kind.resource.plural: kind.strategy for kind in builtin_kinds(lambda: ("node", {}))}["services"]
LOCAL = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}


def service(port=None, **spec):
    return {"metadata": {"name": "x"}, "spec": {"ports": [{"port": 80, **(port or {})}], **spec}}


def causes(new, old=None):
    """The fields that are refused in a Service, or in its change from `old`."""
    new, old = copy(new), copy(old)
    for state in (new, old):
        if state is not None:
            STRATEGY.default(state)
    return [found.field for found in STRATEGY.validate(settle(new, old), old)]


@pytest.mark.parametrize(
    ("field", "spec"),
    [
        ("spec.ports", {"ports": []}),
        ("spec.type", {"type": "X"}),
        ("spec.selector", {"selector": {"a b": "x"}}),
        ("spec.sessionAffinity", {"sessionAffinity": "X"}),
        (
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}},
        ),
        ("spec.ports[0].port", {"port": {"port": 65536, "targetPort": 1}}),
        ("spec.ports[0].targetPort", {"port": {"targetPort": 65536}}),
        ("spec.ports[0].targetPort", {"port": {"targetPort": "a--b"}}),
        ("spec.ports[0].targetPort", {"port": {"targetPort": "80"}}),
        ("spec.ports[0].appProtocol", {"port": {"appProtocol": "a b"}}),
        ("spec.ports[0].protocol", {"port": {"protocol": "X"}}),
        ("spec.ports[0].nodePort", {"port": {"nodePort": 30000}}),
        (
            "spec.ports[1].nodePort",
            {"type": "NodePort", "ports": [{"name": n, "port": p, "nodePort": 30000} for n, p in (("a", 1), ("b", 2))]},
        ),
        ("spec.ports[1]", {"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 1}]}),
        ("spec.ports[1].name", {"ports": [{"name": "a", "port": 1}, {"name": "a", "port": 2}]}),
        ("spec.externalIPs[0]", {"externalIPs": ["x"]}),
        ("spec.ipFamilies[0]", {"ipFamilies": ["IPv5"]}),
        ("spec.ipFamilies[1]", {"ipFamilies": ["IPv4", "IPv4"]}),
        ("spec.clusterIPs[0]", {"clusterIP": "x"}),
        ("spec.clusterIPs[0]", {"clusterIP": "None", "type": "NodePort"}),
        ("spec.externalTrafficPolicy", {"externalTrafficPolicy": "Cluster"}),
        ("spec.externalTrafficPolicy", {"externalTrafficPolicy": "X", "type": "NodePort"}),
        ("spec.internalTrafficPolicy", {"internalTrafficPolicy": "X"}),
        ("spec.trafficDistribution", {"trafficDistribution": "X"}),
        ("spec.loadBalancerClass", {"loadBalancerClass": "a/b"}),
        ("spec.loadBalancerClass", {"loadBalancerClass": "a b", "type": "LoadBalancer"}),
        ("spec.LoadBalancerSourceRanges", {"loadBalancerSourceRanges": ["10.0.0.0/8"]}),
        ("spec.LoadBalancerSourceRanges[0]", {"loadBalancerSourceRanges": ["10.0.0.0"], "type": "LoadBalancer"}),
        ("spec.allocateLoadBalancerNodePorts", {"allocateLoadBalancerNodePorts": False}),
        ("spec.healthCheckNodePort", {"healthCheckNodePort": 30000, "type": "LoadBalancer"}),
        ("spec.healthCheckNodePort", {"healthCheckNodePort": 65536, **LOCAL}),
        ("spec.externalName", {"type": "ExternalName"}),
        ("spec.externalName", {"type": "ExternalName", "externalName": "a_b"}),
        ("spec.clusterIPs", {"type": "ExternalName", "externalName": "a", "clusterIP": "10.0.0.1"}),
        ("spec.ipFamilies", {"type": "ExternalName", "externalName": "a", "ipFamilies": ["IPv4"]}),
    ],
)
def test_refused(field, spec):
    assert causes(service(**spec)) == [field]


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "", "sessionAffinity": ""},
        {"clusterIP": "None", "ports": []},
        {"port": {"targetPort": "http", "appProtocol": "kubernetes.io/h2c", "protocol": ""}},
        {"type": "ExternalName", "externalName": "example.com.", "ports": None},
        {"type": "ExternalName", "externalName": "a", "port": {"nodePort": 30000}, "internalTrafficPolicy": "Cluster"},
        {"externalIPs": ["10.0.0.1", "010.0.0.1", "2001:db8::1"], "externalTrafficPolicy": "Local"},
        {"type": "LoadBalancer", "loadBalancerSourceRanges": [" 10.1.2.3/8 "], "loadBalancerClass": "example.com/a"},
        {"healthCheckNodePort": 30000, **LOCAL},
        {"trafficDistribution": "PreferClose", "internalTrafficPolicy": "Local"},
        {"sessionAffinity": "ClientIP"},
        {"ipFamilies": ["IPv4"], "ipFamilyPolicy": "PreferDualStack"},
        {
            "type": "NodePort",
            "ports": [
                {"name": "tcp", "port": 53, "nodePort": 30053},
                {"name": "udp", "port": 53, "nodePort": 30053, "protocol": "UDP"},
            ],
        },
    ],
)
def test_what_is_right_is_taken(spec):
    assert causes(service(**spec)) == []


def test_what_a_type_has_no_use_for_goes_with_it():
    given = {
        "clusterIP": "10.0.0.1",
        "clusterIPs": ["10.0.0.1"],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
    }
    old = service(healthCheckNodePort=30000, loadBalancerClass="a/b", **LOCAL, **given)
    assert causes({**old, "spec": {**old["spec"], "type": "ClusterIP"}}, old) == []
    external = {**old["spec"], "type": "ExternalName", "externalName": "a"}
    assert causes({**old, "spec": external}, old) == []
    assert causes({**old, "spec": {key: value for key, value in external.items() if key != "clusterIP"}}, old) == []


def test_what_cannot_change():
    old = service(healthCheckNodePort=30000, loadBalancerClass="a/b", **LOCAL)
    assert causes(service(loadBalancerClass="a/b", selector={"a": "b"}, **LOCAL), old) == []
    other = {"healthCheckNodePort": 30001, "loadBalancerClass": "a/c"}
    assert causes(service(**other, **LOCAL), old) == ["spec.loadBalancerClass", "spec.healthCheckNodePort"]


def test_what_an_older_version_let_pass_can_stay():
    old = service(externalIPs=["x"], type="LoadBalancer", loadBalancerSourceRanges=["y"])
    assert causes(service(**{**old["spec"], "selector": {"a": "b"}}), old) == []
    odd = service(trafficDistribution="X")
    assert causes({**odd, "metadata": {"name": "x", "labels": {"a": "b"}}}, odd) == []
