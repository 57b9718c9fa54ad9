"""Printers of the kinds around workloads: schedules, budgets, quotas, classes, addresses."""

from __future__ import annotations

from typing import Any

from solo.http.printers.columns import (
    NONE,
    Printer,
    age,
    columns,
    containers_of,
    created,
    joined,
    labels_text,
    name_of,
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
    hosts = [rule["host"] for rule in spec.get("rules") or [] if rule.get("host")]
    points = dig(obj, "status", "loadBalancer", "ingress") or []
    addresses = [point.get("ip") or point.get("hostname") or "" for point in points]
    ports = "80, 443" if spec.get("tls") else "80"
    return [
        name_of(obj),
        spec.get("ingressClassName") or NONE,
        joined(hosts, "*"),
        joined(addresses, ""),
        ports,
        created(obj),
    ]


def _ingress_class(obj: Obj) -> list[Any]:
    spec = obj.get("spec") or {}
    reference = spec.get("parameters") or {}
    kind = f"{reference['kind']}.{reference['apiGroup']}" if reference.get("apiGroup") else reference.get("kind")
    shown = f"{kind}/{reference.get('name')}" if reference else NONE
    return [name_of(obj), spec.get("controller") or "", shown, created(obj)]


def _network_policy(obj: Obj) -> list[Any]:
    return [name_of(obj), selector_text(dig(obj, "spec", "podSelector")), created(obj)]


def _endpoint_slice(obj: Obj) -> list[Any]:
    ports = [str(port["port"]) for port in obj.get("ports") or [] if port.get("port")]
    addresses = [address for point in obj.get("endpoints") or [] for address in point.get("addresses") or []]
    family = obj.get("addressType") or ""
    return [name_of(obj), family, _some(ports, "<unset>"), _some(addresses, "<unset>"), created(obj)]


def _endpoints(obj: Obj) -> list[Any]:
    found = [
        f"{address.get('ip')}:{port.get('port')}"
        for subset in obj.get("subsets") or []
        for address in subset.get("addresses") or []
        for port in subset.get("ports") or []
    ]
    return [name_of(obj), _some(found, NONE), created(obj)]


def _some(values: list[str], empty: str) -> str:
    """The first three, and how many more there are."""
    more = f" + {len(values) - 3} more..." if len(values) > 3 else ""
    return joined(values[:3], empty) + more


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
    wanted = f"{seconds}s" if seconds else NONE
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
        columns("Name|Schedule|Timezone|Suspend|Active:integer|Last Schedule|Age", wide=_WIDE), _cronjob
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
    "controllerrevisions.apps": Printer(columns("Name|Controller|Revision:integer|Age"), _revision),
    "flowschemas.flowcontrol.apiserver.k8s.io": Printer(
        columns("Name|PriorityLevel|MatchingPrecedence:integer|DistinguisherMethod|Age|MissingPL"), _flow_schema
    ),
    "runtimeclasses.node.k8s.io": Printer(columns("Name|Handler|Age"), _runtime_class),
}
