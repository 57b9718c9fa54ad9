"""One tour for every kubectl that people have: the oldest that is tried, those between, and the newest."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys

import pytest

from compat import programs
from compat.conftest import Cluster

OLD = [*programs.PACKAGES]
# Older ones stream over SPDY alone, which this server refuses.
WITH_WEBSOCKETS = [version for version in OLD if version not in ("1.28",)]


@pytest.fixture(params=[*OLD, "newest"])
def kube(cluster, request):
    if request.param == "newest":
        return cluster
    return Cluster(cluster.directory, str(programs.kubectl(request.param)), cluster.process)


def configmap(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": name}}, "data": data}


def pod(name, *command):
    container = {"name": "c", "image": "host", "command": list(command)}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def opened(kube, *arguments):
    return subprocess.Popen(
        [*kube.command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def end(process):
    process.kill()
    process.communicate()


def test_get_and_describe(kube, namespace):
    inside = ("-n", namespace)
    kube.apply(configmap("a", k="v"), configmap("b"), namespace=namespace)
    lines = kube.kubectl("get", "cm", "-l", "app in (a,b)", "--sort-by=.metadata.name", *inside).splitlines()
    assert [line.split()[:2] for line in lines] == [["NAME", "DATA"], ["a", "1"], ["b", "0"]]
    assert kube.kubectl("get", "cm", "--field-selector=metadata.name=a", "-o", "name", *inside) == "configmap/a\n"
    assert kube.kubectl("get", "cm", "a", "-o", "jsonpath={.data.k}", *inside) == "v"
    assert "k: v" in kube.kubectl("get", "cm", "a", "-o", "yaml", *inside)
    assert re.search(r"Name: +a\n", kube.kubectl("describe", "cm", "a", *inside))
    assert "NotFound" in kube.fails("get", "cm", "none", *inside)


def test_client_side_apply_and_diff(kube, namespace):
    assert "created" in kube.apply(configmap("a", k="1"), namespace=namespace)
    assert "unchanged" in kube.apply(configmap("a", k="1"), namespace=namespace)
    changed = json.dumps(configmap("a", other="2"))
    difference = kube.run("diff", "-n", namespace, "-f", "-", stdin=changed)
    assert difference.returncode == 1 and '+  other: "2"' in difference.stdout, difference
    assert "server dry run" in kube.kubectl("apply", "--dry-run=server", "-n", namespace, "-f", "-", stdin=changed)
    assert "configured" in kube.apply(configmap("a", other="2"), namespace=namespace)
    assert kube.get("cm", "a", "-n", namespace)["data"] == {"other": "2"}
    assert kube.run("diff", "-n", namespace, "-f", "-", stdin=changed).returncode == 0


def test_server_side_apply(kube, namespace):
    apply = ("apply", "--server-side", "-n", namespace, "-f", "-")
    kube.kubectl(*apply, "--field-manager=one", stdin=json.dumps(configmap("a", k="1", own="1")))
    conflict = kube.fails(*apply, "--field-manager=two", stdin=json.dumps(configmap("a", k="2")))
    assert 'conflict with "one": .data.k' in conflict
    kube.kubectl(*apply, "--field-manager=two", "--force-conflicts", stdin=json.dumps(configmap("a", k="2")))
    kube.kubectl(*apply, "--field-manager=one", stdin=json.dumps(configmap("a")))
    assert kube.get("cm", "a", "-n", namespace)["data"] == {"k": "2"}


def test_edit_patch_replace_label_annotate(kube, namespace):
    inside = ("-n", namespace)
    kube.kubectl("create", "-f", "-", *inside, stdin=json.dumps(configmap("a", k="before")))
    kube.kubectl("edit", "cm", "a", *inside, env={"EDITOR": "sed -i s/before/after/"})
    kube.kubectl("patch", "cm", "a", *inside, "--type=merge", "-p", '{"data":{"m":"1"}}')
    kube.kubectl("patch", "cm", "a", *inside, "--type=strategic", "-p", '{"data":{"s":"1"}}')
    operations = '[{"op":"test","path":"/data/k","value":"after"},{"op":"add","path":"/data/j","value":"1"}]'
    kube.kubectl("patch", "cm", "a", *inside, "--type=json", "-p", operations)
    assert kube.get("cm", "a", *inside)["data"] == {"k": "after", "m": "1", "s": "1", "j": "1"}
    kube.kubectl("replace", "-f", "-", *inside, stdin=json.dumps(configmap("a", k="new")))
    kube.kubectl("label", "cm", "a", "app-", "tier=web", *inside)
    kube.kubectl("annotate", "cm", "a", "note=x", *inside)
    after = kube.get("cm", "a", *inside)
    assert (after["data"], after["metadata"]["labels"]) == ({"k": "new"}, {"tier": "web"})
    assert after["metadata"]["annotations"] == {"note": "x"}


def test_wait_and_watch(kube, namespace):
    inside = ("-n", namespace)
    watching = opened(kube, "get", "cm", "-l", "app=a", *inside, "-w", "-o", "name")
    kube.apply(configmap("a", k="v"), namespace=namespace)
    waiting = opened(kube, "wait", "cm", "-l", "app=a", "--for=delete", "--timeout=20s", *inside)
    try:
        assert watching.stdout.readline() == "configmap/a\n"
        kube.kubectl("wait", "cm/a", "--for=jsonpath={.data.k}=v", "--timeout=40s", *inside)
        assert "timed out" in kube.fails("wait", "cm/a", "--for=jsonpath={.data.k}=w", "--timeout=1s", *inside)
        kube.kubectl("delete", "cm", "a", *inside)
        assert watching.stdout.readline() == "configmap/a\n"
        assert waiting.wait(20) == 0
    finally:
        end(watching)
        end(waiting)


def test_prune_with_applyset(kube, namespace):
    def apply(*objects):
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        arguments = ("apply", "-n", namespace, "--prune", "--applyset=parts", "-f", "-")
        return kube.kubectl(*arguments, stdin=text, env={"KUBECTL_APPLYSET": "true"})

    apply(configmap("a"), configmap("b"))
    assert "configmap/b pruned" in apply(configmap("a"))
    parent = kube.get("secret", "parts", "-n", namespace)["metadata"]
    assert "applyset.kubernetes.io/id" in parent["labels"]
    names = [item["metadata"]["name"] for item in kube.get("cm", "-n", namespace, "-l", "app")["items"]]
    assert names == ["a"]


def test_deployment(kube, namespace):
    inside = ("-n", namespace)
    kube.kubectl("create", "deployment", "d", "--image=host", *inside, "--", "sleep", "600")
    assert "successfully rolled out" in kube.kubectl("rollout", "status", "deployment/d", "--timeout=30s", *inside)
    kube.kubectl("wait", "deployment/d", "--for=condition=Available", "--timeout=40s", *inside)
    kube.kubectl("scale", "deployment/d", "--replicas=2", *inside)
    kube.kubectl("set", "env", "deployment/d", "A=b", *inside)
    kube.kubectl("rollout", "status", "deployment/d", "--timeout=30s", *inside)
    assert re.findall(r"(?m)^\d+", kube.kubectl("rollout", "history", "deployment/d", *inside)) == ["1", "2"]
    kube.kubectl("rollout", "undo", "deployment/d", *inside)
    container = kube.get("deployment", "d", *inside)["spec"]["template"]["spec"]["containers"][0]
    assert "env" not in container
    kube.kubectl(
        "patch", "deployment/d", "--subresource=scale", "--type=merge", "-p", '{"spec":{"replicas":0}}', *inside
    )
    assert kube.get("deployment", "d", *inside)["spec"]["replicas"] == 0
    kube.kubectl("delete", "deployment", "d", "--cascade=foreground", "--timeout=20s", *inside)
    assert kube.get("replicasets,pods", *inside)["items"] == []


@pytest.mark.parametrize("kube", [*WITH_WEBSOCKETS, "newest"], indirect=True)
def test_streams(kube, namespace, tmp_path):
    inside = ("-n", namespace)
    kube.apply(pod("p", "sh", "-c", "echo one; while sleep 0.1; do echo more; done"), namespace=namespace)
    kube.kubectl("wait", "pod/p", "--for=condition=Ready", "--timeout=20s", *inside)
    following, attached = opened(kube, "logs", "-f", "p", *inside), opened(kube, "attach", "p", *inside)
    try:
        assert following.stdout.readline() == "one\n"
        assert following.stdout.readline() == "more\n"
        assert attached.stdout.readline() == "more\n"
    finally:
        end(attached)
        end(following)
    assert kube.kubectl("exec", "-i", "p", *inside, "--", "tr", "a-z", "A-Z", stdin="shout") == "SHOUT"
    assert kube.run("exec", "p", *inside, "--", "sh", "-c", "exit 7").returncode == 7
    # It asks over SPDY after each refusal, and shows what it hears then.
    assert "no-such-program': executable file not found" in kube.fails("exec", "p", *inside, "--", "no-such-program")
    for refused in (("exec", "p", "-c", "nope", *inside, "--", "true"), ("attach", "p", "-c", "nope", *inside)):
        assert "nope" in kube.fails(*refused)
    (tmp_path / "in").write_text("carried" * 50_000)
    kube.kubectl("cp", str(tmp_path / "in"), f"{namespace}/p:{tmp_path}/there")
    kube.kubectl("cp", f"{namespace}/p:{tmp_path}/there", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == (tmp_path / "in").read_text()


@pytest.mark.parametrize("kube", ["1.28"], indirect=True)
def test_streams_over_spdy_are_refused_with_the_remedy(kube, namespace):
    kube.apply(pod("p", "sh", "-c", "echo one; sleep 600"), namespace=namespace)
    kube.kubectl("wait", "pod/p", "--for=condition=Ready", "--timeout=20s", "-n", namespace)
    assert kube.kubectl("logs", "p", "-n", namespace) == "one\n"
    for command in (("exec", "p", "--", "true"), ("attach", "p"), ("port-forward", "p", ":80")):
        assert "WebSocket" in kube.fails(command[0], "-n", namespace, *command[1:])


@pytest.mark.parametrize("kube", [*WITH_WEBSOCKETS, "newest"], indirect=True)
def test_port_forward(kube, namespace):
    server = (
        "import http.server as h; s = h.HTTPServer(('127.0.0.1', 0), h.SimpleHTTPRequestHandler); "
        "print(s.server_port, flush=True); s.serve_forever()"
    )
    kube.apply(pod("web", sys.executable, "-c", server), namespace=namespace)
    kube.kubectl("wait", "pod/web", "--for=condition=Ready", "--timeout=20s", "-n", namespace)
    logs = opened(kube, "logs", "-f", "web", "-n", namespace)
    port = logs.stdout.readline().strip()
    end(logs)
    forwarding = opened(kube, "port-forward", "web", f":{port}", "-n", namespace)
    try:
        local = int(re.search(r"127.0.0.1:(\d+)", forwarding.stdout.readline())[1])
        assert fetch(local, "/") == 200
    finally:
        end(forwarding)


def fetch(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    status = connection.getresponse().status
    connection.close()
    return status


def test_proxy(kube, namespace):
    proxying = opened(kube, "proxy", "--port=0")
    try:
        port = int(re.search(r":(\d+)", proxying.stdout.readline())[1])
        assert fetch(port, f"/api/v1/namespaces/{namespace}") == 200
        assert fetch(port, "/api/v1/namespaces/none") == 404
    finally:
        end(proxying)


def test_discovery(kube):
    shown = kube.kubectl("api-resources", "--api-group=apps", "--no-headers")
    assert re.search(r"deployments +deploy +apps/v1 +true +Deployment", shown)
    assert "apps/v1\n" in kube.kubectl("api-versions")
    assert "restartPolicy" in kube.kubectl("explain", "pod.spec")
    assert "matchLabels" in kube.kubectl("explain", "deployment.spec.selector", "--recursive")
    assert "Server Version: v1.36" in kube.kubectl("version")


def test_who_and_what(kube, namespace):
    inside = ("-n", namespace)
    assert kube.kubectl("auth", "can-i", "create", "pods", *inside) == "yes\n"
    kube.kubectl("create", "serviceaccount", "robot", *inside)
    robot = ("--as", f"system:serviceaccount:{namespace}:robot")
    assert kube.run("auth", "can-i", "list", "pods", *inside, *robot).stdout == "no\n"
    assert "selfsubjectreviews" in kube.kubectl("auth", "can-i", "--list", *inside, *robot)
    assert "system:masters" in kube.kubectl("auth", "whoami")
    assert kube.kubectl("create", "token", "robot", *inside).count(".") == 2


def test_node(kube, namespace):
    kube.apply(pod("p", "sleep", "600"), namespace=namespace)
    kube.kubectl("wait", "pod/p", "--for=condition=Ready", "--timeout=20s", "-n", namespace)
    kube.kubectl("taint", "node", "here", "a=b:NoSchedule")
    try:
        kube.kubectl("cordon", "here")
        assert "SchedulingDisabled" in kube.kubectl("get", "node", "here")
        kube.kubectl("drain", "here", "--pod-selector=app=p", "--force", "--ignore-daemonsets", "--timeout=20s")
        assert "NotFound" in kube.fails("get", "pod", "p", "-n", namespace)
    finally:
        kube.kubectl("uncordon", "here")
        kube.kubectl("taint", "node", "here", "a:NoSchedule-")
    assert not kube.get("node", "here")["spec"].get("taints")


def test_kustomize(kube, namespace, tmp_path):
    (tmp_path / "kustomization.yaml").write_text("resources: [cm.json]\nnamePrefix: my-\n")
    (tmp_path / "cm.json").write_text(json.dumps(configmap("a", k="v")))
    kube.kubectl("apply", "-k", str(tmp_path), "-n", namespace)
    assert kube.get("cm", "my-a", "-n", namespace)["data"] == {"k": "v"}
    kube.kubectl("delete", "-k", str(tmp_path), "-n", namespace)
    assert "NotFound" in kube.fails("get", "cm", "my-a", "-n", namespace)


def test_what_is_not_there_is_refused_clearly(kube, namespace):
    assert "Metrics API not available" in kube.fails("top", "nodes")
    kube.apply(pod("p", "sleep", "600"), namespace=namespace)
    refused = kube.fails("debug", "p", "--image=host", "-n", namespace)
    assert "ephemeral containers are disabled for this cluster" in refused


def test_events(kube, namespace):
    kube.apply(pod("p", "sleep", "600"), namespace=namespace)
    kube.kubectl("wait", "pod/p", "--for=condition=Ready", "--timeout=20s", "-n", namespace)
    assert "Started" in kube.kubectl("events", "--for=pod/p", "-n", namespace)
    assert "Started" in kube.kubectl("describe", "pod", "p", "-n", namespace)
    kube.kubectl("delete", "pod", "p", "--now", "-n", namespace)


def test_custom_resources(kube, namespace):
    properties = {part: {"type": "object", "x-kubernetes-preserve-unknown-fields": True} for part in ("spec", "status")}
    version = {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}}}
    version["schema"] = {"openAPIV3Schema": {"type": "object", "properties": properties}}
    group, plural = f"{namespace}.example.com", "cogs"
    spec = {"group": group, "scope": "Namespaced", "versions": [version], "names": {"plural": plural, "kind": "Cog"}}
    name = f"{plural}.{group}"
    kube.apply(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": name},
            "spec": spec,
        }
    )
    try:
        kube.kubectl("wait", "crd", name, "--for=condition=Established", "--timeout=40s")
        cog = {"apiVersion": f"{group}/v1", "kind": "Cog", "metadata": {"name": "c"}, "spec": {"teeth": 3}}
        kube.apply(cog, namespace=namespace)
        patch = json.dumps({"spec": {"teeth": 9}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
        kube.kubectl("patch", name, "c", "--subresource=status", "--type=merge", "-p", patch, "-n", namespace)
        kube.kubectl("wait", f"{name}/c", "--for=condition=Ready", "--timeout=40s", "-n", namespace)
        assert kube.get(name, "c", "-n", namespace)["spec"] == {"teeth": 3}
        assert "Cog" in kube.kubectl("explain", name)
    finally:
        kube.kubectl("delete", "crd", name)
