"""What a guest is told of its network cards: network configuration, version 2, for cloud-init. Pure.

Source: VM Runtime documentation, "Create and use networks": a card with static addresses makes no DHCP query, and has
its gateway, routes and DNS from the Network; a card without takes everything from DHCP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vmruntime.engines.network import Interface

Obj = dict[str, Any]


def is_static(interface: Interface) -> bool:
    """Whether the guest has to be told its address, as no DHCP server does."""
    return interface.segment is not None and bool(interface.addresses)


def network_config(interfaces: Sequence[Interface]) -> bytes | None:
    """The configuration; None where DHCP on every card, which guests do by themselves, is right."""
    if not any(is_static(interface) for interface in interfaces) and len(interfaces) < 2:
        return None
    ethernets = {interface.name: _ethernet(interface, alone=len(interfaces) == 1) for interface in interfaces}
    # Only machines with such cards need it. It puts words into quotes that are no texts to YAML, such as `no`.
    import yaml

    return yaml.safe_dump({"version": 2, "ethernets": ethernets}, sort_keys=False).encode()


def with_prefix(address: str) -> str:
    """`10.0.0.5` alone is 10.0.0.5/32 (gke-networking-api, NetworkInterface)."""
    return address if "/" in address else f"{address}/32"


def _ethernet(interface: Interface, alone: bool) -> Obj:
    card: Obj = {"match": {"macaddress": interface.mac}, "set-name": interface.name}
    if is_static(interface):
        return card | _static(interface)
    card["dhcp4"] = True
    if not alone and not interface.default:
        card["dhcp4-overrides"] = {"use-routes": False, "use-dns": False}
    return card


def _static(interface: Interface) -> Obj:
    card: Obj = {"dhcp4": False, "addresses": [with_prefix(address) for address in interface.addresses]}
    if interface.gateway:
        targets = [*(["0.0.0.0/0"] if interface.default else []), *interface.routes]
        on_link = {"on-link": True} if any(text.endswith("/32") for text in card["addresses"]) else {}
        if targets:
            card["routes"] = [{"to": target, "via": interface.gateway, **on_link} for target in targets]
    if interface.nameservers or interface.searches:
        card["nameservers"] = {"addresses": list(interface.nameservers)}
        if interface.searches:
            card["nameservers"]["search"] = list(interface.searches)
    return card
