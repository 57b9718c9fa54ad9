"""Kubernetes' libraries of CEL (apiserver's pkg/cel/library): quantities, URLs, addresses, versions, formats."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial, total_ordering
from typing import Any
from urllib.parse import parse_qs

from kube.machinery import names
from kube.machinery.cel.values import MAX_INT, NONE, CelError, Optional, no_overload
from kube.machinery.gourl import Url, UrlError, parse_request_uri, parse_url
from kube.machinery.quantity import parse_quantity

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True, order=True)
class Quantity:
    cel_type = "kubernetes.Quantity"
    amount: Decimal


@dataclass(frozen=True, slots=True)
class UrlValue:
    cel_type = "kubernetes.URL"
    url: Url


@dataclass(frozen=True, slots=True)
class Ip:
    cel_type = "net.IP"
    address: Address

    @property
    def cel_size(self) -> int:
        return self.address.max_prefixlen // 8

    @property
    def cel_text(self) -> str:
        return str(self.address)


@dataclass(frozen=True, slots=True)
class Cidr:
    cel_type = "net.CIDR"
    address: Address
    length: int

    @property
    def cel_size(self) -> int:
        return -(-self.length // 8)

    @property
    def cel_text(self) -> str:
        return f"{self.address}/{self.length}"

    @property
    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        return ipaddress.ip_network(f"{self.address}/{self.length}", strict=False)


@total_ordering
@dataclass(frozen=True, slots=True)
class Semver:
    """A semantic version (semver.org 2.0); the build does not count."""

    cel_type = "kubernetes.Semver"
    numbers: tuple[int, int, int]
    prerelease: tuple[int | str, ...]

    def __lt__(self, other: Semver) -> bool:
        if self.numbers != other.numbers:
            return self.numbers < other.numbers
        if not self.prerelease or not other.prerelease:
            return bool(self.prerelease) and not other.prerelease
        return [_rank(part) for part in self.prerelease] < [_rank(part) for part in other.prerelease]


def _rank(part: int | str) -> tuple[int, int, str]:
    return (0, part, "") if isinstance(part, int) else (1, 0, part)


@dataclass(frozen=True, slots=True)
class Format:
    cel_type = "kubernetes.NamedFormat"
    name: str
    check: Callable[[str], list[str]]
    max_regex_size: int


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise no_overload()
    return value


def _works(parse: Callable[..., Any]) -> Callable[..., bool]:
    def check(*given: Any) -> bool:
        _text(given[0])
        try:
            parse(*given)
        except (CelError, ValueError):
            return False
        return True

    return check


# --- quantities


def _quantity(text: Any) -> Quantity:
    return Quantity(parse_quantity(_text(text)))


def _as_integer(value: Quantity) -> int:
    if not _is_integer(value):
        raise CelError("cannot convert value to integer")
    return int(value.amount)


def _is_integer(value: Quantity) -> bool:
    return value.amount == value.amount.to_integral_value() and abs(value.amount) <= MAX_INT


def _amount(value: Any) -> Decimal:
    if isinstance(value, Quantity):
        return value.amount
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    raise no_overload()


def _order(left: Any, right: Any) -> int:
    if type(left) is not type(right) or not isinstance(left, (Quantity, Semver)):
        raise no_overload()
    return -1 if left < right else int(left != right)


def _sign(value: Quantity) -> int:
    return (value.amount > 0) - (value.amount < 0)


# --- URLs


def _url(text: Any) -> UrlValue:
    try:
        parse_request_uri(_text(text))
        return UrlValue(parse_url(text))
    except UrlError as problem:
        raise CelError(f'URL parse error during conversion from string: parse "{text}": {problem}') from None


# --- addresses


def _ip(value: Any) -> Ip:
    return Ip(value.address) if isinstance(value, Cidr) else Ip(_address(_text(value)))


def _address(text: str) -> Address:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        problem = (
            f'IP Address "{text}" parse error during conversion from string: ParseAddr("{text}"): unable to parse IP'
        )
        raise CelError(problem) from None
    if "%" in text:
        raise CelError(f'IP address "{text}" with zone value is not allowed')
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        raise CelError(f'IPv4-mapped IPv6 address "{text}" is not allowed')
    return address


def _cidr(value: Any) -> Cidr:
    text = _text(value)
    address, slash, length = text.partition("/")
    stem = f'network address parse error during conversion from string: netip.ParsePrefix("{text}")'
    if not slash:
        raise CelError(f"{stem}: no '/'")
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        raise CelError(f'{stem}: ParseAddr("{address}"): unable to parse IP') from None
    if not re.fullmatch(r"0|[1-9][0-9]{0,2}", length) or "%" in address:
        raise CelError(f'{stem}: bad bits after slash: "{length}"')
    if int(length) > found.max_prefixlen:
        raise CelError(f"{stem}: prefix length out of range")
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        raise CelError(f'IPv4-mapped IPv6 address "{address}" is not allowed')
    return Cidr(found, int(length))


def _parsed_cidr(value: Any) -> Cidr:
    try:
        return _cidr(value)
    except CelError as problem:
        raise CelError(f"network address parse error during conversion from string: {problem}") from None


def _holds_address(holder: Cidr, other: Any) -> bool:
    address = other.address if isinstance(other, Ip) else _address(_text(other))
    return address in holder.network


def _holds_network(holder: Cidr, other: Any) -> bool:
    inner = other if isinstance(other, Cidr) else _cidr(other)
    return inner.address in holder.network and inner.length >= holder.length


def _ip_test(test: Callable[[Address], Any]) -> Callable[[Ip], Any]:
    return lambda value: test(value.address)


def _link_local_multicast(address: Address) -> bool:
    return address in ipaddress.ip_network("224.0.0.0/24" if address.version == 4 else "ff02::/16")


def _global_unicast(address: Address) -> bool:
    special = address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local
    return not special and str(address) != "255.255.255.255"


# --- versions

_NUMBER = "(0|[1-9][0-9]*)"
_IDENTIFIER = "(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_SEMVER = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER})*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
_PREFIXED = re.compile(r"v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?([-+].*)?")


def _semver(text: Any, normalize: bool = False) -> Semver:
    given = _text(text)
    if normalize and (parts := _PREFIXED.fullmatch(given)):
        numbers = ".".join(str(int(part or 0)) for part in parts.groups()[:3])
        given = numbers + (parts[4] or "")
    found = _SEMVER.fullmatch(given)
    if found is None:
        raise CelError("No Major.Minor.Patch elements found" if given.count(".") < 2 else f"Invalid version {text!r}")
    parts_of = (int(part) if part.isdecimal() else part for part in (found[4] or "").split(".") if part)
    return Semver((int(found[1]), int(found[2]), int(found[3])), tuple(parts_of))


# --- formats


def _prefix(check: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    return lambda text: check(f"{text[:-2]}a" if len(text) > 1 and text.endswith("-") else text)


def _known(name: str, problem: str) -> Callable[[str], list[str]]:
    def check(text: str) -> list[str]:
        from kube.machinery.schema.formats import FORMATS

        return [] if FORMATS[name](text) else [problem]

    return check


def _uri(text: str) -> list[str]:
    try:
        parse_request_uri(text)
    except UrlError as problem:
        return [f'parse "{text}": {problem}']
    return []


def _base64(text: str) -> list[str]:
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        return ["invalid base64"]
    return []


_FORMATS = {
    item.name: item
    for item in (
        Format("dns1123Label", names.dns1123_label, 30),
        Format("dns1123Subdomain", names.dns1123_subdomain, 60),
        Format("dns1035Label", names.dns1035_label, 30),
        Format("qualifiedName", names.qualified_name, 60),
        Format("dns1123LabelPrefix", _prefix(names.dns1123_label), 30),
        Format("dns1123SubdomainPrefix", _prefix(names.dns1123_subdomain), 60),
        Format("dns1035LabelPrefix", _prefix(names.dns1035_label), 30),
        Format("labelValue", names.label_value, 40),
        Format("uri", _uri, 1000),
        Format("uuid", _known("uuid", "does not match the UUID format"), 72),
        Format("byte", _base64, 1000),
        Format("date", _known("date", "invalid date"), 69),
        Format("datetime", _known("datetime", "invalid datetime"), 69),
    )
}


def _itself(value: Format) -> Format:
    return value


def _named_format(name: Any) -> Optional:
    found = _FORMATS.get(_text(name))
    return Optional(found, True) if found is not None else NONE


def _validate(value: Format, text: Any) -> Optional:
    problems = value.check(_text(text))
    return Optional(problems, True) if problems else NONE


FORMAT_NAMES = tuple(_FORMATS)
KUBERNETES_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "quantity": _quantity,
    "isQuantity": _works(_quantity),
    "isInteger": _is_integer,
    "asInteger": _as_integer,
    "asApproximateFloat": lambda value: float(value.amount),
    "sign": _sign,
    "compareTo": _order,
    "isGreaterThan": lambda left, right: _order(left, right) > 0,
    "isLessThan": lambda left, right: _order(left, right) < 0,
    "add": lambda left, right: Quantity(left.amount + _amount(right)),
    "sub": lambda left, right: Quantity(left.amount - _amount(right)),
    "url": _url,
    "isURL": _works(_url),
    "getScheme": lambda value: value.url.scheme,
    "getHost": lambda value: value.url.host,
    "getHostname": lambda value: value.url.hostname,
    "getPort": lambda value: value.url.port,
    "getEscapedPath": lambda value: value.url.escaped_path,
    "getQuery": lambda value: parse_qs(value.url.query, keep_blank_values=True),
    "ip": _ip,
    "isIP": _works(_ip),
    "ip.isCanonical": lambda text: str(_address(_text(text))) == text,
    "family": _ip_test(lambda address: address.version),
    "isUnspecified": _ip_test(lambda address: address.is_unspecified),
    "isLoopback": _ip_test(lambda address: address.is_loopback),
    "isLinkLocalUnicast": _ip_test(lambda address: address.is_link_local),
    "isLinkLocalMulticast": _ip_test(_link_local_multicast),
    "isGlobalUnicast": _ip_test(_global_unicast),
    "cidr": _parsed_cidr,
    "isCIDR": _works(_cidr),
    "containsIP": _holds_address,
    "containsCIDR": _holds_network,
    "masked": lambda value: Cidr(value.network.network_address, value.length),
    "prefixLength": lambda value: value.length,
    "semver": _semver,
    "isSemver": _works(_semver),
    "major": lambda value: value.numbers[0],
    "minor": lambda value: value.numbers[1],
    "patch": lambda value: value.numbers[2],
    "format.named": _named_format,
    "validate": _validate,
    "jsonpatch.escapeKey": lambda key: key.replace("~", "~0").replace("/", "~1"),
    **{f"format.{name}": partial(_itself, found) for name, found in _FORMATS.items()},
}
