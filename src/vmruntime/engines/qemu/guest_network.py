"""What a guest is told of its network cards: network configuration, version 2, for cloud-init. Pure.

Source: VM Runtime documentation, "Create and use networks": a card with static addresses makes no DHCP query, and has
its gateway, routes and DNS from the Network; a card without takes everything from DHCP.
"""

from __future__ import annotations

from collections.abc import Sequence

from vmruntime.engines.network import Interface


def is_static(interface: Interface) -> bool:
    """Whether the guest has to be told its address, as no DHCP server does."""
    return interface.segment is not None and bool(interface.addresses)


def network_config(interfaces: Sequence[Interface]) -> bytes | None:
    """The configuration; None where DHCP on every card, which guests do by themselves, is right."""
    if not any(is_static(interface) for interface in interfaces) and len(interfaces) < 2:
        return None
    lines = ["version: 2", "ethernets:"]
    for interface in interfaces:
        lines += [f"  {interface.name}:", "    match:", f'      macaddress: "{interface.mac}"']
        lines += [f"    set-name: {interface.name}"]
        lines += _static(interface) if is_static(interface) else _dynamic(interface, alone=len(interfaces) == 1)
    return ("\n".join(lines) + "\n").encode()


def with_prefix(address: str) -> str:
    """`10.0.0.5` alone is 10.0.0.5/32 (gke-networking-api, NetworkInterface)."""
    return address if "/" in address else f"{address}/32"


def _dynamic(interface: Interface, alone: bool) -> list[str]:
    lines = ["    dhcp4: true"]
    if not alone and not interface.default:
        lines += ["    dhcp4-overrides:", "      use-routes: false", "      use-dns: false"]
    return lines


def _static(interface: Interface) -> list[str]:
    lines = ["    dhcp4: false", "    addresses:"]
    lines += [f"    - {with_prefix(address)}" for address in interface.addresses]
    targets = [*(["0.0.0.0/0"] if interface.default and interface.gateway else []), *interface.routes]
    if targets and interface.gateway:
        lines.append("    routes:")
        for target in targets:
            lines += [f"    - to: {target}", f"      via: {interface.gateway}"]
            if any(address.endswith("/32") or "/" not in address for address in interface.addresses):
                lines.append("      on-link: true")
    if interface.nameservers or interface.searches:
        lines += ["    nameservers:", f"      addresses: [{', '.join(interface.nameservers)}]"]
        if interface.searches:
            lines.append(f"      search: [{', '.join(interface.searches)}]")
    return lines
