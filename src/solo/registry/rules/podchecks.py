"""What is wrong with a pod spec apart from its containers (core `ValidatePodSpec`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from kube.machinery import names, objectmeta
from kube.machinery.errors import Cause, cause
from solo.registry.objects import dig, quote

Obj = dict[str, Any]

_MAX_INT32 = 2**31 - 1
_SYSCTL = r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")
_NODE_OPERATORS = ("DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn")
_DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_PREEMPTION = ("Never", "PreemptLowerPriority")
_HOST_PATHS = (
    "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket",
)  # fmt: skip


def pod_causes(spec: Obj, field: str) -> list[Cause]:
    """All of it."""
    return [found for check in _CHECKS for found in check(spec, field)]


def unsupported(field: str, value: Any, allowed: tuple[str, ...]) -> Cause:
    """A value that is none of the few that there are."""
    listed = ", ".join(f'"{item}"' for item in sorted(allowed))
    return cause("FieldValueNotSupported", field, f"supported values: {listed}", quote(str(value or "")))


def exactly_one(part: Obj, known: tuple[str, ...], field: str, what: str) -> Iterator[Cause]:
    """One of several fields must be given. `what` they are is for the message, such as `volume type`."""
    given = [key for key in known if part.get(key) is not None]
    if not given:
        yield cause("FieldValueRequired", field, f"must specify a {what}")
    for key in given[1:]:
        yield cause("FieldValueForbidden", f"{field}.{key}", f"may not specify more than 1 {what}")


def user_causes(context: Obj, field: str) -> Iterator[Cause]:
    """Numbers of users and groups, in the security context of a pod or a container."""
    for key in ("runAsUser", "runAsGroup", "fsGroup"):
        number = context.get(key)
        if number is not None and not 0 <= number <= _MAX_INT32:
            detail = f"must be between 0 and {_MAX_INT32}, inclusive"
            yield cause("FieldValueInvalid", f"{field}.{key}", detail, str(number))


def _names(spec: Obj, field: str) -> Iterator[Cause]:
    checks: dict[str, Callable[[str], list[str]]] = {
        "hostname": names.dns1123_label,
        "subdomain": names.dns1123_label,
        "nodeName": names.dns1123_subdomain,
        "runtimeClassName": names.dns1123_subdomain,
        "priorityClassName": names.dns1123_subdomain,
        "serviceAccountName": names.dns1123_subdomain,
    }
    for key, check in checks.items():
        value = spec.get(key) or ""
        for text in check(value) if value else ():
            yield cause("FieldValueInvalid", f"{field}.{key}", text, quote(value))
    for index, gate in enumerate(spec.get("readinessGates") or []):
        value = gate.get("conditionType") or ""
        for text in names.qualified_name(value):
            yield cause("FieldValueInvalid", f"{field}.readinessGates[{index}].conditionType", text, quote(value))
    for index, alias in enumerate(spec.get("hostAliases") or []):
        for text in names.ip_address(alias.get("ip") or ""):
            yield cause("FieldValueInvalid", f"{field}.hostAliases[{index}].ip", text, quote(alias.get("ip") or ""))


def _numbers(spec: Obj, field: str) -> Iterator[Cause]:
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= _MAX_INT32:
        detail = f"must be between 1 and {_MAX_INT32}, inclusive"
        yield cause("FieldValueInvalid", f"{field}.activeDeadlineSeconds", detail, str(deadline))


def _dns(spec: Obj, field: str) -> Iterator[Cause]:
    policy = spec.get("dnsPolicy")
    if policy not in _DNS_POLICIES:
        yield unsupported(f"{field}.dnsPolicy", policy, _DNS_POLICIES)
    elif policy == "None" and not spec.get("dnsConfig"):
        detail = "must provide `dnsConfig` when `dnsPolicy` is None"
        yield cause("FieldValueRequired", f"{field}.dnsConfig", detail)
    elif policy == "None" and not dig(spec, "dnsConfig", "nameservers"):
        detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        yield cause("FieldValueRequired", f"{field}.dnsConfig.nameservers", detail)


def _security(spec: Obj, field: str) -> Iterator[Cause]:
    context = spec.get("securityContext") or {}
    yield from user_causes(context, f"{field}.securityContext")
    seen: set[str] = set()
    for index, item in enumerate(context.get("sysctls") or []):
        place, name = f"{field}.securityContext.sysctls[{index}].name", item.get("name") or ""
        if not name:
            yield cause("FieldValueRequired", place)
        elif len(name) > 253 or not re.fullmatch(_SYSCTL, name):
            detail = f"must have at most 253 characters and match regex ^{_SYSCTL}$"
            yield cause("FieldValueInvalid", place, detail, quote(name))
        elif name in seen:
            yield cause("FieldValueDuplicate", place, value=quote(name))
        seen.add(name)
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        yield cause("FieldValueInvalid", f"{field}.shareProcessNamespace", detail, "true")
    if spec.get("preemptionPolicy") not in (None, *_PREEMPTION):
        yield unsupported(f"{field}.preemptionPolicy", spec["preemptionPolicy"], _PREEMPTION)


def _placement(spec: Obj, field: str) -> Iterator[Cause]:
    yield from objectmeta.validate_labels(spec.get("nodeSelector") or {}, f"{field}.nodeSelector")
    required = dig(spec, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    if required is not None:
        place = f"{field}.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
        if not required.get("nodeSelectorTerms"):
            yield cause("FieldValueRequired", place, "must have at least one node selector term")
        for index, term in enumerate(required.get("nodeSelectorTerms") or []):
            yield from _term(term, f"{place}[{index}]")
    for index, toleration in enumerate(spec.get("tolerations") or []):
        yield from _toleration(toleration, f"{field}.tolerations[{index}]")
    for index, spread in enumerate(spec.get("topologySpreadConstraints") or []):
        yield from _spread(spread, f"{field}.topologySpreadConstraints[{index}]")
    seen: set[str] = set()
    for index, gate in enumerate(spec.get("schedulingGates") or []):
        name, place = gate.get("name") or "", f"{field}.schedulingGates[{index}]"
        for text in names.qualified_name(name):
            yield cause("FieldValueInvalid", place, text, quote(name))
        if name in seen:
            yield cause("FieldValueDuplicate", place, value=quote(name))
        seen.add(name)


def _term(term: Obj, field: str) -> Iterator[Cause]:
    for index, item in enumerate(term.get("matchExpressions") or []):
        place, operator = f"{field}.matchExpressions[{index}]", item.get("operator")
        if operator not in _NODE_OPERATORS:
            yield cause(
                "FieldValueInvalid", f"{place}.operator", "not a valid selector operator", quote(operator or "")
            )
        elif operator in ("In", "NotIn") and not item.get("values"):
            detail = "must be specified when `operator` is 'In' or 'NotIn'"
            yield cause("FieldValueRequired", f"{place}.values", detail)
        elif operator in ("Exists", "DoesNotExist") and item.get("values"):
            detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            yield cause("FieldValueForbidden", f"{place}.values", detail)
        elif operator in ("Gt", "Lt") and len(item.get("values") or []) != 1:
            detail = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            yield cause("FieldValueRequired", f"{place}.values", detail)
        for text in names.qualified_name(item.get("key") or ""):
            yield cause("FieldValueInvalid", f"{place}.key", text, quote(item.get("key") or ""))


def _toleration(item: Obj, field: str) -> Iterator[Cause]:
    operator, key = item.get("operator") or "Equal", item.get("key") or ""
    for text in names.qualified_name(key) if key else ():
        yield cause("FieldValueInvalid", f"{field}.key", text, quote(key))
    if not key and operator != "Exists":
        detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        yield cause("FieldValueInvalid", f"{field}.operator", detail, quote(operator))
    if operator not in ("Equal", "Exists", "Gt", "Lt"):
        yield unsupported(f"{field}.operator", operator, ("Equal", "Exists"))
    elif operator == "Exists" and item.get("value"):
        detail = "value must be empty when `operator` is 'Exists'"
        yield cause("FieldValueInvalid", f"{field}.operator", detail, quote(item["value"]))
    if item.get("effect") and item["effect"] not in _EFFECTS:
        yield unsupported(f"{field}.effect", item["effect"], _EFFECTS)
    if item.get("tolerationSeconds") is not None and item.get("effect") != "NoExecute":
        detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        yield cause("FieldValueInvalid", f"{field}.effect", detail, quote(item.get("effect") or ""))


def _spread(item: Obj, field: str) -> Iterator[Cause]:
    if (item.get("maxSkew") or 0) <= 0:
        yield cause("FieldValueInvalid", f"{field}.maxSkew", "must be greater than zero", str(item.get("maxSkew") or 0))
    if not item.get("topologyKey"):
        yield cause("FieldValueRequired", f"{field}.topologyKey", "can not be empty")
    if item.get("whenUnsatisfiable") not in ("DoNotSchedule", "ScheduleAnyway"):
        yield unsupported(
            f"{field}.whenUnsatisfiable", item.get("whenUnsatisfiable"), ("DoNotSchedule", "ScheduleAnyway")
        )


def _volumes(spec: Obj, field: str) -> Iterator[Cause]:
    for index, volume in enumerate(spec.get("volumes") or []):
        place = f"{field}.volumes[{index}]"
        sources = tuple(key for key in volume if key != "name")
        yield from exactly_one(volume, sources, place, "volume type")
        for key, needed in (("configMap", "name"), ("secret", "secretName"), ("hostPath", "path")):
            if isinstance(volume.get(key), dict) and not volume[key].get(needed):
                yield cause("FieldValueRequired", f"{place}.{key}.{needed}")
        if isinstance(volume.get("persistentVolumeClaim"), dict) and not volume["persistentVolumeClaim"].get(
            "claimName"
        ):
            yield cause("FieldValueRequired", f"{place}.persistentVolumeClaim.claimName")
        if isinstance(volume.get("hostPath"), dict):
            yield from _host_path(volume["hostPath"], f"{place}.hostPath")


def _host_path(source: Obj, field: str) -> Iterator[Cause]:
    path = source.get("path") or ""
    if ".." in path.split("/"):
        yield cause("FieldValueInvalid", f"{field}.path", "must not contain '..'", quote(path))
    if source.get("type", "") not in _HOST_PATHS:
        yield unsupported(f"{field}.type", source["type"], _HOST_PATHS)


_CHECKS: tuple[Callable[[Obj, str], Iterator[Cause]], ...] = (
    _names, _numbers, _dns, _security, _placement, _volumes,
)  # fmt: skip
