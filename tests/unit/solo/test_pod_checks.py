"""What kube-apiserver refuses in a pod is refused here, by the same field."""

from __future__ import annotations

import pytest

from solo.registry.rules.podspec import default_pod_spec, validate_pod_spec

EXPRESSION = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"

PREFERRED = "affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution"
SPREAD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}


def required(*terms):
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


def preferred(**term):
    term = {"weight": 1, "podAffinityTerm": {"topologyKey": "zone"}, **term}
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}}


def files(**item):
    return {"volumes": [{"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "p", **item}]}}]}


def downward(field):
    return {"volumes": [{"name": "v", "downwardAPI": {"items": [{"path": "a", "fieldRef": {"fieldPath": field}}]}}]}


def projected(*sources):
    return {"volumes": [{"name": "v", "projected": {"sources": list(sources)}}]}


def causes(spec, container):
    spec = {"volumes": [{"name": "w"}], "containers": [{"name": "c", "image": "host", **container}], **spec}
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
        ("resources.limits[foo]", {"resources": {"limits": {"foo": "1"}, "requests": {"foo": "1"}}}),
        ("resources.requests[cpu]", {"resources": {"requests": {"cpu": "-1"}}}),
        ("livenessProbe", {"livenessProbe": {}}),
        ("startupProbe.successThreshold", {"startupProbe": {"exec": {}, "successThreshold": 2}}),
        ("readinessProbe.httpGet", {"readinessProbe": {"exec": {}, "httpGet": {"port": 1}}}),
        ("lifecycle.preStop", {"lifecycle": {"preStop": {}}}),
        ("terminationMessagePolicy", {"terminationMessagePolicy": "X"}),
        ("livenessProbe.exec.command", {"livenessProbe": {"exec": {}}}),
        ("livenessProbe.httpGet.port", {"livenessProbe": {"httpGet": {"port": 0}}}),
        ("livenessProbe.httpGet.port", {"livenessProbe": {"httpGet": {"port": "80"}}}),
        ("livenessProbe.httpGet.scheme", {"livenessProbe": {"httpGet": {"port": 1, "scheme": "FTP"}}}),
        (
            "livenessProbe.httpGet.httpHeaders",
            {"livenessProbe": {"httpGet": {"port": 1, "httpHeaders": [{"name": "a b"}]}}},
        ),
        ("livenessProbe.tcpSocket.port", {"livenessProbe": {"tcpSocket": {"port": 65536}}}),
        ("livenessProbe.grpc.port", {"livenessProbe": {"grpc": {"port": 0}}}),
        ("livenessProbe.terminationGracePeriodSeconds", {"livenessProbe": {"terminationGracePeriodSeconds": 0}}),
        ("readinessProbe.terminationGracePeriodSeconds", {"readinessProbe": {"terminationGracePeriodSeconds": 1}}),
        ("lifecycle.preStop.exec.command", {"lifecycle": {"preStop": {"exec": {}}}}),
        ("lifecycle.preStop.sleep", {"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}}),
        ("ports[1].hostPort", {"ports": [{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9}]}),
        ("resources.limits", {"resources": {"requests": {"example.com/a": "1"}}}),
        ("resources.requests", {"resources": {"requests": {"example.com/a": "1"}, "limits": {"example.com/a": "2"}}}),
        ("resources.limits[example.com/a]", {"resources": {"limits": {"example.com/a": "500m"}}}),
        ("resources.limits[storage]", {"resources": {"limits": {"storage": "1"}}}),
        ("resources.limits[a b]", {"resources": {"limits": {"a b": "1"}}}),
        ("resources", {"resources": {"limits": {"hugepages-2Mi": "2Mi"}}}),
        ("volumeMounts[0].name", {"volumeMounts": [{"name": "none", "mountPath": "/a"}]}),
        ("volumeMounts.subPath", {"volumeMounts": [{"name": "w", "mountPath": "/a", "subPath": "../b"}]}),
        (
            "volumeMounts[0].subPathExpr",
            {"volumeMounts": [{"name": "w", "mountPath": "/a", "subPath": "b", "subPathExpr": "c"}]},
        ),
        ("volumeMounts.mountPropagation", {"volumeMounts": [{"name": "w", "mountPropagation": "Bidirectional"}]}),
        ("securityContext.procMount", {"securityContext": {"procMount": "X"}}),
        (
            "securityContext.seccompProfile.localhostProfile",
            {"securityContext": {"seccompProfile": {"type": "Localhost"}}},
        ),
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
        (f"{PREFERRED}[0].weight", {"affinity": preferred(weight=101)}),
        (f"{PREFERRED}[0].podAffinityTerm.topologyKey", {"affinity": preferred(podAffinityTerm={})}),
        (f"{PREFERRED}[0].podAffinityTerm.namespace", {"affinity": preferred(podAffinityTerm={"namespaces": ["A"]})}),
        (
            f"{PREFERRED}[0].podAffinityTerm.labelSelector.matchExpressions[0].values",
            {"affinity": preferred(podAffinityTerm={"labelSelector": {"matchExpressions": [{"operator": "In"}]}})},
        ),
        (
            f"{EXPRESSION}[0].matchFields[0].key",
            {"affinity": required({"matchFields": [{"key": "x", "operator": "In"}]})},
        ),
        ("topologySpreadConstraints[0].whenUnsatisfiable", {"topologySpreadConstraints": [{"maxSkew": 1}]}),
        (
            "topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}",
            {"topologySpreadConstraints": [SPREAD, SPREAD]},
        ),
        (
            "topologySpreadConstraints[0].minDomains",
            {"topologySpreadConstraints": [{**SPREAD, "whenUnsatisfiable": "ScheduleAnyway", "minDomains": 1}]},
        ),
        (
            "topologySpreadConstraints[0].matchLabelKeys",
            {"topologySpreadConstraints": [{**SPREAD, "matchLabelKeys": ["a"]}]},
        ),
        (
            "volumes[0].secret.defaultMode",
            {"volumes": [{"name": "v", "secret": {"secretName": "s", "defaultMode": 512}}]},
        ),
        ("volumes[0].configMap.items[0].mode", files(mode=-1)),
        ("volumes[0].configMap.items[0].key", files(key="")),
        ("volumes[0].configMap.items[0].path", files(path="/a")),
        ("volumes[0].configMap.items[0].path", files(path="a/../b")),
        ("volumes[0].configMap.items[0].path", files(path="..a")),
        ("volumes[0].downwardAPI", {"volumes": [{"name": "v", "downwardAPI": {"items": [{"path": "a"}]}}]}),
        ("volumes[0].downwardAPI.fieldRef.fieldPath", downward("spec.nodeName")),
        ("volumes[0].nfs.path", {"volumes": [{"name": "v", "nfs": {"server": "s", "path": "a"}}]}),
        ("volumes[0].emptyDir.sizeLimit", {"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "-1"}}]}),
        (
            "volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds",
            projected({"serviceAccountToken": {"path": "t", "expirationSeconds": 599}}),
        ),
        ("volumes[0].projected.path", projected({"serviceAccountToken": {}})),
        ("volumes[0].projected.sources[0]", projected({"configMap": {"name": "a"}, "secret": {"name": "a"}})),
        ("volumes[0].projected", projected(*[{"secret": {"name": "a", "items": [{"key": "k", "path": "p"}]}}] * 2)),
        ("hostAliases[0].hostnames[0]", {"hostAliases": [{"ip": "1.2.3.4", "hostnames": ["A"]}]}),
        ("dnsConfig.nameservers[0]", {"dnsConfig": {"nameservers": ["x"]}}),
        ("dnsConfig.nameservers", {"dnsConfig": {"nameservers": ["1.1.1.1"] * 4}}),
        ("dnsConfig.searches", {"dnsConfig": {"searches": ["a"] * 33}}),
        ("dnsConfig.options[0]", {"dnsConfig": {"options": [{"value": "1"}]}}),
        ("securityContext.supplementalGroups[0]", {"securityContext": {"supplementalGroups": [-1]}}),
        ("securityContext.fsGroupChangePolicy", {"securityContext": {"fsGroupChangePolicy": "X"}}),
        ("securityContext.seccompProfile.type", {"securityContext": {"seccompProfile": {"type": "X"}}}),
        ("securityContext.appArmorProfile.type", {"securityContext": {"appArmorProfile": {}}}),
        ("tolerations[0].operator", {"tolerations": [{"key": "x", "value": "a b"}]}),
        ("initContainers[0].name", {"initContainers": [{"name": "c", "image": "host"}]}),
        ("initContainers[0].livenessProbe", {"initContainers": [{"name": "i", "image": "host", "livenessProbe": {}}]}),
        ("initContainers[0].lifecycle", {"initContainers": [{"name": "i", "image": "host", "lifecycle": {}}]}),
        ("securityContext.shareProcessNamespace", {"shareProcessNamespace": True, "hostPID": True}),
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


SIDECAR = {"name": "s", "image": "host", "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["true"]}}}


@pytest.mark.parametrize(
    "container",
    [
        {"livenessProbe": {"httpGet": {"port": "http", "scheme": "", "httpHeaders": [{"name": "X-A", "value": "b"}]}}},
        {"livenessProbe": {"tcpSocket": {"port": 65535}, "successThreshold": 0, "terminationGracePeriodSeconds": 1}},
        {"readinessProbe": {"grpc": {"port": 1, "service": ""}, "successThreshold": 2}},
        {"lifecycle": {"postStart": {"httpGet": {"port": 1}}, "preStop": {"sleep": {"seconds": 0}}}},
        {"lifecycle": {}},
        {"ports": [{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9, "protocol": "UDP"}]},
        {"ports": [{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9, "hostIP": "127.0.0.1"}]},
        {"resources": {"limits": {"hugepages-2Mi": "4Mi", "memory": "1Gi"}, "requests": {"cpu": "1500m"}}},
        {"resources": {"limits": {"example.com/a": "2000m", "kubernetes.io/b": "500m"}}},
        {"volumeMounts": [{"name": "w", "mountPath": "/a", "subPath": "b/..c", "mountPropagation": "HostToContainer"}]},
        {"volumeMounts": [{"name": "w", "mountPath": "/a", "subPathExpr": "$(POD)"}]},
        {"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "a/b.json"}}},
        {"securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"add": ["SYS_ADMIN"]}}},
        {"terminationMessagePolicy": "", "imagePullPolicy": ""},
    ],
)
def test_containers_that_are_right(container):
    assert causes({}, container) == []


@pytest.mark.parametrize(
    "spec",
    [
        {"affinity": preferred(weight=100)},
        {"affinity": {"podAffinity": {}, "podAntiAffinity": {}, "nodeAffinity": {}}},
        {"affinity": required({})},
        {"topologySpreadConstraints": [SPREAD, {**SPREAD, "whenUnsatisfiable": "ScheduleAnyway"}]},
        {"topologySpreadConstraints": [{**SPREAD, "minDomains": 1, "labelSelector": {}, "matchLabelKeys": ["a"]}]},
        files(path="a/..b", mode=0o777),
        downward("metadata.labels"),
        downward("metadata.annotations['a/b']"),
        projected({"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "c", "items": []}}, {}),
        {"volumes": [{"name": "w"}, {"name": "v", "csi": {"driver": "d"}}, {"name": "u", "ephemeral": {}}]},
        {"hostAliases": [{"ip": "010.0.0.1", "hostnames": ["a.b"]}, {"ip": "::1"}]},
        {"dnsConfig": {"searches": ["_a.b.", "."], "options": [{"name": "ndots"}]}},
        {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"]}},
        {"securityContext": {"supplementalGroups": [0], "seccompProfile": {"type": "RuntimeDefault"}}},
        {
            "tolerations": [
                {"key": "x", "operator": "Gt", "value": "5"},
                {"key": "x", "tolerationSeconds": 1, "effect": "NoExecute"},
            ]
        },
        {"initContainers": [SIDECAR, {"name": "i", "image": "host"}]},
        {"hostNetwork": True, "containers": [{"name": "c", "image": "host", "ports": [{"containerPort": 80}]}]},
    ],
)
def test_pods_that_are_right(spec):
    assert causes(spec, {}) == []


def test_ports_of_the_host():
    ports = [{"containerPort": 80, "hostPort": 81}]
    assert causes({"hostNetwork": True}, {"ports": ports}) == ["spec.containers[0].ports[0].hostPort"]
    first, second = ({"name": name, "image": "host", "ports": ports} for name in "ab")
    assert causes({"containers": [first, second]}, {}) == ["spec.containers[1].ports[0].hostPort"]
    assert causes({"initContainers": [first, second]}, {"ports": ports}) == []


def test_messages():
    spec = {"containers": [{"name": "c", "image": "host", "restartPolicy": "X"}], "restartPolicy": "X"}
    spec["initContainers"] = [{"name": "i", "image": "host", "readinessProbe": {"exec": {"command": ["a"]}}}]
    default_pod_spec(spec)
    found = [(wrong.reason, wrong.message) for wrong in validate_pod_spec(spec, "spec")]
    assert found == [
        ("FieldValueNotSupported", 'Unsupported value: "X": supported values: "Always", "Never", "OnFailure"'),
        ("FieldValueForbidden", "Forbidden: may not be set for init containers without restartPolicy=Always"),
        ("FieldValueNotSupported", 'Unsupported value: "X": supported values: "Always", "OnFailure", "Never"'),
    ]
