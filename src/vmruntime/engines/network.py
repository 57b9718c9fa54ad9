"""Networks and network interfaces as an engine is asked for them, and as it hands them back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Port:
    """A port of the guest that can be reached as `host` on the machine's address."""

    guest: int
    host: int


@dataclass(frozen=True, slots=True)
class Segment:
    """An Ethernet that machines take part in through an interface of the host.

    `vlan` 0: untagged. `managed`: the VLAN's own interface is the engine's to make and to remove.
    """

    interface: str
    vlan: int = 0
    managed: bool = False


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface. Address and MAC are empty until an engine has chosen them; given back, they are kept.

    `segment` None: it is on the pod network, whose addresses (and gateway and name servers) the engine hands out. On a
    segment `addresses` are static ones, with their masks, and none means that somebody else's DHCP is asked. The guest
    may send from its own MAC and static addresses only, unless `any_mac` and `any_address` say otherwise. `resource` is
    a name that the engine hands back. `ports` are those that can be reached; none: all. `device` is the engine's own.
    """

    name: str
    network: str
    default: bool = False
    mac: str = ""
    addresses: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()
    segment: Segment | None = None
    gateway: str = ""
    routes: tuple[str, ...] = ()
    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    any_mac: bool = False
    any_address: bool = False
    resource: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True)
class PodNetwork:
    """The network that every machine can be on. `restriction`: what is not possible on it here, and why."""

    subnet: str = ""
    gateway: str = ""
    nameservers: tuple[str, ...] = ()
    restriction: str = ""
