"""TLS and credentials for both clients: a context with the client certificate, and a bearer token that is fresh."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from kube.client.config import KubeConfig, KubeConfigError


def tls_context(config: KubeConfig) -> ssl.SSLContext | None:
    """The TLS settings for `config`, None for plain HTTP. Raises KubeConfigError for certificates that do not load."""
    if config.server.startswith("http://"):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if config.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif config.ca_data is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        try:
            context.load_verify_locations(cadata=config.ca_data.decode("ascii"))
        except (ssl.SSLError, ValueError) as exc:
            raise KubeConfigError(
                f"the certificate authority in {config.source} is not a PEM certificate; get a new copy of the file"
            ) from exc
    if config.client_cert_data is not None and config.client_key_data is not None:
        load_certificate(context, config.client_cert_data, config.client_key_data, config.source)
    return context


def load_certificate(context: ssl.SSLContext, cert_pem: bytes, key_pem: bytes, source: str) -> None:
    """Show this certificate on connections from now on. Raises KubeConfigError if it does not load."""
    with _as_file(cert_pem + b"\n" + key_pem) as path:
        try:
            # The empty password makes an encrypted key an error here, instead of a question on the terminal.
            context.load_cert_chain(path, password="")
        except (ssl.SSLError, ValueError) as exc:
            raise KubeConfigError(
                f"the client certificate and key in {source} do not load; get a new copy of the file"
            ) from exc


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path to `content` for OpenSSL, which reads keys from files only. It is memory that no other user can open."""
    descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o600)
        remaining = memoryview(content)
        while remaining:
            remaining = remaining[os.write(descriptor, remaining) :]
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


class TokenSource:
    """The bearer token of a kubeconfig; one in a file is read again when the file changes, as kubelets rotate it."""

    def __init__(self, config: KubeConfig) -> None:
        self._path = config.token_file
        self._token = config.token
        self._stamp: tuple[int, int, int] | None = None
        self._source = config.source

    def headers(self) -> dict[str, str]:
        """The Authorization header, if there is a token. Raises KubeConfigError if its file was never readable."""
        if self._path is not None:
            self._refresh(self._path)
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def _refresh(self, path: str) -> None:
        try:
            found = os.stat(path)
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if stamp == self._stamp:
                return
            with open(path, encoding="ascii") as file:
                token = file.read().strip()
        except (OSError, ValueError) as exc:
            if self._token:
                return  # In the middle of a rotation the last token is still good.
            raise KubeConfigError(f"cannot read the token file {path} of {self._source}: {exc}") from exc
        if token:
            self._token, self._stamp = token, stamp
