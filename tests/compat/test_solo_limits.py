"""Hostile and slow clients: each gets a clear answer or is dropped, and the others notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from compat.servers import address, server_with
from kube.client.config import load_kubeconfig
from kube.client.sync import SyncClient
from kube.client.transport import tls_context
from kube.machinery.errors import StatusError
from kube.machinery.resources import CONFIGMAPS, CRDS

IDLE_WATCHES = 200
SETTINGS = (
    "from solo.http import connections, watchstreams; connections.IDLE_SECONDS = 1.0; watchstreams.WRITE_SECONDS = 1.0"
)
PATH = "/api/v1/namespaces/default/configmaps"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("limits")


@pytest.fixture(scope="module")
def kubeconfig(directory):
    with server_with(directory, SETTINGS) as path:
        yield path


@pytest.fixture
def client(kubeconfig):
    with SyncClient(load_kubeconfig(str(kubeconfig)), timeout=30) as client:
        yield client


def memory(directory: Path) -> int:
    """Bytes of the server that are in memory."""
    pid = int((directory / "data" / "solo.pid").read_text())
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def config_map(**fields) -> bytes:
    return json.dumps({"metadata": {"generateName": "x-"}, **fields}).encode()


NESTED = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "nests.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "nests", "kind": "Nest"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}
ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
RULE = {"apiGroups": ["x" * 1000], "resources": ["y"], "verbs": ["get"]}
BOMB = b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
BOMB += b"".join(b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 10))


@pytest.mark.parametrize(
    ("path", "body", "media_type", "code", "says"),
    [
        (PATH, b'{"a":"' + b"x" * (3 << 20) + b'"}', "json", 413, "limit is 3145728"),
        (PATH, b'{"a":' * 500 + b"1" + b"}" * 500, "json", 400, "nested"),
        (PATH, b'{"a":' * 500_000, "json", 400, "nested"),
        (PATH, b"a:\n " + b"- " * 500 + b"x", "yaml", 400, "nested"),
        (PATH, b"a: " + b"[" * 3_000_000, "yaml", 400, "nesting"),
        (PATH, BOMB, "yaml", 400, "aliases expand to too much"),
        (f"{PATH}?fieldValidation=Strict", b"a: 1\n" * 20_000, "yaml", 400, "already set"),
        (PATH, config_map(data={"k": "x" * 1_500_000}), "json", 422, "may not be more than 1048576 bytes"),
        (
            PATH,
            b'{"metadata":{"name":"a","annotations":{"k":"' + b"x" * 262_145 + b'"}}}',
            "json",
            422,
            "may not be more than 262144 bytes",
        ),
        (
            ROLES,
            json.dumps({"metadata": {"name": "big"}, "rules": [RULE] * 1600}).encode(),
            "json",
            413,
            "is too large: ",
        ),
    ],
    ids=["body", "deep", "deeper", "deep-yaml", "deeper-yaml", "bomb", "keys", "data", "annotations", "object"],
)
def test_too_much_is_refused_clearly(client, path, body, media_type, code, says):
    with pytest.raises(StatusError) as caught:
        client.raw("POST", path, body, {"Content-Type": f"application/{media_type}"})
    assert caught.value.code == code and says in caught.value.message
    started = time.monotonic()
    assert client.raw("GET", "/readyz") == b"ok"
    assert time.monotonic() - started < 20


def test_patches_that_grow_are_refused(client):
    client.create(CONFIGMAPS, {"metadata": {"name": "grows"}, "data": {"k": "x" * 1000}}, "default")
    copies = [{"op": "copy", "from": "/data", "path": f"/data/{n}"} for n in range(40)]
    for patch, code in ((copies, 422), ([{"op": "test", "path": "/data", "value": 1}] * 10_001, 413)):
        with pytest.raises(StatusError) as caught:
            client.patch(CONFIGMAPS, "grows", patch, "default", type="json")
        assert caught.value.code == code


def test_what_is_not_too_deep_is_stored_and_patched(client):
    client.create(CRDS, NESTED)
    path, media = "/apis/example.com/v1/namespaces/default/nests", {"Content-Type": "application/json"}
    deep = b'{"a":' * 190 + b"1" + b"}" * 190
    head = b'{"apiVersion":"example.com/v1","kind":"Nest","metadata":{"name":"n"},"spec":'
    client.raw("POST", path, head + deep + b"}", media)
    for kind in ("merge-patch+json", "apply-patch+yaml"):
        patch = head + deep.replace(b"1", b"2") + b"}"
        query = "?fieldManager=test&force=true" if kind.startswith("apply") else ""
        client.raw("PATCH", f"{path}/n{query}", patch, {"Content-Type": f"application/{kind}"})
    patch = b'[{"op":"add","path":"/spec/b","value":%s}]' % deep
    client.raw("PATCH", f"{path}/n", patch, {"Content-Type": "application/json-patch+json"})
    assert client.raw("GET", f"{path}/n").count(b'"a":') == 380
    patch = b'[{"op":"add","path":"/spec/b%s/c","value":%s}]' % (b"/a" * 189, deep)
    with pytest.raises(StatusError, match="nested more than 200 levels deep"):
        client.raw("PATCH", f"{path}/n", patch, {"Content-Type": "application/json-patch+json"})


def tls(kubeconfig) -> ssl.SSLContext:
    return tls_context(load_kubeconfig(str(kubeconfig)))


@pytest.mark.parametrize("sent", [b"", b"GET /version HTTP/1.1\r\n", b"GET /version HTTP/1.1\r\nHost: x\r\n\r\nGET /v"])
def test_headers_that_do_not_come_are_given_up(kubeconfig, sent):
    """Also when something comes all the time, and after a request that was whole."""
    plain = socket.create_connection(address(kubeconfig), timeout=10)
    with plain, tls(kubeconfig).wrap_socket(plain, server_hostname="localhost") as slow:
        slow.sendall(sent)
        slow.settimeout(0.1)
        started = time.monotonic()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while time.monotonic() - started < 60:
                with contextlib.suppress(TimeoutError):
                    if slow.recv(4096) == b"":
                        break
                if sent:
                    slow.sendall(b"x")
        assert time.monotonic() - started < 30


def test_a_watcher_that_does_not_read_is_dropped(kubeconfig, directory, client):
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.settimeout(20)
    plain.connect(address(kubeconfig))
    with plain, tls(kubeconfig).wrap_socket(plain, server_hostname="localhost") as frozen:
        frozen.sendall(f"GET {PATH}?watch=1 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert frozen.recv(1)
        before = memory(directory)
        client.create(CONFIGMAPS, {"metadata": {"name": "changes"}}, "default")
        end = time.monotonic() + 30
        while "dropped a watcher" not in (directory / "log").read_text():
            assert time.monotonic() < end, "it was not dropped"
            client.patch(CONFIGMAPS, "changes", {"data": {"k": "x" * 200_000, "n": str(end)}}, "default")
            client.patch(CONFIGMAPS, "changes", {"data": {"k": "y" * 200_000}}, "default")
        assert memory(directory) - before < 100 << 20
        with pytest.raises((ConnectionError, ssl.SSLError, AssertionError)):
            while True:
                assert frozen.recv(1 << 16) != b""


@contextlib.asynccontextmanager
async def watch(kubeconfig, context: ssl.SSLContext) -> AsyncIterator[asyncio.StreamReader]:
    """An open watch of what is labelled `for=all`."""
    reader, writer = await asyncio.open_connection(*address(kubeconfig), ssl=context, server_hostname="localhost")
    try:
        writer.write(f"GET {PATH}?watch=1&labelSelector=for=all HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        yield reader
    finally:
        writer.transport.abort()


@pytest.mark.timeout(400)
async def test_many_idle_watches_do_not_hurt_others(kubeconfig, directory):
    context = tls(kubeconfig)
    before = memory(directory)
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(240):
        # One after another: this server closes a connection without a request after a second.
        watches = [await stack.enter_async_context(watch(kubeconfig, context)) for _ in range(IDLE_WATCHES)]
        per_watch = (memory(directory) - before) / IDLE_WATCHES
        assert per_watch < 200_000
        await asyncio.to_thread(_write_with_others_waiting, kubeconfig)
        for reader in watches:
            await reader.readuntil(b"is-last")


def _write_with_others_waiting(kubeconfig) -> None:
    with SyncClient(load_kubeconfig(str(kubeconfig))) as client:
        started = time.monotonic()
        for number in range(20):
            client.create(CONFIGMAPS, {"metadata": {"name": f"quiet-{number}"}}, "default")
        assert time.monotonic() - started < 60
        meta = {"name": "is-last", "labels": {"for": "all"}}
        client.create(CONFIGMAPS, {"metadata": meta}, "default")
