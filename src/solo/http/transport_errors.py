"""What goes wrong on the way to a server that is called, in the words of Go's net/http, which people search for."""

from __future__ import annotations

import errno
import re
import ssl

import aiohttp

_DIAL = {
    errno.ECONNREFUSED: "connection refused",
    errno.EHOSTUNREACH: "no route to host",
    errno.ENETUNREACH: "network is unreachable",
    errno.ETIMEDOUT: "connection timed out",
}
_ADDRESS = re.compile(r"Connect call failed \('([^']+)', (\d+)")
# Codes of OpenSSL's x509_vfy.h.
_UNTRUSTED = (18, 19, 20, 21)
_OUTDATED = (9, 10)
_MISNAMED = (62, 64)


def describe(problem: Exception) -> str:
    """Why a call failed."""
    if isinstance(problem, aiohttp.ClientConnectorCertificateError):
        return _certificate(problem)
    if isinstance(problem, aiohttp.ClientConnectorDNSError):
        return f"dial tcp: lookup {problem.host}: no such host"
    if isinstance(problem, aiohttp.ClientSSLError):
        return _handshake(problem)
    if isinstance(problem, aiohttp.ClientConnectorError):
        return _dial(problem)
    if isinstance(problem, ConnectionResetError) or _number(problem) == errno.ECONNRESET:
        return "read: connection reset by peer"
    if isinstance(problem, aiohttp.ServerDisconnectedError):
        return "EOF"
    if isinstance(problem, aiohttp.ClientPayloadError):
        return "unexpected EOF"
    if isinstance(problem, aiohttp.ClientResponseError):
        return "net/http: HTTP/1.x transport connection broken: malformed HTTP response"
    if isinstance(problem, ValueError):
        return str(problem)
    return "the connection failed"


def _number(problem: Exception) -> int | None:
    return problem.errno if isinstance(problem, OSError) else None


def _dial(problem: aiohttp.ClientConnectorError) -> str:
    found = _ADDRESS.search(str(problem.os_error))
    host, port = found.groups() if found else (problem.host, problem.port)
    number = _number(problem.os_error)
    if number not in _DIAL and found:  # several addresses were tried, and the error is about all of them
        number = errno.ECONNREFUSED if f"[Errno {errno.ECONNREFUSED}]" in str(problem.os_error) else None
    why = _DIAL.get(number or 0, "the connection failed")
    return f"dial tcp {f'[{host}]' if ':' in str(host) else host}:{port}: connect: {why}"


def _certificate(problem: aiohttp.ClientConnectorCertificateError) -> str:
    cause = problem.certificate_error
    code = cause.verify_code if isinstance(cause, ssl.SSLCertVerificationError) else None
    if code in _UNTRUSTED:
        why = "certificate signed by unknown authority"
    elif code in _OUTDATED:
        why = "certificate has expired or is not yet valid"
    elif code in _MISNAMED:
        why = "certificate is not valid for the name of the server"
    else:
        why = "certificate cannot be verified"
    return f"tls: failed to verify certificate: x509: {why}"


def _handshake(problem: aiohttp.ClientSSLError) -> str:
    reason = getattr(problem.os_error, "reason", None) if isinstance(problem, aiohttp.ClientConnectorError) else None
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
        return "tls: first record does not look like a TLS handshake"
    return "tls: handshake failure"
