"""Kinds that say how traffic goes: Ingress and its classes, NetworkPolicy, EndpointSlice and Endpoints.

Rules of `apis/networking/validation`, `apis/discovery/validation` and core `ValidateEndpoints`; but addresses of
loopback are welcome, as pods are processes of the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kube.machinery import names
from kube.machinery.errors import Cause, cause
from solo.registry.objects import child, dig, quote, quote_json
from solo.registry.rules.core import GenerationStrategy, SpecStrategy
from solo.registry.rules.fieldchecks import invalid
from solo.registry.rules.networkpolicychecks import network_policy_causes
from solo.registry.rules.podchecks import unsupported
from solo.registry.strategy import BuiltinStrategy

Obj = dict[str, Any]

_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_FAMILIES = ("FQDN", "IPv4", "IPv6")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_MAX_ENDPOINTS, _MAX_ADDRESSES = 1000, 100


class IngressStrategy(GenerationStrategy):
    """Ingresses."""

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        spec = obj["spec"]
        if not spec.get("rules") and not spec.get("defaultBackend"):
            detail = "either `defaultBackend` or `rules` must be specified"
            return [cause("FieldValueInvalid", "spec", detail, quote_json(spec))]
        causes: list[Cause] = []
        if spec.get("defaultBackend"):
            causes += _backend(spec["defaultBackend"], "spec.defaultBackend")
        for number, rule in enumerate(spec.get("rules") or []):
            if old is None or rule not in (old["spec"].get("rules") or []):
                causes += _host(rule.get("host") or "", f"spec.rules[{number}].host")
            for index, path in enumerate(dig(rule, "http", "paths") or []):
                causes += _path(path, f"spec.rules[{number}].http.paths[{index}]")
        return causes


def _host(host: str, field: str) -> Iterator[Cause]:
    if host and not names.ip_address(host):
        yield invalid(field, host, "must be a DNS name, not an IP address")
    check = names.wildcard_subdomain if "*" in host else names.dns1123_subdomain
    yield from (invalid(field, host, text) for text in (check(host) if host else ()))


def _path(path: Obj, field: str) -> Iterator[Cause]:
    kind, text = path.get("pathType"), path.get("path") or ""
    if not kind:
        yield cause("FieldValueRequired", f"{field}.pathType", "pathType must be specified")
    elif kind not in _PATH_TYPES:
        yield unsupported(f"{field}.pathType", kind, _PATH_TYPES)
    elif not text.startswith("/") and (text or kind != "ImplementationSpecific"):
        yield cause("FieldValueInvalid", f"{field}.path", "must be an absolute path", quote(text))
    yield from _backend(path.get("backend") or {}, f"{field}.backend")


def _backend(backend: Obj, field: str) -> Iterator[Cause]:
    service = backend.get("service")
    if service is not None and backend.get("resource") is not None:
        detail = "cannot set both resource and service backends"
        yield cause("FieldValueInvalid", field, detail, quote_json(backend))
    elif service is None:
        if backend.get("resource") is None:
            yield cause("FieldValueRequired", field, "resource or service backend is required")
    else:
        name, port = service.get("name") or "", service.get("port") or {}
        if not name:
            yield cause("FieldValueRequired", f"{field}.service.name")
        for text in names.dns1035_label(name) if name else ():
            yield cause("FieldValueInvalid", f"{field}.service.name", text, quote(name))
        if bool(port.get("name")) == bool(port.get("number")):
            detail = (
                "port name or number is required" if not port.get("name") else "cannot set both port name & port number"
            )
            yield cause(
                "FieldValueRequired" if not port.get("name") else "FieldValueInvalid", f"{field}.service.port", detail
            )


class IngressClassStrategy(SpecStrategy):
    """IngressClasses: the controller cannot change."""

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        controller = dig(obj, "spec", "controller") or ""
        if not controller:
            return [cause("FieldValueRequired", "spec.controller")]
        if old is not None and controller != dig(old, "spec", "controller"):
            return [cause("FieldValueInvalid", "spec.controller", "field is immutable", quote(controller))]
        if "/" not in controller:
            detail = 'must be a domain-prefixed path (such as "acme.io/foo")'
            return [cause("FieldValueInvalid", "spec.controller", detail, quote(controller))]
        return []


class NetworkPolicyStrategy(SpecStrategy):
    """NetworkPolicies, as objects: nothing filters."""

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        child(spec, "podSelector")
        for rule in [*(spec.get("ingress") or []), *(spec.get("egress") or [])]:
            for port in rule.get("ports") or []:
                port.setdefault("protocol", "TCP")
        if not spec.get("policyTypes"):
            spec["policyTypes"] = ["Ingress", *(["Egress"] if spec.get("egress") else [])]

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        if old is not None and obj["spec"] == old["spec"]:
            return []  # So that metadata can be written of what an older version let pass.
        return list(network_policy_causes(obj["spec"], old["spec"] if old is not None else {}))


class EndpointSliceStrategy(BuiltinStrategy):
    """EndpointSlices: the type of the addresses cannot change."""

    tracks_generation = True

    def default(self, obj: Obj) -> None:
        for port in obj.get("ports") or []:
            port.setdefault("name", "")
            port.setdefault("protocol", "TCP")

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        family = obj.get("addressType")
        if not family:
            return [cause("FieldValueRequired", "addressType")]
        if family not in _FAMILIES:
            return [unsupported("addressType", family, _FAMILIES)]
        if old is not None and family != old.get("addressType"):
            return [cause("FieldValueInvalid", "addressType", "field is immutable", quote(family))]
        endpoints = obj.get("endpoints") or []
        if len(endpoints) > _MAX_ENDPOINTS:
            return [
                cause(
                    "FieldValueTooMany", "endpoints", f"must have at most {_MAX_ENDPOINTS} items", str(len(endpoints))
                )
            ]
        causes = []
        for number, endpoint in enumerate(endpoints):
            if not endpoint.get("addresses"):
                detail = "must contain at least 1 address"
                causes.append(cause("FieldValueRequired", f"endpoints[{number}].addresses", detail))
            causes += _endpoint(endpoint, f"endpoints[{number}]")
            for index, address in enumerate(endpoint.get("addresses") or []):
                text = _wrong_address(address, family)
                if text:
                    place = f"endpoints[{number}].addresses[{index}]"
                    causes.append(cause("FieldValueInvalid", place, text, quote(address)))
        if old is None or obj.get("ports") != old.get("ports"):
            causes += _slice_ports(obj.get("ports") or [])
        return causes


def _endpoint(endpoint: Obj, field: str) -> Iterator[Cause]:
    count = len(endpoint.get("addresses") or [])
    if count > _MAX_ADDRESSES:
        detail = f"must have at most {_MAX_ADDRESSES} items"
        yield cause("FieldValueTooMany", f"{field}.addresses", detail, str(count))
    if endpoint.get("hostname") is not None:
        name = endpoint["hostname"]
        yield from (invalid(f"{field}.hostname", name, text) for text in names.dns1123_label(name))


def _slice_ports(ports: list[Obj]) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, port in enumerate(ports):
        field, name = f"ports[{index}]", port.get("name") or ""
        yield from (invalid(f"{field}.name", name, text) for text in (names.dns1123_label(name) if name else ()))
        if name in seen:
            yield cause("FieldValueDuplicate", f"{field}.name", value=quote(name))
        seen.add(name)
        if port.get("protocol") not in _PROTOCOLS:
            yield unsupported(f"{field}.protocol", port.get("protocol"), _PROTOCOLS)
        if port.get("appProtocol") is not None:
            value = port["appProtocol"]
            yield from (invalid(f"{field}.appProtocol", value, text) for text in names.qualified_name(value))


def _wrong_address(address: str, family: str) -> str:
    if family == "FQDN":
        return "; ".join(names.dns1123_subdomain(address.rstrip(".")))
    for text in names.ip_address(address):
        return text
    return "" if (family == "IPv6") is (":" in address) else f"must be an {family} address"


class EndpointsStrategy(BuiltinStrategy):
    """Endpoints."""

    creates_on_update = True

    def default(self, obj: Obj) -> None:
        for subset in obj.get("subsets") or []:
            for port in subset.get("ports") or []:
                port.setdefault("protocol", "TCP")

    def validate(self, obj: Obj, old: Obj | None) -> list[Cause]:
        return [found for number, subset in enumerate(obj.get("subsets") or []) for found in _subset(subset, number)]


def _subset(subset: Obj, number: int) -> Iterator[Cause]:
    field = f"subsets[{number}]"
    if not subset.get("addresses") and not subset.get("notReadyAddresses"):
        yield cause("FieldValueRequired", field, "must specify `addresses` or `notReadyAddresses`")
    for key in ("addresses", "notReadyAddresses"):
        for index, address in enumerate(subset.get(key) or []):
            value = address.get("ip") or ""
            for text in names.ip_address(value):
                yield cause("FieldValueInvalid", f"{field}.{key}[{index}].ip", text, quote(value))
    ports = subset.get("ports") or []
    for index, port in enumerate(ports):
        if len(ports) > 1 and not port.get("name"):
            yield cause("FieldValueRequired", f"{field}.ports[{index}].name")
        if not 0 < (port.get("port") or 0) < 65536:
            detail = "must be between 1 and 65535, inclusive"
            yield cause("FieldValueInvalid", f"{field}.ports[{index}].port", detail, str(port.get("port") or 0))
