"""What objects count for in a ResourceQuota (kube-apiserver's `pkg/quota/v1/evaluator`); no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from kube.machinery.quantity import parse_quantity
from solo.registry.objects import dig

Obj = dict[str, Any]
Amounts = dict[str, Decimal]

CLAIMS = "persistentvolumeclaims"
_PLAIN_COUNTS = frozenset(
    {"pods", "services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps", CLAIMS}
)
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_CLAIM_SCOPE = "VolumeAttributesClass"
_STORAGE_CLASS = ".storageclass.storage.k8s.io/"
_DEVICE_CLAIMS = "resourceclaims.resource.k8s.io"
_DEVICES = ".deviceclass.resource.k8s.io/devices"
_MOST_DEVICES = 32
"""As many as can be allocated for one claim, so that `All` is no more (resource/v1 AllocationResultsMaxSize)."""
_ONE = Decimal(1)


def counted_resource(name: str) -> str:
    """The group resource whose objects an amount of a quota is about."""
    if name.startswith("count/"):
        return name.removeprefix("count/")
    if name in _PLAIN_COUNTS:
        return name
    if name.startswith("services."):
        return "services"
    if name.endswith(_DEVICES):
        return _DEVICE_CLAIMS
    return CLAIMS if name == "requests.storage" or _STORAGE_CLASS in name else "pods"


def usage_of(obj: Obj, resource: str) -> Amounts:
    """What one object counts for, by the names that quotas use."""
    found = {f"count/{resource}": _ONE}
    if resource == "pods":
        if dig(obj, "status", "phase") not in ("Succeeded", "Failed"):
            found.update(_pod_usage(obj["spec"]))
        return found
    if resource in _PLAIN_COUNTS:
        found[resource] = _ONE
    if resource == "services":
        type_ = dig(obj, "spec", "type")
        found["services.loadbalancers"] = Decimal(type_ == "LoadBalancer")
        ports = len(dig(obj, "spec", "ports") or []) if type_ in ("NodePort", "LoadBalancer") else 0
        found["services.nodeports"] = Decimal(ports)
    elif resource == CLAIMS:
        found["requests.storage"] = storage_of(obj)
        storage_class = dig(obj, "spec", "storageClassName")
        if storage_class:
            found[f"{storage_class}{_STORAGE_CLASS}requests.storage"] = found["requests.storage"]
            found[f"{storage_class}{_STORAGE_CLASS}{CLAIMS}"] = _ONE
    elif resource == _DEVICE_CLAIMS:
        found.update(_devices(obj))
    return found


def _devices(claim: Obj) -> Amounts:
    """The devices that a claim asks for, by their class; of alternatives the most that one of them takes."""
    found: Amounts = {}
    for request in dig(claim, "spec", "devices", "requests") or []:
        most: Amounts = {}
        for each in request.get("firstAvailable") or [request.get("exactly") or {}]:
            if each.get("deviceClassName"):
                name = f"{each['deviceClassName']}{_DEVICES}"
                most[name] = max(most.get(name, Decimal(0)), _device_count(each))
        for name, amount in most.items():
            found[name] = found.get(name, Decimal(0)) + amount
    return found


def _device_count(request: Obj) -> Decimal:
    modes = {"ExactCount": request.get("count") or 1, "All": _MOST_DEVICES}
    return Decimal(modes.get(request.get("allocationMode") or "ExactCount", 0))


def _pod_usage(spec: Obj) -> Amounts:
    found: Amounts = {"pods": _ONE}
    for name, amount in pod_amounts(spec, "requests").items():
        found[f"requests.{name}"] = amount
        if name in _COMPUTE:
            found[name] = amount
    for name, amount in pod_amounts(spec, "limits").items():
        found[f"limits.{name}"] = amount
    return found


def storage_of(claim: Obj) -> Decimal:
    """The bytes that a claim asks for."""
    return parse_quantity(dig(claim, "spec", "resources", "requests", "storage") or 0)


def containers_of(spec: Obj) -> list[Obj]:
    """All containers of a pod spec."""
    return [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]


def pod_amounts(spec: Obj, part: str) -> Amounts:
    """The requests or limits of a pod: its containers' together, or those of a larger init container."""
    total = _sum(spec.get("containers") or [], part)
    for container in spec.get("initContainers") or []:
        for name, amount in _sum([container], part).items():
            total[name] = max(total.get(name, Decimal(0)), amount)
    for name, amount in (spec.get("overhead") or {}).items():
        if name in total:
            total[name] += parse_quantity(amount)
    return total


def _sum(containers: Iterable[Obj], part: str) -> Amounts:
    total: Amounts = {}
    for container in containers:
        for name, amount in (dig(container, "resources", part) or {}).items():
            total[name] = total.get(name, Decimal(0)) + parse_quantity(amount)
    return total


def unspecified(spec: Obj, names: Iterable[str]) -> list[str]:
    """Compute amounts of a quota that some container of a pod says nothing of, each with those containers."""
    found = []
    for name in sorted(names):
        part, _, bare = name.rpartition(".") if "." in name else ("requests", "", name)
        if part not in ("requests", "limits") or bare not in _COMPUTE:
            continue
        silent = [each["name"] for each in containers_of(spec) if bare not in (dig(each, "resources", part) or {})]
        if silent:
            found.append(f"{name} for: {','.join(sorted(silent))}")
    return found


def in_scopes(quota: Obj, obj: Obj, resource: str) -> bool:
    """Whether a quota's scopes take an object in: each is about pods, or about claims (VolumeAttributesClass)."""
    spec = quota["spec"]
    requirements = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes") or []]
    requirements += dig(spec, "scopeSelector", "matchExpressions") or []
    if not requirements:
        return True
    if resource == CLAIMS:
        classes = _attributes_classes(obj)
        return all(each["scopeName"] == _CLAIM_SCOPE and _names_match(each, classes) for each in requirements)
    return resource == "pods" and all(_in_scope(each, obj["spec"]) for each in requirements)


def _attributes_classes(claim: Obj) -> list[str]:
    """The classes that a claim has, wants and is on its way to."""
    status = claim.get("status") or {}
    found = (
        claim["spec"].get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        dig(status, "modifyVolumeStatus", "targetVolumeAttributesClassName"),
    )
    return [name for name in found if name]


def _in_scope(requirement: Mapping[str, Any], spec: Obj) -> bool:
    scope = requirement["scopeName"]
    if scope == "PriorityClass":
        return _names_match(requirement, [spec["priorityClassName"]] if spec.get("priorityClassName") else [])
    tests = {
        "Terminating": spec.get("activeDeadlineSeconds") is not None,
        "NotTerminating": spec.get("activeDeadlineSeconds") is None,
        "BestEffort": _best_effort(spec),
        "NotBestEffort": not _best_effort(spec),
        "CrossNamespacePodAffinity": _crosses_namespaces(spec),
    }
    return tests.get(scope, False)


def _names_match(requirement: Mapping[str, Any], names: list[str]) -> bool:
    """Whether one of the classes that an object names is as required; an object without any is in no list."""
    operator, values = requirement.get("operator"), requirement.get("values") or []
    if operator in ("Exists", "DoesNotExist"):
        return bool(names) is (operator == "Exists")
    return any((name in values) is (operator == "In") for name in names or [""])


def _best_effort(spec: Obj) -> bool:
    return not any(
        name in ("cpu", "memory") and parse_quantity(amount)
        for container in containers_of(spec)
        for part in ("requests", "limits")
        for name, amount in (dig(container, "resources", part) or {}).items()
    )


def _crosses_namespaces(spec: Obj) -> bool:
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = dig(spec, "affinity", kind) or {}
        terms = list(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or [])
        preferred = rules.get("preferredDuringSchedulingIgnoredDuringExecution") or []
        terms += [each.get("podAffinityTerm") or {} for each in preferred]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False
