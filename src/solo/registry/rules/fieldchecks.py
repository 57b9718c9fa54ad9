"""Checks of single fields that several kinds share: ports, addresses, paths and label selectors."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

from kube.machinery import names, objectmeta
from kube.machinery.errors import Cause, cause
from solo.registry.objects import quote, quote_json

Obj = dict[str, Any]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PORT_TEXT = "must be between 1 and 65535, inclusive"
_CIDR_TEXT = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
_ZEROS = re.compile(r"(?<![0-9a-fA-F:.])0+(?=[0-9])|(?<=\.)0+(?=[0-9])")


def invalid(field: str, value: Any, detail: str) -> Cause:
    """A value that is wrong for the reason that `detail` gives."""
    return cause("FieldValueInvalid", field, detail, quote_json(value))


def one_of(field: str, value: Any, allowed: tuple[str, ...]) -> Cause:
    """A value that is none of the few that there are, which are named in this order."""
    listed = ", ".join(map(quote, allowed))
    return cause("FieldValueNotSupported", field, f"supported values: {listed}", quote_json(value or ""))


def among(field: str, value: Any, allowed: tuple[str, ...]) -> list[Cause]:
    """What is wrong with a value that has to be one of a few."""
    return [] if value in allowed else [one_of(field, value, allowed)]


def port_number(port: int, field: str) -> Iterator[Cause]:
    """The number of a port (`IsValidPortNum`)."""
    if not 0 < port < 65536:
        yield invalid(field, port, _PORT_TEXT)


def port_reference(port: int | str, field: str) -> Iterator[Cause]:
    """The number or the name of a port (`ValidatePortNumOrName`)."""
    if isinstance(port, str):
        yield from (invalid(field, port, text) for text in port_name(port))
    else:
        yield from port_number(port, field)


def port_name(name: str) -> Iterator[str]:
    """What is wrong with an IANA service name (apimachinery `IsValidPortName`)."""
    if len(name) > 15:
        yield "must be no more than 15 characters"
    if not re.fullmatch(r"[-a-z0-9]+", name):
        yield "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
    if not re.search(r"[a-z]", name):
        yield "must contain at least one letter (a-z)"
    if "--" in name:
        yield "must not contain consecutive hyphens"
    if name and (name[0] == "-" or name[-1] == "-"):
        yield "must not begin or end with a hyphen"


def lenient_ip(address: str, field: str) -> Iterator[Cause]:
    """An address of either family, in which numbers may begin with zeros (`IsValidIPForLegacyField`)."""
    for text in names.ip_address(_ZEROS.sub("", address)):
        yield invalid(field, address, text)


def lenient_network(cidr: str) -> Network | None:
    """The network of a CIDR in which numbers may begin with zeros and bits of the host be set (`ParseCIDRSloppy`)."""
    if not re.fullmatch(r"[^/%]+/[0-9]+", cidr):
        return None
    try:
        return ipaddress.ip_network(_ZEROS.sub("", cidr), strict=False)
    except ValueError:
        return None


def lenient_cidr(cidr: str, field: str) -> Iterator[Cause]:
    """A CIDR (`IsValidCIDRForLegacyField`)."""
    if lenient_network(cidr) is None:
        yield invalid(field, cidr, _CIDR_TEXT)


def path_below(path: str, field: str) -> Iterator[Cause]:
    """A path that leads down from where it starts (`validateLocalDescendingPath`)."""
    if path.startswith("/"):
        yield invalid(field, path, "must be a relative path")
    if ".." in path.split("/"):
        yield invalid(field, path, "must not contain '..'")


def path_unreserved(path: str, field: str) -> Iterator[Cause]:
    """The same for a file in a volume, whose own files have names with two dots (`ValidateLocalNonReservedPath`)."""
    yield from path_below(path, field)
    if path.startswith("..") and not path.startswith("../"):
        yield invalid(field, path, "must not start with '..'")


SET_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def set_values(operator: str, values: list[str], field: str) -> Iterator[Cause]:
    """Whether there are values just where an operator of a selector compares with some."""
    if operator in ("In", "NotIn") and not values:
        yield cause("FieldValueRequired", field, "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in ("Exists", "DoesNotExist") and values:
        yield cause("FieldValueForbidden", field, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")


def label_selector(selector: Obj | None, field: str) -> Iterator[Cause]:
    """A label selector (apimachinery `ValidateLabelSelector`)."""
    if selector is None:
        return
    yield from objectmeta.validate_labels(selector.get("matchLabels") or {}, f"{field}.matchLabels")
    for index, item in enumerate(selector.get("matchExpressions") or []):
        yield from _requirement(item, f"{field}.matchExpressions[{index}]")


def _requirement(item: Obj, field: str) -> Iterator[Cause]:
    operator, values, key = item.get("operator") or "", item.get("values") or [], item.get("key") or ""
    if operator in SET_OPERATORS:
        yield from set_values(operator, values, f"{field}.values")
    else:
        yield invalid(f"{field}.operator", operator, "not a valid selector operator")
    yield from (invalid(f"{field}.key", key, text) for text in names.qualified_name(key))
    yield from label_values(values, f"{field}.values")


def label_values(values: list[str], field: str) -> Iterator[Cause]:
    """Values that labels are compared with."""
    for index, value in enumerate(values):
        yield from (invalid(f"{field}[{index}]", value, text) for text in names.label_value(value))
