"""Connections for downloads, made only to addresses that a stranger's URL may lead to.

Whoever writes a disk's URL, or answers under it, makes this host connect somewhere. So the address that a name stands
for is checked, and that same address is connected to (a name may stand for another one a moment later).
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl

from vmruntime.engines.qemu.sources import SourceError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Services that give a machine's credentials to whoever asks from it, beyond those at link-local addresses.
_METADATA = tuple(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")))

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_loopback(address: Address) -> bool:
    """Whether it stands for this host; the unspecified address does, to Linux."""
    plain = _plain(address)
    return plain.is_loopback or plain.is_unspecified


def is_loopback_name(host: str) -> bool:
    """Whether a host is by its very name this one: `localhost`, or a loopback address."""
    try:
        return is_loopback(ipaddress.ip_address(host))
    except ValueError:
        return host == "localhost"


def is_forbidden(address: Address) -> bool:
    """Whether no image can come from there: link-local addresses, metadata services, multicast."""
    plain = _plain(address)
    return plain.is_link_local or plain.is_multicast or plain in _METADATA


def _plain(address: Address) -> Address:
    """An IPv4 address that is written as an IPv6 one (RFC 4291, 2.5.5; RFC 3056; RFC 6052, 2.1) as what it is."""
    if not isinstance(address, ipaddress.IPv6Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour or address


class Dialer:
    """Makes the connections of one download.

    Its first address may be the host itself (somebody serves images there); a redirect leads there only then.
    """

    def __init__(self, timeout: float, tls: ssl.SSLContext | None) -> None:
        """`timeout` in seconds, for each address tried."""
        self._timeout = timeout
        self._tls = tls
        self._may_loop: bool | None = None

    def connect(self, scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
        """An open connection. Raises SourceError for an address that is not allowed, OSError."""
        sock = self._dial(host, port or (443 if scheme == "https" else 80))
        connection: http.client.HTTPConnection
        if scheme != "https":
            connection = http.client.HTTPConnection(host, port)
            connection.sock = sock
            return connection
        connection = http.client.HTTPSConnection(host, port)
        if self._tls is None:
            self._tls = ssl.create_default_context()
        try:
            connection.sock = self._tls.wrap_socket(sock, server_hostname=host)
        except BaseException:
            sock.close()
            raise
        return connection

    def _dial(self, host: str, port: int) -> socket.socket:
        problem: OSError | None = None
        for family, kind, protocol, _, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            self._check(host, ipaddress.ip_address(str(where[0]).partition("%")[0]))
            sock = socket.socket(family, kind, protocol)
            sock.settimeout(self._timeout)
            try:
                sock.connect(where)
            except OSError as error:
                sock.close()
                problem = error
                continue
            if self._may_loop is None:
                self._may_loop = is_loopback(ipaddress.ip_address(str(sock.getpeername()[0]).partition("%")[0]))
            return sock
        raise problem or OSError("its name stands for no address")

    def _check(self, host: str, address: Address) -> None:
        if is_forbidden(address):
            message = f"{host} ({address}) is refused: images don't come from link-local or metadata addresses"
            raise SourceError("NotAllowed", message)
        if self._may_loop is False and is_loopback(address):
            raise SourceError("NotAllowed", f"the server leads to {host} ({address}), this host itself: refused")
