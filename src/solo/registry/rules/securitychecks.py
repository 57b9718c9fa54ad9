"""What is wrong with the security context of a pod or a container.

Rules of core `validatePodSpecSecurityContext` and `ValidateSecurityContext`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from kube.machinery.errors import Cause, cause
from solo.registry.objects import quote
from solo.registry.rules.fieldchecks import invalid, one_of, path_below

Obj = dict[str, Any]

_MAX_INT32 = 2**31 - 1
_ID_TEXT = f"must be between 0 and {_MAX_INT32}, inclusive"
_SYSCTL = r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
_MAX_PROFILE = 4095


def pod_security_causes(spec: Obj, field: str) -> Iterator[Cause]:
    """All of a pod's, to which there belong some fields of its spec."""
    context, place = spec.get("securityContext") or {}, f"{field}.securityContext"
    yield from _ids(context, ("fsGroup", "runAsUser", "runAsGroup"), place)
    for index, group in enumerate(context.get("supplementalGroups") or []):
        yield from _id(group, f"{place}.supplementalGroups[{index}]")
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        yield cause("FieldValueInvalid", f"{place}.shareProcessNamespace", detail, "true")
    yield from _sysctls(context.get("sysctls") or [], f"{place}.sysctls")
    yield from _choice(context, "fsGroupChangePolicy", ("Always", "OnRootMismatch"), place)
    yield from _seccomp(context.get("seccompProfile"), f"{place}.seccompProfile")
    yield from _apparmor(context.get("appArmorProfile"), f"{place}.appArmorProfile")
    yield from _choice(context, "supplementalGroupsPolicy", ("Merge", "Strict"), place)


def container_security_causes(context: Obj, field: str) -> Iterator[Cause]:
    """All of a container's."""
    yield from _ids(context, ("runAsUser", "runAsGroup"), field)
    yield from _choice(context, "procMount", ("Default", "Unmasked"), field)
    yield from _seccomp(context.get("seccompProfile"), f"{field}.seccompProfile")
    if context.get("allowPrivilegeEscalation") is False:
        added = (context.get("capabilities") or {}).get("add") or []
        for given, what in ((context.get("privileged"), "`privileged` to true"),
                            ("CAP_SYS_ADMIN" in added, "`capabilities.Add` CAP_SYS_ADMIN")):  # fmt: skip
            if given:
                detail = f"cannot set `allowPrivilegeEscalation` to false and {what}"
                yield cause("FieldValueInvalid", field, detail, quote("securityContext"))
    yield from _apparmor(context.get("appArmorProfile"), f"{field}.appArmorProfile")


def _ids(context: Obj, keys: tuple[str, ...], field: str) -> Iterator[Cause]:
    for key in keys:
        if context.get(key) is not None:
            yield from _id(context[key], f"{field}.{key}")


def _id(number: int, field: str) -> Iterator[Cause]:
    if not 0 <= number <= _MAX_INT32:
        yield invalid(field, number, _ID_TEXT)


def _choice(context: Obj, key: str, allowed: tuple[str, ...], field: str) -> Iterator[Cause]:
    if context.get(key) is not None and context[key] not in allowed:
        yield one_of(f"{field}.{key}", context[key], allowed)


def _sysctls(sysctls: list[Obj], field: str) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, item in enumerate(sysctls):
        place, name = f"{field}[{index}].name", item.get("name") or ""
        if not name:
            yield cause("FieldValueRequired", place)
        elif len(name) > 253 or not re.fullmatch(_SYSCTL, name):
            detail = f"must have at most 253 characters and match regex ^{_SYSCTL}$"
            yield invalid(place, name, detail)
        elif name in seen:
            yield cause("FieldValueDuplicate", place, value=quote(name))
        seen.add(name)


def _seccomp(profile: Obj | None, field: str) -> Iterator[Cause]:
    if profile is None:
        return
    kind, file = profile.get("type") or "", profile.get("localhostProfile")
    if not kind:
        yield cause("FieldValueRequired", f"{field}.type", "type is required when seccompProfile is set")
    elif kind not in _PROFILES:
        yield one_of(f"{field}.type", kind, _PROFILES)
    if kind != "Localhost":
        if file is not None:
            value = {"LocalhostProfile": file, "Type": kind}
            yield invalid(f"{field}.localhostProfile", value, "can only be set when seccomp type is Localhost")
    elif file is None:
        detail = "must be set when seccomp type is Localhost"
        yield cause("FieldValueRequired", f"{field}.localhostProfile", detail)
    else:
        yield from path_below(file, f"{field}.localhostProfile")


def _apparmor(profile: Obj | None, field: str) -> Iterator[Cause]:
    if profile is None:
        return
    kind, name = profile.get("type") or "", profile.get("localhostProfile")
    place = f"{field}.localhostProfile"
    if not kind:
        yield cause("FieldValueRequired", f"{field}.type", "type is required when appArmorProfile is set")
    elif kind not in _PROFILES:
        yield one_of(f"{field}.type", kind, _PROFILES)
    elif kind != "Localhost":
        if name is not None:
            yield invalid(place, name, "can only be set when AppArmor type is Localhost")
    elif name is None or not name:
        yield cause("FieldValueRequired", place, "must be set when AppArmor type is Localhost")
    elif name.strip() != name:
        yield invalid(place, name, "must not be padded with whitespace")
    elif len(name.encode("utf-8", "surrogatepass")) > _MAX_PROFILE:
        yield cause("FieldValueTooLong", place, f"may not be more than {_MAX_PROFILE} bytes")
