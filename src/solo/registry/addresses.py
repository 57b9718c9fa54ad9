"""Gives Services their cluster addresses and node ports, so that no two have the same.

What is given out is in the Services themselves and nowhere else; here it is only looked up by address and by port.
Source: kube-apiserver `registry/core/service` (storage/alloc.go, ipallocator, portallocator).
"""

from __future__ import annotations

import ipaddress
import random
import time
from collections.abc import Iterator
from typing import Any

from kube.machinery import errors
from kube.machinery.errors import Cause, cause
from kube.machinery.resources import SERVICECIDRS, SERVICES
from solo.registry.objects import dig, quote_json
from solo.registry.registry import Attributes
from solo.registry.rules.servicechecks import HEADLESS
from solo.registry.rules.services import needs_address, needs_node_ports, settle
from solo.store import Event, Key, Store

Obj = dict[str, Any]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Owner = tuple[str, str]

DEFAULT_RANGE = "127.32.0.0/16"
"""Addresses of loopback: what is sent to one never leaves the machine, and where nothing listens it fails at once."""

NODE_PORTS = range(30_000, 32_768)
_TRIES = 64
_PROMISE_SECONDS = 60.0
"""How long a write may take from here to the store; admission webhooks come after."""


def default_range() -> Obj:
    """The ServiceCIDR that every cluster has."""
    return {
        "apiVersion": SERVICECIDRS.api_version,
        "kind": SERVICECIDRS.kind,
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": [DEFAULT_RANGE]},
    }


class _Pool:
    """Which values belong to which Service: those in the store, and for a while those of writes under way."""

    def __init__(self) -> None:
        self._owners: dict[str | int, Owner] = {}
        self._values: dict[Owner, list[str] | list[int]] = {}
        self._promised: dict[str | int, tuple[Owner, float]] = {}

    def assign(self, owner: Owner, values: list[str] | list[int]) -> None:
        """`owner` now has just these; what it was promised it has got, or did not want."""
        self._promised = {value: kept for value, kept in self._promised.items() if kept[0] != owner}
        for value in self._values.pop(owner, ()):
            if self._owners.get(value) == owner:
                del self._owners[value]
        for value in values:
            self._owners[value] = owner
        if values:
            self._values[owner] = values

    def free(self, value: str | int, owner: Owner) -> bool:
        """Whether nobody but `owner` has the value."""
        holder, until = self._promised.get(value, (owner, 0.0))
        if holder != owner and until > time.monotonic():
            return False
        return self._owners.get(value) in (None, owner)

    def promise(self, values: list[str] | list[int], owner: Owner) -> None:
        """Keep values for a write under way, unless they are its owner's already."""
        now = time.monotonic()
        self._promised = {value: kept for value, kept in self._promised.items() if kept[1] > now}
        for value in values:
            if self._owners.get(value) != owner:
                self._promised[value] = (owner, now + _PROMISE_SECONDS)


class ServiceAddresses:
    """A mutation: completes Services with `clusterIP` and `nodePort`, or refuses those that ask for another's."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._addresses = _Pool()
        self._ports = _Pool()
        for stored in store.list(SERVICES.group_resource)[0]:
            self._take(stored.key, stored.look())
        store.add_listener(SERVICES.group_resource, self._changed)

    def _changed(self, event: Event) -> None:
        self._take(event.stored.key, event.stored.obj if event.type != "DELETED" else {})

    def _take(self, key: Key, service: Obj) -> None:
        spec = service.get("spec") or {}
        self._addresses.assign((key.namespace, key.name), _addresses(spec))
        self._ports.assign((key.namespace, key.name), _node_ports(spec))

    async def mutate(self, attributes: Attributes) -> None:
        """Raises 422 where what is asked for is another Service's or out of range, or nothing is left."""
        resource = attributes.kind.resource
        if resource.group_resource != SERVICES.group_resource or attributes.subresource or attributes.obj is None:
            return
        obj = settle(attributes.obj, attributes.old)
        spec, before = obj["spec"], (attributes.old or {}).get("spec") or {}
        owner = (attributes.namespace, attributes.name)
        causes = self._give_address(spec, before, owner) + self._give_ports(spec, before, owner)
        if causes:
            raise errors.invalid(resource.group, resource.kind, attributes.name, causes)
        if not attributes.context.dry_run:
            self._addresses.promise(_addresses(spec), owner)
            self._ports.promise(_node_ports(spec), owner)
        attributes.obj = obj

    def _give_address(self, spec: Obj, before: Obj, owner: Owner) -> list[Cause]:
        if not needs_address(spec):
            return []
        address = spec.get("clusterIP")
        if not address:
            address = self._any_address(owner)
            if address is None:
                return [cause("FieldValueInvalid", "spec.clusterIPs", "failed to allocate a serviceIP: range is full")]
            spec["clusterIP"], spec["clusterIPs"] = address, [address]
        elif address not in (HEADLESS, before.get("clusterIP")):
            problem = self._refusal(address, owner)
            if problem:
                detail = f"failed to allocate IP {address}: {problem}"
                return [cause("FieldValueInvalid", "spec.clusterIPs", detail, quote_json([address]))]
        spec.setdefault("ipFamilies", ["IPv6" if ":" in address else "IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
        return []

    def _ranges(self) -> Iterator[Network]:
        for stored in self._store.list(SERVICECIDRS.group_resource)[0]:
            cidr = stored.look()
            if not dig(cidr, "metadata", "deletionTimestamp"):
                yield from map(ipaddress.ip_network, cidr["spec"]["cidrs"])

    def _any_address(self, owner: Owner) -> str | None:
        """An address that is free; the ranges are large, so a random one mostly is."""
        for network in self._ranges():
            if network.version != 4 or network.num_addresses < 4:
                continue
            last = network.num_addresses - 1
            for _ in range(_TRIES):
                address = str(network[random.randrange(1, last)])
                if self._addresses.free(address, owner):
                    return address
            for number in range(1, last):
                if self._addresses.free(str(network[number]), owner):
                    return str(network[number])
        return None

    def _refusal(self, address: str, owner: Owner) -> str:
        """Why a Service cannot have the address it asks for, "" if it can."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return ""  # validation names it
        if not self._addresses.free(address, owner):
            return "provided IP is already allocated"
        ranges = list(self._ranges())
        if not any(parsed in network for network in ranges):
            shown = ", ".join(map(str, ranges))
            return f"the provided IP ({address}) is not in the valid range. The range of valid IPs is {shown}"
        return ""

    def _give_ports(self, spec: Obj, before: Obj, owner: Owner) -> list[Cause]:
        causes = []
        wants, present = needs_node_ports(spec), _node_ports(before)
        given = set(_node_ports(spec))
        for index, port in enumerate(spec.get("ports") or []):
            number, problem = port.get("nodePort"), ""
            if number and number not in present:
                problem = self._port_refusal(number, owner)
            elif not number and wants:
                number = self._any_port(owner, given)
                if number is None:
                    problem = "failed to allocate a nodePort: range is full"
                else:
                    given.add(number)
                    port["nodePort"] = number
            if problem:
                field = f"spec.ports[{index}].nodePort"
                causes.append(cause("FieldValueInvalid", field, problem, str(number or 0)))
        return causes

    def _any_port(self, owner: Owner, given: set[int]) -> int | None:
        for number in random.sample(NODE_PORTS, len(NODE_PORTS)):
            if number not in given and self._ports.free(number, owner):
                return number
        return None

    def _port_refusal(self, number: int, owner: Owner) -> str:
        if number not in NODE_PORTS:
            last = NODE_PORTS[-1]
            return f"provided port is not in the valid range. The range of valid ports is {NODE_PORTS[0]}-{last}"
        return "" if self._ports.free(number, owner) else "provided port is already allocated"


def _addresses(spec: Obj) -> list[str]:
    address = spec.get("clusterIP")
    return [address] if address and address != HEADLESS else []


def _node_ports(spec: Obj) -> list[int]:
    return [port["nodePort"] for port in spec.get("ports") or [] if port.get("nodePort")]
