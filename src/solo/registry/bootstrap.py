"""The objects that every cluster begins with: namespaces and the well-known roles and bindings.

Missing ones are made at each start. Of those that are there, roles and bindings are completed, the others left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from kube.machinery import resources
from kube.machinery.errors import StatusError
from kube.machinery.resources import Resource
from solo.auth.user import MASTERS, User
from solo.registry.addresses import default_range
from solo.registry.context import DeleteOptions, RequestContext
from solo.registry.default_rights import AUTOUPDATE, completed
from solo.registry.objects import copy
from solo.registry.registry import Registry
from solo.registry.rules.cluster import mandatory_levels, mandatory_schemas
from solo.registry.rules.core import system_priorities
from solo.registry.rules.services import needs_address
from solo.store import Key, Stored

logger = logging.getLogger(__name__)

Obj = dict[str, Any]

SYSTEM = User("system:apiserver", (MASTERS,))
NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")

_RBAC = resources.RBAC_GROUP
_READ = ["get", "list", "watch"]
_WRITE = ["create", "delete", "deletecollection", "patch", "update"]
_ALL = ["*"]
_BOOTSTRAP_LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_KEPT = {AUTOUPDATE: "true"}
_AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"

_VIEW_CORE = [
    "bindings", "configmaps", "endpoints", "events", "limitranges", "namespaces", "namespaces/status",
    "persistentvolumeclaims", "persistentvolumeclaims/status", "pods", "pods/log", "pods/status",
    "replicationcontrollers", "replicationcontrollers/scale", "replicationcontrollers/status", "resourcequotas",
    "resourcequotas/status", "serviceaccounts", "services",
    "services/status",
]  # fmt: skip
_WORKLOADS = [
    "controllerrevisions", "daemonsets", "daemonsets/status", "deployments", "deployments/scale", "deployments/status",
    "replicasets", "replicasets/scale", "replicasets/status", "statefulsets", "statefulsets/scale",
    "statefulsets/status",
]  # fmt: skip
_DISCOVERY_PATHS = ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz"]
_DISCOVERY_PATHS += ["/version", "/version/"]
_ISSUER_PATHS = ["/.well-known/openid-configuration", "/.well-known/openid-configuration/", "/openid/v1/jwks"]
_MONITORING_PATHS = [
    "/healthz",
    "/healthz/*",
    "/livez",
    "/livez/*",
    "/metrics",
    "/metrics/slis",
    "/readyz",
    "/readyz/*",
]
_PUBLIC_PATHS = ["/healthz", "/livez", "/readyz", "/version", "/version/"]


def _rule(groups: list[str], names: list[str], verbs: list[str]) -> Obj:
    return {"apiGroups": groups, "resources": names, "verbs": verbs}


def _view_rules() -> list[Obj]:
    return [
        _rule([""], _VIEW_CORE, _READ),
        _rule(["apps"], _WORKLOADS, _READ),
        _rule(["autoscaling"], ["horizontalpodautoscalers", "horizontalpodautoscalers/status"], _READ),
        _rule(["batch"], ["cronjobs", "cronjobs/status", "jobs", "jobs/status"], _READ),
        _rule(["discovery.k8s.io"], ["endpointslices"], _READ),
        _rule(["networking.k8s.io"], ["ingresses", "ingresses/status", "networkpolicies"], _READ),
        _rule(["policy"], ["poddisruptionbudgets", "poddisruptionbudgets/status"], _READ),
    ]


def _edit_rules() -> list[Obj]:
    pod_streams = ["pods/attach", "pods/exec", "pods/portforward", "pods/proxy"]
    written = ["configmaps", "endpoints", "events", "persistentvolumeclaims", "pods", "secrets", "serviceaccounts"]
    return [
        _rule([""], [*pod_streams, "secrets", "services/proxy"], _READ),
        _rule([""], ["serviceaccounts"], ["impersonate"]),
        _rule([""], [*written, "services", *pod_streams], _WRITE),
        _rule([""], ["replicationcontrollers", "replicationcontrollers/scale"], _WRITE),
        _rule([""], ["pods/eviction", "serviceaccounts/token"], ["create"]),
        _rule(["apps"], [name for name in _WORKLOADS if "/status" not in name], _WRITE),
        _rule(["autoscaling"], ["horizontalpodautoscalers"], _WRITE),
        _rule(["batch"], ["cronjobs", "jobs"], _WRITE),
        _rule(["networking.k8s.io"], ["ingresses", "networkpolicies"], _WRITE),
        _rule(["policy"], ["poddisruptionbudgets"], _WRITE),
        _rule(["coordination.k8s.io"], ["leases"], [*_READ, *_WRITE]),
    ]


def _admin_rules() -> list[Obj]:
    return [
        _rule(["authorization.k8s.io"], ["localsubjectaccessreviews"], ["create"]),
        _rule([_RBAC], ["rolebindings", "roles"], [*_READ, *_WRITE]),
    ]


def _node_rules() -> list[Obj]:
    return [
        *_delegated_rules(),
        _rule([""], ["services", "configmaps", "secrets", "serviceaccounts", "namespaces"], _READ),
        _rule([""], ["persistentvolumeclaims", "persistentvolumes"], ["get"]),
        _rule([""], ["nodes", "nodes/status"], [*_READ, "create", "delete", "patch", "update"]),
        _rule([""], ["pods", "pods/status"], [*_READ, "create", "delete", "patch", "update"]),
        _rule([""], ["pods/eviction", "serviceaccounts/token"], ["create"]),
        _rule([""], ["events"], ["create", "get", "patch", "update"]),
        _rule(["coordination.k8s.io"], ["leases"], ["create", "delete", "get", "patch", "update"]),
    ]


def _basic_rules() -> list[Obj]:
    return [
        _rule(["authorization.k8s.io"], ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], ["create"]),
        _rule(["authentication.k8s.io"], ["selfsubjectreviews"], ["create"]),
    ]


def _delegated_rules() -> list[Obj]:
    """What a server needs that has its clients' tokens and rights looked up here."""
    return [
        _rule(["authentication.k8s.io"], ["tokenreviews"], ["create"]),
        _rule(["authorization.k8s.io"], ["subjectaccessreviews"], ["create"]),
    ]


_EVERYTHING = [_rule(_ALL, _ALL, _ALL), {"nonResourceURLs": _ALL, "verbs": _ALL}]


def _urls(paths: list[str]) -> list[Obj]:
    return [{"nonResourceURLs": paths, "verbs": ["get"]}]


def _role(name: str, rules: list[Obj], labels: dict[str, str] | None = None) -> Obj:
    meta = {"name": name, "annotations": _KEPT, "labels": {**_BOOTSTRAP_LABELS, **(labels or {})}}
    return {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": meta, "rules": rules}


def _aggregate(name: str, labels: dict[str, str] | None = None) -> Obj:
    role = _role(name, [], labels)
    role["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {f"{_AGGREGATE}{name}": "true"}}]}
    return role


def _roles() -> list[Obj]:
    return [
        _role("cluster-admin", _EVERYTHING),
        _aggregate("admin"),
        _aggregate("edit", {f"{_AGGREGATE}admin": "true"}),
        _aggregate("view", {f"{_AGGREGATE}edit": "true"}),
        _role("system:aggregate-to-admin", _admin_rules(), {f"{_AGGREGATE}admin": "true"}),
        _role("system:aggregate-to-edit", _edit_rules(), {f"{_AGGREGATE}edit": "true"}),
        _role("system:aggregate-to-view", _view_rules(), {f"{_AGGREGATE}view": "true"}),
        _role("system:discovery", _urls(_DISCOVERY_PATHS)),
        _role("system:public-info-viewer", _urls(_PUBLIC_PATHS)),
        _role("system:basic-user", _basic_rules()),
        _role("system:service-account-issuer-discovery", _urls(_ISSUER_PATHS)),
        _role("system:auth-delegator", _delegated_rules()),
        _role("system:monitoring", _urls(_MONITORING_PATHS)),
        _role("system:node", _node_rules()),
        _role("system:kube-controller-manager", _EVERYTHING),
    ]


def _binding(role: str, subjects: list[tuple[str, str]]) -> Obj:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": role, "annotations": _KEPT, "labels": _BOOTSTRAP_LABELS},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": _RBAC, "kind": kind, "name": name} for kind, name in subjects],
    }


def _bindings() -> list[Obj]:
    authenticated, anonymous = ("Group", "system:authenticated"), ("Group", "system:unauthenticated")
    return [
        _binding("cluster-admin", [("Group", MASTERS)]),
        _binding("system:discovery", [authenticated]),
        _binding("system:public-info-viewer", [authenticated, anonymous]),
        _binding("system:basic-user", [authenticated]),
        _binding("system:service-account-issuer-discovery", [("Group", "system:serviceaccounts")]),
        _binding("system:node", [("Group", "system:nodes")]),
        _binding("system:kube-controller-manager", [("User", "system:kube-controller-manager")]),
    ]


async def ensure_bootstrap_objects(registry: Registry) -> None:
    """Make the objects that are missing, together, so that they share the store's fsync, and complete older ones."""
    namespaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in NAMESPACES]
    wanted = [(resources.NAMESPACES, obj) for obj in namespaces]
    wanted.append((resources.SERVICECIDRS, default_range()))
    wanted += [(resources.PRIORITYCLASSES, obj) for obj in system_priorities()]
    wanted += [(resources.FLOWSCHEMAS, obj) for obj in mandatory_schemas()]
    wanted += [(resources.PRIORITYLEVELS, obj) for obj in mandatory_levels()]
    rights = [(resources.CLUSTERROLES, obj) for obj in _roles()]
    rights += [(resources.CLUSTERROLEBINDINGS, obj) for obj in _bindings()]
    made = [_ensure(registry, resource, obj) for resource, obj in wanted]
    await asyncio.gather(*made, *(_ensure_right(registry, resource, obj) for resource, obj in rights))
    await ensure_service_addresses(registry)


async def ensure_api_service(registry: Registry, address: str, port: int) -> None:
    """The Service `kubernetes` in `default` and its endpoints: where this server is found. They follow a new port."""
    meta = {"name": "kubernetes", "namespace": "default"}
    labels = {"component": "apiserver", "provider": "kubernetes"}
    ports = [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**meta, "labels": labels},
        "spec": {"clusterIP": "None", "clusterIPs": ["None"], "type": "ClusterIP", "ports": ports},
    }
    here = [{"name": "https", "port": port, "protocol": "TCP"}]
    endpoints = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {**meta, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": address}], "ports": here}],
    }
    slice_ = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**meta, "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv6" if ":" in address else "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": here,
    }
    await asyncio.gather(*(_replace(registry, obj) for obj in (service, endpoints, slice_)))


async def ensure_authentication_info(registry: Registry, client_ca: str) -> None:
    """Who vouches for client certificates, where servers beside this one look it up, and the role that lets them."""
    name, namespace = "extension-apiserver-authentication", "kube-system"
    info = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": {"client-ca-file": client_ca},
    }
    labels = dict(_BOOTSTRAP_LABELS)
    role = {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "Role",
        "metadata": {"name": f"{name}-reader", "namespace": namespace, "labels": labels},
        "rules": [{**_rule([""], ["configmaps"], _READ), "resourceNames": [name]}],
    }
    await asyncio.gather(_replace(registry, info), _replace(registry, role))


async def _replace(registry: Registry, obj: Obj) -> None:
    """Make the object, or give it this content."""
    kind = registry.catalog.by_kind(obj["apiVersion"], obj["kind"])
    assert kind is not None
    namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
    if registry.store.get(Key(kind.store_resource, namespace, name)) is None:
        await registry.create(kind, namespace, "", obj, RequestContext(SYSTEM))
    else:

        def renewed(old: Obj) -> Obj:
            renewed: Obj = copy({**old, **obj, "metadata": {**old["metadata"], **obj["metadata"]}})
            return renewed

        await registry.update(kind, namespace, name, renewed, RequestContext(SYSTEM))


async def ensure_default_account(registry: Registry, namespace: str) -> None:
    """The ServiceAccount `default` of a new namespace, so that what is asked next already finds it.

    Failures are left to the controller, which makes it, too, whenever it is missing.
    """
    kind = registry.catalog.lookup("", "v1", resources.SERVICEACCOUNTS.plural)
    assert kind is not None
    with contextlib.suppress(StatusError):
        await registry.create(kind, namespace, "", {"metadata": {"name": "default"}}, RequestContext(SYSTEM))


async def _ensure(registry: Registry, resource: Resource, obj: Obj) -> None:
    if registry.store.get(Key(resource.group_resource, "", obj["metadata"]["name"])) is not None:
        return
    kind = registry.catalog.lookup(resource.group, resource.version, resource.plural)
    assert kind is not None
    await registry.create(kind, "", "", obj, RequestContext(SYSTEM))


async def _ensure_right(registry: Registry, resource: Resource, wanted: Obj) -> None:
    """Make a default role or binding, or complete it; one that cannot be completed is no reason not to start."""
    name = wanted["metadata"]["name"]
    stored = registry.store.get(Key(resource.group_resource, "", name))
    if stored is not None and completed(stored.obj, wanted) != stored.obj:
        try:
            await _complete(registry, resource, stored, wanted)
        except StatusError as problem:
            logger.warning("%s %s lacks what it should have: %s", resource.kind, name, problem.message)
    await _ensure(registry, resource, copy(wanted))


async def _complete(registry: Registry, resource: Resource, stored: Stored, wanted: Obj) -> None:
    """Give a default role or binding what it lacks. A binding to another role is taken away: it cannot be changed."""
    kind, name = registry.catalog.lookup(resource.group, resource.version, resource.plural), stored.key.name
    assert kind is not None
    if stored.obj.get("roleRef") == wanted.get("roleRef"):
        await registry.update(kind, "", name, lambda old: copy(completed(old, wanted)), RequestContext(SYSTEM))
    else:
        await registry.delete(kind, "", name, DeleteOptions(), RequestContext(SYSTEM))


async def ensure_service_addresses(registry: Registry) -> None:
    """Addresses for Services of older data, from before any were given out; a later write does what fails here."""
    kind = registry.catalog.lookup("", "v1", resources.SERVICES.plural)
    assert kind is not None
    for stored in registry.store.list(resources.SERVICES.group_resource)[0]:
        spec = stored.look()["spec"]
        if needs_address(spec) and not spec.get("clusterIP"):
            with contextlib.suppress(StatusError):
                await registry.update(kind, stored.key.namespace, stored.key.name, copy, RequestContext(SYSTEM))
