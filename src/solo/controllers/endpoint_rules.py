"""What the Endpoints and EndpointSlices of a Service hold. Pure.

Source: `k8s.io/endpointslice` (reconciler.go, utils.go), `pkg/controller/endpoint` and `endpointslicemirroring`, and
the Kubernetes documentation ("EndpointSlices").
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from kube.machinery.podports import reached_at
from kube.machinery.resources import ENDPOINTS, ENDPOINTSLICES, SERVICES
from solo.controllers.ownership import controller_reference

Obj = dict[str, Any]
Ports = tuple[tuple[str, int, str, str], ...]
"""Name, number, protocol, application protocol."""

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
_BY_PODS = "endpointslice-controller.k8s.io"
_BY_ENDPOINTS = "endpointslicemirroring-controller.k8s.io"
MANAGERS = (_BY_PODS, _BY_ENDPOINTS)
MAX_ENDPOINTS = 100
"""Of one EndpointSlice, as in Kubernetes."""

_HEADLESS = "service.kubernetes.io/headless"
_ENDPOINTS_BY = "endpoints.kubernetes.io/managed-by"
_ENDPOINTS_MANAGER = "endpoint-controller"
_SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"
_LEADER = "control-plane.alpha.kubernetes.io/leader"


def manager_of(slice_: Obj) -> str:
    """Which controller an EndpointSlice belongs to, "" for one that somebody made."""
    return str((slice_["metadata"].get("labels") or {}).get(MANAGED_BY) or "")


def is_ours(endpoints: Obj) -> bool:
    """Whether Endpoints were made for a Service's pods."""
    return (endpoints["metadata"].get("labels") or {}).get(_ENDPOINTS_BY) == _ENDPOINTS_MANAGER


def same(present: Obj, wanted: Obj) -> bool:
    """Whether a slice already is what is wanted."""
    labels = present["metadata"].get("labels") == wanted["metadata"]["labels"]
    return labels and all((present.get(key) or []) == wanted[key] for key in ("addressType", "endpoints", "ports"))


def replaceable(present: Obj, wanted: Obj) -> bool:
    """Whether a slice can become the wanted one: its type of address cannot change, nor whose it is."""
    return present.get("addressType") == wanted["addressType"] and manager_of(present) == manager_of(wanted)


# ---- pods


def pod_facts(pod: Obj) -> tuple[Any, ...]:
    """Everything about a pod that Endpoints depend on."""
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    ports = [container.get("ports") for container in spec.get("containers") or []]
    return (
        metadata.get("labels"), bool(metadata.get("deletionTimestamp")), spec.get("nodeName"), ports,
        status.get("phase"), status.get("podIP"), _is_ready(pod),
    )  # fmt: skip


def _is_ready(pod: Obj) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)


def _with_address(pods: Iterable[Obj]) -> list[Obj]:
    """The pods that can be reached, or soon can: those that have not ended, by name."""
    living = (pod for pod in pods if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"))
    return sorted((pod for pod in living if pod["status"].get("podIP")), key=lambda pod: str(pod["metadata"]["name"]))


def _ports(service: Obj, pod: Obj) -> Ports:
    """Where a pod serves the ports of a Service; one whose name the pod does not know is left out."""
    found = []
    for port in service["spec"].get("ports") or []:
        protocol = port.get("protocol") or "TCP"
        number = _number(pod, port.get("targetPort") or port["port"], protocol)
        if number is not None:
            number = reached_at(pod, pod["status"]["podIP"], number, protocol)
            found.append((port.get("name") or "", number, protocol, port.get("appProtocol") or ""))
    return tuple(found)


def _number(pod: Obj, target: int | str, protocol: str) -> int | None:
    if isinstance(target, int):
        return target
    for container in pod["spec"].get("containers") or []:
        for port in container.get("ports") or []:
            if port.get("name") == target and (port.get("protocol") or "TCP") == protocol:
                return int(port["containerPort"])
    return None


def _by_ports(service: Obj, pods: Iterable[Obj]) -> dict[Ports, list[Obj]]:
    """Pods that serve at the same ports. Without a port of the Service that a pod has, it cannot be reached by it."""
    groups: dict[Ports, list[Obj]] = {}
    for pod in _with_address(pods):
        ports = _ports(service, pod)
        if ports or not service["spec"].get("ports"):
            groups.setdefault(ports, []).append(pod)
    return dict(sorted(groups.items()))


def _port_objects(ports: Ports, *, named: bool) -> list[Obj]:
    """Ports as the API has them; EndpointSlices show an empty name, Endpoints do not."""
    shown = []
    for name, number, protocol, application in ports:
        port: Obj = {"name": name} if name or named else {}
        port |= {"port": number, "protocol": protocol}
        if application:
            port["appProtocol"] = application
        shown.append(port)
    return shown


def _reference(pod: Obj) -> Obj:
    metadata = pod["metadata"]
    return {"kind": "Pod", "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"]}


def _hostname(service: Obj, pod: Obj) -> Obj:
    spec = pod["spec"]
    if spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"]:
        return {"hostname": spec["hostname"]}
    return {}


# ---- EndpointSlices


def slices(service: Obj, pods: Iterable[Obj]) -> list[Obj]:
    """The EndpointSlices of a Service with a selector; there is always one, if an empty one."""
    wanted = []
    for ports, members in _by_ports(service, pods).items():
        for address_type, chosen in _by_family(members, lambda pod: pod["status"]["podIP"]).items():
            endpoints = [_endpoint(service, pod) for pod in chosen]
            shown = _port_objects(ports, named=True)
            wanted += _slices(service, service, _BY_PODS, address_type, endpoints, shown)
    if not wanted:
        families = service["spec"].get("ipFamilies") or ["IPv4"]
        wanted.append(_slice(service, service, _BY_PODS, families[0], [], []))
    return wanted


def _endpoint(service: Obj, pod: Obj) -> Obj:
    serving, terminating = _is_ready(pod), bool(pod["metadata"].get("deletionTimestamp"))
    published = bool(service["spec"].get("publishNotReadyAddresses"))
    ready = published or (serving and not terminating)
    node = {"nodeName": pod["spec"]["nodeName"]} if pod["spec"].get("nodeName") else {}
    return {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        **_hostname(service, pod),
        **node,
        "targetRef": _reference(pod),
    }


def mirrored(service: Obj, endpoints: Obj | None) -> list[Obj]:
    """The EndpointSlices of a Service without a selector: what its Endpoints say."""
    if endpoints is None or service["spec"].get("selector"):
        return []
    metadata = endpoints["metadata"]
    if (metadata.get("labels") or {}).get(_SKIP_MIRROR) == "true" or _LEADER in (metadata.get("annotations") or {}):
        return []
    wanted = []
    for subset in endpoints.get("subsets") or []:
        ports = [{"name": "", "protocol": "TCP", **port} for port in subset.get("ports") or []]
        addresses = [(item, True) for item in subset.get("addresses") or []]
        addresses += [(item, False) for item in subset.get("notReadyAddresses") or []]
        for address_type, chosen in _by_family(addresses, lambda item: item[0]["ip"]).items():
            points = [_mirrored_endpoint(item, ready) for item, ready in chosen]
            wanted += _slices(service, endpoints, _BY_ENDPOINTS, address_type, points, ports)
    return wanted


def _mirrored_endpoint(address: Obj, ready: bool) -> Obj:
    kept = {key: address[key] for key in ("hostname", "nodeName", "targetRef") if address.get(key)}
    return {"addresses": [address["ip"]], "conditions": {"ready": ready}, **kept}


def _by_family(items: Iterable[Any], address_of: Any) -> dict[str, list[Any]]:
    families: dict[str, list[Any]] = {}
    for item in items:
        try:
            version = ipaddress.ip_address(address_of(item)).version
        except ValueError:
            continue
        families.setdefault(f"IPv{version}", []).append(item)
    return families


def _slices(
    service: Obj, source: Obj, manager: str, address_type: str, endpoints: list[Obj], ports: list[Obj]
) -> list[Obj]:
    return [
        _slice(service, source, manager, address_type, endpoints[start : start + MAX_ENDPOINTS], ports)
        for start in range(0, len(endpoints), MAX_ENDPOINTS)
    ]


def _slice(service: Obj, source: Obj, manager: str, address_type: str, endpoints: list[Obj], ports: list[Obj]) -> Obj:
    """`source` is what it is made from, whose labels it has and with which it goes: the Service, or its Endpoints."""
    name = service["metadata"]["name"]
    labels = dict(source["metadata"].get("labels") or {})
    labels |= {SERVICE_NAME: name, MANAGED_BY: manager}
    resource = SERVICES if source is service else ENDPOINTS
    if source is service:
        labels |= _headless(service)
    return {
        "apiVersion": ENDPOINTSLICES.api_version,
        "kind": ENDPOINTSLICES.kind,
        "metadata": {
            "generateName": f"{name}-",
            "namespace": service["metadata"]["namespace"],
            "labels": labels,
            "ownerReferences": [controller_reference(source, resource)],
        },
        "addressType": address_type,
        "endpoints": endpoints,
        "ports": ports,
    }


def _headless(service: Obj) -> dict[str, str]:
    return {_HEADLESS: ""} if service["spec"].get("clusterIP") == "None" else {}


# ---- Endpoints


def endpoints_of(service: Obj, subsets: list[Obj]) -> Obj:
    """The Endpoints of a Service with a selector."""
    metadata = service["metadata"]
    labels = {**(metadata.get("labels") or {}), _ENDPOINTS_BY: _ENDPOINTS_MANAGER, **_headless(service)}
    return {
        "apiVersion": ENDPOINTS.api_version,
        "kind": ENDPOINTS.kind,
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "labels": labels},
        "subsets": subsets,
    }


def subsets(service: Obj, pods: Iterable[Obj]) -> list[Obj]:
    """What Endpoints say of a Service's pods; those that end are in none, unless all are wanted."""
    published = bool(service["spec"].get("publishNotReadyAddresses"))
    found = []
    for ports, members in _by_ports(service, pods).items():
        ready: list[Obj] = []
        unready: list[Obj] = []
        for pod in members:
            if pod["metadata"].get("deletionTimestamp") and not published:
                continue
            node = {"nodeName": pod["spec"]["nodeName"]} if pod["spec"].get("nodeName") else {}
            address = {"ip": pod["status"]["podIP"], **_hostname(service, pod), **node, "targetRef": _reference(pod)}
            (ready if published or _is_ready(pod) else unready).append(address)
        subset: Obj = {}
        if ready:
            subset["addresses"] = ready
        if unready:
            subset["notReadyAddresses"] = unready
        if subset:
            found.append({**subset, "ports": _port_objects(ports, named=False)} if ports else subset)
    return found
