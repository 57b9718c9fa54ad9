"""What is wrong with a Service (core `ValidateService` and `ValidateServiceUpdate`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kube.machinery import names, objectmeta
from kube.machinery.errors import Cause, cause
from solo.registry.objects import dig, quote, quote_json
from solo.registry.rules.fieldchecks import invalid, lenient_cidr, lenient_ip, one_of, port_number, port_reference

Obj = dict[str, Any]

HEADLESS = "None"
_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
# Sent in by clients that only know one family; more than one would need addresses of both.
_FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_FAMILIES = ("IPv4", "IPv6")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_TRAFFIC_POLICIES = ("Cluster", "Local")
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
_MAX_AFFINITY_SECONDS = 86_400
_ONLY_BALANCED = "may only be used when `type` is 'LoadBalancer'"


def needs_health_check(spec: Obj) -> bool:
    """Whether the nodes tell a load balancer which of them have pods of it, on a port of their own."""
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def takes_external_traffic(spec: Obj) -> bool:
    """Whether it can be reached from outside the cluster."""
    type_ = spec.get("type")
    return type_ in ("NodePort", "LoadBalancer") or (type_ == "ClusterIP" and bool(spec.get("externalIPs")))


def service_causes(spec: Obj, before: Obj | None) -> Iterator[Cause]:
    """All of it; `before` is the spec that is to change."""
    if before is not None:
        yield from _frozen(spec, before)
    if not spec.get("ports") and spec["type"] != "ExternalName" and spec.get("clusterIP") != HEADLESS:
        yield cause("FieldValueRequired", "spec.ports")
    if spec["type"] == "ExternalName":
        yield from _external_name(spec)
    yield from _ports(spec)
    yield from objectmeta.validate_labels(spec.get("selector") or {}, "spec.selector")
    yield from _affinity(spec)
    if spec["type"] != "ExternalName":
        yield from _addresses(spec)
    known = (before or {}).get("externalIPs") or []
    for index, address in enumerate(spec.get("externalIPs") or []):
        if address not in known:
            yield from lenient_ip(address, f"spec.externalIPs[{index}]")
    if spec["type"] not in _TYPES:
        yield one_of("spec.type", spec["type"], _TYPES)
    yield from _distinct_ports(spec)
    yield from _load_balancer(spec, before or {})
    yield from _external_traffic(spec)
    for key, allowed in (("internalTrafficPolicy", _TRAFFIC_POLICIES), ("trafficDistribution", _DISTRIBUTIONS)):
        if spec.get(key) is not None and spec[key] not in allowed:
            yield one_of(f"spec.{key}", spec[key], allowed)


def _frozen(spec: Obj, before: Obj) -> Iterator[Cause]:
    """An address cannot be exchanged for another one; only a Service that had none gets one."""
    external = "ExternalName" in (spec["type"], before.get("type"))
    if not external and before.get("clusterIP") and spec.get("clusterIP") != before["clusterIP"]:
        yield invalid("spec.clusterIPs[0]", spec.get("clusterIPs") or [], "may not change once set")
    balanced = spec["type"] == before.get("type") == "LoadBalancer"
    if balanced and spec.get("loadBalancerClass") != before.get("loadBalancerClass"):
        yield invalid("spec.loadBalancerClass", spec.get("loadBalancerClass"), "may not change once set")
    port = before.get("healthCheckNodePort")
    # Nothing gives these ports out, so that a Service may get one late.
    if needs_health_check(spec) and needs_health_check(before) and port and spec.get("healthCheckNodePort") != port:
        yield cause("FieldValueForbidden", "spec.healthCheckNodePort", "field is immutable")


def _external_name(spec: Obj) -> Iterator[Cause]:
    for key in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if spec.get(key) or (key == "clusterIPs" and spec.get("clusterIP")):
            yield cause("FieldValueForbidden", f"spec.{key}", "may not be set for ExternalName services")
    name = (spec.get("externalName") or "").removesuffix(".")
    if not name:
        yield cause("FieldValueRequired", "spec.externalName")
        return
    yield from (invalid("spec.externalName", name, text) for text in names.dns1123_subdomain(name))


def _ports(spec: Obj) -> Iterator[Cause]:
    ports = spec.get("ports") or []
    seen: set[str] = set()
    for index, port in enumerate(ports):
        field, name = f"spec.ports[{index}]", port.get("name") or ""
        if name:
            yield from (invalid(f"{field}.name", name, text) for text in names.dns1123_label(name))
            if name in seen:
                yield cause("FieldValueDuplicate", f"{field}.name", value=quote(name))
            seen.add(name)
        elif len(ports) > 1:
            yield cause("FieldValueRequired", f"{field}.name")
        yield from port_number(port.get("port") or 0, f"{field}.port")
        if port["protocol"] not in _PROTOCOLS:
            yield one_of(f"{field}.protocol", port["protocol"], _PROTOCOLS)
        yield from port_reference(port.get("targetPort") or 0, f"{field}.targetPort")
        if port.get("appProtocol") is not None:
            value = port["appProtocol"]
            yield from (invalid(f"{field}.appProtocol", value, text) for text in names.qualified_name(value))


def _distinct_ports(spec: Obj) -> Iterator[Cause]:
    ports = spec.get("ports") or []
    if spec["type"] == "ClusterIP":
        for index, port in enumerate(ports):
            if port.get("nodePort"):
                detail = "may not be used when `type` is 'ClusterIP'"
                yield cause("FieldValueForbidden", f"spec.ports[{index}].nodePort", detail)
    outside: set[tuple[str, int]] = set()
    for index, port in enumerate(ports):
        key = (port["protocol"], port.get("nodePort") or 0)
        if key[1] and key in outside:
            yield cause("FieldValueDuplicate", f"spec.ports[{index}].nodePort", value=str(key[1]))
        outside.add(key)
    inside: set[tuple[str, int]] = set()
    for index, port in enumerate(ports):
        key = (port["protocol"], port.get("port") or 0)
        if key in inside:
            value = quote_json({"port": key[1], "protocol": key[0]})
            yield cause("FieldValueDuplicate", f"spec.ports[{index}]", value=value)
        inside.add(key)


def _affinity(spec: Obj) -> Iterator[Cause]:
    if spec["sessionAffinity"] not in ("ClientIP", "None"):
        yield one_of("spec.sessionAffinity", spec["sessionAffinity"], ("ClientIP", "None"))
    elif spec["sessionAffinity"] == "ClientIP":
        seconds = dig(spec, "sessionAffinityConfig", "clientIP", "timeoutSeconds") or 0
        if not 0 < seconds <= _MAX_AFFINITY_SECONDS:
            detail = f"must be greater than 0 and less than {_MAX_AFFINITY_SECONDS}"
            yield invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", seconds, detail)


def _addresses(spec: Obj) -> Iterator[Cause]:
    yield from _families(spec)
    address, addresses = spec.get("clusterIP") or "", spec.get("clusterIPs") or []
    policy = spec.get("ipFamilyPolicy")
    if addresses and addresses[0] != address:
        yield invalid("spec.clusterIPs", addresses, "first value must match `clusterIP`")
    elif len(addresses) > 1 or policy == "RequireDualStack":
        detail = "this cluster is not configured for dual-stack services"
        yield invalid("spec.ipFamilyPolicy", policy or "", detail)
    elif policy not in (None, *_FAMILY_POLICIES):
        yield one_of("spec.ipFamilyPolicy", policy, _FAMILY_POLICIES)
    elif address == HEADLESS:
        if spec["type"] != "ClusterIP":
            yield invalid("spec.clusterIPs[0]", address, f"may not be set to 'None' for {spec['type']} services")
    elif address:
        yield from (invalid("spec.clusterIPs[0]", address, text) for text in names.ip_address(address))


def _families(spec: Obj) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, family in enumerate(spec.get("ipFamilies") or []):
        if family not in _FAMILIES:
            yield one_of(f"spec.ipFamilies[{index}]", family, _FAMILIES)
        if family in seen:
            yield cause("FieldValueDuplicate", f"spec.ipFamilies[{index}]", value=quote(family))
        seen.add(family)


def _load_balancer(spec: Obj, before: Obj) -> Iterator[Cause]:
    balanced, ranges = spec["type"] == "LoadBalancer", spec.get("loadBalancerSourceRanges") or []
    # The field is written like this there.
    field = "spec.LoadBalancerSourceRanges"
    if ranges and not balanced:
        yield cause("FieldValueForbidden", field, _ONLY_BALANCED)
    known = {value.strip() for value in before.get("loadBalancerSourceRanges") or []}
    for index, value in enumerate(ranges):
        if value.strip() not in known:
            yield from lenient_cidr(value.strip(), f"{field}[{index}]")
    if spec.get("allocateLoadBalancerNodePorts") is not None and not balanced:
        yield cause("FieldValueForbidden", "spec.allocateLoadBalancerNodePorts", _ONLY_BALANCED)
    class_ = spec.get("loadBalancerClass")
    if class_ is not None and balanced:
        yield from (invalid("spec.loadBalancerClass", class_, text) for text in names.qualified_name(class_))
    elif class_ is not None:
        yield cause("FieldValueForbidden", "spec.loadBalancerClass", _ONLY_BALANCED)


def _external_traffic(spec: Obj) -> Iterator[Cause]:
    policy, port = spec.get("externalTrafficPolicy") or "", spec.get("healthCheckNodePort") or 0
    if policy and not takes_external_traffic(spec):
        detail = "may only be set for externally-accessible services"
        yield invalid("spec.externalTrafficPolicy", policy, detail)
    elif policy and policy not in _TRAFFIC_POLICIES:
        yield one_of("spec.externalTrafficPolicy", policy, _TRAFFIC_POLICIES)
    if port and not needs_health_check(spec):
        detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        yield invalid("spec.healthCheckNodePort", port, detail)
    elif port:
        yield from port_number(port, "spec.healthCheckNodePort")
