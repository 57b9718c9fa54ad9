"""Downloads: who may be asked, who is told a password, what a server's certificate and a checksum have to be."""

import base64
import contextlib
import datetime
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import tls_server
from vmruntime.engines.qemu import http_dial
from vmruntime.engines.qemu.hashing import Hasher
from vmruntime.engines.qemu.http_request import Access, Limits, Requester
from vmruntime.engines.qemu.http_source import HttpSource
from vmruntime.engines.qemu.s3_access import S3Access
from vmruntime.engines.qemu.source_kinds import Origin, open_source
from vmruntime.engines.qemu.sources import SourceError

CONTENT = os.urandom(200_000)
QUICK = Limits(connect=2, stall=1, failures=2, pause=0.01)
AS_CDI = Access("key", "secret")
OPEN = Access()


def opened(url, access=OPEN):
    return HttpSource(url, QUICK, Requester(QUICK, access), Hasher())


def fetch(url, access=OPEN):
    source = opened(url, access)
    try:
        source.open()
        return b"".join(source.pieces())
    finally:
        source.close()


@pytest.fixture
def names(monkeypatch):
    """Names that stand for addresses of the test's choice; connections to any of them end at loopback."""
    table = {}

    def lookup(host, port, **_more):
        family = socket.AF_INET6 if ":" in table.get(host, host) else socket.AF_INET
        return [(family, socket.SOCK_STREAM, 6, "", (table.get(host, host), port))]

    monkeypatch.setattr(http_dial.socket, "getaddrinfo", lookup)
    return table


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "fe80::1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "fd00:ec2::254",
        "100.100.100.200",
        "224.0.0.1",
    ],
)
def test_metadata_and_link_local_addresses_are_never_asked(server, names, address):
    names["images.example"] = address
    with pytest.raises(SourceError, match="metadata addresses") as caught:
        fetch("http://images.example/d")
    assert caught.value.reason == "NotAllowed" and not caught.value.temporary
    server.redirects["/d"] = "http://images.example/d"
    with pytest.raises(SourceError, match="metadata addresses"):
        fetch(server.url + "/d")


class Elsewhere(socket.socket):
    """Believes itself connected to an address out in the world, and is connected to loopback."""

    def connect(self, where):
        super().connect(("127.0.0.1", where[1]))

    def getpeername(self):
        return ("192.0.2.1", 80)


@pytest.mark.parametrize("target", ["127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::ffff:127.0.0.1"])
def test_a_server_out_there_does_not_lead_to_this_host(server, names, monkeypatch, target):
    names["images.example"], names["inner.example"] = "192.0.2.1", target
    monkeypatch.setattr(http_dial.socket, "socket", Elsewhere)
    port = server.http.server_port
    server.files["/d"] = CONTENT
    server.redirects["/away"] = f"http://inner.example:{port}/d"
    with pytest.raises(SourceError, match=r"leads to inner.example .*this host itself: refused") as caught:
        fetch(f"http://images.example:{port}/away")
    assert caught.value.reason == "NotAllowed"
    assert fetch(f"http://images.example:{port}/d") == CONTENT


def test_a_server_on_this_host_may_lead_to_another_one_here(server):
    server.files["/d"] = CONTENT
    server.redirects["/a"] = f"http://localhost:{server.http.server_port}/d"
    assert fetch(server.url + "/a") == CONTENT


def test_the_password_goes_to_the_server_of_the_url_only(server):
    server.files["/d"] = CONTENT
    server.redirects = {"/same": "/d", "/other": f"http://localhost:{server.http.server_port}/d"}
    expected = "Basic " + base64.b64encode(b"key:secret").decode()
    assert fetch(server.url + "/same", AS_CDI) == fetch(server.url + "/other", AS_CDI) == CONTENT
    assert server.authorization == [expected, expected, expected, ""]
    assert "secret" not in repr(AS_CDI)


def test_requests_are_signed_as_amazon_documents():
    """The example "GET Bucket (List Objects)" of the S3 API reference: it has exactly the headers signed here."""
    access = S3Access("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    when = datetime.datetime(2013, 5, 24, tzinfo=datetime.UTC)
    headers = access.signed(urlsplit("https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J"), when)
    assert headers["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=host;x-amz-content-sha256;x-amz-date,"
        "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    )
    assert headers["x-amz-date"] == "20130524T000000Z"


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("s3.eu-central-1.amazonaws.com", "eu-central-1"),
        ("bucket.s3.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("bucket.s3.dualstack.ap-south-1.amazonaws.com", "ap-south-1"),
        ("minio.example:9000", "us-east-1"),
    ],
)
def test_the_region_is_in_the_name_of_the_host(host, region):
    headers = S3Access("key", "secret").headers(urlsplit(f"https://{host}/bucket/object"))
    assert f"/{region}/s3/aws4_request" in headers["Authorization"]


def test_an_object_is_fetched_signed_or_without_a_key(server):
    server.files["/bucket/d"] = CONTENT
    assert fetch(server.url + "/bucket/d", S3Access("key", "secret")) == CONTENT
    assert fetch(server.url + "/bucket/d", S3Access()) == CONTENT
    signed, anonymous = server.authorization
    assert signed.startswith("AWS4-HMAC-SHA256 Credential=key/") and "secret" not in signed
    assert anonymous == ""


def test_a_resumed_download_has_the_password_too(server):
    server.files["/d"] = CONTENT
    server.breaks = [100_000]
    assert fetch(server.url + "/d", AS_CDI) == CONTENT
    assert len(set(server.authorization)) == 1 and server.authorization[0]


def test_a_server_that_announces_more_than_it_sends_is_given_up(server):
    server.files["/d"] = CONTENT
    server.lie = len(CONTENT) + 10
    server.ranges = False
    with pytest.raises(SourceError, match=f"broke off after {len(CONTENT)} of {len(CONTENT) + 10} bytes"):
        fetch(server.url + "/d")


def test_a_range_that_brings_more_than_was_announced_is_an_error(server):
    server.files["/d"] = CONTENT
    server.lie = 150_000
    server.breaks = [100_000]
    source = opened(server.url + "/d")
    source.open()
    with pytest.raises(SourceError, match=r"changed while|more of"):
        b"".join(source.pieces())
    source.close()


@pytest.fixture
def authority(server, tmp_path):
    """Puts the server behind TLS; the PEM of who vouches for it."""
    context, pem = tls_server.make(tmp_path)
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    server.url = server.url.replace("http:", "https:")
    return pem


def test_a_certificate_of_ones_own_authority_is_believed_only_when_it_is_given(server, authority):
    server.files["/d"] = CONTENT
    with pytest.raises(SourceError, match="its certificate is not trusted") as caught:
        fetch(server.url + "/d")
    assert not caught.value.temporary
    assert fetch(server.url + "/d", Access(certificates=authority)) == CONTENT
    server.redirects["/plain"] = "http://127.0.0.1:1/d"
    with pytest.raises(SourceError, match="http URL, which is refused"):
        fetch(server.url + "/plain", Access(certificates=authority))


def test_what_is_no_certificate_is_told():
    with pytest.raises(SourceError, match="CA certificates cannot be read") as caught:
        fetch("https://127.0.0.1:1/", Access(certificates="nonsense"))
    assert caught.value.reason == "InvalidCertificate"


def test_hash_of_what_came(server):
    server.files["/d"] = CONTENT
    source = opened(server.url + "/d")
    source.open()
    for _ in source.pieces():
        pass
    source.close()
    assert source.seen.hexdigest() == hashlib.sha256(CONTENT).hexdigest()
    assert source.validator == '"one"'


class Drip(threading.Thread):
    """A server that sends `head` at once and then one byte now and then."""

    def __init__(self, head: bytes) -> None:
        super().__init__()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(5)
        self._head = head
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/d"
        self.stop = threading.Event()

    def run(self) -> None:
        with self._listener:
            while not self.stop.is_set():
                with contextlib.suppress(OSError), self._listener.accept()[0] as connection:
                    connection.recv(4096)
                    connection.sendall(self._head)
                    while not self.stop.wait(0.02):
                        connection.sendall(b"x")


@pytest.mark.parametrize(
    ("head", "reason"),
    [(b"HTTP/1.1 200 ", "Unreachable"), (b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n", "Interrupted")],
)
def test_a_server_that_sends_a_byte_now_and_then_is_given_up(head, reason):
    drip = Drip(head)
    drip.start()
    limits = Limits(connect=2, stall=0.2, failures=2, pause=0.01)
    source = HttpSource(drip.url, limits, Requester(limits, OPEN), Hasher())
    try:
        began = time.monotonic()
        with pytest.raises(SourceError) as caught:
            source.open()
            list(source.pieces())
        assert caught.value.reason == reason and caught.value.temporary
        assert time.monotonic() - began < 30
    finally:
        source.close()
        drip.stop.set()
        drip.join()


# --- Cloud Storage ---


@pytest.fixture(scope="module")
def key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Google:
    """Where keys are exchanged for tokens, and a bucket that wants one."""

    def __init__(self, server, key) -> None:
        self.server, self.key = server, key
        self.account = {
            "type": "service_account",
            "client_email": "reader@project.example",
            "private_key_id": "k1",
            "private_key": key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ).decode(),
            "token_uri": f"{server.url}/token",
        }
        server.files["/bucket/image.raw"] = CONTENT
        server.wanted["/bucket/image.raw"] = "Bearer granted"
        server.posts["/token"] = self.grant

    def grant(self, form):
        if form.get("grant_type") == "urn:ietf:params:oauth:grant-type:jwt-bearer":
            claims = jwt.decode(
                form["assertion"], self.key.public_key(), algorithms=["RS256"], audience=self.account["token_uri"]
            )
            assert jwt.get_unverified_header(form["assertion"])["kid"] == "k1"
            assert claims["scope"] == "https://www.googleapis.com/auth/devstorage.read_only"
            fine = claims["iss"] == self.account["client_email"]
        else:
            fine = form == {"grant_type": "refresh_token", "client_id": "i", "client_secret": "s", "refresh_token": "r"}
        return (200, {"access_token": "granted", "expires_in": 3599}) if fine else (400, {"error": "invalid_grant"})

    def fetch(self, credentials, name="image.raw"):
        text = credentials if isinstance(credentials, str) else json.dumps(credentials)
        source = open_source(Origin(f"gs://bucket/{name}", google=text, gcs=self.server.url), limits=QUICK)
        try:
            return b"".join(source.pieces())
        finally:
            source.close()


@pytest.fixture
def google(server, key):
    return Google(server, key)


def test_a_private_object_with_the_key_of_a_service_account(google):
    assert google.fetch(google.account) == CONTENT
    google.server.breaks = [100_000]  # and the rest of it
    assert google.fetch(google.account) == CONTENT


def test_a_private_object_with_a_users_refresh_token(google):
    user = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}
    assert google.fetch({**user, "token_uri": google.account["token_uri"]}) == CONTENT


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"client_email": "nobody@project.example"}, "refused the credentials: 400 invalid_grant"),
        ({"private_key": "-----BEGIN PRIVATE KEY-----\nno"}, "private_key of the credentials cannot be read"),
        ({"type": "external_account"}, "type 'external_account' are not supported"),
        ({"client_email": ""}, "lack client_email"),
        ({"token_uri": "http://198.51.100.1/token"}, "no https address"),
        ({"token_uri": "https://169.254.169.254/token"}, "metadata"),
    ],
)
def test_credentials_of_no_use_are_told_without_showing_them(google, change, words):
    with pytest.raises(SourceError, match=words) as caught:
        google.fetch(google.account | change)
    assert not caught.value.temporary and "BEGIN" not in str(caught.value)


def test_credentials_that_are_no_json(google):
    with pytest.raises(SourceError, match="no JSON text"):
        google.fetch("{")


def test_an_object_without_the_right_to_it(google):
    google.server.wanted["/bucket/image.raw"] = "Bearer of somebody else"
    with pytest.raises(SourceError, match="403"):
        google.fetch(google.account)


def test_the_program_gets_the_key_and_the_servers_address_by_its_environment(google, tmp_path):
    command = [sys.executable, "-P", "-m", "vmruntime.engines.qemu.importer", "--url", "gs://bucket/image.raw"]
    command += ["--format", "raw", "--size", str(1 << 20), "--dest", str(tmp_path / "disk.raw")]
    secrets = {"IMPORT_GOOGLE_CREDENTIALS": json.dumps(google.account), "STORAGE_EMULATOR_HOST": google.server.url}
    done = subprocess.run(command, env={**os.environ, **secrets}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "disk.raw").read_bytes()[: len(CONTENT)] == CONTENT
