"""What a guest says of itself, read with distrust: bounded in number and length, printable, addresses only where they
are addresses. Pure. Nothing here makes it true.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from vmruntime.engines.machine import Guest, GuestInterface

_NAME_LENGTH = 64
_OS_LENGTH = 128
_MAX_INTERFACES = 16
_MAX_ADDRESSES = 16
_MAX_PREFIX = 128
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,252})")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_CARD_NAME = re.compile(r"[^\s/\\]([^/\\]*[^\s/\\])?")


def printable(value: Any, length: int) -> str:
    """At most `length` characters of a text, without those that could do something to a terminal; "" for no text."""
    if not isinstance(value, str):
        return ""
    return "".join(char for char in value[: 4 * length] if char.isprintable())[:length]


def guest(host_name: Any, os_info: Any, interfaces: Any) -> Guest:
    """From the answers to guest-get-host-name, guest-get-osinfo and guest-network-get-interfaces; None for none."""
    return Guest(
        host_name=_host_name(host_name),
        os_name=printable(_field(os_info, "pretty-name"), _OS_LENGTH) or printable(_field(os_info, "name"), _OS_LENGTH),
        kernel=printable(_field(os_info, "kernel-release"), _NAME_LENGTH),
        interfaces=_interfaces(interfaces),
    )


def _field(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _host_name(value: Any) -> str:
    name = _field(value, "host-name")
    return name if isinstance(name, str) and _HOST_NAME.fullmatch(name) else ""


def _interfaces(value: Any) -> tuple[GuestInterface, ...]:
    if not isinstance(value, list):
        return ()
    found = (_interface(entry) for entry in value[: 4 * _MAX_INTERFACES])
    return tuple(entry for entry in found if entry is not None)[:_MAX_INTERFACES]


def _interface(value: Any) -> GuestInterface | None:
    """A network card; None for the loopback device and for what is no network card."""
    name = printable(_field(value, "name"), _NAME_LENGTH)
    if not _CARD_NAME.fullmatch(name):
        return None
    mac = _field(value, "hardware-address")
    mac = mac.lower() if isinstance(mac, str) and _MAC.fullmatch(mac.lower()) else ""
    listed = _field(value, "ip-addresses")
    entries = listed[: 4 * _MAX_ADDRESSES] if isinstance(listed, list) else []
    addresses = [text for text in map(_address, entries) if text]
    if name == "lo" or (addresses and all(ipaddress.ip_interface(text).is_loopback for text in addresses)):
        return None
    return GuestInterface(name, mac, tuple(addresses[:_MAX_ADDRESSES]))


def _address(value: Any) -> str:
    """`192.0.2.1/24`, or nothing."""
    text, prefix = _field(value, "ip-address"), _field(value, "prefix")
    if not isinstance(text, str) or type(prefix) is not int or not 0 <= prefix <= _MAX_PREFIX or "/" in text:
        return ""
    try:
        address = ipaddress.ip_interface(f"{text.partition('%')[0]}/{prefix}")
    except ValueError:
        return ""
    return "" if address.is_multicast or address.is_unspecified else str(address)
