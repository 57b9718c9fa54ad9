"""Port forwarding to a pod, with kubectl and over the channels of a WebSocket."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import urllib.request

import pytest

from kube.client.aio import AsyncClient
from kube.client.config import load_kubeconfig
from kube.client.streams import port_forward

SERVER = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.path.encode() * 20000
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print("port", server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def web_pod(cluster, namespace):
    """A pod that serves HTTP, and its port."""
    container = {"name": "c", "image": "host", "command": [sys.executable, "-c", SERVER]}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec}, namespace=namespace)
    cluster.kubectl("wait", "-n", namespace, "--for=condition=Ready", "pod/web", "--timeout=20s")
    with subprocess.Popen(
        [*cluster.command, "logs", "-f", "-n", namespace, "web"],
        stdout=subprocess.PIPE,
        text=True,
    ) as logs:
        found = re.match(r"port (\d+)", logs.stdout.readline())
        logs.terminate()
    return namespace, int(found[1])


def test_kubectl_forwards_many_connections(cluster, web_pod):
    namespace, port = web_pod
    command = [*cluster.command, "port-forward", "-n", namespace, "pod/web", f":{port}"]
    environment = {**os.environ, "HOME": str(cluster.directory)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as forward:
        try:
            line = forward.stdout.readline()
            assert "Forwarding from" in line, forward.stderr.read()
            local = int(re.search(r"127.0.0.1:(\d+)", line)[1])
            for path in ("/a", "/bb", "/ccc"):
                with urllib.request.urlopen(f"http://127.0.0.1:{local}{path}", timeout=10) as answer:
                    assert answer.read() == path.encode() * 20000
        finally:
            forward.terminate()


def test_channels(cluster, web_pod):
    namespace, port = web_pod

    async def fetch():
        async with (
            AsyncClient(load_kubeconfig(str(cluster.kubeconfig))) as client,
            port_forward(client, namespace, "web", port) as stream,
        ):
            await stream.send(b"GET /x HTTP/1.0\r\n\r\n")
            return b"".join([data async for data in stream])

    assert asyncio.run(fetch()).endswith(b"\r\n\r\n" + b"/x" * 20000)
