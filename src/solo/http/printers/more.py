"""Printers of the kinds around workloads: schedules, budgets, quotas, classes, addresses."""

from __future__ import annotations

from typing import Any

from kube.machinery.durations import human_duration
from solo.http.printers.columns import (
    NONE,
    UNSET,
    Printer,
    age,
    columns,
    containers_of,
    created,
    first_of,
    joined,
    labels_text,
    name_of,
    points_of,
    selector_text,
)
from solo.registry.objects import dig

Obj = dict[str, Any]


def _controller(obj: Obj) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    names, images = containers_of(dig(spec, "template", "spec") or {})
    counts = [spec.get("replicas") or 0, status.get("replicas") or 0, status.get("readyReplicas") or 0]
    return [name_of(obj), *counts, created(obj), names, images, labels_text(spec.get("selector"))]


def _cronjob(obj: Obj) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    names, images = containers_of(dig(spec, "jobTemplate", "spec", "template", "spec") or {})
    last = age(status["lastScheduleTime"]) if status.get("lastScheduleTime") else NONE
    return [
        name_of(obj),
        spec.get("schedule") or "",
        spec.get("timeZone") or NONE,
        "True" if spec.get("suspend") else "False",
        len(status.get("active") or []),
        last,
        created(obj),
        names,
        images,
        selector_text(dig(spec, "jobTemplate", "spec", "selector")),
    ]


def _budget(obj: Obj) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    shown = ["N/A" if value is None else str(value) for value in (least, most)]
    return [name_of(obj), *shown, status.get("disruptionsAllowed") or 0, created(obj)]


def _quota(obj: Obj) -> list[Any]:
    status = obj.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    pairs = {name: f"{name}: {used.get(name, '0')}/{hard[name]}" for name in sorted(hard)}
    limits = [text for name, text in pairs.items() if name.startswith("limits")]
    requests = [text for name, text in pairs.items() if not name.startswith("limits")]
    return [name_of(obj), ", ".join(requests), ", ".join(limits), created(obj)]


def _ingress(obj: Obj) -> list[Any]:
    spec = obj.get("spec") or {}
    ports = "80, 443" if spec.get("tls") else "80"
    return [
        name_of(obj),
        spec.get("ingressClassName") or NONE,
        _hosts(spec.get("rules") or []),
        joined(points_of(obj), ""),
        ports,
        created(obj),
    ]


def _hosts(rules: list[Obj]) -> str:
    """The first three hosts, and how many more rules there are."""
    named = [index for index, rule in enumerate(rules) if rule.get("host")][:3]
    more = len(named) == 3 and named[-1] + 1 < len(rules)
    return joined((rules[index]["host"] for index in named), "*") + (f" + {len(rules) - 3} more..." if more else "")


def _ingress_class(obj: Obj) -> list[Any]:
    spec = obj.get("spec") or {}
    reference = spec.get("parameters") or {}
    kind = f"{reference['kind']}.{reference['apiGroup']}" if reference.get("apiGroup") else reference.get("kind")
    shown = f"{kind}/{reference.get('name')}" if reference else NONE
    return [name_of(obj), spec.get("controller") or "", shown, created(obj)]


def _network_policy(obj: Obj) -> list[Any]:
    return [name_of(obj), selector_text(dig(obj, "spec", "podSelector")), created(obj)]


def _endpoint_slice(obj: Obj) -> list[Any]:
    ports = [_port(port) for port in obj.get("ports") or []]
    addresses = [address for point in obj.get("endpoints") or [] for address in point.get("addresses") or []]
    family = obj.get("addressType") or ""
    return [name_of(obj), family, first_of(ports, 3) or UNSET, first_of(addresses, 3) or UNSET, created(obj)]


def _port(port: Obj) -> str:
    """The port of an EndpointSlice: its number, its name where it has none, all ports where it has neither."""
    number = port.get("port")
    return str(port.get("name", "*") if number is None else number)


def _endpoints(obj: Obj) -> list[Any]:
    subsets = obj.get("subsets") or []
    found = [address for subset in subsets for address in _subset(subset)]
    return [name_of(obj), first_of(found, 3) if subsets else NONE, created(obj)]


def _subset(subset: Obj) -> list[str]:
    """The ready addresses of a subset, with each of its ports if it has any."""
    addresses, ports = [str(item.get("ip")) for item in subset.get("addresses") or []], subset.get("ports")
    if not ports:
        return addresses
    hosts = [f"[{address}]" if ":" in address else address for address in addresses]
    return [f"{host}:{port.get('port')}" for port in ports for host in hosts]


def _signing_request(obj: Obj) -> list[Any]:
    spec = obj.get("spec") or {}
    types = [item.get("type") for item in dig(obj, "status", "conditions") or []]
    state = next((type_ for type_ in ("Denied", "Approved") if type_ in types), "Pending")
    parts = [
        state,
        *(["Failed"] if "Failed" in types else []),
        *(["Issued"] if dig(obj, "status", "certificate") else []),
    ]
    seconds = spec.get("expirationSeconds")
    wanted = human_duration(seconds) if seconds else NONE
    return [
        name_of(obj),
        created(obj),
        spec.get("signerName") or "",
        spec.get("username") or "",
        wanted,
        ",".join(parts),
    ]


def _revision(obj: Obj) -> list[Any]:
    owners = (obj.get("metadata") or {}).get("ownerReferences") or []
    owner = next((each for each in owners if each.get("controller")), None)
    group = (owner or {}).get("apiVersion", "").rpartition("/")[0]
    kind = f"{owner['kind'].lower()}{'.' + group if group else ''}/{owner['name']}" if owner else NONE
    return [name_of(obj), kind, obj.get("revision") or 0, created(obj)]


def _flow_schema(obj: Obj) -> list[Any]:
    spec = obj.get("spec") or {}
    conditions = {item.get("type"): item.get("status") for item in dig(obj, "status", "conditions") or []}
    return [
        name_of(obj),
        dig(spec, "priorityLevelConfiguration", "name") or "",
        spec.get("matchingPrecedence") or 0,
        dig(spec, "distinguisherMethod", "type") or NONE,
        created(obj),
        conditions.get("Dangling", "?"),
    ]


def _runtime_class(obj: Obj) -> list[Any]:
    return [name_of(obj), obj.get("handler") or "", created(obj)]


def _address(obj: Obj) -> list[Any]:
    reference = dig(obj, "spec", "parentRef") or {}
    place = f"{reference['namespace']}/" if reference.get("namespace") else ""
    return [name_of(obj), f"{reference.get('resource')}/{place}{reference.get('name')}"]


_WIDE = "Containers|Images|Selector"

PRINTERS: dict[str, Printer] = {
    "replicationcontrollers": Printer(
        columns("Name|Desired:integer|Current:integer|Ready:integer|Age", wide=_WIDE), _controller
    ),
    "cronjobs.batch": Printer(
        columns("Name|Schedule|Timezone|Suspend:boolean|Active:integer|Last Schedule|Age", wide=_WIDE), _cronjob
    ),
    "poddisruptionbudgets.policy": Printer(
        columns("Name|Min Available|Max Unavailable|Allowed Disruptions:integer|Age"), _budget
    ),
    "resourcequotas": Printer(columns("Name|Request|Limit|Age"), _quota),
    "ingresses.networking.k8s.io": Printer(columns("Name|Class|Hosts|Address|Ports|Age"), _ingress),
    "ingressclasses.networking.k8s.io": Printer(columns("Name|Controller|Parameters|Age"), _ingress_class),
    "networkpolicies.networking.k8s.io": Printer(columns("Name|Pod-Selector|Age"), _network_policy),
    "ipaddresses.networking.k8s.io": Printer(columns("Name|ParentRef"), _address),
    "endpointslices.discovery.k8s.io": Printer(columns("Name|AddressType|Ports|Endpoints|Age"), _endpoint_slice),
    "endpoints": Printer(columns("Name|Endpoints|Age"), _endpoints),
    "certificatesigningrequests.certificates.k8s.io": Printer(
        columns("Name|Age|SignerName|Requestor|RequestedDuration|Condition"), _signing_request
    ),
    "controllerrevisions.apps": Printer(columns("Name|Controller|Revision|Age"), _revision),
    "flowschemas.flowcontrol.apiserver.k8s.io": Printer(
        columns("Name|PriorityLevel|MatchingPrecedence|DistinguisherMethod|Age|MissingPL"), _flow_schema
    ),
    "runtimeclasses.node.k8s.io": Printer(columns("Name|Handler|Age"), _runtime_class),
}
