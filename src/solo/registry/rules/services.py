"""Services and what gives them addresses: defaults, and what of an old Service a new state keeps.

Rules of `registry/core/service` (strategy.go, storage/alloc.go) and core/v1 `SetDefaults_Service`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from kube.machinery import names
from kube.machinery.errors import Cause, cause
from solo.registry.objects import child, copy, dig, quote, quote_json
from solo.registry.rules.core import GenerationStrategy
from solo.registry.rules.servicechecks import needs_health_check, service_causes, takes_external_traffic
from solo.registry.strategy import METADATA_FIELDS, BuiltinStrategy

Obj = dict[str, Any]

_AFFINITY_SECONDS = 10_800
_ADDRESS_FIELDS = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")


def needs_address(spec: Obj) -> bool:
    """Whether a Service of this type has `clusterIP`, be it an address or None."""
    return spec.get("type") != "ExternalName"


def needs_node_ports(spec: Obj) -> bool:
    """Whether each port of a Service of this type has a `nodePort`."""
    if spec.get("type") == "LoadBalancer":
        return spec.get("allocateLoadBalancerNodePorts") is not False
    return spec.get("type") == "NodePort"


def settle(obj: Obj, old: Obj | None) -> Obj:
    """A Service with all that it keeps of its old state, without what its type has no use for; both fields for its
    address say the same. What it then still lacks has to be given out.
    """
    obj = copy(obj)
    spec = obj["spec"]
    if old is None:
        if spec.get("clusterIP") and not spec.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]
        return obj
    before = old["spec"]
    if spec.get("clusterIP") != before.get("clusterIP") and spec.get("clusterIPs") == before.get("clusterIPs"):
        # Written by a client that knows only the older of the two fields.
        spec.pop("clusterIPs", None)
        if spec.get("clusterIP"):
            spec["clusterIPs"] = [spec["clusterIP"]]
    _keep_given_out(spec, before)
    _drop_unused(spec, before)
    return obj


def _keep_given_out(spec: Obj, before: Obj) -> None:
    """A client that sends no address or node port means the present one."""
    if needs_address(spec) and needs_address(before) and before.get("clusterIP"):
        if not spec.get("clusterIP"):
            spec["clusterIP"] = before["clusterIP"]
        if not spec.get("clusterIPs") and spec["clusterIP"] == before["clusterIP"]:
            spec["clusterIPs"] = list(before.get("clusterIPs") or [before["clusterIP"]])
    if needs_health_check(spec) and needs_health_check(before) and before.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = spec.get("healthCheckNodePort") or before["healthCheckNodePort"]
    if needs_node_ports(spec) and needs_node_ports(before):
        ports = spec.get("ports") or []
        taken = {port.get("nodePort") for port in ports}
        present = {_port_key(port): port.get("nodePort") for port in before.get("ports") or []}
        for port in ports:
            number = present.get(_port_key(port))
            if not port.get("nodePort") and number and number not in taken:
                port["nodePort"] = number
                taken.add(number)


def _port_key(port: Obj) -> tuple[str, int]:
    return port.get("protocol") or "TCP", int(port.get("port") or 0)


def _drop_unused(spec: Obj, before: Obj) -> None:
    """A change of type takes what went with the old one, where the client left it as it was."""
    if needs_node_ports(before) and not needs_node_ports(spec):
        present = [port.get("nodePort") for port in before.get("ports") or []]
        if [port.get("nodePort") for port in spec.get("ports") or []] == present:
            for port in spec.get("ports") or []:
                port.pop("nodePort", None)
    gone: list[str] = []
    if needs_address(before) and not needs_address(spec):
        gone += _ADDRESS_FIELDS
    if needs_health_check(before) and not needs_health_check(spec):
        gone.append("healthCheckNodePort")
    if before.get("type") == "LoadBalancer" and spec.get("type") != "LoadBalancer":
        gone += ["allocateLoadBalancerNodePorts", "loadBalancerClass"]
    if not takes_external_traffic(spec):
        gone.append("externalTrafficPolicy")
    if not needs_address(spec):
        gone.append("internalTrafficPolicy")
    for key in gone:
        if spec.get(key) == before.get(key):
            spec.pop(key, None)


class ServiceStrategy(BuiltinStrategy):
    """Services; `solo.registry.addresses` gives out what they ask for."""

    creates_on_update = True
    has_status = True
    returns_deleted = True
    fields: Mapping[str, tuple[str, ...]] = {
        **METADATA_FIELDS,
        "spec.clusterIP": ("spec", "clusterIP"),
        "spec.type": ("spec", "type"),
    }

    def validate_name(self, name: str) -> list[str]:
        return names.dns1123_label(name)

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        spec["type"] = spec.get("type") or "ClusterIP"
        spec["sessionAffinity"] = spec.get("sessionAffinity") or "None"
        if spec["sessionAffinity"] == "None":
            spec.pop("sessionAffinityConfig", None)
        elif spec["sessionAffinity"] == "ClientIP":
            affinity = child(child(spec, "sessionAffinityConfig"), "clientIP")
            affinity.setdefault("timeoutSeconds", _AFFINITY_SECONDS)
        if needs_address(spec):
            spec.setdefault("internalTrafficPolicy", "Cluster")
        if takes_external_traffic(spec):
            spec.setdefault("externalTrafficPolicy", "Cluster")
        if spec["type"] == "LoadBalancer":
            spec.setdefault("allocateLoadBalancerNodePorts", True)
        for port in spec.get("ports") or []:
            port["protocol"] = port.get("protocol") or "TCP"
            if port.get("port") and not port.get("targetPort"):
                port["targetPort"] = port["port"]

    def prepare_create(self, obj: Obj) -> None:
        obj["status"] = {"loadBalancer": {}}

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        if old is not None and obj["spec"] == old["spec"]:
            return []  # So that metadata can be written of what an older version let pass.
        return list(service_causes(obj["spec"], old["spec"] if old is not None else None))


class ServiceCIDRStrategy(GenerationStrategy):
    """ServiceCIDRs: ranges of addresses for Services. One is in use as soon as it is there, which `Ready` says."""

    def prepare_create(self, obj: Obj) -> None:
        ready = {"type": "Ready", "status": "True", "reason": "", "message": "Kubernetes Service CIDR is ready"}
        obj["status"] = {"conditions": [{**ready, "lastTransitionTime": dig(obj, "metadata", "creationTimestamp")}]}

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        cidrs = obj["spec"].get("cidrs") or []
        if not cidrs:
            return [cause("FieldValueRequired", "spec.cidrs", "at least one CIDR required")]
        if old is not None and cidrs != old["spec"].get("cidrs"):
            return [cause("FieldValueInvalid", "spec.cidrs", "field is immutable", quote_json(cidrs))]
        causes = []
        for index, cidr in enumerate(cidrs):
            try:
                canonical = str(ipaddress.ip_network(cidr))
            except ValueError:
                canonical = ""
            if canonical != cidr:
                detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
                causes.append(cause("FieldValueInvalid", f"spec.cidrs[{index}]", detail, quote(cidr)))
        if len(cidrs) > 2 or (not causes and len({":" in cidr for cidr in cidrs}) < len(cidrs)):
            detail = "may specify no more than one IP for each IP family, i.e. 192.168.0.0/24 and 2001:db8::/64"
            causes.append(cause("FieldValueInvalid", "spec.cidrs", detail, quote_json(cidrs)))
        return causes
