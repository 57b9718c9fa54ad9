"""Network (networking.gke.io/v1): what machines' interfaces are connected to. Cluster-wide.

Source: VM Runtime documentation, "Create and use networks", and gke-networking-api (Apache-2.0).
"""

from __future__ import annotations

from typing import Any

from kube.machinery.resources import Resource
from vmruntime.api import names
from vmruntime.api.meta import (
    AGE,
    Column,
    Obj,
    array,
    boolean,
    conditions_schema,
    crd,
    dig,
    integer,
    name_of,
    root_schema,
    rule,
    string,
    struct,
)

RESOURCE = Resource(names.NETWORK_GROUP, names.VERSION, "networks", "Network", namespaced=False)

L2, L3, DEVICE = "L2", "L3", "Device"
CLUSTER_MANAGED, USER_MANAGED = "AnthosManaged", "UserManaged"

_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
IPV4_PATTERN = rf"^{_BYTE}(\.{_BYTE}){{3}}$"
CIDR4_PATTERN = rf"^{_BYTE}(\.{_BYTE}){{3}}/(3[0-2]|[12]?[0-9])$"
ADDRESS4_PATTERN = rf"^{_BYTE}(\.{_BYTE}){{3}}(/(3[0-2]|[12]?[0-9]))?$"
_EVERYTHING = "0.0.0.0/0"


def definition() -> Obj:
    """The CustomResourceDefinition; there while the runtime is enabled, or while networks exist that somebody made."""
    pod_network = f"self.metadata.name == '{names.POD_NETWORK}'"
    schema = root_schema(
        "Network is what interfaces of virtual machines are connected to.",
        _spec(),
        struct("What is true of the network.", {"conditions": conditions_schema()}),
        required=["spec"],
        **{
            "x-kubernetes-validations": [
                rule(
                    f"self.spec.type == '{L2}' || {pod_network}",
                    f"networks of type {L2} are the only ones that can be created for virtual machines",
                ),
                rule(
                    f"!({pod_network}) || self.spec == oldSelf.spec",
                    f"{names.POD_NETWORK} is predefined and cannot be changed; create a network of another name",
                ),
            ]
        },
    )
    return crd(
        RESOURCE,
        singular="network",
        short_names=(),
        columns=(
            Column("Type", ".spec.type"),
            Column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
            AGE,
            Column("Interface", ".spec.nodeInterfaceMatcher.interfaceName", wide=True),
            Column("VLAN", ".spec.l2NetworkConfig.vlanID", "integer", wide=True),
            Column("Message", ".status.conditions[?(@.type=='Ready')].message", wide=True),
        ),
        schema=schema,
    )


def dns_config() -> Obj:
    """Name servers and search domains, of networks and of interfaces."""
    return struct(
        "DNS of the guests.",
        {
            "nameservers": array("Name servers.", string("IPv4 address.", pattern=IPV4_PATTERN), maxItems=16),
            "searches": array(
                "Search domains.", string("DNS domain.", pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,252})$"), maxItems=32
            ),
        },
    )


def routes() -> Obj:
    """Destinations by way of the gateway, of networks and of interfaces."""
    to = string("Destination, an IPv4 range.", pattern=CIDR4_PATTERN)
    return array("Routes by way of the gateway.", struct("A route.", {"to": to}, required=["to"]), maxItems=64)


def _spec() -> Obj:
    fixed = "cannot be changed; create another network"
    vlan = "has({0}.l2NetworkConfig) && has({0}.l2NetworkConfig.vlanID) ? {0}.l2NetworkConfig.vlanID : 0"
    host = "has({0}.nodeInterfaceMatcher) && has({0}.nodeInterfaceMatcher.interfaceName) ? "
    host += "{0}.nodeInterfaceMatcher.interfaceName : ''"
    internal = f"self.type != '{L2}' || has(self.externalDHCP4) && self.externalDHCP4"
    listed_routes = routes()
    listed_routes["x-kubernetes-validations"] = [
        rule("!self.exists(r, r.to.endsWith('/0'))", f"{_EVERYTHING} cannot be a route; the gateway is gateway4")
    ]
    parameters = {key: string(f"{key} of the object.") for key in ("group", "kind", "name", "namespace")}
    return struct(
        "What the network is.",
        {
            "type": string("L2: an Ethernet of the nodes. The others are not for users.", enum=[L2, L3, DEVICE]),
            "provider": string("Who provides it.", enum=["GKE"]),
            "nodeInterfaceMatcher": struct(
                "Which interface of the nodes leads there.",
                {"interfaceName": string("Its name, the same on all nodes.", pattern=r"^[A-Za-z0-9_.-]{1,15}$")},
            ),
            "l2NetworkConfig": struct(
                "Details of an L2 network.",
                {
                    "vlanID": integer("VLAN; untagged if left out.", minimum=1, maximum=4094),
                    "prefixLength4": integer("Only for addresses that the cluster manages.", minimum=1, maximum=32),
                },
            ),
            "networkLifecycle": string(
                "Who makes and removes the VLAN's interface on the nodes: AnthosManaged (default), the cluster; "
                "UserManaged, their administrator, before this object is created and after it is deleted.",
                enum=[CLUSTER_MANAGED, USER_MANAGED],
            ),
            "routes": listed_routes,
            "gateway4": string("Gateway of guests with static addresses.", pattern=IPV4_PATTERN),
            "dnsConfig": dns_config(),
            "externalDHCP4": boolean("Whether there is a DHCP server on the network. None comes with the runtime."),
            "parametersRef": struct("Not for virtual machines.", parameters),
            "IPAMMode": string("Not for virtual machines.", enum=["Internal", "External"]),
            "IPAMMode6": string("Not for virtual machines.", enum=["Internal", "External"]),
        },
        required=["type"],
        **{
            "x-kubernetes-validations": [
                rule(
                    f"self.type != '{L2}' || has(self.nodeInterfaceMatcher) && "
                    "has(self.nodeInterfaceMatcher.interfaceName)",
                    "nodeInterfaceMatcher.interfaceName is required for a network of type L2",
                ),
                rule(
                    f"{internal} || has(self.gateway4)",
                    "gateway4 is required for a network of type L2 without externalDHCP4",
                ),
                rule(
                    f"{internal} || has(self.dnsConfig) && has(self.dnsConfig.nameservers) && "
                    "self.dnsConfig.nameservers.size() > 0",
                    "dnsConfig.nameservers is required for a network of type L2 without externalDHCP4",
                ),
                rule(
                    "!has(self.networkLifecycle) || has(self.l2NetworkConfig) && has(self.l2NetworkConfig.vlanID)",
                    "networkLifecycle needs l2NetworkConfig.vlanID",
                ),
                rule(
                    f"({host.format('self')}) == ({host.format('oldSelf')})",
                    f"nodeInterfaceMatcher.interfaceName {fixed}",
                ),
                rule(f"({vlan.format('self')}) == ({vlan.format('oldSelf')})", f"l2NetworkConfig.vlanID {fixed}"),
            ]
        },
    )


def pod_network(subnet: str, gateway: str, nameservers: tuple[str, ...]) -> Obj:
    """The one network that comes with the runtime."""
    spec: dict[str, Any] = {"type": L3, "provider": "GKE", "gateway4": gateway}
    if subnet:
        spec["routes"] = [{"to": subnet}]
    if nameservers:
        spec["dnsConfig"] = {"nameservers": list(nameservers)}
    return {
        "apiVersion": RESOURCE.api_version,
        "kind": RESOURCE.kind,
        "metadata": {"name": names.POD_NETWORK},
        "spec": spec,
    }


def is_predefined(obj: Obj) -> bool:
    return name_of(obj) == names.POD_NETWORK


def has_external_dhcp(obj: Obj) -> bool:
    return dig(obj, "spec", "externalDHCP4") is True


def host_interface(obj: Obj) -> str:
    return str(dig(obj, "spec", "nodeInterfaceMatcher", "interfaceName", default=""))


def vlan_id(obj: Obj) -> int:
    """The VLAN; 0 for an untagged network."""
    return int(dig(obj, "spec", "l2NetworkConfig", "vlanID", default=0))


def is_cluster_managed(obj: Obj) -> bool:
    """Whether the VLAN's interface on the nodes is made and removed by us."""
    return vlan_id(obj) > 0 and dig(obj, "spec", "networkLifecycle", default=CLUSTER_MANAGED) == CLUSTER_MANAGED


def route_destinations(obj: Obj) -> tuple[str, ...]:
    return tuple(str(route.get("to")) for route in dig(obj, "spec", "routes", default=[]))


def dns(obj: Obj, field: str) -> tuple[str, ...]:
    """`nameservers` or `searches`."""
    return tuple(map(str, dig(obj, "spec", "dnsConfig", field, default=[])))
