"""NetworkInterface (networking.gke.io/v1): one interface of a machine, with its addresses. Made by the controllers.

Status and spec are written together, by one writer, so there is no status subresource: that saves a write a machine.
Source: gke-networking-api (Apache-2.0).
"""

from __future__ import annotations

import hashlib

from kube.machinery.resources import Resource
from vmruntime.api import names, network
from vmruntime.api.meta import AGE, Column, Obj, annotation, array, crd, root_schema, string, struct

RESOURCE = Resource(names.NETWORK_GROUP, names.VERSION, "networkinterfaces", "NetworkInterface")

ANY_ADDRESS_ANNOTATION = f"{names.NETWORK_GROUP}/disable-source-ip-validation"
ANY_MAC_ANNOTATION = f"{names.NETWORK_GROUP}/disable-source-mac-validation"

_MAC_PATTERN = "^[0-9a-f]{2}(:[0-9a-f]{2}){5}$"


def definition() -> Obj:
    """The CustomResourceDefinition; there while the runtime is enabled."""
    addresses = array(
        "IPv4 addresses; without a mask it is /32.",
        string("An address.", pattern=network.ADDRESS4_PATTERN),
        maxItems=16,
    )
    mac = string("Hardware address.", pattern=_MAC_PATTERN)
    spec = struct(
        "What is wanted of the interface.",
        {
            "networkName": string("Network that it is connected to.", minLength=1, maxLength=253),
            "subnetworkName": string("Not used here.", maxLength=253),
            "ipAddresses": addresses,
            "macAddress": mac,
        },
        required=["networkName"],
    )
    status = struct(
        "What is true of the interface.",
        {
            "ipAddresses": addresses,
            "macAddress": mac,
            "gateway4": string("Gateway.", pattern=network.IPV4_PATTERN),
            "routes": network.routes(),
            "dnsConfig": network.dns_config(),
            "podName": string("The pod that has it; none while the machine is off."),
        },
    )
    obj = crd(
        RESOURCE,
        singular="networkinterface",
        short_names=(),
        columns=(
            AGE,
            Column("IP", ".status.ipAddresses[0]"),
            Column("MAC", ".status.macAddress"),
            Column("Network", ".spec.networkName"),
        ),
        schema=root_schema("NetworkInterface is an interface of a virtual machine.", spec, status, required=["spec"]),
    )
    del obj["spec"]["versions"][0]["subresources"]
    return obj


def name_for(namespace: str, machine: str, interface: str) -> str:
    """The object's name, such as `vm1-eth0-f8b63`: the same again when the machine is made again."""
    digest = hashlib.sha256(f"{namespace}/{machine}/{interface}".encode()).hexdigest()
    return f"{machine}-{interface}-{digest[:5]}".lower()


def allows_any_mac(obj: Obj | None) -> bool:
    return obj is not None and annotation(obj, ANY_MAC_ANNOTATION) == "true"


def allows_any_address(obj: Obj | None) -> bool:
    return obj is not None and annotation(obj, ANY_ADDRESS_ANNOTATION) == "true"
