"""A machine's interfaces: from its spec and the networks that it names to what an engine is asked. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vmruntime.api import names, network, networkinterface, virtualmachine
from vmruntime.api.meta import Obj, condition_of, dig, is_deleting, name_of, namespace_of, uid_of
from vmruntime.controllers.machine_decide import Problem
from vmruntime.engines.network import Interface, Segment

Find = Callable[[str, str], Obj | None]
"""Looks up an object by namespace and name."""


def problem(vm: Obj, find_network: Find, others: Iterable[Obj]) -> Problem | None:
    """Why the machine cannot be connected now. `others` hold their addresses, or are about to."""
    for entry in virtualmachine.interfaces(vm):
        name = _network_name(entry)
        if name == names.POD_NETWORK:
            continue
        found = _network_problem(entry, name, find_network("", name))
        if found:
            return found
    if text := _twice(vm):
        return Problem(virtualmachine.ERROR_CONFIGURATION, "InvalidSpec", f"spec.interfaces: {text}")
    mine = _static_addresses(vm).keys()
    for other in others:
        shared = sorted(mine & _static_addresses(other).keys()) if uid_of(other) != uid_of(vm) else []
        if shared:
            name, address = shared[0]
            text = f'address {address} on Network "{name}" is that of VirtualMachine '
            text += f'"{namespace_of(other)}/{name_of(other)}"'
            return Problem(virtualmachine.ERROR_CONFIGURATION, "AddressInUse", text)
    return None


def _network_problem(entry: Obj, name: str, found: Obj | None) -> Problem | None:
    if found is None:
        return Problem(virtualmachine.ERROR_CONFIGURATION, "NetworkMissing", f'Network "{name}" does not exist')
    if is_deleting(found):
        return Problem(virtualmachine.ERROR_CONFIGURATION, "NetworkDeleted", f'Network "{name}" is being deleted')
    if not entry.get("ipAddresses") and not network.has_external_dhcp(found):
        text = f'interface "{entry.get("name")}" needs ipAddresses: Network "{name}" has no DHCP server (externalDHCP4)'
        return Problem(virtualmachine.ERROR_CONFIGURATION, "AddressRequired", text)
    ready = condition_of(found, "Ready")
    if ready.get("status") != "True":
        why = str(ready.get("message", "")) or "it was not looked at yet"
        return Problem(virtualmachine.PENDING, "NetworkNotReady", f'Network "{name}" is not ready: {why}')
    return None


def _network_name(entry: Obj) -> str:
    return str(entry.get("networkName") or names.POD_NETWORK)


def _static_addresses(vm: Obj) -> dict[tuple[str, str], list[str]]:
    """By (network, address without its mask) the machine's interfaces that have this static address."""
    found: dict[tuple[str, str], list[str]] = {}
    for entry in virtualmachine.interfaces(vm):
        for address in entry.get("ipAddresses", []):
            place = (_network_name(entry), str(address).partition("/")[0])
            found.setdefault(place, []).append(str(entry.get("name")))
    return found


def _twice(vm: Obj) -> str:
    """Which address stands twice on one network. The schema cannot say so: the rule would cost more than may be."""
    for (name, address), holders in sorted(_static_addresses(vm).items()):
        if len(holders) > 1:
            return f'address {address} on Network "{name}" is given {len(holders)} times ({", ".join(holders)})'
    return ""


def interfaces(vm: Obj, find_network: Find, find_interface: Find) -> tuple[Interface, ...]:
    """What the machine's next start asks for, with the addresses that its status remembers."""
    known = {str(entry.get("name")): entry for entry in dig(vm, "status", "interfaces", default=[])}
    listed = virtualmachine.interfaces(vm)
    result = []
    for entry in listed:
        name, network_name = str(entry.get("name")), _network_name(entry)
        resource = networkinterface.name_for(namespace_of(vm), name_of(vm), name)
        permitted = find_interface(namespace_of(vm), resource)
        before = known.get(name, {})
        common = Interface(
            name=name,
            network=network_name,
            default=entry.get("default") is True or len(listed) == 1,
            mac=str(before.get("macAddress", "")),
            addresses=tuple(map(str, before.get("ipAddresses", ()))),
            any_mac=networkinterface.allows_any_mac(permitted),
            any_address=networkinterface.allows_any_address(permitted),
            resource=resource,
        )
        found = find_network("", network_name) if network_name != names.POD_NETWORK else None
        result.append(common if found is None else _on_segment(common, entry, found))
    return tuple(result)


def _on_segment(common: Interface, entry: Obj, found: Obj) -> Interface:
    """With static addresses gateway, routes and DNS are the Network's; without, DHCP says everything (section 11.5)."""
    addresses = tuple(map(str, entry.get("ipAddresses", ())))
    return Interface(
        name=common.name,
        network=common.network,
        default=common.default,
        mac=common.mac,
        addresses=addresses,
        segment=segment(found),
        gateway=str(dig(found, "spec", "gateway4", default="")) if addresses else "",
        routes=network.route_destinations(found) if addresses else (),
        nameservers=network.dns(found, "nameservers") if addresses else (),
        searches=network.dns(found, "searches") if addresses else (),
        any_mac=common.any_mac,
        any_address=common.any_address,
        resource=common.resource,
    )


def segment(found: Obj) -> Segment:
    """The Ethernet that a Network of type L2 is."""
    return Segment(network.host_interface(found), network.vlan_id(found), network.is_cluster_managed(found))


def to_status(entry: Interface) -> Obj:
    """An entry of the machine's `status.interfaces`."""
    written: Obj = {"name": entry.name, "networkName": entry.network}
    if entry.addresses:
        written["ipAddresses"] = [address.partition("/")[0] for address in entry.addresses]
    if entry.mac:
        written["macAddress"] = entry.mac
    if entry.gateway:
        written["gateway4"] = entry.gateway
    if entry.routes:
        written["routes"] = [{"to": destination} for destination in entry.routes]
    dns = {"nameservers": list(entry.nameservers), "searches": list(entry.searches)}
    if any(dns.values()):
        written["dnsConfig"] = {key: value for key, value in dns.items() if value}
    if entry.resource:
        written["resourceName"] = entry.resource
    if entry.ports:
        written["ports"] = [{"guest": port.guest, "host": port.host} for port in entry.ports]
    return written


def resources(vm: Obj) -> list[Obj]:
    """The NetworkInterfaces that a machine should have, as far as its status says what they are."""
    static = {str(entry.get("name")): entry.get("ipAddresses", []) for entry in virtualmachine.interfaces(vm)}
    result = []
    for entry in dig(vm, "status", "interfaces", default=[]):
        if not entry.get("resourceName"):
            continue
        spec: Obj = {"networkName": entry.get("networkName"), "macAddress": entry.get("macAddress")}
        wanted = static.get(str(entry.get("name")), [])
        if wanted:
            spec["ipAddresses"] = wanted
        status: Obj = {key: entry[key] for key in ("macAddress", "gateway4", "routes", "dnsConfig") if key in entry}
        if addresses := wanted or entry.get("ipAddresses", []):
            status["ipAddresses"] = addresses
        if pod := dig(vm, "status", "podName"):
            status["podName"] = pod
        result.append(
            {
                "apiVersion": networkinterface.RESOURCE.api_version,
                "kind": networkinterface.RESOURCE.kind,
                "metadata": {"name": entry["resourceName"], "namespace": namespace_of(vm)},
                "spec": spec,
                "status": status,
            }
        )
    return result
