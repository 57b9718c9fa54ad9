"""What is wrong with a pod spec apart from its containers, volumes and placement (core `ValidatePodSpec`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from kube.machinery import names, objectmeta
from kube.machinery.errors import Cause, cause
from solo.registry.objects import dig, quote
from solo.registry.rules.fieldchecks import invalid, lenient_ip, one_of

Obj = dict[str, Any]

_MAX_INT32 = 2**31 - 1
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_PREEMPTION = ("PreemptLowerPriority", "Never")
_MAX_NAMESERVERS, _MAX_SEARCHES, _MAX_SEARCH_TEXT = 3, 32, 2048


def unsupported(field: str, value: Any, allowed: tuple[str, ...]) -> Cause:
    """A value that is none of the few that there are, which are named in order of the alphabet."""
    return one_of(field, value, tuple(sorted(allowed)))


def exactly_one(part: Obj, known: tuple[str, ...], field: str, what: str) -> Iterator[Cause]:
    """One of several fields must be given. `what` they are is for the message, such as `volume type`."""
    given = [key for key in known if part.get(key) is not None]
    if not given:
        yield cause("FieldValueRequired", field, f"must specify a {what}")
    for key in given[1:]:
        yield cause("FieldValueForbidden", f"{field}.{key}", f"may not specify more than 1 {what}")


def host_port_causes(spec: Obj, field: str) -> Iterator[Cause]:
    """In the network of the host, a port is the same inside and outside."""
    if not spec.get("hostNetwork"):
        return
    for number, container in enumerate(spec.get("containers") or []):
        for index, port in enumerate(container.get("ports") or []):
            # One that is not given is filled in when the pod is made.
            if port.get("hostPort") and port["hostPort"] != port.get("containerPort"):
                place = f"{field}.containers[{number}].ports[{index}].hostPort"
                yield invalid(place, port["hostPort"], "must match `containerPort` when `hostNetwork` is true")


def dns_policy_causes(spec: Obj, field: str) -> Iterator[Cause]:
    """Where names are looked up, and on which nodes a pod can run."""
    if spec.get("dnsPolicy") not in _DNS_POLICIES:
        yield one_of(f"{field}.dnsPolicy", spec.get("dnsPolicy"), _DNS_POLICIES)
    yield from objectmeta.validate_labels(spec.get("nodeSelector") or {}, f"{field}.nodeSelector")


def dns_config_causes(spec: Obj, field: str) -> Iterator[Cause]:
    """Name servers and domains to search."""
    config, place = spec.get("dnsConfig"), f"{field}.dnsConfig"
    if spec.get("dnsPolicy") == "None" and not dig(config, "nameservers"):
        if config is None:
            yield cause("FieldValueRequired", place, "must provide `dnsConfig` when `dnsPolicy` is None")
        else:
            detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            yield cause("FieldValueRequired", f"{place}.nameservers", detail)
        return
    if config is None:
        return
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    if len(servers) > _MAX_NAMESERVERS:
        yield invalid(f"{place}.nameservers", servers, f"must not have more than {_MAX_NAMESERVERS} nameservers")
    for index, server in enumerate(servers):
        yield from lenient_ip(server, f"{place}.nameservers[{index}]")
    yield from _searches(searches, f"{place}.searches")
    for index, option in enumerate(config.get("options") or []):
        if not option.get("name"):
            yield cause("FieldValueRequired", f"{place}.options[{index}]", "must not be empty")


def _searches(searches: list[str], field: str) -> Iterator[Cause]:
    if len(searches) > _MAX_SEARCHES:
        yield invalid(field, searches, f"must not have more than {_MAX_SEARCHES} search paths")
    if len(" ".join(searches).encode("utf-8", "surrogatepass")) > _MAX_SEARCH_TEXT:
        detail = f"must not have more than {_MAX_SEARCH_TEXT} characters (including spaces) in the search list"
        yield invalid(field, searches, detail)


def gate_causes(spec: Obj, field: str) -> Iterator[Cause]:
    """What has to be true before a pod is ready, and before it gets a node."""
    for index, gate in enumerate(spec.get("readinessGates") or []):
        value = gate.get("conditionType") or ""
        for text in names.qualified_name(value):
            yield invalid(f"{field}.readinessGates[{index}].conditionType", value, text)
    seen: set[str] = set()
    for index, gate in enumerate(spec.get("schedulingGates") or []):
        name, place = gate.get("name") or "", f"{field}.schedulingGates[{index}]"
        for text in names.qualified_name(name):
            yield invalid(place, name, text)
        if name in seen:
            yield cause("FieldValueDuplicate", place, value=quote(name))
        seen.add(name)


def name_causes(spec: Obj, field: str) -> Iterator[Cause]:
    """The pod's own names, and how long it may take."""
    yield from _named(spec, field, "serviceAccountName", names.dns1123_subdomain)
    yield from _named(spec, field, "nodeName", names.dns1123_subdomain)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= _MAX_INT32:
        yield invalid(f"{field}.activeDeadlineSeconds", deadline, f"must be between 1 and {_MAX_INT32}, inclusive")
    yield from _named(spec, field, "hostname", names.dns1123_label)
    yield from _named(spec, field, "subdomain", names.dns1123_label)


def class_causes(spec: Obj, field: str) -> Iterator[Cause]:
    """Other names of the pod's hosts file, and the classes that a pod is of."""
    for index, alias in enumerate(spec.get("hostAliases") or []):
        place = f"{field}.hostAliases[{index}]"
        yield from lenient_ip(alias.get("ip") or "", f"{place}.ip")
        for number, name in enumerate(alias.get("hostnames") or []):
            for text in names.dns1123_subdomain(name):
                yield invalid(f"{place}.hostnames[{number}]", name, text)
    yield from _named(spec, field, "priorityClassName", names.dns1123_subdomain)
    yield from _named(spec, field, "runtimeClassName", names.dns1123_subdomain)
    if spec.get("preemptionPolicy") not in (None, *_PREEMPTION):
        yield one_of(f"{field}.preemptionPolicy", spec["preemptionPolicy"], _PREEMPTION)


def _named(spec: Obj, field: str, key: str, check: Callable[[str], list[str]]) -> Iterator[Cause]:
    value = spec.get(key) or ""
    for text in check(value) if value else ():
        yield invalid(f"{field}.{key}", value, text)
