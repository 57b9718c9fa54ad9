"""What tables show of objects, cell by cell."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kube.machinery.durations import rfc3339
from solo.http import tables
from solo.registry.builtins import builtin_kinds

KINDS = {kind.resource.plural: kind for kind in builtin_kinds(lambda: ("node", {})) if kind.form is None}
META = "meta.k8s.io/v1"
GONE = {"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z"}}


def row(plural, obj):
    """Cells by column."""
    obj = {**obj, "metadata": {"name": "x", **obj.get("metadata", {})}}
    shown = tables.table(KINDS[plural], [obj], {}, "None", META)
    names = [column["name"] for column in shown["columnDefinitions"]]
    return dict(zip(names, shown["rows"][0]["cells"], strict=True))


def condition(type_, status="True", **more):
    return {"type": type_, "status": status, **more}


def metric(number, type_="Resource", target=None):
    target = target or {"type": "Utilization", "averageUtilization": number}
    return {"type": type_, type_[0].lower() + type_[1:]: {"name": f"m{number}", "target": target}}


def policies(reference):
    return {"spec": {"policyName": "p", "paramRef": reference}}


def points(*addresses):
    return {"status": {"loadBalancer": {"ingress": [{"ip": address} for address in addresses]}}}


def hosts(*names):
    return {"spec": {"rules": [{"host": name} if name else {} for name in names]}}


def subset(addresses, *ports):
    return {"addresses": [{"ip": each} for each in addresses], "ports": [{"port": port} for port in ports]}


GATES = [{"conditionType": "a"}, {"conditionType": "b"}]
REQUIREMENTS = [{"key": "z", "operator": "In", "values": ["b", "a"]}, {"key": "c", "operator": "Exists"}]
SELECTOR = {"matchLabels": {"k": "v"}, "matchExpressions": REQUIREMENTS}
GO_SELECTOR = (
    "&LabelSelector{MatchLabels:map[string]string{k: v,},MatchExpressions:[]LabelSelectorRequirement{"
    "LabelSelectorRequirement{Key:z,Operator:In,Values:[b a],},"
    "LabelSelectorRequirement{Key:c,Operator:Exists,Values:[],},},}"
)
MODES = ["ReadWriteOncePod", "ReadWriteMany", "ReadOnlyMany", "ReadWriteOnce", "ReadWriteMany"]
LIMITED = {"nominalConcurrencyShares": 0, "limitResponse": {"type": "Reject"}}


@pytest.mark.parametrize(
    ("plural", "obj", "column", "wanted"),
    [
        ("pods", {"spec": {"readinessGates": GATES}, "status": {"conditions": [condition("a")]}}, "Readiness Gates",
         "1/2"),
        ("pods", {"spec": {"readinessGates": GATES}, "status": {"conditions": [condition("a", "False")]}},
         "Readiness Gates", "0/2"),
        ("pods", {}, "Readiness Gates", "<none>"),
        ("apiservices", {"spec": {"service": {"namespace": "n", "name": "s"}}}, "Service", "n/s"),
        ("apiservices", {"spec": {}}, "Service", "Local"),
        ("apiservices", {"status": {"conditions": [condition("Available", reason="Local")]}}, "Available", "True"),
        ("apiservices", {"status": {"conditions": [condition("Available", "False", reason="Odd")]}}, "Available",
         "False (Odd)"),
        ("apiservices", {}, "Available", "Unknown"),
        ("mutatingadmissionpolicies", {"spec": {"mutations": [{}, {}]}}, "Mutations", 2),
        ("mutatingadmissionpolicies", {"spec": {"paramKind": {"apiVersion": "v1", "kind": "K"}}}, "ParamKind", "v1/K"),
        ("mutatingadmissionpolicybindings", policies({"name": "x", "namespace": "n"}), "ParamRef", "n/x"),
        ("mutatingadmissionpolicybindings", policies({"name": "x"}), "PolicyName", "p"),
        ("validatingadmissionpolicybindings", policies({"name": "x"}), "ParamRef", "*/x"),
        ("validatingadmissionpolicybindings", policies({"selector": SELECTOR}), "ParamRef", GO_SELECTOR),
        ("validatingadmissionpolicybindings", policies({"selector": {}}), "ParamRef",
         "&LabelSelector{MatchLabels:map[string]string{},MatchExpressions:[]LabelSelectorRequirement{},}"),
        ("validatingadmissionpolicybindings", {"spec": {"policyName": "p"}}, "ParamRef", "<unset>"),
        ("jobs", GONE, "Status", "Terminating"),
        ("jobs", {**GONE, "status": {"conditions": [condition("Complete")]}}, "Status", "Complete"),
        ("jobs", {"status": {"conditions": [condition("FailureTarget")]}}, "Status", "FailureTarget"),
        ("jobs", {"status": {"conditions": [condition("FailureTarget"), condition("Failed")]}}, "Status", "Failed"),
        ("jobs", {"status": {"conditions": [condition("Suspended", "False")]}}, "Status", "Running"),
        ("jobs", {"spec": {"parallelism": 3}}, "Completions", "0/1 of 3"),
        ("jobs", {"spec": {"parallelism": 1}, "status": {"succeeded": 1}}, "Completions", "1/1"),
        ("jobs", {"spec": {"parallelism": 3, "completions": 0}}, "Completions", "0/0"),
        ("ingresses", hosts(*"abcde"), "Hosts", "a,b,c + 2 more..."),
        ("ingresses", hosts("", "a", "b", "c"), "Hosts", "a,b,c"),
        ("ingresses", hosts("", "a", "b", "c", ""), "Hosts", "a,b,c + 2 more..."),
        ("ingresses", hosts(""), "Hosts", "*"),
        ("ingresses", points("2.2.2.2", "1.1.1.1", "2.2.2.2"), "Address", "1.1.1.1,2.2.2.2"),
        ("services", {**points("2.2.2.2", "1.1.1.1"), "spec": {"type": "LoadBalancer", "externalIPs": ["0.0.0.1"]}},
         "External-IP", "1.1.1.1,2.2.2.2,0.0.0.1"),
        ("horizontalpodautoscalers", {"spec": {"metrics": [metric(1), metric(2), metric(3)]}}, "Targets",
         "m1: <unknown>/1%, m2: <unknown>/2% + 1 more..."),
        ("horizontalpodautoscalers", {"spec": {"metrics": [metric(1, "External", {"averageValue": "5"})]}}, "Targets",
         "<unknown>/5 (avg)"),
        ("horizontalpodautoscalers", {"spec": {"metrics": [metric(1, "ContainerResource")]}}, "Targets",
         "m1: <unknown>/1%"),
        ("horizontalpodautoscalers", {"spec": {}}, "Targets", "<none>"),
        ("events", {"source": {"component": "kubelet", "host": "h"}}, "Source", "kubelet, h"),
        ("events", {"reportingComponent": "rc", "reportingInstance": "ri"}, "Source", "rc, ri"),
        ("events", {"source": {"component": "kubelet"}}, "Source", "kubelet"),
        ("events", {"involvedObject": {"kind": "Pod"}}, "Object", "pod"),
        ("certificatesigningrequests", {"spec": {"expirationSeconds": 3600}}, "RequestedDuration", "60m"),
        ("persistentvolumes", {"spec": {"accessModes": MODES}}, "Access Modes", "RWO,ROX,RWX,RWOP"),
        ("persistentvolumeclaims", {"spec": {"volumeName": "v"}, "status": {"accessModes": MODES}}, "Access Modes",
         "RWO,ROX,RWX,RWOP"),
        ("persistentvolumeclaims", {"status": {"accessModes": MODES}}, "Access Modes", ""),
        ("persistentvolumeclaims", {**GONE, "status": {"phase": "Bound"}}, "Status", "Terminating"),
        ("deployments", {"spec": {"selector": SELECTOR}}, "Selector", "c,k=v,z in (a,b)"),
        ("resourceclaims", {"status": {"allocation": {}}}, "State", "allocated"),
        ("resourceclaims", {"status": {"allocation": {}, "reservedFor": [{}]}}, "State", "allocated,reserved"),
        ("resourceclaims", {"status": {"reservedFor": [{}]}}, "State", "pending"),
        ("resourceclaims", GONE, "State", "deleted"),
        ("resourceclaims", {**GONE, "status": {"allocation": {}}}, "State", "deleted,allocated"),
        ("endpoints", {}, "Endpoints", "<none>"),
        ("endpoints", {"subsets": [subset(["1.1.1.1", "1.1.1.2"])]}, "Endpoints", "1.1.1.1,1.1.1.2"),
        ("endpoints", {"subsets": [{"notReadyAddresses": [{"ip": "1.1.1.1"}], "ports": [{"port": 1}]}]}, "Endpoints",
         ""),
        ("endpoints", {"subsets": [subset(["1.1.1.1", "::1"], 1, 2)]}, "Endpoints",
         "1.1.1.1:1,[::1]:1,1.1.1.1:2 + 1 more..."),
        ("endpointslices", {"ports": [{"name": "web"}, {"name": "x", "port": 5}, {}]}, "Ports", "web,5,*"),
        ("endpointslices", {}, "Ports", "<unset>"),
        ("prioritylevelconfigurations", {"spec": {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0}}},
         "NominalConcurrencyShares", "<none>"),
        ("prioritylevelconfigurations", {"spec": {"type": "Limited", "limited": LIMITED}}, "NominalConcurrencyShares",
         0),
    ],
)  # fmt: skip
def test_cell(plural, obj, column, wanted):
    assert row(plural, obj)[column] == wanted


@pytest.mark.parametrize(
    ("plural", "wanted"),
    [
        ("csistoragecapacities", {"Name": "string", "StorageClassName": "string", "Capacity": "string"}),
        ("horizontalpodautoscalers", {"MaxPods": "string", "Replicas": "string"}),
        ("cronjobs", {"Suspend": "boolean", "Active": "integer"}),
        ("controllerrevisions", {"Revision": "string"}),
        ("flowschemas", {"MatchingPrecedence": "string"}),
        ("apiservices", {"Name": "string", "Service": "string", "Available": "string", "Age": "string"}),
    ],
)
def test_columns(plural, wanted):
    shown = tables.table(KINDS[plural], [], {}, "None", META)["columnDefinitions"]
    types = {column["name"]: column["type"] for column in shown}
    assert {name: type_ for name, type_ in types.items() if name in wanted} == wanted
    assert ("Age" in types) is (plural != "csistoragecapacities")


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_says_so(phase):
    shown = tables.table(KINDS["pods"], [{"metadata": {}, "status": {"phase": phase}}], {}, "None", META)["rows"][0]
    message = {"Succeeded": "The pod has completed successfully.", "Failed": "The pod failed."}[phase]
    assert shown["conditions"] == [{"type": "Completed", "status": "True", "reason": phase, "message": message}]


def test_a_pod_that_runs_has_no_conditions():
    rows = tables.table(KINDS["pods"], [{"metadata": {}, "status": {"phase": "Running"}}], {}, "None", META)["rows"]
    assert "conditions" not in rows[0]


def test_scale_has_columns_of_its_own():
    made = rfc3339(datetime.now(UTC) - timedelta(seconds=300))
    scale = {"metadata": {"name": "d", "resourceVersion": "7", "creationTimestamp": made}, "spec": {"replicas": 3}}
    shown = tables.scale_table(KINDS["deployments"], scale, "Metadata", META)
    assert [column["name"] for column in shown["columnDefinitions"]] == ["Name", "Desired", "Available", "Age"]
    assert (shown["rows"][0]["cells"], shown["metadata"]) == (["d", 3, 0, "5m"], {"resourceVersion": "7"})
    assert shown["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
