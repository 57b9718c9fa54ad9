"""Calls that fail, in the words of Go's net/http."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

import aiohttp
import pytest

from solo.auth.pki import ensure_pki
from solo.http.transport_errors import describe


@contextlib.asynccontextmanager
async def listening(answer, context=None):
    """The port of a server that sends some bytes to whoever connects and hangs up."""

    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError):
            await reader.read(1)
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def failure(url, context=None):
    async with aiohttp.ClientSession() as session:
        with pytest.raises((aiohttp.ClientError, OSError)) as caught:
            async with session.post(url, data=b"{}", ssl=context or ssl.create_default_context()) as response:
                await response.read()
    return describe(caught.value)


async def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert await failure(f"https://127.0.0.1:{port}/") == f"dial tcp 127.0.0.1:{port}: connect: connection refused"
    words = await failure(f"https://localhost:{port}/")
    assert words.startswith("dial tcp ") and words.endswith(f":{port}: connect: connection refused")


async def test_a_name_that_does_not_exist():
    assert await failure("https://nowhere.invalid/") == "dial tcp: lookup nowhere.invalid: no such host"


async def test_no_tls_is_spoken():
    async with listening(b"HTTP/1.1 200 OK\r\n\r\n") as port:
        words = await failure(f"https://127.0.0.1:{port}/")
    assert words == "tls: first record does not look like a TLS handshake"


async def test_certificates_and_answers_that_break_off(tmp_path):
    pki = ensure_pki(tmp_path, "hook", ["127.0.0.1"])
    context = pki.server_context()
    context.verify_mode = ssl.CERT_NONE
    trust = ssl.create_default_context(cadata=pki.ca_pem.decode())
    async with listening(b"", context) as port:
        words = await failure(f"https://127.0.0.1:{port}/")
        assert words == "tls: failed to verify certificate: x509: certificate signed by unknown authority"
        assert await failure(f"https://127.0.0.1:{port}/", trust) in ("EOF", "read: connection reset by peer")
    async with listening(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", context) as port:
        assert await failure(f"https://127.0.0.1:{port}/", trust) == "unexpected EOF"
    async with listening(b"hello\r\n\r\n", context) as port:
        words = await failure(f"https://127.0.0.1:{port}/", trust)
        assert words == "net/http: HTTP/1.x transport connection broken: malformed HTTP response"
