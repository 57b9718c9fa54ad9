"""The cluster's certificates: an own CA, the server's certificate and that of its first client.

Everything is made on first start and kept under `pki/` (directory 0700, files 0600). A leaf certificate and its key are
made anew (at start, and by the running server: `solo.auth.rotation`) when it would expire soon, belongs to another CA,
or lacks a name that it should have.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import logging
import os
import ssl
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from kube.durable import write_private
from solo.auth import certificates
from solo.auth.certificates import Leaf
from solo.auth.user import MASTERS

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

logger = logging.getLogger(__name__)

ADMIN_USER = "kubernetes-admin"

SERVICE_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
SERVICE_IPS = ("127.0.0.1", "::1")
_FORMER = ("node.key", "node.crt", "controllers.key", "controllers.crt")
"""Of clients that needed certificates in earlier versions: keys to the cluster that nobody looks after."""


class PkiError(Exception):
    """The certificate files cannot be used; the message names the file and the remedy."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its key: PEM, and where they are on disk."""

    cert_pem: bytes
    key_pem: bytes
    cert_path: Path
    key_path: Path


@dataclass(frozen=True, slots=True)
class Pki:
    """All key material of a cluster."""

    ca_pem: bytes
    ca_path: Path
    server: KeyPair
    admin: KeyPair
    token_key_pem: bytes

    def server_context(self) -> ssl.SSLContext:
        """TLS for the listener: client certificates are asked for and checked, but a client may come without one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.server.cert_path, self.server.key_path)
        context.load_verify_locations(self.ca_path)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context


def ensure_pki(directory: Path, node_name: str, extra_names: Iterable[str] = ()) -> Pki:
    """Read the cluster's key material, making whatever is missing or due.

    Args:
        directory: where the files are; made if needed.
        node_name: host name, a name of the server certificate.
        extra_names: further names and IP addresses under which the server is reached (its listen address).

    Raises:
        PkiError: a file is unreadable or the CA's key does not fit its certificate.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(directory):
            directory.chmod(0o700)
            ca_key, ca_cert, ca_pem = _ensure_ca(directory)
            names, addresses = _split_names([*SERVICE_NAMES, node_name, *SERVICE_IPS, *extra_names])
            leaves = [
                Leaf("server", "kube-apiserver", (), names, addresses),
                Leaf("admin", ADMIN_USER, (MASTERS,)),
            ]
            server, admin = [_ensure_leaf(directory, leaf, ca_key, ca_cert) for leaf in leaves]
            token_key = _ensure_key(directory / "sa.key")
            for name in _FORMER:
                (directory / name).unlink(missing_ok=True)
    except OSError as exc:
        raise PkiError(f"certificates in {directory} cannot be used: {exc}") from exc
    return Pki(ca_pem, directory / "ca.crt", server, admin, token_key)


def renew_pki(directory: Path) -> list[tuple[str, datetime]]:
    """Make all leaf certificates anew, with new keys, the same subjects and names; file names and their new ends.

    Raises:
        PkiError: there is no key material, or it is damaged.
    """
    from cryptography import x509

    try:
        with locked(directory):
            if not (directory / "ca.crt").exists():
                raise PkiError(f"there are no certificates in {directory}: the first start makes them")
            ca_key, ca_cert, _ = _ensure_ca(directory)
            ends = []
            for path in sorted(directory.glob("*.crt")):
                if path.name == "ca.crt":
                    continue
                try:
                    leaf = certificates.leaf_of(path.stem, x509.load_pem_x509_certificate(path.read_bytes()))
                except ValueError as exc:
                    raise PkiError(f"{path} is damaged ({exc}): remove it, the next start makes it anew") from exc
                issued = _issue(directory, leaf, ca_key, ca_cert)
                ends.append((path.name, x509.load_pem_x509_certificate(issued.cert_pem).not_valid_after_utc))
    except OSError as exc:
        raise PkiError(f"certificates in {directory} cannot be used: {exc}") from exc
    return ends


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep a running server and commands from changing the files at the same time. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _split_names(values: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    names: list[str] = []
    addresses: list[str] = []
    for value in dict.fromkeys(values):
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            names.append(value)
        else:
            if not address.is_unspecified:
                addresses.append(str(address))
    return tuple(names), tuple(addresses)


def _ensure_ca(directory: Path) -> tuple[EllipticCurvePrivateKey, x509.Certificate, bytes]:
    from cryptography import x509

    cert_path = directory / "ca.crt"
    key_path = directory / "ca.key"
    if cert_path.exists():
        pem = cert_path.read_bytes()
        try:
            cert = x509.load_pem_x509_certificate(pem)
            key = certificates.load_key(key_path.read_bytes())
        except (ValueError, TypeError) as exc:
            raise PkiError(f"{cert_path} or {key_path} is damaged ({exc}): restore them from a copy") from exc
        if key.public_key() != cert.public_key():
            raise PkiError(f"{key_path} is not the key of {cert_path}: restore them from a copy")
        return key, cert, pem
    key = certificates.load_key(_ensure_key(key_path))
    cert = certificates.sign_ca(key)
    pem = certificates.cert_pem(cert)
    write_private(cert_path, pem)
    return key, cert, pem


def _ensure_leaf(directory: Path, leaf: Leaf, ca_key: EllipticCurvePrivateKey, ca_cert: x509.Certificate) -> KeyPair:
    cert_path = directory / f"{leaf.file}.crt"
    key_path = directory / f"{leaf.file}.key"
    cert_pem = cert_path.read_bytes() if cert_path.exists() else b""
    key_pem = key_path.read_bytes() if key_path.exists() else b""
    if certificates.is_current(cert_pem, key_pem, leaf, ca_cert):
        return KeyPair(cert_pem, key_pem, cert_path, key_path)
    return _issue(directory, leaf, ca_key, ca_cert)


def _issue(directory: Path, leaf: Leaf, ca_key: EllipticCurvePrivateKey, ca_cert: x509.Certificate) -> KeyPair:
    """A new key and certificate. A kill between the two files leaves a pair that does not fit, and is made anew."""
    cert_path = directory / f"{leaf.file}.crt"
    key_path = directory / f"{leaf.file}.key"
    key_pem = certificates.new_key()
    cert_pem = certificates.cert_pem(certificates.sign_leaf(leaf, certificates.load_key(key_pem), ca_key, ca_cert))
    write_private(key_path, key_pem)
    write_private(cert_path, cert_pem)
    logger.info("issued the certificate %s", cert_path.name)
    return KeyPair(cert_pem, key_pem, cert_path, key_path)


def _ensure_key(path: Path) -> bytes:
    if path.exists():
        pem = path.read_bytes()
        try:
            certificates.load_key(pem)
        except ValueError as exc:
            raise PkiError(f"{path} is damaged ({exc}): restore it from a copy or remove it") from exc
        return pem
    pem = certificates.new_key()
    write_private(path, pem)
    return pem
