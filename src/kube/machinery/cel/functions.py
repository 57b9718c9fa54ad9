"""Functions that Kubernetes adds to CEL (apiserver's pkg/cel/library): lists, patterns, quantities, URLs, addresses.

Not there: `indexOf` and `lastIndexOf` of lists (the evaluator's string functions own these names), semver and formats.
Opaque values (a quantity, a URL, an address) are maps with one key that a field of an object cannot have by accident.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from kube.machinery.goregex import compile_go_regex
from kube.machinery.quantity import parse_quantity

_MAX_INT = 2**63 - 1
Opaque = dict[str, Any]


@dataclass(frozen=True)
class Function:
    """One overload: parameter and result types are keys of the environment's type table; errors are ValueError."""

    name: str
    parameters: tuple[str, ...]
    result: str
    implementation: Callable[..., Any]
    member: bool = True


# --- lists


def _is_sorted(items: list[Any]) -> bool:
    return all(items[index] <= items[index + 1] for index in range(len(items) - 1))


def _extreme(name: str, choose: Callable[[list[Any]], Any]) -> Callable[[list[Any]], Any]:
    def pick(items: list[Any]) -> Any:
        if not items:
            raise ValueError(f"{name} called on empty list")
        return choose(items)

    return pick


# --- regular expressions


def _find(text: str, pattern: str) -> str:
    match = compile_go_regex(pattern).search(text)
    return match[0] if match else ""


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found = [match[0] for match in compile_go_regex(pattern).finditer(text)]
    return found if limit < 0 else found[:limit]


# --- quantities


def _quantity(text: str) -> Opaque:
    return _from_decimal(parse_quantity(text))


def _from_decimal(value: Decimal) -> Opaque:
    return {"@quantity": format(value.normalize(), "f")}


def _decimal(value: Opaque) -> Decimal:
    try:
        return Decimal(value["@quantity"])
    except KeyError:
        raise ValueError("no such overload") from None


def _is_quantity(text: str) -> bool:
    try:
        parse_quantity(text)
    except ValueError:
        return False
    return True


def _is_integer(value: Opaque) -> bool:
    number = _decimal(value)
    return number == number.to_integral_value() and abs(number) <= _MAX_INT


def _as_integer(value: Opaque) -> int:
    if not _is_integer(value):
        raise ValueError("cannot convert value to integer")
    return int(_decimal(value))


def _compare(left: Opaque, right: Opaque) -> int:
    return int(_decimal(left).compare(_decimal(right)))


def _sign(value: Opaque) -> int:
    return int(_decimal(value).compare(Decimal(0)))


# --- URLs


def _split(text: str) -> SplitResult:
    parts = urlsplit(text)
    if not (parts.scheme or text.startswith("/")):
        raise ValueError(f"URL parse error during conversion from string: parse {text!r}: invalid URI for request")
    return parts


def _url(text: str) -> Opaque:
    _split(text)
    return {"@url": text}


def _is_url(text: str) -> bool:
    try:
        _split(text)
    except ValueError:
        return False
    return True


def _url_part(read: Callable[[SplitResult], Any]) -> Callable[[Opaque], Any]:
    def get(value: Opaque) -> Any:
        if "@url" not in value:
            raise ValueError("no such overload")
        return read(_split(value["@url"]))

    return get


# --- addresses


def _ip(text: str) -> Opaque:
    return {"@ip": str(_address(text))}


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    if "%" in text:
        raise ValueError(f'IP Address "{text}" with zone value is not allowed')
    return ipaddress.ip_address(text)


def _is_ip(text: str) -> bool:
    try:
        _address(text)
    except ValueError:
        return False
    return True


def _ip_test(test: Callable[[ipaddress.IPv4Address | ipaddress.IPv6Address], Any]) -> Callable[[Opaque], Any]:
    def get(value: Opaque) -> Any:
        if "@ip" not in value:
            raise ValueError("no such overload")
        return test(_address(value["@ip"]))

    return get


def _network(text: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    if "/" not in text:
        raise ValueError(f'network address parse error during conversion from string: "{text}" has no prefix length')
    return ipaddress.ip_interface(text)


def _cidr(text: str) -> Opaque:
    return {"@cidr": str(_network(text))}


def _is_cidr(text: str) -> bool:
    try:
        _network(text)
    except ValueError:
        return False
    return True


def _of_cidr(value: Opaque) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    if "@cidr" not in value:
        raise ValueError("no such overload")
    return _network(value["@cidr"])


def _contains_ip(value: Opaque, other: Opaque | str) -> bool:
    text = other if isinstance(other, str) else str(other.get("@ip", ""))
    return _address(text) in _of_cidr(value).network


def _contains_cidr(value: Opaque, other: Opaque | str) -> bool:
    outer = _of_cidr(value).network
    inner = (_network(other) if isinstance(other, str) else _of_cidr(other)).network
    return outer.version == inner.version and inner.network_address in outer and inner.prefixlen >= outer.prefixlen


def _link_local_multicast(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    prefix = "224.0.0.0/24" if address.version == 4 else "ff02::/16"
    return address in ipaddress.ip_network(prefix)


def _global_unicast(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    special = address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local
    return not special and str(address) != "255.255.255.255"


FUNCTIONS: list[Function] = [
    Function(
        "jsonpatch.escapeKey",
        ("string",),
        "string",
        lambda key: key.replace("~", "~0").replace("/", "~1"),
        member=False,
    ),
    Function("isSorted", ("list",), "bool", _is_sorted),
    Function("sum", ("list",), "dyn", lambda items: sum(items)),
    Function("min", ("list",), "dyn", _extreme("min", min)),
    Function("max", ("list",), "dyn", _extreme("max", max)),
    Function("find", ("string", "string"), "string", _find),
    Function("findAll", ("string", "string"), "strings", _find_all),
    Function("findAll", ("string", "string", "int"), "strings", _find_all),
    Function("quantity", ("string",), "value", _quantity, member=False),
    Function("isQuantity", ("string",), "bool", _is_quantity, member=False),
    Function("isInteger", ("value",), "bool", _is_integer),
    Function("asInteger", ("value",), "int", _as_integer),
    Function("asApproximateFloat", ("value",), "double", lambda value: float(_decimal(value))),
    Function("sign", ("value",), "int", _sign),
    Function("compareTo", ("value", "value"), "int", _compare),
    Function("isGreaterThan", ("value", "value"), "bool", lambda left, right: _compare(left, right) > 0),
    Function("isLessThan", ("value", "value"), "bool", lambda left, right: _compare(left, right) < 0),
    Function("add", ("value", "value"), "value", lambda a, b: _from_decimal(_decimal(a) + _decimal(b))),
    Function("add", ("value", "int"), "value", lambda a, b: _from_decimal(_decimal(a) + b)),
    Function("sub", ("value", "value"), "value", lambda a, b: _from_decimal(_decimal(a) - _decimal(b))),
    Function("sub", ("value", "int"), "value", lambda a, b: _from_decimal(_decimal(a) - b)),
    Function("url", ("string",), "value", _url, member=False),
    Function("isURL", ("string",), "bool", _is_url, member=False),
    Function("getScheme", ("value",), "string", _url_part(lambda parts: parts.scheme)),
    Function("getHost", ("value",), "string", _url_part(lambda parts: parts.netloc.rpartition("@")[2])),
    Function("getHostname", ("value",), "string", _url_part(lambda parts: parts.hostname or "")),
    Function("getPort", ("value",), "string", _url_part(lambda parts: str(parts.port or ""))),
    Function("getEscapedPath", ("value",), "string", _url_part(lambda parts: parts.path)),
    Function("getQuery", ("value",), "value", _url_part(lambda p: parse_qs(p.query, keep_blank_values=True))),
    Function("ip", ("string",), "value", _ip, member=False),
    Function("isIP", ("string",), "bool", _is_ip, member=False),
    Function("ip.isCanonical", ("string",), "bool", lambda text: str(_address(text)) == text, member=False),
    Function("family", ("value",), "int", _ip_test(lambda address: address.version)),
    Function("isUnspecified", ("value",), "bool", _ip_test(lambda address: address.is_unspecified)),
    Function("isLoopback", ("value",), "bool", _ip_test(lambda address: address.is_loopback)),
    Function("isLinkLocalUnicast", ("value",), "bool", _ip_test(lambda address: address.is_link_local)),
    Function("isLinkLocalMulticast", ("value",), "bool", _ip_test(_link_local_multicast)),
    Function("isGlobalUnicast", ("value",), "bool", _ip_test(_global_unicast)),
    Function("cidr", ("string",), "value", _cidr, member=False),
    Function("isCIDR", ("string",), "bool", _is_cidr, member=False),
    *(Function("containsIP", ("value", kind), "bool", _contains_ip) for kind in ("string", "value")),
    *(Function("containsCIDR", ("value", kind), "bool", _contains_cidr) for kind in ("string", "value")),
    Function("ip", ("value",), "value", lambda value: {"@ip": str(_of_cidr(value).ip)}),
    Function("masked", ("value",), "value", lambda value: {"@cidr": str(_of_cidr(value).network)}),
    Function("prefixLength", ("value",), "int", lambda value: _of_cidr(value).network.prefixlen),
]
