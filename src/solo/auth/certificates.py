"""Certificates and keys as such: what is in them, how they are made, whether one can stay. No files.

P-256 throughout: a key takes 0.1 ms. `cryptography` is imported on use, since it costs more than the rest of a start
together.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

CA_LIFETIME = timedelta(days=3650)
LEAF_LIFETIME = timedelta(days=365)
RENEW_BEFORE = timedelta(days=30)
CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a leaf certificate has to say."""

    file: str
    common_name: str
    organizations: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


def sign_ca(key: EllipticCurvePrivateKey) -> x509.Certificate:
    """A CA's own certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    name = _subject("solo-ca", ())
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def leaf_of(file: str, cert: x509.Certificate) -> Leaf:
    """What a certificate says, to be said again."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    def values(oid: x509.ObjectIdentifier) -> tuple[str, ...]:
        return tuple(str(attribute.value) for attribute in cert.subject.get_attributes_for_oid(oid))

    (common_name,) = values(NameOID.COMMON_NAME)
    leaf = Leaf(file, common_name, values(NameOID.ORGANIZATION_NAME))
    try:
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return leaf
    addresses = tuple(str(address) for address in names.get_values_for_type(x509.IPAddress))
    return replace(leaf, names=tuple(names.get_values_for_type(x509.DNSName)), addresses=addresses)


def is_current(pem: bytes, key_pem: bytes, leaf: Leaf, ca_cert: x509.Certificate) -> bool:
    """Whether a certificate can stay: valid for a while, of this CA and key, with this subject and these names."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        cert = x509.load_pem_x509_certificate(pem)
        cert.verify_directly_issued_by(ca_cert)
        if cert.public_key() != load_key(key_pem).public_key():
            return False
    except (ValueError, TypeError, InvalidSignature):
        return False
    now, ends = datetime.now(UTC), cert.not_valid_after_utc
    if cert.not_valid_before_utc > now:
        return False  # It was made while the clock was ahead.
    # One that ends with the CA cannot be had any longer.
    if ends - now < RENEW_BEFORE and ends < ca_cert.not_valid_after_utc:
        return False
    try:
        alternatives: x509.SubjectAlternativeName | None = cert.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        ).value
    except x509.ExtensionNotFound:
        alternatives = None
    return cert.subject == _subject(leaf.common_name, leaf.organizations) and alternatives == _alternatives(leaf)


def sign_leaf(
    leaf: Leaf, key: EllipticCurvePrivateKey, ca_key: EllipticCurvePrivateKey, ca_cert: x509.Certificate
) -> x509.Certificate:
    """The certificate of `key`: a server's if it has names or addresses, else a client's."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID

    alternatives = _alternatives(leaf)
    usage = ExtendedKeyUsageOID.CLIENT_AUTH if alternatives is None else ExtendedKeyUsageOID.SERVER_AUTH
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(leaf.common_name, leaf.organizations))
        .issuer_name(ca_cert.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(min(now + LEAF_LIFETIME, ca_cert.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                ca_cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
    )
    if alternatives is not None:
        builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(ca_key, hashes.SHA256())


def _alternatives(leaf: Leaf) -> x509.SubjectAlternativeName | None:
    from cryptography import x509

    if not leaf.names and not leaf.addresses:
        return None
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in leaf.names]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in leaf.addresses]
    return x509.SubjectAlternativeName(names)


def _subject(common_name: str, organizations: tuple[str, ...]) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization) for organization in organizations]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def new_key() -> bytes:
    """A new key, as PEM."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_key(pem: bytes) -> EllipticCurvePrivateKey:
    """The key of a PEM file. Raises ValueError when it is damaged or of another kind."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_private_key(pem, None)
    except TypeError as exc:  # It is encrypted.
        raise ValueError(str(exc)) from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("it does not hold an elliptic-curve key")
    return key


def cert_pem(cert: x509.Certificate) -> bytes:
    """A certificate as PEM."""
    from cryptography.hazmat.primitives import serialization

    return cert.public_bytes(serialization.Encoding.PEM)
