"""Certificates: made once, kept, renewed when due, accepted by a real TLS handshake."""

import asyncio
import ssl
import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from solo.auth import certificates
from solo.auth.authn import certificate_user
from solo.auth.pki import PkiError, ensure_pki, renew_pki


def test_files_are_private_and_kept(tmp_path):
    first = ensure_pki(tmp_path / "pki", "host")
    second = ensure_pki(tmp_path / "pki", "host")
    assert first == second
    assert stat.S_IMODE((tmp_path / "pki").stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "pki").iterdir()} == {0o600}


def test_server_names_and_renewal_when_they_change(tmp_path):
    first = ensure_pki(tmp_path, "host")
    second = ensure_pki(tmp_path, "host", ["10.1.2.3", "api.example", "0.0.0.0"])
    assert second.server.cert_pem != first.server.cert_pem and second.admin == first.admin
    cert = x509.load_pem_x509_certificate(second.server.cert_pem)
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", "host", "kubernetes.default.svc", "api.example"} <= set(
        names.get_values_for_type(x509.DNSName)
    )
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {"127.0.0.1", "::1", "10.1.2.3"}


def test_a_certificate_about_to_expire_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(certificates, "LEAF_LIFETIME", timedelta(days=20))
    first = ensure_pki(tmp_path, "host")
    monkeypatch.setattr(certificates, "LEAF_LIFETIME", timedelta(days=365))
    second = ensure_pki(tmp_path, "host")
    assert second.ca_pem == first.ca_pem and second.admin.cert_pem != first.admin.cert_pem
    left = x509.load_pem_x509_certificate(second.admin.cert_pem).not_valid_after_utc - datetime.now(UTC)
    assert left > timedelta(days=360)


def test_a_certificate_that_was_made_while_the_clock_was_ahead_is_made_anew(tmp_path, monkeypatch):
    first = ensure_pki(tmp_path, "host")
    monkeypatch.setattr(certificates, "CLOCK_SKEW", timedelta(days=-30))
    renew_pki(tmp_path)
    monkeypatch.undo()
    again = ensure_pki(tmp_path, "host")
    assert again.ca_pem == first.ca_pem
    assert x509.load_pem_x509_certificate(again.admin.cert_pem).not_valid_before_utc < datetime.now(UTC)


def test_a_certificate_that_ends_with_its_ca_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(certificates, "CA_LIFETIME", timedelta(days=20))
    first = ensure_pki(tmp_path, "host")
    assert ensure_pki(tmp_path, "host") == first


def test_renewal_keeps_ca_subjects_and_names(tmp_path):
    first = ensure_pki(tmp_path, "host", ["10.1.2.3"])
    renewed = dict(renew_pki(tmp_path))
    assert set(renewed) == {"server.crt", "admin.crt"}
    second = ensure_pki(tmp_path, "host", ["10.1.2.3"])  # nothing is missing: it changes nothing again
    assert (second.ca_pem, second.token_key_pem) == (first.ca_pem, first.token_key_pem)
    for before, after in ((first.server, second.server), (first.admin, second.admin)):
        old, new = (x509.load_pem_x509_certificate(pair.cert_pem) for pair in (before, after))
        assert (new.subject, new.serial_number != old.serial_number) == (old.subject, True)
        assert after.key_pem != before.key_pem
        assert new.not_valid_after_utc == renewed[after.cert_path.name]
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}


def test_a_key_that_lost_its_certificate_is_replaced(tmp_path):
    first = ensure_pki(tmp_path, "host")
    first.server.key_path.write_bytes(first.admin.key_pem)  # a kill between the two files of a renewal
    second = ensure_pki(tmp_path, "host")
    assert second.server.cert_pem != first.server.cert_pem
    second.server_context()


def test_certificates_that_nobody_uses_any_more_do_not_stay(tmp_path):
    """Earlier versions gave the node agent and the controllers some."""
    pki = ensure_pki(tmp_path, "host")
    for name in ("node", "controllers"):
        (tmp_path / f"{name}.crt").write_bytes(pki.admin.cert_pem)
        (tmp_path / f"{name}.key").write_bytes(pki.admin.key_pem)
    ensure_pki(tmp_path, "host")
    assert {path.name for path in tmp_path.iterdir()} == {
        *("ca.crt", "ca.key", "server.crt", "server.key", "admin.crt", "admin.key", "sa.key")
    }


def test_renewal_of_nothing(tmp_path):
    with pytest.raises(PkiError, match="the first start makes them"):
        renew_pki(tmp_path)


def test_damaged_and_foreign_files(tmp_path):
    ensure_pki(tmp_path / "a", "host")
    other = ensure_pki(tmp_path / "b", "host")
    (tmp_path / "a" / "admin.crt").write_bytes(other.admin.cert_pem)
    assert ensure_pki(tmp_path / "a", "host").admin.cert_pem != other.admin.cert_pem
    (tmp_path / "a" / "ca.key").write_bytes((tmp_path / "b" / "ca.key").read_bytes())
    with pytest.raises(PkiError, match="is not the key of"):
        ensure_pki(tmp_path / "a", "host")
    (tmp_path / "b" / "ca.crt").write_bytes(b"nonsense")
    with pytest.raises(PkiError, match="damaged"):
        ensure_pki(tmp_path / "b", "host")


async def handshake(pki, client):
    """The peer certificate that the server sees, or the client's error."""
    seen = asyncio.get_running_loop().create_future()

    async def accept(reader, writer):
        seen.set_result(writer.get_extra_info("peercert"))
        writer.write(b"ok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=pki.server_context())
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="127.0.0.1")
        try:
            if await reader.read(2) != b"ok":
                raise ConnectionError("closed")
        finally:
            writer.close()
        return await seen


async def test_handshake_shows_the_client(tmp_path):
    pki = ensure_pki(tmp_path, "host")
    client = ssl.create_default_context(cafile=str(pki.ca_path))
    assert not await handshake(pki, client)
    client.load_cert_chain(pki.admin.cert_path, pki.admin.key_path)
    user = certificate_user(await handshake(pki, client))
    assert user.name == "kubernetes-admin" and user.groups == ("system:masters", "system:authenticated")


async def test_the_servers_own_certificate_is_no_client_certificate(tmp_path):
    pki = ensure_pki(tmp_path, "host")
    client = ssl.create_default_context(cafile=str(pki.ca_path))
    client.load_cert_chain(pki.server.cert_path, pki.server.key_path)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await handshake(pki, client)
