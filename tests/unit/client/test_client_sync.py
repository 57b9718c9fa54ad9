"""The sync client over real sockets: verbs, connection reuse, deadlines and messages."""

import asyncio
import json
import socket
import subprocess
import sys
import threading

import pytest
from aiohttp import web

from kube.client.config import KubeConfig, KubeConfigError
from kube.client.sync import ConnectionFailed, StatusError, SyncClient
from kube.machinery.resources import DEPLOYMENTS, NAMESPACES, PODS


async def in_thread(config, call, **options):
    def run():
        with SyncClient(config, **options) as client:
            return call(client)

    return await asyncio.to_thread(run)


async def echo(request):
    body = await request.text()
    return web.json_response(
        {
            "method": request.method,
            "path": request.raw_path,
            "type": request.headers.get("Content-Type"),
            "auth": request.headers.get("Authorization"),
            "body": json.loads(body) if body else None,
        }
    )


def test_importing_it_stays_light():
    heavy = "asyncio", "aiohttp", "cryptography", "yaml"
    code = f"import sys, kube.client.sync; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"


POD = {"metadata": {"name": "x", "namespace": "ns"}}


@pytest.mark.parametrize(
    ("call", "method", "path", "kind", "body"),
    [
        (lambda c: c.get(PODS, "x", "ns"), "GET", "/api/v1/namespaces/ns/pods/x", None, None),
        (lambda c: c.get(PODS, "x"), "GET", "/api/v1/namespaces/default/pods/x", None, None),
        (lambda c: c.get(NAMESPACES, "x"), "GET", "/api/v1/namespaces/x", None, None),
        (
            lambda c: c.list(PODS, label_selector="a in (b,c)", field_selector="spec.nodeName=n"),
            "GET",
            "/api/v1/pods?labelSelector=a+in+%28b%2Cc%29&fieldSelector=spec.nodeName%3Dn",
            None,
            None,
        ),
        (lambda c: c.create(PODS, POD), "POST", "/api/v1/namespaces/ns/pods", "application/json", POD),
        (
            lambda c: c.create(PODS, POD, name="x", subresource="eviction"),
            "POST",
            "/api/v1/namespaces/ns/pods/x/eviction",
            "application/json",
            POD,
        ),
        (lambda c: c.update(PODS, POD), "PUT", "/api/v1/namespaces/ns/pods/x", "application/json", POD),
        (lambda c: c.update_status(PODS, POD), "PUT", "/api/v1/namespaces/ns/pods/x/status", "application/json", POD),
        (
            lambda c: c.patch(DEPLOYMENTS, "d", [{"op": "test"}], "ns", type="json", subresource="status"),
            "PATCH",
            "/apis/apps/v1/namespaces/ns/deployments/d/status",
            "application/json-patch+json",
            [{"op": "test"}],
        ),
        (lambda c: c.delete(PODS, "x", "ns"), "DELETE", "/api/v1/namespaces/ns/pods/x", None, None),
        (
            lambda c: c.delete(PODS, "x", "ns", propagation="Foreground", grace=0, uid="u"),
            "DELETE",
            "/api/v1/namespaces/ns/pods/x",
            "application/json",
            {
                "kind": "DeleteOptions",
                "apiVersion": "v1",
                "propagationPolicy": "Foreground",
                "gracePeriodSeconds": 0,
                "preconditions": {"uid": "u"},
            },
        ),
    ],
)
async def test_verbs(serve, call, method, path, kind, body):
    server = await serve(echo)
    seen = await in_thread(server.config, call)
    assert (seen["method"], seen["path"], seen["type"], seen["body"]) == (method, path, kind, body)


@pytest.mark.parametrize("name", ["", ".", ".."])
@pytest.mark.parametrize(
    "call",
    [
        lambda c, name: c.get(PODS, name, "ns"),
        lambda c, name: c.patch(PODS, name, {}, "ns"),
        lambda c, name: c.delete(PODS, name, "ns"),
        lambda c, name: c.update(PODS, {"metadata": {"name": name, "namespace": "ns"}}),
    ],
)
async def test_a_name_that_would_lead_to_something_else_is_not_found(serve, call, name):
    """The path of a pod without a name is that of all pods: a DELETE there would delete them."""
    server = await serve(echo)
    with pytest.raises(StatusError) as caught:
        await in_thread(server.config, lambda c: call(c, name))
    assert caught.value.code == 404
    assert server.requests == []


async def test_a_namespace_that_would_lead_to_something_else_is_not_found(serve):
    server = await serve(echo)
    with pytest.raises(StatusError, match=r'namespaces "\.\." not found'):
        await in_thread(server.config, lambda c: c.list(PODS, ".."))
    assert server.requests == []


async def test_many_requests_share_one_connection(serve, status_answer):
    async def handler(request):
        return status_answer(404, "NotFound") if request.path.endswith("/gone") else await echo(request)

    server = await serve(handler)

    def calls(client):
        for _ in range(3):
            client.get(PODS, "x")
            with pytest.raises(StatusError):
                client.get(PODS, "gone")
        client.create(PODS, POD)

    await in_thread(server.config, calls)
    assert len(server.requests) == 7
    assert len(server.connections) == 1


async def test_list_items_get_their_kind(serve):
    async def handler(request):
        return web.json_response({"kind": "PodList", "items": [{"metadata": {"name": "x"}}]})

    listing = await in_thread((await serve(handler)).config, lambda c: c.list(PODS))
    assert listing["items"] == [{"metadata": {"name": "x"}, "apiVersion": "v1", "kind": "Pod"}]


async def test_apply_creates_or_merges(serve, status_answer):
    existing = False

    async def handler(request):
        if request.method == "POST" and existing:
            return status_answer(409, "AlreadyExists")
        return await echo(request)

    server = await serve(handler)
    assert (await in_thread(server.config, lambda c: c.apply(PODS, POD)))["method"] == "POST"
    existing = True
    seen = await in_thread(server.config, lambda c: c.apply(PODS, POD))
    assert (seen["method"], seen["type"]) == ("PATCH", "application/merge-patch+json")
    assert seen["path"] == "/api/v1/namespaces/ns/pods/x"


async def test_a_path_prefix_in_the_server_url_is_kept(serve):
    server = await serve(echo)
    config = KubeConfig(f"{server.url}/k8s/c-1")
    assert (await in_thread(config, lambda c: c.get(NAMESPACES, "x")))["path"] == "/k8s/c-1/api/v1/namespaces/x"


async def test_errors_of_the_api(serve, status_answer):
    async def handler(request):
        if "html" in request.path:
            return web.Response(text="<h1>Bad\nGateway</h1>", status=502)
        return status_answer(403, "Forbidden", "you may not")

    server = await serve(handler)
    with pytest.raises(StatusError, match="you may not") as caught:
        await in_thread(server.config, lambda c: c.get(PODS, "x"))
    assert (caught.value.code, caught.value.reason) == (403, "Forbidden")
    with pytest.raises(StatusError, match="HTTP status 502: <h1>Bad Gateway</h1>"):
        await in_thread(server.config, lambda c: c.raw("GET", "/html"))


async def test_refused_credentials_come_with_a_remedy(serve, status_answer):
    async def handler(request):
        return status_answer(401, "Unauthorized")

    server = await serve(handler)
    with pytest.raises(StatusError, match=r"credentials in test.kubeconfig .*get a new kubeconfig") as caught:
        await in_thread(server.config, lambda c: c.get(PODS, "x"))
    assert (caught.value.code, caught.value.reason) == (401, "Unauthorized")


async def test_an_answer_of_something_else_is_not_an_object(serve):
    async def handler(request):
        if "pods" in request.path:
            return web.Response(text="welcome")
        raise web.HTTPFound("/login")

    server = await serve(handler)
    for resource in (PODS, NAMESPACES):
        with pytest.raises(ConnectionFailed, match="not of a Kubernetes API"):
            await in_thread(server.config, lambda c, r=resource: c.get(r, "x"))


def test_nobody_listens():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        config = KubeConfig(f"http://127.0.0.1:{sock.getsockname()[1]}", source="f")
        with SyncClient(config) as client, pytest.raises(ConnectionFailed) as caught:
            client.get(PODS, "x")
    assert caught.value.reason == "unreachable"
    assert "connection refused): start the cluster, or check `server` in f" in str(caught.value)


async def test_a_late_answer_is_a_time_out(serve):
    async def handler(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b" ")
            await asyncio.sleep(0.05)
        return response

    server = await serve(handler)
    with pytest.raises(ConnectionFailed, match="no answer from") as caught:
        await in_thread(server.config, lambda c: c.get(PODS, "x"), timeout=0.2)
    assert caught.value.reason == "timeout"


class ScriptedSocket:
    """A TCP server that answers `script[n]` times on its n-th connection and then closes it."""

    def __init__(self, script, answers=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.config = KubeConfig(f"http://127.0.0.1:{self.listener.getsockname()[1]}")
        self.served = []
        self.may_close = threading.Event()
        self._script = script
        self._answers = answers
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        for rounds, swallow in self._script:
            connection, _ = self.listener.accept()
            with connection:
                connection.settimeout(10)
                for _ in range(rounds):
                    self.served.append(connection.recv(65536).split(b" ", 1)[0])
                    connection.sendall(self._answers)
                if swallow:
                    self.served.append(connection.recv(65536).split(b" ", 1)[0])
        self.may_close.set()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._thread.join(10)
        self.listener.close()


def test_a_dead_idle_connection_is_replaced_before_anything_is_sent():
    with ScriptedSocket([(1, False), (1, False)]) as server, SyncClient(server.config) as client:
        client.get(PODS, "x")
        # The end of the first connection has arrived once its socket is readable.
        client._connection.sock.settimeout(10)
        assert client._connection.sock.recv(1, socket.MSG_PEEK) == b""
        client.create(PODS, POD)
    assert server.served == [b"GET", b"POST"]


def test_a_read_is_repeated_once_when_a_reused_connection_breaks():
    with ScriptedSocket([(1, True), (1, False)]) as server, SyncClient(server.config) as client:
        client.get(PODS, "x")
        assert client.get(PODS, "y") == {}
    assert server.served == [b"GET", b"GET", b"GET"]


def test_a_write_is_never_repeated():
    with ScriptedSocket([(1, True)]) as server, SyncClient(server.config) as client:
        client.get(PODS, "x")
        with pytest.raises(ConnectionFailed, match="broke") as caught:
            client.create(PODS, POD)
    assert caught.value.reason == "lost"
    assert server.served == [b"GET", b"POST"]


def test_a_body_cut_short_is_an_error():
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}"
    with (
        ScriptedSocket([(1, False)], cut) as server,
        SyncClient(server.config) as client,
        pytest.raises(ConnectionFailed),
    ):
        client.get(PODS, "x")


async def test_a_token_file_is_read_again_when_it_changes(serve, tmp_path):
    server = await serve(echo)
    token = tmp_path / "token"
    config = KubeConfig(server.url, token_file=str(token))
    with pytest.raises(KubeConfigError, match=r"cannot read the token file .*token"):
        await in_thread(config, lambda c: c.get(PODS, "x"))

    def calls(client):
        seen = []
        for text in ("one\n", "second\n"):
            token.write_text(text)
            seen.append(client.get(PODS, "x")["auth"])
        token.unlink()
        return [*seen, client.get(PODS, "x")["auth"]]

    assert await in_thread(config, calls) == ["Bearer one", "Bearer second", "Bearer second"]


async def test_tls_with_a_client_certificate(serve, server_tls, authority):
    async def handler(request):
        subject = request.transport.get_extra_info("peercert")["subject"]
        return web.json_response({"subject": subject[0][0][1]})

    server = await serve(handler, server_tls)
    cert, key = authority.issue("alice")
    config = KubeConfig(server.url, authority.pem, client_cert_data=cert, client_key_data=key)
    assert await in_thread(config, lambda c: c.get(PODS, "x")) == {"subject": "alice"}
    by_address = KubeConfig(
        server.url.replace("localhost", "127.0.0.1"), authority.pem, False, cert, key, tls_server_name="localhost"
    )
    assert await in_thread(by_address, lambda c: c.get(PODS, "x")) == {"subject": "alice"}


async def test_tls_failures_say_what_is_wrong(serve, server_tls, authority):
    server = await serve(echo, server_tls)
    cert, key = authority.issue("alice")
    stranger = type(authority).make()
    wrong = KubeConfig(server.url, stranger.pem, client_cert_data=cert, client_key_data=key, source="f")
    with pytest.raises(ConnectionFailed, match=r"certificate of https://localhost:\d+ is not trusted .*: f belongs to"):
        await in_thread(wrong, lambda c: c.get(PODS, "x"))
    other_cert, other_key = stranger.issue("mallory")
    refused = KubeConfig(server.url, authority.pem, client_cert_data=other_cert, client_key_data=other_key, source="f")
    with pytest.raises(ConnectionFailed) as caught:
        await in_thread(refused, lambda c: c.get(PODS, "x"))
    # asyncio's TLS server hangs up without the alert that OpenSSL prepared for us.
    assert "the client certificate in f" in str(caught.value)


async def test_speaking_tls_to_a_plain_server(serve):
    server = await serve(echo)
    config = KubeConfig(server.url.replace("http", "https"), source="f")
    with pytest.raises(ConnectionFailed, match="does not speak TLS; check `server` in f"):
        await in_thread(config, lambda c: c.get(PODS, "x"))


def test_certificates_that_do_not_load():
    with pytest.raises(KubeConfigError, match="certificate authority in f is not a PEM"):
        SyncClient(KubeConfig("https://h", b"junk", source="f"))
    with pytest.raises(KubeConfigError, match="client certificate and key in f do not load"):
        SyncClient(KubeConfig("https://h", None, True, b"junk", b"junk", source="f"))


async def test_watch_yields_events_and_ends_in_time(serve, watch_answer):
    async def handler(request):
        watch = await watch_answer(request)
        await watch.event("ADDED", {"n": "ü" * 100_000})
        await watch.event("DELETED", {"n": 2})
        await asyncio.sleep(5)
        return watch.response

    server = await serve(handler)
    events = await in_thread(server.config, lambda c: list(c.watch(PODS, "ns", "7", timeout=1)))
    assert [(event["type"], len(str(event["object"]["n"]))) for event in events] == [("ADDED", 100_000), ("DELETED", 1)]
    assert server.requests == ["GET /api/v1/namespaces/ns/pods?watch=true&resourceVersion=7&timeoutSeconds=1"]


async def test_watch_reports_an_old_resource_version(serve, watch_answer):
    async def handler(request):
        watch = await watch_answer(request)
        await watch.event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})
        return watch.response

    with pytest.raises(StatusError, match="too old") as caught:
        await in_thread((await serve(handler)).config, lambda c: list(c.watch(PODS, "ns", "7")))
    assert caught.value.code == 410


@pytest.mark.parametrize("how", ["abort", "close"])
async def test_a_watch_that_breaks_is_not_taken_for_one_that_ended(serve, watch_answer, how):
    async def handler(request):
        watch = await watch_answer(request)
        await watch.event("ADDED", {})
        getattr(request.transport, how)()
        return watch.response

    with pytest.raises(ConnectionFailed) as caught:
        await in_thread((await serve(handler)).config, lambda c: list(c.watch(PODS, "ns", "7", timeout=20)))
    assert caught.value.reason == "lost"
