"""A real webhook server: called by URL and through a Service, with the certificate that is given, or not at all."""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import threading
from typing import ClassVar

import pytest

from compat.conftest import sleeping_pod
from solo.auth.pki import ensure_pki


class Handler(http.server.BaseHTTPRequestHandler):
    connected: ClassVar[list[dict]] = []

    def do_POST(self):
        self.path = self.path.partition("?")[0]  # the query tells how long the answer may take
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = review["request"]
        if request["operation"] == "CONNECT":
            self.connected.append(request)
        response = {
            "uid": request["uid"],
            "allowed": "bad" not in (request["object"].get("data") or request["object"].get("command") or {}),
        }
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
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"}, "spec": {"ports": [{"port": 443}]}}
    cluster.apply(service, namespace="services")
    assert 'no endpoints available for service "hook"' in cluster.fails("create", "configmap", "c", "-n", namespace)
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
        "ports": [{"name": "", "port": port, "protocol": "TCP"}],
    }
    cluster.apply(endpoints, namespace="services")
    cluster.kubectl("create", "configmap", "c", "-n", namespace)
    assert "denied the request" in cluster.fails("create", "cm", "d", "--from-literal=bad=1", "-n", namespace)
    cluster.kubectl("delete", "validatingwebhookconfiguration", namespace)
    cluster.kubectl("delete", "namespace", "services", "--wait=false")


def test_a_webhook_that_is_not_trusted_or_not_there(cluster, namespace, server):
    port, _ = server
    cluster.apply(configuration("Validating", namespace, {"url": f"https://127.0.0.1:{port}/"}))
    refused = cluster.fails("create", "configmap", "c", "-n", namespace)
    assert 'failed calling webhook "hook.test.example.com"' in refused
    assert "certificate" in refused
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
