"""What kube-apiserver refuses in a pod is refused here, by the same field."""

from __future__ import annotations

import pytest

from solo.registry.rules.podspec import default_pod_spec, validate_pod_spec

EXPRESSION = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"


def required(*terms):
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


def causes(spec, container):
    spec = {"containers": [{"name": "c", "image": "host", **container}], **spec}
    default_pod_spec(spec)
    return [found.field for found in validate_pod_spec(spec, "spec")]


@pytest.mark.parametrize(
    ("field", "container"),
    [
        ("env[0].name", {"env": [{"name": "a=b"}]}),
        ("env[0].valueFrom", {"env": [{"name": "A", "value": "x", "valueFrom": {"secretKeyRef": {}}}]}),
        ("env[0].valueFrom", {"env": [{"name": "A", "valueFrom": {}}]}),
        (
            "env[0].valueFrom.fieldRef.fieldPath",
            {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.foo"}}}]},
        ),
        ("envFrom[0]", {"envFrom": [{"prefix": "x"}]}),
        ("ports[0].name", {"ports": [{"name": "longer-than-15-chars", "containerPort": 1}]}),
        ("ports[1].name", {"ports": [{"name": "a", "containerPort": 1}, {"name": "a", "containerPort": 2}]}),
        ("ports[0].hostPort", {"ports": [{"containerPort": 1, "hostPort": 65536}]}),
        ("ports[0].protocol", {"ports": [{"containerPort": 1, "protocol": "X"}]}),
        ("resources.limits", {"resources": {"limits": {"foo": "1"}, "requests": {"foo": "1"}}}),
        ("resources.requests[cpu]", {"resources": {"requests": {"cpu": "-1"}}}),
        ("livenessProbe", {"livenessProbe": {}}),
        ("startupProbe.successThreshold", {"startupProbe": {"exec": {}, "successThreshold": 2}}),
        ("readinessProbe.httpGet", {"readinessProbe": {"exec": {}, "httpGet": {"port": 1}}}),
        ("lifecycle.preStop", {"lifecycle": {"preStop": {}}}),
        ("terminationMessagePolicy", {"terminationMessagePolicy": "X"}),
        ("securityContext", {"securityContext": {"privileged": True, "allowPrivilegeEscalation": False}}),
    ],
)
def test_containers(field, container):
    assert f"spec.containers[0].{field}" in causes({}, container)


@pytest.mark.parametrize(
    ("field", "spec"),
    [
        ("dnsPolicy", {"dnsPolicy": "X"}),
        ("dnsConfig", {"dnsPolicy": "None"}),
        ("hostname", {"hostname": "-a"}),
        ("nodeSelector", {"nodeSelector": {"a b": "x"}}),
        ("tolerations[0].operator", {"tolerations": [{"key": "x", "operator": "X"}]}),
        ("tolerations[0].operator", {"tolerations": [{"operator": "Exists", "value": "x"}]}),
        ("tolerations[0].effect", {"tolerations": [{"operator": "Exists", "tolerationSeconds": 1}]}),
        ("activeDeadlineSeconds", {"activeDeadlineSeconds": 0}),
        ("securityContext.runAsUser", {"securityContext": {"runAsUser": -1}}),
        ("securityContext.sysctls[0].name", {"securityContext": {"sysctls": [{"name": "foo-", "value": "1"}]}}),
        ("topologySpreadConstraints[0].maxSkew", {"topologySpreadConstraints": [{"maxSkew": 0}]}),
        ("readinessGates[0].conditionType", {"readinessGates": [{"conditionType": "a b"}]}),
        ("hostAliases[0].ip", {"hostAliases": [{"ip": "x"}]}),
        ("volumes[0].emptyDir", {"volumes": [{"name": "v", "hostPath": {"path": "/"}, "emptyDir": {}}]}),
        ("volumes[0].hostPath.path", {"volumes": [{"name": "v", "hostPath": {"path": "/a/../b"}}]}),
        ("volumes[0].hostPath.type", {"volumes": [{"name": "v", "hostPath": {"path": "/a", "type": "Odd"}}]}),
        ("volumes[0].configMap.name", {"volumes": [{"name": "v", "configMap": {}}]}),
        (EXPRESSION, {"affinity": required()}),
        (
            f"{EXPRESSION}[0].matchExpressions[0].values",
            {"affinity": required({"matchExpressions": [{"key": "a", "operator": "In"}]})},
        ),
        ("shareProcessNamespace", {"shareProcessNamespace": True, "hostPID": True}),
    ],
)
def test_pods(field, spec):
    assert f"spec.{field}" in causes(spec, {})


def test_what_is_right_is_taken():
    container = {
        "env": [{"name": "a.b-c", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['x']"}}}],
        "ports": [{"name": "http", "containerPort": 80, "hostPort": 80}],
        "resources": {"limits": {"cpu": "1", "example.com/gpu": "1", "hugepages-2Mi": "4Mi"}},
        "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
    }
    spec = {
        "tolerations": [{"operator": "Exists"}],
        "securityContext": {"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}], "runAsUser": 0},
        "affinity": required({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}),
        "volumes": [{"name": "v"}],
    }
    assert causes(spec, container) == []
