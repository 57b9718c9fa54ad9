"""A real webhook server: called by URL and through a Service, with the certificate that is given, or not at all."""

from __future__ import annotations

import asyncio
import base64
import http.server
import json
import ssl
import threading
from collections.abc import Callable
from typing import ClassVar

import pytest

from compat.conftest import sleeping_pod
from kube.client.aio import AsyncClient
from kube.client.config import load_kubeconfig
from kube.client.sync import SyncClient
from kube.machinery.errors import StatusError
from kube.machinery.resources import CONFIGMAPS
from solo.auth.pki import ensure_pki


class Handler(http.server.BaseHTTPRequestHandler):
    connected: ClassVar[list[dict]] = []
    thoughts: ClassVar[dict[str, Callable[[dict], object]]] = {}
    """What is done, by path, before an answer is given."""

    def do_POST(self):
        self.path = self.path.partition("?")[0]  # the query tells how long the answer may take
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = review["request"]
        if request["operation"] == "CONNECT":
            self.connected.append(request)
        self.thoughts.get(self.path, lambda _: None)(request)
        told = request["object"] or {}
        response = {"uid": request["uid"], "allowed": "bad" not in (told.get("data") or told.get("command") or {})}
        if self.path == "/mutate":
            patch = json.dumps([{"op": "add", "path": "/metadata/labels", "value": {"seen": "yes"}}])
            response |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch.encode()).decode()}
        body = json.dumps({**review, "request": None, "response": response}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A webhook server: its port and the authority that vouches for it, in base64."""
    names = ["127.0.0.1", "hook.services.svc"]
    pki = ensure_pki(tmp_path_factory.mktemp("hook"), "hook", names)
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = pki.server_context()
    context.verify_mode = ssl.CERT_NONE
    listening.socket = context.wrap_socket(listening.socket, server_side=True)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield listening.server_port, base64.b64encode(pki.ca_pem).decode()
    listening.shutdown()
    listening.server_close()
    thread.join()


def configuration(kind, namespace, client, **spec):
    webhook = {
        "name": "hook.test.example.com",
        "clientConfig": client,
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 5,
        **spec,
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": f"{kind}WebhookConfiguration",
        "metadata": {"name": namespace},
        "webhooks": [webhook],
    }


def test_a_webhook_by_url(cluster, namespace, server):
    port, bundle = server
    client = {"url": f"https://127.0.0.1:{port}/mutate", "caBundle": bundle}
    cluster.apply(configuration("Mutating", namespace, client))
    cluster.kubectl("create", "configmap", "c", "-n", namespace)
    assert cluster.get("configmap/c", "-n", namespace)["metadata"]["labels"] == {"seen": "yes"}
    refused = cluster.fails("create", "configmap", "d", "--from-literal=bad=1", "-n", namespace)
    assert 'admission webhook "hook.test.example.com" denied the request' in refused
    cluster.kubectl("delete", "mutatingwebhookconfiguration", namespace)


def test_a_webhook_through_a_service(cluster, namespace, server):
    port, bundle = server
    client = {"service": {"namespace": "services", "name": "hook", "path": "/check"}, "caBundle": bundle}
    cluster.apply(configuration("Validating", namespace, client))
    assert 'service "hook" not found' in cluster.fails("create", "configmap", "c", "-n", namespace)
    cluster.kubectl("create", "namespace", "services")
    spec = {"selector": {"app": "hook"}, "ports": [{"port": 443, "targetPort": port}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"}, "spec": spec}
    cluster.apply(service, namespace="services")
    assert 'no endpoints available for service "hook"' in cluster.fails("create", "configmap", "c", "-n", namespace)
    # The server of this test stands for the pod's: both are at the machine's address.
    pod = sleeping_pod("hook")
    pod["metadata"]["labels"] = {"app": "hook"}
    cluster.apply(pod, namespace="services")
    cluster.kubectl("wait", "-n", "services", "--for=condition=Ready", "pod/hook", "--timeout=20s")
    ready = "{.endpoints[0].conditions.ready}=true"
    cluster.kubectl("wait", "-n", "services", f"--for=jsonpath={ready}", "endpointslices", "--all", "--timeout=20s")
    cluster.kubectl("create", "configmap", "c", "-n", namespace)
    assert "denied the request" in cluster.fails("create", "cm", "d", "--from-literal=bad=1", "-n", namespace)
    cluster.kubectl("delete", "validatingwebhookconfiguration", namespace)
    cluster.kubectl("delete", "namespace", "services", "--wait=false")


def test_a_webhook_that_is_not_trusted_or_not_there(cluster, namespace, server):
    port, _ = server
    cluster.apply(configuration("Validating", namespace, {"url": f"https://127.0.0.1:{port}/"}))
    refused = cluster.fails("create", "configmap", "c", "-n", namespace)
    assert 'failed calling webhook "hook.test.example.com"' in refused
    assert '": tls: failed to verify certificate: x509: certificate signed by unknown authority' in refused
    cluster.apply(configuration("Validating", namespace, {"url": "https://127.0.0.1:1/"}))
    refused = cluster.fails("create", "configmap", "c", "-n", namespace)
    assert 'Post "https://127.0.0.1:1/?timeout=5s": dial tcp 127.0.0.1:1: connect: connection refused' in refused
    cluster.apply(configuration("Validating", namespace, {"url": "https://127.0.0.1:1/"}, failurePolicy="Ignore"))
    cluster.kubectl("create", "configmap", "c", "-n", namespace)
    cluster.kubectl("delete", "validatingwebhookconfiguration", namespace)


def test_streams_to_pods_pass_admission(cluster, namespace, server):
    port, bundle = server
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CONNECT"], "resources": ["pods/exec"]}
    client = {"url": f"https://127.0.0.1:{port}/check", "caBundle": bundle}
    cluster.apply(sleeping_pod("p"), namespace=namespace)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/p", "-n", namespace, "--timeout=20s")
    cluster.apply(configuration("Validating", namespace, client, rules=[rule]))
    assert cluster.kubectl("exec", "p", "-n", namespace, "--", "echo", "good") == "good\n"
    assert "denied the request" in cluster.fails("exec", "p", "-n", namespace, "--", "echo", "bad")
    request = Handler.connected[-1]
    assert request["kind"] == {"group": "", "version": "v1", "kind": "PodExecOptions"}
    assert (request["resource"]["resource"], request["subResource"], request["name"]) == ("pods", "exec", "p")
    assert request["object"] == {
        "apiVersion": "v1",
        "kind": "PodExecOptions",
        "container": "c",
        "command": ["echo", "bad"],
        "stdout": True,
        "stderr": True,
    }
    assert request["options"] is None and request["oldObject"] is None
    cluster.kubectl("delete", "validatingwebhookconfiguration", namespace)


def test_subresources_pass_admission_as_what_they_speak(cluster, namespace, server, wire):
    port, bundle = server
    seen = []
    Handler.thoughts[f"/{namespace}"] = seen.append
    client = {"url": f"https://127.0.0.1:{port}/{namespace}", "caBundle": bundle}
    rule = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}
    place = f"/api/v1/namespaces/{namespace}"
    pod = sleeping_pod("p")
    pod["spec"]["schedulerName"] = "none"
    assert wire("POST", f"{place}/pods", pod)[0] == 201
    cluster.apply(configuration("Validating", namespace, client, rules=[{**rule, "operations": ["CREATE"]}]))
    try:
        account = f"{place}/serviceaccounts/default/token"
        code, token = wire(
            "POST",
            f"{account}?fieldManager=foo&fieldValidation=Strict",
            {"spec": {"audiences": ["a"], "expirationSeconds": 700}},
        )
        assert code == 201 and token["status"]["token"]
        eviction = {"metadata": {"name": "p"}, "deleteOptions": {"dryRun": ["All"]}}
        assert wire("POST", f"{place}/pods/p/eviction", eviction)[0] == 201
        assert "deletionTimestamp" not in wire("GET", f"{place}/pods/p")[1]["metadata"]
        asked = {request["subResource"]: request for request in seen}
        assert asked["token"]["kind"] == {"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"}
        assert asked["token"]["object"]["spec"] == {"audiences": ["a"], "expirationSeconds": 700}
        assert "status" not in asked["token"]["object"]
        options = {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"}
        assert asked["token"]["options"] == {**options, "fieldManager": "foo", "fieldValidation": "Strict"}
        assert asked["eviction"]["requestKind"] == {"group": "policy", "version": "v1", "kind": "Eviction"}
        assert asked["eviction"]["object"]["apiVersion"] == "policy/v1"
        assert asked["eviction"]["options"] == options
    finally:
        cluster.kubectl("delete", "validatingwebhookconfiguration", namespace)
        del Handler.thoughts[f"/{namespace}"]


WRITES = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE", "DELETE"], "resources": ["configmaps"]}


@pytest.fixture
def thinking(cluster, namespace, server, admin):
    """Sets what a webhook does before it admits updates and deletions of the ConfigMap `c`, which it makes."""
    port, bundle = server

    def begin(think, **spec):
        Handler.thoughts[f"/{namespace}"] = think
        client = {"url": f"https://127.0.0.1:{port}/{namespace}", "caBundle": bundle}
        cluster.apply(configuration("Validating", namespace, client, rules=[WRITES], timeoutSeconds=20, **spec))
        return admin.create(CONFIGMAPS, {"metadata": {"name": "c"}}, namespace)

    yield begin
    cluster.kubectl("delete", "validatingwebhookconfiguration", namespace)
    del Handler.thoughts[f"/{namespace}"]


def client_of(cluster):
    return AsyncClient(load_kubeconfig(str(cluster.kubeconfig)))


def test_a_webhook_may_write_the_object_that_it_is_asked_about(cluster, namespace, thinking, admin):
    calls = []

    def think(request):
        calls.append(request["operation"])
        with SyncClient(load_kubeconfig(str(cluster.kubeconfig))) as client:
            client.patch(CONFIGMAPS, "c", {"data": {"hook": "1"}}, namespace)

    condition = {"name": "not-its-own", "expression": "object == null || !has(object.data) || !('hook' in object.data)"}
    made = thinking(think, matchConditions=[condition])
    put = admin.update(CONFIGMAPS, {"metadata": {"name": "c"}, "data": {"put": "1"}}, namespace)
    assert put["data"] == {"put": "1"}
    assert calls == ["UPDATE"] * 2
    changed = admin.patch(CONFIGMAPS, "c", {"data": {"mine": "1"}}, namespace)
    assert changed["data"] == {"put": "1", "hook": "1", "mine": "1"}
    assert calls == ["UPDATE"] * 3
    with pytest.raises(StatusError) as refused:
        admin.update(CONFIGMAPS, {**made, "data": {"late": "1"}}, namespace)
    assert refused.value.reason == "Conflict"
    admin.delete(CONFIGMAPS, "c", namespace)
    assert calls[3:] == ["DELETE"]


async def test_nobody_waits_for_a_slow_webhook_and_nothing_is_lost(cluster, namespace, thinking):
    asked, answer = threading.Semaphore(0), threading.Event()

    def think(_):
        asked.release()
        assert answer.wait(20)

    condition = {"name": "slow", "expression": "has(object.data) && 'slow' in object.data"}
    made = thinking(think, matchConditions=[condition])
    async with client_of(cluster) as client:
        replaced = client.update(CONFIGMAPS, {**made, "data": {"slow": "replaced"}}, namespace)
        slow = [asyncio.create_task(replaced)]
        slow += [asyncio.create_task(client.patch(CONFIGMAPS, "c", {"data": {"slow": "patched"}}, namespace))]
        for _ in slow:
            assert await asyncio.to_thread(asked.acquire, timeout=20)
        quick = [client.patch(CONFIGMAPS, "c", {"data": {f"k{n}": "v"}}, namespace) for n in range(5)]
        async with asyncio.timeout(10):
            await asyncio.gather(*quick)
        assert not any(task.done() for task in slow)
        answer.set()
        with pytest.raises(StatusError) as refused:
            await slow[0]
        assert refused.value.message.endswith("please apply your changes to the latest version and try again")
        assert (await slow[1])["data"] == {"slow": "patched", **{f"k{n}": "v" for n in range(5)}}


async def test_patches_at_once_through_a_webhook_all_count(cluster, namespace, thinking):
    thinking(lambda _: None)
    async with client_of(cluster) as client:
        notes = [{"metadata": {"annotations": {f"example.com/n{n}": "x"}}} for n in range(20)]
        await asyncio.gather(*(client.patch(CONFIGMAPS, "c", note, namespace) for note in notes))
        kept = (await client.get(CONFIGMAPS, "c", namespace))["metadata"]["annotations"]
    assert len(kept) == 20


def test_a_webhook_whose_selector_cannot_be_read_is_refused(wire, namespace):
    """It would end each request that it is to judge."""
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    hook = {
        "name": "bad.example.com",
        "clientConfig": {"url": "https://127.0.0.1:1"},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "objectSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]},
    }
    code, answer = wire("POST", path, {"metadata": {"name": namespace}, "webhooks": [hook]})
    places = [found["field"] for found in answer["details"]["causes"]]
    assert (code, places) == (422, ["webhooks[0].objectSelector.matchExpressions[0].values"])
    assert wire("POST", f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": "a"}})[0] == 201
