"""Real servers for the client's tests: scripted answers over real sockets, with and without TLS."""

import asyncio
import datetime
import json
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kube.client.config import KubeConfig

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Authority:
    """A certificate authority that issues what a test needs."""

    key: ec.EllipticCurvePrivateKey
    cert: x509.Certificate

    @property
    def pem(self) -> bytes:
        return self.cert.public_bytes(serialization.Encoding.PEM)

    @classmethod
    def make(cls):
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(key, _certificate("test-ca", key.public_key(), "test-ca", key, ca=True))

    def issue(self, name: str, *dns: str) -> tuple[bytes, bytes]:
        """(certificate, key) as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        cert = _certificate(name, key.public_key(), "test-ca", self.key, dns=dns)
        pem = serialization.Encoding.PEM
        secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return cert.public_bytes(pem), secret


def _certificate(subject, public_key, issuer, signer, ca=False, dns=()):
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if dns:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in dns]), critical=False
        )
    return builder.sign(signer, hashes.SHA256())


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority.make()


@pytest.fixture
def server_tls(authority, tmp_path) -> ssl.SSLContext:
    """A server's TLS for `localhost` that demands a client certificate of the authority."""
    cert, key = authority.issue("server", "localhost")
    (tmp_path / "server.pem").write_bytes(cert + key)
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    context.load_verify_locations(tmp_path / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


class Server:
    """One scripted API server on loopback; `requests` records METHOD and path with query."""

    def __init__(self, handler: Handler, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[str] = []
        self.connections: set[object] = set()
        self._handler = handler
        self._tls = tls
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://localhost:{self.port}"

    @property
    def config(self) -> KubeConfig:
        return KubeConfig(self.url, source="test.kubeconfig")

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.raw_path}")
        self.connections.add(request.transport)
        return await self._handler(request)

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._dispatch)
        self._runner = web.AppRunner(app, shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "localhost", self.port, ssl_context=self._tls, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()


@pytest.fixture
async def serve():
    """`await serve(handler)` gives a running Server."""
    servers = []

    async def start(handler: Handler, tls: ssl.SSLContext | None = None) -> Server:
        server = Server(handler, tls)
        await server.start()
        servers.append(server)
        return server

    yield start
    await asyncio.gather(*(server.stop() for server in servers))


class Watch:
    """The server's side of one watch answer."""

    def __init__(self, response: web.StreamResponse) -> None:
        self.response = response

    async def event(self, type_: str, obj: dict) -> None:
        await self.response.write(json.dumps({"type": type_, "object": obj}).encode() + b"\n")

    @classmethod
    async def begin(cls, request: web.Request) -> "Watch":
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        return cls(response)


@pytest.fixture
def watch_answer():
    return Watch.begin


def status(code: int, reason: str, message: str = "no") -> web.Response:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "message": message,
        "code": code,
    }
    return web.json_response(body, status=code)


@pytest.fixture
def status_answer():
    return status
