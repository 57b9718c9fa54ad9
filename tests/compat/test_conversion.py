"""Several versions of a custom resource: converted by a real webhook, and what happens to objects that are stored."""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import subprocess
import threading

import pytest

from solo.auth.pki import ensure_pki


class Handler(http.server.BaseHTTPRequestHandler):
    """v1 has `spec.hostPort`, v2 `spec.host` and `spec.port`."""

    broken = ""

    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = review["request"]
        response = {"uid": request["uid"], "result": {"status": "Success"}}
        response["convertedObjects"] = [self.convert(obj, request["desiredAPIVersion"]) for obj in request["objects"]]
        if self.broken == "failure":
            response = {"uid": request["uid"], "result": {"status": "Failure", "message": "cannot say"}}
        body = json.dumps({"apiVersion": review["apiVersion"], "kind": "ConversionReview", "response": response})
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def convert(self, obj, wanted):
        spec = obj["spec"]
        if wanted.endswith("/v1"):
            spec = {"hostPort": f"{spec['host']}:{spec['port']}"}
        else:
            host, port = spec["hostPort"].split(":")
            spec = {"host": host, "port": port}
        metadata = {**obj["metadata"], "labels": {**obj["metadata"].get("labels", {}), "converted": "yes"}}
        if self.broken == "name":
            metadata["name"] = "other"
        metadata["finalizers"] = ["odd.example.com/x"]
        return {**obj, "apiVersion": wanted, "metadata": metadata, "spec": spec}

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    pki = ensure_pki(tmp_path_factory.mktemp("conversion"), "conversion", ["127.0.0.1"])
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = pki.server_context()
    context.verify_mode = ssl.CERT_NONE
    listening.socket = context.wrap_socket(listening.socket, server_side=True)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    client = {"url": f"https://127.0.0.1:{listening.server_port}/convert"}
    yield {**client, "caBundle": base64.b64encode(pki.ca_pem).decode()}
    listening.shutdown()
    listening.server_close()
    thread.join()


def version(name, storage, **fields):
    spec = {"type": "object", "properties": {field: {"type": kind} for field, kind in fields.items()}}
    return {
        "name": name,
        "served": True,
        "storage": storage,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
        "selectableFields": [{"jsonPath": f".spec.{field}"} for field in fields],
        "subresources": {"status": {}},
    }


def definition(plural, conversion=None, storage="v1"):
    kind = plural[:-1].capitalize()
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.conv.example.com"},
        "spec": {
            "group": "conv.example.com",
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "conversion": conversion or {"strategy": "None"},
            "versions": [
                version("v1", storage == "v1", hostPort="string"),
                version("v2", storage == "v2", host="string", port="string"),
            ],
        },
    }


def obj(plural, name, api="v1", **spec):
    kind = plural[:-1].capitalize()
    return {"apiVersion": f"conv.example.com/{api}", "kind": kind, "metadata": {"name": name}, "spec": spec}


def webhook(client):
    return {"strategy": "Webhook", "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1", "v1beta1"]}}


@pytest.fixture
def hosts(cluster, namespace, server):
    """Objects stored in v1 and in v2, as after a change of the storage version."""
    cluster.apply(definition("hosts", webhook(server)))
    cluster.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(obj("hosts", "a", hostPort="h1:80")))
    cluster.apply(definition("hosts", webhook(server), storage="v2"))
    second = obj("hosts", "b", "v2", host="h2", port="81")
    cluster.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(second))
    yield namespace
    Handler.broken = ""
    cluster.kubectl("delete", "crd", "hosts.conv.example.com")


def raw(cluster, namespace, api, query=""):
    return json.loads(
        cluster.kubectl("get", "--raw", f"/apis/conv.example.com/{api}/namespaces/{namespace}/hosts{query}")
    )


def test_a_webhook_converts_what_is_stored_in_several_versions(cluster, hosts):
    assert [item["spec"] for item in raw(cluster, hosts, "v1")["items"]] == [
        {"hostPort": "h1:80"},
        {"hostPort": "h2:81"},
    ]
    found = raw(cluster, hosts, "v2")["items"]
    assert [item["spec"] for item in found] == [{"host": "h1", "port": "80"}, {"host": "h2", "port": "81"}]
    assert found[0]["metadata"]["labels"] == {"converted": "yes"}
    assert "finalizers" not in found[0]["metadata"], "a webhook may change labels and annotations only"
    crd = cluster.get("crd", "hosts.conv.example.com")
    assert crd["status"]["storedVersions"] == ["v1", "v2"]


def test_fields_are_selected_in_the_version_of_the_request(cluster, hosts):
    names = [item["metadata"]["name"] for item in raw(cluster, hosts, "v2", "?fieldSelector=spec.host=h1")["items"]]
    assert names == ["a"]
    names = [
        item["metadata"]["name"] for item in raw(cluster, hosts, "v1", "?fieldSelector=spec.hostPort=h2:81")["items"]
    ]
    assert names == ["b"]
    assert "field label not supported: spec.host" in cluster.fails(
        "get", "--raw", f"/apis/conv.example.com/v1/namespaces/{hosts}/hosts?fieldSelector=spec.host=h1"
    )


def test_a_watch_is_converted(cluster, hosts):
    path = (
        f"/apis/conv.example.com/v1/namespaces/{hosts}/hosts?watch=1&timeoutSeconds=60&fieldSelector=spec.hostPort=h9:1"
    )
    with subprocess.Popen([*cluster.command, "get", "--raw", path], stdout=subprocess.PIPE) as watching:
        patch = json.dumps({"spec": {"host": "h9", "port": "1"}})
        cluster.kubectl("patch", "hosts.v2.conv.example.com", "b", "-n", hosts, "--type=merge", "-p", patch)
        event = json.loads(watching.stdout.readline())
        watching.terminate()
    assert (event["type"], event["object"]["spec"]) == ("ADDED", {"hostPort": "h9:1"})
    assert event["object"]["apiVersion"] == "conv.example.com/v1"


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        ("failure", "conversion webhook for conv.example.com/v1, Kind=Host failed: cannot say"),
        ("name", "must have the same name: a != other"),
    ],
)
def test_a_webhook_that_fails(cluster, hosts, broken, text):
    Handler.broken = broken
    assert text in cluster.fails("get", "hosts.v2.conv.example.com", "a", "-n", hosts)


def test_a_deletion_is_done_or_refused_by_what_can_be_converted(cluster, hosts):
    cluster.kubectl("patch", "hosts", "b", "-n", hosts, "--type=merge", "-p", '{"metadata":{"finalizers":["a.b/c"]}}')
    raw(cluster, hosts, "v1")
    place = f"/apis/conv.example.com/{{}}/namespaces/{hosts}/hosts/"
    Handler.broken = "failure"
    assert "cannot say" in cluster.fails("delete", "--raw", place.format("v2") + "a")
    assert raw(cluster, hosts, "v1")["items"][0]["metadata"]["name"] == "a"
    marked = json.loads(cluster.kubectl("delete", "--raw", place.format("v1") + "b"))
    assert marked["spec"] == {"hostPort": "h2:81"}
    assert marked["metadata"]["labels"] == {"converted": "yes"} and marked["metadata"]["deletionTimestamp"]
    Handler.broken = ""
    (_, left) = raw(cluster, hosts, "v1")["items"]
    assert left == marked
    Handler.broken = "failure"
    assert json.loads(cluster.kubectl("delete", "--raw", place.format("v1") + "a"))["status"] == "Success"
    Handler.broken = ""
    cluster.kubectl("patch", "hosts", "b", "-n", hosts, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert raw(cluster, hosts, "v1")["items"] == []


def test_a_write_migrates_to_the_storage_version(cluster, hosts):
    Handler.broken = ""
    cluster.kubectl("annotate", "hosts.v1.conv.example.com", "a", "-n", hosts, "x=y")
    Handler.broken = "failure"
    assert raw(cluster, hosts, "v2")["items"][0]["spec"] == {"host": "h1", "port": "80"}
    Handler.broken = ""


def test_objects_of_an_older_definition(cluster, namespace):
    """Without a webhook: what is stored gets the defaults of today and loses fields that are no more."""
    crd = definition("plains")
    crd["spec"]["versions"] = [version("v1beta1", True, a="string", b="string")]
    cluster.apply(crd)
    cluster.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(obj("plains", "x", "v1beta1", a="1", b="2")))
    newer = version("v1", True, a="string", b="string")
    for item in (crd["spec"]["versions"][0], newer):
        properties = item["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        del properties["b"]
        properties["c"] = {"type": "string", "default": "3"}
        item["selectableFields"] = []
    crd["spec"]["versions"][0]["storage"] = False
    crd["spec"]["versions"].append(newer)
    cluster.apply(crd)
    for api in ("v1beta1", "v1"):
        found = cluster.get(f"plains.{api}.conv.example.com", "x", "-n", namespace)
        assert (found["apiVersion"], found["spec"]) == (f"conv.example.com/{api}", {"a": "1", "c": "3"})
    crd["spec"]["versions"] = [newer]
    refused = cluster.fails("replace", "-f", "-", stdin=json.dumps(crd))
    assert 'status.storedVersions[0]: Invalid value: "v1beta1": missing from spec.versions' in refused
    cluster.kubectl("delete", "crd", "plains.conv.example.com")


def test_a_definition_that_serves_nothing_can_go(cluster, namespace):
    crd = definition("hides")
    cluster.apply(crd)
    cluster.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(obj("hides", "x", hostPort="a:1")))
    for item in crd["spec"]["versions"]:
        item["served"] = False
    cluster.apply(crd)
    assert "the server doesn't have a resource type" in cluster.fails("get", "hides.conv.example.com", "-n", namespace)
    cluster.kubectl("delete", "crd", "hides.conv.example.com", "--timeout=40s")


def test_parameters_of_policies_are_read_in_the_version_that_the_policy_names(cluster, hosts):
    group = "admissionregistration.k8s.io/v1"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    validation = {"expression": "false", "messageExpression": "'params: ' + params.spec.hostPort"}
    policy = {
        "matchConstraints": {
            "resourceRules": [rule],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": hosts}},
        },
        "paramKind": {"apiVersion": "conv.example.com/v1", "kind": "Host"},
        "validations": [validation],
    }
    binding = {
        "policyName": f"{hosts}-hosts",
        "validationActions": ["Deny"],
        "paramRef": {"name": "b", "parameterNotFoundAction": "Deny"},
    }
    made = [
        {"apiVersion": group, "kind": kind, "metadata": {"name": f"{hosts}-hosts"}, "spec": spec}
        for kind, spec in (("ValidatingAdmissionPolicy", policy), ("ValidatingAdmissionPolicyBinding", binding))
    ]
    cluster.apply(*made)
    try:
        assert "params: h2:81" in cluster.fails("create", "configmap", "c", "-n", hosts)
    finally:
        for item in made:
            cluster.kubectl("delete", item["kind"].lower(), item["metadata"]["name"])


def test_one_manager_applies_in_one_version_and_then_in_another(cluster, hosts):
    def apply(manager, *arguments, **spec):
        api = "v1" if "hostPort" in spec else "v2"
        command = ["apply", "--server-side", "--field-manager", manager, "-n", hosts, "-f", "-", *arguments]
        return cluster.run(*command, stdin=json.dumps(obj("hosts", "applied", api, **spec)))

    assert apply("one", hostPort="h1:80").returncode == 0
    done = apply("one", host="h2", port="81")
    assert done.returncode == 0, done.stderr
    shown = cluster.get("hosts.v1.conv.example.com", "applied", "-n", hosts, "--show-managed-fields")
    assert shown["spec"] == {"hostPort": "h2:81"}
    owners = [(entry["manager"], entry["apiVersion"]) for entry in shown["metadata"]["managedFields"]]
    assert owners == [("one", "conv.example.com/v2")]
    assert 'conflict with "one"' in apply("two", host="h3", port="81").stderr
    assert apply("two", "--force-conflicts", host="h3", port="81").returncode == 0
