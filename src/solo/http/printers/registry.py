"""The printers of the built-in kinds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kube.machinery.durations import human_duration, parse_rfc3339
from solo.http.printers.columns import (
    NONE,
    UNKNOWN,
    UNSET,
    Column,
    Printer,
    age,
    columns,
    containers_of,
    created,
    joined,
    labels_text,
    name_of,
    points_of,
    selector_text,
)
from solo.http.printers.more import PRINTERS as MORE
from solo.http.printers.pods import POD_COLUMNS, pod_cells, pod_conditions
from solo.http.printers.policies import PRINTERS as POLICIES
from solo.http.printers.resources import PRINTERS as RESOURCES
from solo.http.printers.resources import access_modes
from solo.registry.objects import dig

Obj = dict[str, Any]


def printer_for(group_resource: str) -> Printer:
    """The printer of a built-in kind, name and age where Kubernetes prints nothing more."""
    return _PRINTERS.get(group_resource, _PLAIN)


_PLAIN = Printer(columns("Name|Age"), lambda obj: (name_of(obj), created(obj)))


def _namespace(obj: Obj) -> list[Any]:
    return [name_of(obj), dig(obj, "status", "phase") or "", created(obj)]


def _configmap(obj: Obj) -> list[Any]:
    return [name_of(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), created(obj)]


def _secret(obj: Obj) -> list[Any]:
    return [name_of(obj), obj.get("type") or "", len(obj.get("data") or {}), created(obj)]


def _serviceaccount(obj: Obj) -> list[Any]:
    return [name_of(obj), len(obj.get("secrets") or []), created(obj)]


def _service(obj: Obj) -> list[Any]:
    spec = obj.get("spec") or {}
    ports = joined(
        f"{port.get('port')}{':' + str(port['nodePort']) if port.get('nodePort') else ''}/{port.get('protocol', 'TCP')}"
        for port in spec.get("ports") or []
    )
    outside = list(spec.get("externalIPs") or [])
    if spec.get("type") == "LoadBalancer":
        outside = points_of(obj) + outside
    external = joined(outside, "<pending>" if spec.get("type") == "LoadBalancer" else NONE)
    if spec.get("type") == "ExternalName":
        external = spec.get("externalName") or ""
    selector = labels_text(spec.get("selector"))
    return [name_of(obj), spec.get("type"), spec.get("clusterIP") or NONE, external, ports, created(obj), selector]


def _node(obj: Obj) -> list[Any]:
    ready = "Unknown"
    for condition in dig(obj, "status", "conditions") or []:
        if condition.get("type") == "Ready":
            ready = "Ready" if condition.get("status") == "True" else "NotReady"
    if dig(obj, "spec", "unschedulable"):
        ready += ",SchedulingDisabled"
    prefix = "node-role.kubernetes.io/"
    labels = dig(obj, "metadata", "labels") or {}
    roles = sorted(key.removeprefix(prefix) for key in labels if key.startswith(prefix))
    info = dig(obj, "status", "nodeInfo") or {}
    addresses = {item.get("type"): item.get("address") for item in dig(obj, "status", "addresses") or []}
    return [
        name_of(obj),
        ready,
        joined(roles),
        created(obj),
        info.get("kubeletVersion") or "",
        addresses.get("InternalIP") or NONE,
        addresses.get("ExternalIP") or NONE,
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _event(obj: Obj) -> list[Any]:
    about = obj.get("involvedObject") or {}
    target = "/".join(part for part in ((about.get("kind") or "").lower(), about.get("name")) if part)
    first = obj.get("firstTimestamp") or obj.get("eventTime")
    last = dig(obj, "series", "lastObservedTime") or obj.get("lastTimestamp") or first
    source = obj.get("source") or {}
    component = source.get("component") or obj.get("reportingComponent") or ""
    instance = source.get("host") or obj.get("reportingInstance")
    return [
        age(last),
        obj.get("type") or "",
        obj.get("reason") or "",
        target,
        about.get("fieldPath") or "",
        f"{component}, {instance}" if instance else component,
        (obj.get("message") or "").strip(),
        age(first),
        dig(obj, "series", "count") or obj.get("count") or 1,
        name_of(obj),
    ]


def _deployment(obj: Obj) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    names, images = containers_of(dig(spec, "template", "spec") or {})
    return [
        name_of(obj),
        f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}",
        status.get("updatedReplicas") or 0,
        status.get("availableReplicas") or 0,
        created(obj),
        names,
        images,
        selector_text(spec.get("selector")),
    ]


def _replicaset(obj: Obj) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    names, images = containers_of(dig(spec, "template", "spec") or {})
    return [
        name_of(obj),
        spec.get("replicas") or 0,
        status.get("replicas") or 0,
        status.get("readyReplicas") or 0,
        created(obj),
        names,
        images,
        selector_text(spec.get("selector")),
    ]


def _statefulset(obj: Obj) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    names, images = containers_of(dig(spec, "template", "spec") or {})
    ready = f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}"
    return [name_of(obj), ready, created(obj), names, images]


def _daemonset(obj: Obj) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    names, images = containers_of(dig(spec, "template", "spec") or {})
    return [
        name_of(obj),
        status.get("desiredNumberScheduled") or 0,
        status.get("currentNumberScheduled") or 0,
        status.get("numberReady") or 0,
        status.get("updatedNumberScheduled") or 0,
        status.get("numberAvailable") or 0,
        labels_text(dig(spec, "template", "spec", "nodeSelector")),
        created(obj),
        names,
        images,
        selector_text(spec.get("selector")),
    ]


def _created_at(obj: Obj) -> list[Any]:
    return [name_of(obj), (obj.get("metadata") or {}).get("creationTimestamp") or ""]


def _binding(obj: Obj) -> list[Any]:
    reference = obj.get("roleRef") or {}
    users, groups, accounts = [], [], []
    for subject in obj.get("subjects") or []:
        if subject.get("kind") == "User":
            users.append(subject.get("name"))
        elif subject.get("kind") == "Group":
            groups.append(subject.get("name"))
        else:
            accounts.append(f"{subject.get('namespace') or ''}/{subject.get('name')}")
    role = f"{reference.get('kind')}/{reference.get('name')}"
    return [name_of(obj), role, created(obj), *(", ".join(names) for names in (users, groups, accounts))]


def _lease(obj: Obj) -> list[Any]:
    return [name_of(obj), dig(obj, "spec", "holderIdentity") or "", created(obj)]


def _duration(status: Obj) -> str:
    """How long a job has run, or ran."""
    if not status.get("startTime"):
        return ""
    end = status.get("completionTime")
    until = parse_rfc3339(end) if end else datetime.now(UTC)
    return human_duration((until - parse_rfc3339(status["startTime"])).total_seconds())


def _job(obj: Obj) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    names, images = containers_of(dig(spec, "template", "spec") or {})
    return [
        name_of(obj),
        _job_state(obj),
        _completions(spec, status),
        _duration(status),
        created(obj),
        names,
        images,
        selector_text(spec.get("selector")),
    ]


def _job_state(obj: Obj) -> str:
    true = [each.get("type") for each in dig(obj, "status", "conditions") or [] if each.get("status") == "True"]
    states = {
        "Complete": "Complete" in true,
        "Failed": "Failed" in true,
        "Terminating": bool(dig(obj, "metadata", "deletionTimestamp")),
        "Suspended": "Suspended" in true,
        "FailureTarget": "FailureTarget" in true,
    }
    return next((state for state, given in states.items() if given), "Running")


def _completions(spec: Obj, status: Obj) -> str:
    """How many pods have succeeded of how many; without a number of completions one is enough, of those at work."""
    succeeded, wanted, parallel = status.get("succeeded") or 0, spec.get("completions"), spec.get("parallelism") or 0
    if wanted is not None:
        return f"{succeeded}/{wanted}"
    return f"{succeeded}/1 of {parallel}" if parallel > 1 else f"{succeeded}/1"


def _claim(obj: Obj) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    bound = bool(spec.get("volumeName"))
    return [
        name_of(obj),
        "Terminating" if dig(obj, "metadata", "deletionTimestamp") else status.get("phase") or "",
        spec.get("volumeName") or "",
        (dig(status, "capacity", "storage") or "") if bound else "",
        access_modes(status.get("accessModes")) if bound else "",
        spec.get("storageClassName") or "",
        spec.get("volumeAttributesClassName") or UNSET,
        created(obj),
        spec.get("volumeMode") or UNSET,
    ]


def _storageclass(obj: Obj) -> list[Any]:
    name = name_of(obj)
    if (dig(obj, "metadata", "annotations") or {}).get("storageclass.kubernetes.io/is-default-class") == "true":
        name += " (default)"
    return [
        name,
        obj.get("provisioner"),
        obj.get("reclaimPolicy"),
        obj.get("volumeBindingMode"),
        bool(obj.get("allowVolumeExpansion")),
        created(obj),
    ]


def _priorityclass(obj: Obj) -> list[Any]:
    policy = obj.get("preemptionPolicy")
    return [name_of(obj), obj.get("value") or 0, bool(obj.get("globalDefault")), created(obj), policy]


_RBAC = "rbac.authorization.k8s.io"
_TEMPLATE_WIDE = "Containers|Images|Selector"
_BINDING = Printer(columns("Name|Role|Age", wide="Users|Groups|ServiceAccounts"), _binding)
_ROLE = Printer(columns("Name|Created At"), _created_at)
_EVENT_COLUMNS = (
    *columns("Last Seen|Type|Reason|Object"),
    *(Column(name, priority=1) for name in ("Subobject", "Source")),
    Column("Message"),
    *(Column(name, priority=1) for name in ("First Seen", "Count")),
    Column("Name", format="name", priority=1),
)

_PRINTERS: dict[str, Printer] = {
    **MORE,
    **RESOURCES,
    **POLICIES,
    "namespaces": Printer(columns("Name|Status|Age"), _namespace),
    "pods": Printer(POD_COLUMNS, pod_cells, pod_conditions),
    "configmaps": Printer(columns("Name|Data|Age"), _configmap),
    "secrets": Printer(columns("Name|Type|Data|Age"), _secret),
    "serviceaccounts": Printer(columns("Name|Secrets|Age"), _serviceaccount),
    "services": Printer(columns("Name|Type|Cluster-IP|External-IP|Port(s)|Age", wide="Selector"), _service),
    "nodes": Printer(
        columns(
            "Name|Status|Roles|Age|Version",
            wide="Internal-IP|External-IP|OS-Image|Kernel-Version|Container-Runtime",
        ),
        _node,
    ),
    "events": Printer(_EVENT_COLUMNS, _event),
    "persistentvolumeclaims": Printer(
        columns("Name|Status|Volume|Capacity|Access Modes|StorageClass|VolumeAttributesClass|Age", wide="VolumeMode"),
        _claim,
    ),
    "deployments.apps": Printer(columns("Name|Ready|Up-to-date|Available|Age", wide=_TEMPLATE_WIDE), _deployment),
    "replicasets.apps": Printer(
        columns("Name|Desired:integer|Current:integer|Ready:integer|Age", wide=_TEMPLATE_WIDE), _replicaset
    ),
    "statefulsets.apps": Printer(columns("Name|Ready|Age", wide="Containers|Images"), _statefulset),
    "daemonsets.apps": Printer(
        columns(
            "Name|Desired:integer|Current:integer|Ready:integer|Up-to-date:integer|Available:integer|Node Selector|Age",
            wide=_TEMPLATE_WIDE,
        ),
        _daemonset,
    ),
    "jobs.batch": Printer(columns("Name|Status|Completions|Duration|Age", wide=_TEMPLATE_WIDE), _job),
    "leases.coordination.k8s.io": Printer(columns("Name|Holder|Age"), _lease),
    "storageclasses.storage.k8s.io": Printer(
        columns("Name|Provisioner|ReclaimPolicy|VolumeBindingMode|AllowVolumeExpansion|Age"), _storageclass
    ),
    "priorityclasses.scheduling.k8s.io": Printer(
        columns("Name|Value:integer|Global-Default:boolean|Age|PreemptionPolicy"), _priorityclass
    ),
    "limitranges": Printer(columns("Name|Created At"), _created_at),
    f"clusterroles.{_RBAC}": _ROLE,
    f"roles.{_RBAC}": _ROLE,
    f"clusterrolebindings.{_RBAC}": _BINDING,
    f"rolebindings.{_RBAC}": _BINDING,
    "customresourcedefinitions.apiextensions.k8s.io": Printer(columns("Name|Created At"), _created_at),
}
