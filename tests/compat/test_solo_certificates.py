"""TLS, identities and the renewal of certificates, with real servers and from outside."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import subprocess
import sys
import time
import warnings

import pytest
from cryptography import x509

from compat.servers import address, server_with
from kube.client.config import load_kubeconfig
from kube.client.sync import SyncClient
from kube.machinery.resources import CONFIGMAPS, PODS, SERVICEACCOUNTS
from solo.auth.pki import ensure_pki
from solo.testing import run_server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with run_server(tmp_path_factory.mktemp("server")) as running:
        yield running


def ask(kubeconfig, method: str, path: str, token: str = "", body: str | None = None) -> tuple[int, str]:
    """A request without a client certificate."""
    config = load_kubeconfig(str(kubeconfig))
    context = ssl.create_default_context(cadata=config.ca_data.decode())
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connection = http.client.HTTPSConnection(*address(kubeconfig), context=context, timeout=20)
    with contextlib.closing(connection):
        connection.request(method, path, body, {**headers, "Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def served_certificate(kubeconfig) -> x509.Certificate:
    context = ssl.create_default_context(cadata=load_kubeconfig(str(kubeconfig)).ca_data.decode())
    plain = socket.create_connection(address(kubeconfig), timeout=20)
    with plain, context.wrap_socket(plain, server_hostname="localhost") as tls:
        return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True))


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/version"])
def test_anonymous_may_ask_how_it_is(server, path):
    assert ask(server.kubeconfig, "GET", path)[0] == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/api"),
        ("GET", "/apis"),
        ("GET", "/api/v1"),
        ("GET", "/openapi/v2"),
        ("GET", "/openapi/v3"),
        ("GET", "/metrics"),
        ("GET", "/api/v1/namespaces"),
        ("GET", "/api/v1/namespaces/default/secrets"),
        ("GET", "/api/v1/namespaces/default/pods?watch=1"),
        ("GET", "/api/v1/namespaces/default/pods/x/log"),
        ("POST", "/api/v1/namespaces/default/pods/x/exec?command=id"),
        ("POST", "/api/v1/namespaces/default/configmaps"),
        ("PATCH", "/api/v1/namespaces/default/configmaps/x"),
        ("DELETE", "/api/v1/namespaces/default/configmaps"),
        ("POST", "/api/v1/namespaces/default/serviceaccounts/default/token"),
        ("POST", "/apis/authentication.k8s.io/v1/tokenreviews"),
        ("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews"),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"),
        ("POST", "/version"),
        ("GET", "/healthz/../api/v1/secrets"),
        ("GET", "/nothing"),
    ],
)
def test_anonymous_gets_nothing_else(server, method, path):
    status, text = ask(server.kubeconfig, method, path, body="{}" if method != "GET" else None)
    assert status == 403
    shown = json.loads(text)
    assert (shown["kind"], shown["reason"]) == ("Status", "Forbidden") and "system:anonymous" in shown["message"]


def test_tokens(server):
    with server.client() as client:
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        answer = client.create(SERVICEACCOUNTS, request, "default", name="default", subresource="token")
    token = answer["status"]["token"]
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    status, text = ask(server.kubeconfig, "POST", path, token, "{}")
    assert status == 201
    assert json.loads(text)["status"]["userInfo"]["username"] == "system:serviceaccount:default:default"
    head, claims, signature = token.split(".")
    for bad in (f"{head}.{claims}.{signature[:-4]}AAAA", f"{head}.{claims}.", "nonsense"):
        assert ask(server.kubeconfig, "GET", "/version", bad)[0] == 401


def test_only_tls_of_today(server):
    with socket.create_connection(address(server.kubeconfig), timeout=20) as plain:
        plain.sendall(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" not in plain.recv(4096)
    assert handshake(server.kubeconfig, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert handshake(server.kubeconfig, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol|alert"):
        handshake(server.kubeconfig, ssl.TLSVersion.TLSv1_1)


def handshake(kubeconfig, version: ssl.TLSVersion) -> str | None:
    """The version agreed on by a client that knows one version only, and would take any cipher."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.options &= ~(ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1)
        context.minimum_version = context.maximum_version = version
    with socket.create_connection(address(kubeconfig), timeout=20) as plain, context.wrap_socket(plain) as tls:
        return tls.version()


def test_a_certificate_of_another_ca_is_refused(server, tmp_path):
    foreign = ensure_pki(tmp_path, "host")
    config = load_kubeconfig(str(server.kubeconfig))
    context = ssl.create_default_context(cadata=config.ca_data.decode())
    context.load_cert_chain(foreign.admin.cert_path, foreign.admin.key_path)
    connection = http.client.HTTPSConnection(*address(server.kubeconfig), context=context, timeout=20)
    with contextlib.closing(connection), pytest.raises((ssl.SSLError, ConnectionError)):
        connection.request("GET", "/version")
        connection.getresponse()


def wait_for(what, seconds: float = 40.0):
    """The first true value of `what`."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.2)
    return found


def test_a_running_server_takes_up_renewed_certificates(tmp_path):
    with server_with(tmp_path, "from solo.auth import rotation; rotation.CHECK_SECONDS = 0.3") as kubeconfig:
        before, text = served_certificate(kubeconfig), kubeconfig.read_text()
        with SyncClient(load_kubeconfig(str(kubeconfig))) as client:
            version = client.list(CONFIGMAPS, "default")["metadata"]["resourceVersion"]
            with contextlib.closing(
                client.watch(CONFIGMAPS, "default", resource_version=version, timeout=60)
            ) as open_one:
                command = [sys.executable, "-m", "solo", "certs", "renew", "--data", str(tmp_path / "data")]
                done = subprocess.run(command, capture_output=True, text=True, timeout=60)
                assert done.returncode == 0, done.stderr
                assert [line.split()[0] for line in done.stdout.splitlines()] == [
                    "admin.crt",
                    "server.crt",
                ]
                wait_for(lambda: kubeconfig.read_text() != text)
                assert served_certificate(kubeconfig).serial_number != before.serial_number
                assert kubeconfig.stat().st_mode & 0o777 == 0o600
                with SyncClient(load_kubeconfig(str(kubeconfig))) as renewed:
                    renewed.create(CONFIGMAPS, {"metadata": {"name": "a"}}, "default")
                # A connection of before goes on, and the old certificate is good until it ends.
                assert any(event["object"]["metadata"]["name"] == "a" for event in open_one)


def test_certificates_are_renewed_before_they_end(tmp_path):
    """Certificates of ten seconds, made anew nine seconds before their end: a busy machine has time for it."""
    settings = (
        "from datetime import timedelta; from solo.auth import certificates, rotation; rotation.CHECK_SECONDS = 0.2; "
    )
    settings += "certificates.LEAF_LIFETIME = timedelta(seconds=10); certificates.RENEW_BEFORE = timedelta(seconds=9)"
    with server_with(tmp_path, settings) as kubeconfig:
        first, started = served_certificate(kubeconfig), time.monotonic()
        serials = set()
        while time.monotonic() < started + 10.5:
            serials.add(served_certificate(kubeconfig).serial_number)  # the handshake checks that it is valid now
            with SyncClient(load_kubeconfig(str(kubeconfig))) as client:
                client.list(CONFIGMAPS, "default")
            time.sleep(0.3)
        assert serials - {first.serial_number}
        with SyncClient(load_kubeconfig(str(kubeconfig))) as client:
            spec = {"containers": [{"name": "c", "image": "host", "command": ["true"]}], "restartPolicy": "Never"}
            client.create(PODS, {"metadata": {"name": "p"}, "spec": spec}, "default")
            # The node agent shows its renewed certificate too.
            wait_for(lambda: client.get(PODS, "p", "default")["status"].get("phase") == "Succeeded")
