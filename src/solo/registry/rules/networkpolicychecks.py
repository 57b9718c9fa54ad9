"""What is wrong with a NetworkPolicy (networking `ValidateNetworkPolicySpec`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kube.machinery.errors import Cause, cause
from solo.registry.objects import dig
from solo.registry.rules.fieldchecks import (
    invalid,
    label_selector,
    lenient_cidr,
    lenient_network,
    one_of,
    port_number,
    port_reference,
)

Obj = dict[str, Any]

_PROTOCOLS = ("TCP", "UDP", "SCTP")
_TYPES = ("Ingress", "Egress")
_DIRECTIONS = (("ingress", "from"), ("egress", "to"))


def network_policy_causes(spec: Obj, before: Obj) -> Iterator[Cause]:
    """All of it; ranges of addresses that are in the spec `before` can stay as they are."""
    known = set(_ranges(before))
    yield from label_selector(spec.get("podSelector"), "spec.podSelector")
    for direction, side in _DIRECTIONS:
        for number, rule in enumerate(spec.get(direction) or []):
            field = f"spec.{direction}[{number}]"
            for index, port in enumerate(rule.get("ports") or []):
                yield from _port(port, f"{field}.ports[{index}]")
            for index, peer in enumerate(rule.get(side) or []):
                yield from _peer(peer, f"{field}.{side}[{index}]", known)
    types = spec.get("policyTypes") or []
    if len(types) > len(_TYPES):
        yield invalid("spec.policyTypes", types, "may not specify more than two policyTypes")
        return
    for index, type_ in enumerate(types):
        if type_ not in _TYPES:
            yield one_of(f"spec.policyTypes[{index}]", type_, _TYPES)


def _ranges(spec: Obj) -> Iterator[str]:
    for direction, side in _DIRECTIONS:
        for rule in spec.get(direction) or []:
            for peer in rule.get(side) or []:
                yield dig(peer, "ipBlock", "cidr") or ""
                yield from dig(peer, "ipBlock", "except") or []


def _port(port: Obj, field: str) -> Iterator[Cause]:
    if port.get("protocol") is not None and port["protocol"] not in _PROTOCOLS:
        yield one_of(f"{field}.protocol", port["protocol"], _PROTOCOLS)
    first, last = port.get("port"), port.get("endPort")
    if first is not None:
        yield from port_reference(first, f"{field}.port")
    if last is None:
        return
    if first is None:
        yield invalid(f"{field}.endPort", last, "may not be specified when `port` is not specified")
    elif isinstance(first, str):
        yield invalid(f"{field}.endPort", last, "may not be specified when `port` is non-numeric")
    else:
        if last < first:
            yield invalid(f"{field}.endPort", last, "must be greater than or equal to `port`")
        yield from port_number(last, f"{field}.endPort")


def _peer(peer: Obj, field: str, known: set[str]) -> Iterator[Cause]:
    given = [key for key in ("podSelector", "namespaceSelector", "ipBlock") if peer.get(key) is not None]
    for key in ("podSelector", "namespaceSelector"):
        yield from label_selector(peer.get(key), f"{field}.{key}")
    if "ipBlock" in given:
        yield from _block(peer["ipBlock"], f"{field}.ipBlock", known)
    if not given:
        yield cause("FieldValueRequired", field, "must specify a peer")
    elif len(given) > 1 and "ipBlock" in given:
        yield cause("FieldValueForbidden", field, "may not specify both ipBlock and another peer")


def _block(block: Obj, field: str, known: set[str]) -> Iterator[Cause]:
    cidr = block.get("cidr") or ""
    if not cidr:
        yield cause("FieldValueRequired", f"{field}.cidr")
        return
    if cidr not in known:
        yield from lenient_cidr(cidr, f"{field}.cidr")
    whole = lenient_network(cidr)
    for index, text in enumerate((block.get("except") or []) if whole is not None else []):
        place = f"{field}.except[{index}]"
        if text not in known:
            yield from lenient_cidr(text, place)
        part = lenient_network(text)
        if part is None or whole is None:
            continue
        if part.version != whole.version or part.prefixlen <= whole.prefixlen or part.network_address not in whole:
            yield invalid(place, text, "must be a strict subset of `cidr`")
