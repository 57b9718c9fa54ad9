"""What people do with kubectl on built-in kinds, against the real server."""

from __future__ import annotations

import json
import ssl
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from kube.client.config import write_kubeconfig


def configmap(name="a", **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_tables_and_outputs(cluster, namespace):
    cluster.apply(configmap("a", k="v"), configmap("b"), namespace=namespace)
    table = cluster.kubectl("get", "cm", "a", "b", "-n", namespace).splitlines()
    assert table[0].split() == ["NAME", "DATA", "AGE"]
    assert table[1].split()[:2] == ["a", "1"]
    assert cluster.kubectl("get", "cm", "a", "-n", namespace, "-o", "jsonpath={.data.k}") == "v"
    assert cluster.kubectl("get", "cm", "a", "-n", namespace, "-o", "name") == "configmap/a\n"
    assert "k: v" in cluster.kubectl("get", "cm", "a", "-n", namespace, "-o", "yaml")
    assert "custom\na" in cluster.kubectl(
        "get", "cm", "a", "-n", namespace, "-o", "custom-columns=custom:.metadata.name"
    )
    assert "STATUS" in cluster.kubectl("get", "ns")


def test_describe(cluster, namespace):
    cluster.apply(configmap("a", k="v"), namespace=namespace)
    shown = cluster.kubectl("describe", "cm", "a", "-n", namespace)
    assert "Name:         a" in shown
    assert "Labels:       kubernetes.io/metadata.name=" in cluster.kubectl("describe", "ns", namespace)


def test_apply_is_idempotent_and_updates(cluster, namespace):
    assert "created" in cluster.apply(configmap("a", k="1"), namespace=namespace)
    assert "unchanged" in cluster.apply(configmap("a", k="1"), namespace=namespace)
    assert "configured" in cluster.apply(configmap("a", other="2"), namespace=namespace)
    assert cluster.get("cm", "a", "-n", namespace)["data"] == {"other": "2"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("configmap", "x", "--from-literal=a=b"),
        ("secret", "generic", "x", "--from-literal=a=b"),
        ("serviceaccount", "x"),
        ("role", "x", "--verb=get", "--resource=pods"),
        ("rolebinding", "x", "--clusterrole=view", "--user=u"),
        ("quota", "x", "--hard=pods=1"),
        ("deployment", "x", "--image=host", "--replicas=0", "--", "sleep", "1"),
        ("job", "x", "--image=host", "--", "true"),
        ("ingress", "x", "--rule=a.example/b=c:80"),
        ("poddisruptionbudget", "x", "--selector=a=b", "--min-available=1"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_create_generators(cluster, namespace, arguments):
    assert "created" in cluster.kubectl("create", *arguments, "-n", namespace)


def test_create_again_fails(cluster, namespace):
    cluster.kubectl("create", "configmap", "a", "-n", namespace)
    text = cluster.fails("create", "configmap", "a", "-n", namespace)
    assert 'configmaps "a" already exists' in text


def test_edit_with_an_editor(cluster, namespace):
    cluster.apply(configmap("a", k="before"), namespace=namespace)
    cluster.kubectl("edit", "cm", "a", "-n", namespace, env={"EDITOR": "sed -i s/before/after/"})
    assert cluster.get("cm", "a", "-n", namespace)["data"] == {"k": "after"}


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("merge", {"data": {"k": None, "n": "2"}}),
        ("json", [{"op": "remove", "path": "/data/k"}, {"op": "add", "path": "/data/n", "value": "2"}]),
        ("strategic", {"data": {"k": None, "n": "2"}}),
    ],
)
def test_patches(cluster, namespace, kind, patch):
    cluster.apply(configmap("a", k="1"), namespace=namespace)
    cluster.kubectl("patch", "cm", "a", "-n", namespace, "--type", kind, "-p", json.dumps(patch))
    assert cluster.get("cm", "a", "-n", namespace)["data"] == {"n": "2"}


def test_strategic_patch_merges_containers_by_name(cluster, namespace):
    cluster.kubectl("create", "deployment", "d", "--image=host", "--replicas=0", "-n", namespace, "--", "sleep", "9")
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "extra", "image": "host"}]}}}}
    cluster.kubectl("patch", "deployment", "d", "-n", namespace, "-p", json.dumps(patch))
    spec = cluster.get("deployment", "d", "-n", namespace)["spec"]["template"]["spec"]
    assert sorted(container["name"] for container in spec["containers"]) == ["extra", "host"]
    cluster.kubectl("set", "env", "deployment/d", "-c", "extra", "A=b", "-n", namespace)
    cluster.kubectl("scale", "deployment", "d", "--replicas=0", "-n", namespace)


def test_selectors(cluster, namespace):
    cluster.apply(configmap("a"), configmap("b"), namespace=namespace)
    cluster.kubectl("label", "cm", "a", "tier=web", "-n", namespace)
    cluster.kubectl("annotate", "cm", "a", "note=x", "-n", namespace)
    assert cluster.kubectl("get", "cm", "-l", "tier in (web,db)", "-o", "name", "-n", namespace) == "configmap/a\n"
    field = ("--field-selector", "metadata.name=b")
    assert cluster.kubectl("get", "cm", *field, "-o", "name", "-n", namespace) == "configmap/b\n"
    assert (
        cluster.kubectl("get", "cm", "-l", "tier", "--show-labels", "-n", namespace)
        .splitlines()[1]
        .endswith("tier=web")
    )


def test_paged_lists(cluster, namespace):
    cluster.apply(*(configmap(f"m{number:02}") for number in range(12)), namespace=namespace)
    names = cluster.kubectl("get", "cm", "--chunk-size=5", "-o", "name", "-n", namespace).split()
    assert len([name for name in names if "/m" in name]) == 12


def test_wait_for_jsonpath_and_delete(cluster, namespace):
    cluster.apply(configmap("a", k="v"), namespace=namespace)
    cluster.kubectl("wait", "cm/a", "--for=jsonpath={.data.k}=v", "--timeout=40s", "-n", namespace)
    cluster.kubectl("patch", "cm", "a", "-n", namespace, "--type=merge", "-p", '{"metadata":{"finalizers":["x.y/z"]}}')
    cluster.kubectl("delete", "cm", "a", "--wait=false", "-n", namespace)
    waiting = subprocess.Popen(
        [
            cluster._kubectl,
            "--kubeconfig",
            cluster.kubeconfig,
            "wait",
            "cm/a",
            "--for=delete",
            "--timeout=40s",
            "-n",
            namespace,
        ]
    )
    assert cluster.get("cm", "a", "-n", namespace)["metadata"]["deletionTimestamp"]
    cluster.kubectl("patch", "cm", "a", "-n", namespace, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert waiting.wait(10) == 0


def test_watch_prints_changes(cluster, namespace):
    watching = subprocess.Popen(
        [cluster._kubectl, "--kubeconfig", cluster.kubeconfig, "get", "cm", "-n", namespace, "-w", "-o", "name"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        time.sleep(0.5)
        cluster.apply(configmap("seen"), namespace=namespace)
        lines = [watching.stdout.readline().strip() for _ in range(2)]
        assert "configmap/seen" in lines
    finally:
        watching.kill()
        watching.wait()
        watching.stdout.close()


def test_validation_by_the_server(cluster, namespace):
    bad = {**configmap("a"), "dta": {"k": "v"}}
    text = cluster.fails("apply", "-n", namespace, "-f", "-", stdin=json.dumps(bad))
    assert 'unknown field "dta"' in text
    text = cluster.fails("create", "configmap", "Bad_Name", "-n", namespace)
    assert "RFC 1123 subdomain" in text


def test_dry_run_on_the_server(cluster, namespace):
    assert "server dry run" in cluster.kubectl("create", "configmap", "a", "--dry-run=server", "-n", namespace)
    assert "NotFound" in cluster.fails("get", "cm", "a", "-n", namespace)


def test_delete_collection_and_all(cluster, namespace):
    cluster.apply(configmap("a"), configmap("b"), namespace=namespace)
    cluster.kubectl("delete", "cm", "--all", "-n", namespace)
    names = [item["metadata"]["name"] for item in cluster.get("cm", "-n", namespace)["items"]]
    assert not {"a", "b"} & set(names)


def test_api_resources_and_explain(cluster):
    shown = cluster.kubectl("api-resources", "--no-headers")
    assert "deployments" in shown
    assert "customresourcedefinitions" in shown
    assert "v1\n" in cluster.kubectl("api-versions")
    assert "restartPolicy" in cluster.kubectl("explain", "pod.spec")
    assert "containers" in cluster.kubectl("explain", "deployment.spec.template.spec", "--recursive")
    assert "v1.36" in cluster.kubectl("version")


def test_who_may_what(cluster, namespace):
    assert cluster.kubectl("auth", "can-i", "create", "pods").strip() == "yes"
    cluster.kubectl("create", "serviceaccount", "reader", "-n", namespace)
    me = ("--as", f"system:serviceaccount:{namespace}:reader", "-n", namespace)
    denied = cluster.run("auth", "can-i", "list", "pods", *me)
    assert (denied.returncode, denied.stdout.strip()) == (1, "no")
    text = cluster.fails("get", "pods", *me)
    assert f'User "system:serviceaccount:{namespace}:reader" cannot list resource "pods" in API group ""' in text
    cluster.kubectl(
        "create", "rolebinding", "r", "--clusterrole=view", f"--serviceaccount={namespace}:reader", "-n", namespace
    )
    assert cluster.kubectl("auth", "can-i", "list", "pods", *me).strip() == "yes"
    cluster.kubectl("get", "pods", *me)
    assert "forbidden" in cluster.fails("get", "secrets", *me)


def test_token_of_a_service_account(cluster, namespace):
    cluster.kubectl("create", "serviceaccount", "robot", "-n", namespace)
    token = cluster.kubectl("create", "token", "robot", "-n", namespace).strip()
    server = cluster.kubectl("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}")
    with_token = ["--kubeconfig=/dev/null", "--insecure-skip-tls-verify", f"--server={server}", f"--token={token}"]
    shown = subprocess.run([cluster._kubectl, *with_token, "get", "ns"], capture_output=True, text=True, timeout=30)
    assert f'User "system:serviceaccount:{namespace}:robot" cannot list resource "namespaces"' in shown.stderr
    wrong = [*with_token[:-1], "--token=wrong"]
    done = subprocess.run([cluster._kubectl, *wrong, "get", "ns"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("path", "headers", "code"),
    [
        ("/healthz", {}, 200),
        ("/version", {}, 200),
        ("/api/v1/namespaces", {}, 403),
        ("/apis", {}, 403),
        ("/healthz", {"Authorization": "Bearer wrong"}, 401),
    ],
)
def test_strangers_get_health_and_version_only(cluster, path, headers, code):
    server = cluster.kubectl("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}")
    request = urllib.request.Request(server + path, headers=headers)
    context = ssl._create_unverified_context()
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as response:
            status = response.status
    except urllib.error.HTTPError as refused:
        with refused:
            status = refused.code
    assert status == code


def test_raw_paths(cluster):
    assert cluster.kubectl("get", "--raw", "/readyz") == "ok"
    assert "[+]ping ok" in cluster.kubectl("get", "--raw", "/livez?verbose")
    assert json.loads(cluster.kubectl("get", "--raw", "/version"))["minor"] == "36"
    groups = json.loads(cluster.kubectl("get", "--raw", "/apis"))["groups"]
    assert "apps" in [group["name"] for group in groups]
    assert "definitions" in json.loads(cluster.kubectl("get", "--raw", "/openapi/v2"))
    assert "NotFound" in cluster.fails("get", "--raw", "/nothing")


def test_namespace_deletion_takes_its_contents(cluster):
    cluster.kubectl("create", "namespace", "doomed")
    cluster.apply(configmap("a"), namespace="doomed")
    cluster.kubectl("delete", "namespace", "doomed", "--timeout=20s")
    assert "NotFound" in cluster.fails("get", "namespace", "doomed")
    assert "may not be deleted" in cluster.fails("delete", "namespace", "default")


def test_events_in_both_groups(cluster, namespace):
    pod = {"kind": "Pod", "apiVersion": "v1", "name": "p", "namespace": namespace}
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": pod}
    event |= {"reason": "Tried", "message": "hello", "type": "Normal", "count": 2, "source": {"component": "me"}}
    cluster.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(event))
    shown = cluster.get("events.v1.events.k8s.io/e", "-n", namespace)
    assert (shown["apiVersion"], shown["note"], shown["deprecatedCount"]) == ("events.k8s.io/v1", "hello", 2)
    assert shown["regarding"]["name"] == "p"
    for resource in ("events", "events.v1.events.k8s.io"):
        assert "pod/p" in cluster.kubectl("get", resource, "-n", namespace)
    listed = cluster.get("events.v1.events.k8s.io", "-n", namespace, "--field-selector", "reason=Tried")
    assert [item["note"] for item in listed["items"]] == ["hello"]
    assert "hello" in cluster.kubectl("events", "-n", namespace)


@pytest.mark.parametrize("name", ["n", "null", "1e3"])
def test_names_in_kubeconfigs_that_other_readers_of_yaml_take_for_values(name, cluster, tmp_path):
    path = str(tmp_path / "kubeconfig")
    write_kubeconfig(path, cluster=name, user=name, server="https://127.0.0.1:1", ca_pem=b"CA", namespace=name)
    shown = cluster.kubectl("--kubeconfig", path, "config", "get-contexts", "--no-headers").split()
    assert shown == ["*", f"{name}@{name}", name, name, name]
