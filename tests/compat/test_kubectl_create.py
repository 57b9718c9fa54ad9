"""Objects that kubectl sends as protobuf: what is stored is what kubectl itself would have written as JSON."""

from __future__ import annotations

import base64
import json

import pytest

NAMESPACED = {
    "configmap": ["configmap", "x", "--from-literal=a=b", "--from-literal=empty=", "--from-file=blob=BINARY"],
    "secret": ["secret", "generic", "x", "--from-literal=a=b", "--from-file=blob=BINARY", "--type=example.com/kind"],
    "registry-secret": ["secret", "docker-registry", "x", "--docker-username=u", "--docker-password=p"],
    "serviceaccount": ["serviceaccount", "x"],
    "role": ["role", "x", "--verb=get,list", "--resource=pods,deployments.apps", "--resource-name=one"],
    "rolebinding": ["rolebinding", "x", "--clusterrole=view", "--user=u", "--group=g", "--serviceaccount=a:b"],
    "deployment": ["deployment", "x", "--image=host", "--replicas=0", "--port=80", "--", "sleep", "1"],
    "job": ["job", "x", "--image=host", "--", "true"],
    "cronjob": ["cronjob", "x", "--image=host", "--schedule=@daily", "--restart=Never", "--", "true"],
    "clusterip": ["service", "clusterip", "x", "--tcp=80:8080", "--tcp=443"],
    "headless": ["service", "clusterip", "x", "--clusterip=None"],
    "nodeport": ["service", "nodeport", "x", "--tcp=53:dns", "--node-port=30053"],
    "externalname": ["service", "externalname", "x", "--external-name=a.example"],
    "quota": ["quota", "x", "--hard=pods=1,cpu=500m,memory=1Gi", "--scopes=NotBestEffort"],
    "budget": ["pdb", "x", "--selector=a=b", "--min-available=1"],
    "percent": ["pdb", "x", "--selector=a=b", "--max-unavailable=30%"],
    "ingress": ["ingress", "x", "--rule=a.example/b*=c:80,tls=t", "--rule=/=d:http", "--class=k", "--annotation=a=b"],
}
CLUSTER = {
    "namespace": ["namespace", "created-by-test"],
    "clusterrole": ["clusterrole", "created-by-test", "--verb=get", "--non-resource-url=/healthz,/x/*"],
    "aggregated": ["clusterrole", "created-by-test", "--aggregation-rule=a=b"],
    "clusterrolebinding": ["clusterrolebinding", "created-by-test", "--clusterrole=view", "--group=g"],
    "priorityclass": ["priorityclass", "created-by-test", "--value=-5", "--description=d", "--preemption-policy=Never"],
}


def says(part: object, whole: object) -> bool:
    """Whether all that a part of an object says is in the whole one; nulls and empty objects say nothing."""
    if part in (None, {}):
        return True
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(says(item, whole.get(key)) for key, item in part.items())
    if isinstance(part, list):
        return isinstance(whole, list) and len(part) == len(whole) and all(map(says, part, whole))
    return part == whole


def printed_and_stored(cluster, arguments: list[str], *options: str) -> tuple[dict, dict]:
    """What kubectl prints without the server, and what the server answers once it has the object."""
    place = arguments.index("--") if "--" in arguments else len(arguments)
    command = ["create", *arguments[:place], *options, "-o", "json"]
    printed = json.loads(cluster.kubectl(*command, "--dry-run=client", *arguments[place:]))
    printed.pop("status", None)  # not the client's to create
    cluster.kubectl(*command, *arguments[place:])
    stored = cluster.get(printed["kind"].lower(), printed["metadata"]["name"], *options)
    return printed, stored


@pytest.mark.parametrize("case", NAMESPACED)
def test_namespaced(cluster, namespace, tmp_path, case):
    (tmp_path / "blob").write_bytes(b"\xff\x00binary")
    arguments = [argument.replace("BINARY", str(tmp_path / "blob")) for argument in NAMESPACED[case]]
    printed, stored = printed_and_stored(cluster, arguments, "-n", namespace)
    assert says(printed, stored), (printed, stored)
    assert stored["metadata"]["uid"]
    assert stored["metadata"]["creationTimestamp"].endswith("Z")


@pytest.mark.parametrize("case", CLUSTER)
def test_cluster_wide(cluster, case):
    printed, stored = printed_and_stored(cluster, CLUSTER[case])
    cluster.kubectl("delete", printed["kind"].lower(), printed["metadata"]["name"], "--wait=true", "--timeout=20s")
    assert says(printed, stored), (printed, stored)
    assert stored["metadata"]["uid"]


def test_says_sees_a_difference():
    assert says({"a": [{"b": 1, "c": {}}], "d": None}, {"a": [{"b": 1, "e": 2}]})
    assert not says({"a": [{"b": 1}]}, {"a": [{"b": 2}]})
    assert not says({"a": [1, 2]}, {"a": [1]})
    assert not says({"a": {"b": ""}}, {})


def test_server_side_dry_run_stores_nothing(cluster, namespace):
    cluster.kubectl("create", "configmap", "dry", "--from-literal=a=b", "--dry-run=server", "-n", namespace)
    assert "not found" in cluster.fails("get", "configmap", "dry", "-n", namespace)


def test_invalid_objects_are_refused_as_in_json(cluster, namespace):
    text = cluster.fails("create", "configmap", "Not_A_Name", "-n", namespace)
    assert "a lowercase RFC 1123 subdomain must consist of" in text


def test_tokens_of_service_accounts(cluster, namespace):
    cluster.kubectl("create", "serviceaccount", "robot", "-n", namespace)
    token = cluster.kubectl("create", "token", "robot", "--duration=20m", "--audience=me", "-n", namespace)
    claims = token.split(".")[1]
    payload = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    assert payload["sub"] == f"system:serviceaccount:{namespace}:robot"
    assert payload["aud"] == ["me"]
    assert 0 <= payload["exp"] - payload["iat"] - 1200 <= 1


def test_reviews(cluster, namespace):
    assert cluster.kubectl("auth", "can-i", "create", "pods", "-n", namespace) == "yes\n"
    listed = cluster.kubectl("auth", "can-i", "--list", "-n", namespace)
    assert "*.*" in listed
    who = cluster.kubectl("auth", "whoami", "-o", "json")
    assert "system:masters" in json.loads(who)["status"]["userInfo"]["groups"]
    nobody = f"--as=system:serviceaccount:{namespace}:default"
    assert cluster.run("auth", "can-i", "create", "pods", "-n", namespace, nobody).stdout == "no\n"


def test_scale(cluster, namespace):
    cluster.kubectl("create", "deployment", "d", "--image=host", "--replicas=0", "-n", namespace, "--", "sleep", "9")
    cluster.kubectl("scale", "deployment", "d", "--replicas=2", "--current-replicas=0", "-n", namespace)
    header, row = cluster.kubectl("get", "deployment/d", "--subresource=scale", "-n", namespace).splitlines()
    assert (header.split(), row.split()[:2]) == (["NAME", "DESIRED", "AVAILABLE", "AGE"], ["d", "2"])
    assert cluster.get("deployment", "d", "-n", namespace)["spec"]["replicas"] == 2
    cluster.kubectl("scale", "deployment", "d", "--replicas=0", "-n", namespace)
