"""What is wrong with a container (core `validateContainers`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from kube.machinery import names
from kube.machinery.errors import Cause, cause
from kube.machinery.quantity import parse_quantity
from solo.registry.objects import dig, quote
from solo.registry.rules.podchecks import exactly_one, unsupported, user_causes

Obj = dict[str, Any]

_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_MESSAGE_POLICIES = ("FallbackToLogsOnError", "File")
_RESTART_POLICIES = ("Always", "Never", "OnFailure")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOKS = ("exec", "httpGet", "tcpSocket", "sleep")
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
_STANDARD = ("cpu", "memory", "ephemeral-storage", "storage")
_FIELD = re.compile(
    r"metadata\.(name|namespace|uid)|metadata\.(labels|annotations)\['.+'\]|spec\.(nodeName|serviceAccountName)|"
    r"status\.(hostIP|hostIPs|podIP|podIPs)"
)


def container_causes(container: Obj, field: str, seen: set[str], volumes: set[str]) -> Iterator[Cause]:
    """All of it. `seen` has the names of the containers before, and gets this one's; `volumes` the names of volumes."""
    yield from _name(container, field, seen)
    if not container.get("image"):
        yield cause("FieldValueRequired", f"{field}.image")
    for key, allowed in (
        ("imagePullPolicy", _PULL_POLICIES),
        ("terminationMessagePolicy", _MESSAGE_POLICIES),
        ("restartPolicy", _RESTART_POLICIES),
    ):
        if key in container and container[key] not in allowed:
            yield unsupported(f"{field}.{key}", container[key], allowed)
    yield from _environment(container, field)
    yield from _ports(container, field)
    yield from _mounts(container, field, volumes)
    yield from _resources(container, field)
    yield from _handlers(container, field)
    context = container.get("securityContext") or {}
    yield from user_causes(context, f"{field}.securityContext")
    if context.get("privileged") and context.get("allowPrivilegeEscalation") is False:
        detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
        yield cause("FieldValueInvalid", f"{field}.securityContext", detail, quote("securityContext"))


def _name(container: Obj, field: str, seen: set[str]) -> Iterator[Cause]:
    name = container.get("name") or ""
    if not name:
        yield cause("FieldValueRequired", f"{field}.name")
    elif name in seen:
        yield cause("FieldValueDuplicate", f"{field}.name", value=quote(name))
    else:
        for text in names.dns1123_label(name):
            yield cause("FieldValueInvalid", f"{field}.name", text, quote(name))
    seen.add(name)


def _environment(container: Obj, field: str) -> Iterator[Cause]:
    for index, variable in enumerate(container.get("env") or []):
        place, name = f"{field}.env[{index}]", variable.get("name") or ""
        if not name:
            yield cause("FieldValueRequired", f"{place}.name")
        elif not re.fullmatch(r"[ -<>-~]+", name):
            detail = "a valid environment variable name must consist only of printable ASCII characters other than '='"
            yield cause("FieldValueInvalid", f"{place}.name", detail, quote(name))
        source = variable.get("valueFrom")
        if source is None:
            continue
        if variable.get("value"):
            detail = "may not be specified when `value` is not empty"
            yield cause("FieldValueInvalid", f"{place}.valueFrom", detail, quote(""))
        if sum(source.get(key) is not None for key in _SOURCES) != 1:
            listed = ", ".join(f"`{key}`" for key in _SOURCES[:-1])
            detail = f"must specify exactly one of: {listed}"
            yield cause("FieldValueInvalid", f"{place}.valueFrom", detail, quote(""))
        path = dig(source, "fieldRef", "fieldPath")
        if path and not _FIELD.fullmatch(path):
            detail = f"error converting fieldPath: field label not supported: {path}"
            yield cause("FieldValueInvalid", f"{place}.valueFrom.fieldRef.fieldPath", detail, quote(path))
    for index, source in enumerate(container.get("envFrom") or []):
        yield from exactly_one(
            source, ("configMapRef", "secretRef"), f"{field}.envFrom[{index}]", "`configMapRef` or `secretRef`"
        )


def _ports(container: Obj, field: str) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, port in enumerate(container.get("ports") or []):
        place, name, number = f"{field}.ports[{index}]", port.get("name") or "", port.get("containerPort") or 0
        for text in _port_name(name) if name else ():
            yield cause("FieldValueInvalid", f"{place}.name", text, quote(name))
        if name in seen:
            yield cause("FieldValueDuplicate", f"{place}.name", value=quote(name))
        seen |= {name} - {""}
        if not number:
            yield cause("FieldValueRequired", f"{place}.containerPort")
        for key in ("containerPort", "hostPort"):
            if port.get(key) and not 0 < port[key] < 65536:
                detail = "must be between 1 and 65535, inclusive"
                yield cause("FieldValueInvalid", f"{place}.{key}", detail, str(port[key]))
        if port.get("protocol") not in _PROTOCOLS:
            yield unsupported(f"{place}.protocol", port.get("protocol"), _PROTOCOLS)


def _port_name(name: str) -> Iterator[str]:
    """What is wrong with an IANA service name (apimachinery `IsValidPortName`)."""
    if len(name) > 15:
        yield "must be no more than 15 characters"
    if not re.fullmatch(r"[-a-z0-9]+", name):
        yield "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
    if not re.search(r"[a-z]", name):
        yield "must contain at least one letter (a-z)"
    if "--" in name:
        yield "must not contain consecutive hyphens"
    if name[0] == "-" or name[-1] == "-":
        yield "must not begin or end with a hyphen"


def _mounts(container: Obj, field: str, volumes: set[str]) -> Iterator[Cause]:
    paths: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts") or []):
        place, path, below = f"{field}.volumeMounts[{index}]", mount.get("mountPath") or "", mount.get("subPath") or ""
        if not mount.get("name"):
            yield cause("FieldValueRequired", f"{place}.name")
        elif mount["name"] not in volumes:
            yield cause("FieldValueNotFound", f"{place}.name", value=quote(mount["name"]))
        if not path:
            yield cause("FieldValueRequired", f"{place}.mountPath")
        elif path in paths:
            yield cause("FieldValueInvalid", f"{place}.mountPath", "must be unique", quote(path))
        paths.add(path)
        if below.startswith("/"):
            yield cause("FieldValueInvalid", f"{place}.subPath", "must be a relative path", quote(below))
        elif ".." in below.split("/"):
            yield cause("FieldValueInvalid", f"{place}.subPath", "must not contain '..'", quote(below))


def _resources(container: Obj, field: str) -> Iterator[Cause]:
    resources = container.get("resources") or {}
    parsed: dict[str, dict[str, Any]] = {"limits": {}, "requests": {}}
    for part in parsed:
        for name, value in (resources.get(part) or {}).items():
            place = f"{field}.resources.{part}"
            if name not in _STANDARD and "/" not in name and not name.startswith("hugepages-"):
                yield cause("FieldValueInvalid", place, "must be a standard resource for containers", quote(name))
            try:
                parsed[part][name] = parse_quantity(value)
            except ValueError as problem:
                yield cause("FieldValueInvalid", f"{place}.{name}", str(problem), quote(str(value)))
                continue
            if parsed[part][name] < 0:
                detail = "must be greater than or equal to 0"
                yield cause("FieldValueInvalid", f"{place}[{name}]", detail, quote(str(value)))
    for name, value in parsed["requests"].items():
        limit = parsed["limits"].get(name)
        if limit is not None and value > limit:
            detail = f"must be less than or equal to {name} limit of {resources['limits'][name]}"
            shown = quote(str(resources["requests"][name]))
            yield cause("FieldValueInvalid", f"{field}.resources.requests", detail, shown)


def _handlers(container: Obj, field: str) -> Iterator[Cause]:
    for key in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe, place = container.get(key), f"{field}.{key}"
        if probe is None:
            continue
        yield from exactly_one(probe, _HANDLERS, place, "handler type")
        for name in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
            if (probe.get(name) or 0) < 0:
                detail = "must be greater than or equal to 0"
                yield cause("FieldValueInvalid", f"{place}.{name}", detail, str(probe[name]))
        if key != "readinessProbe" and probe.get("successThreshold", 1) != 1:
            yield cause("FieldValueInvalid", f"{place}.successThreshold", "must be 1", str(probe["successThreshold"]))
    for key in ("postStart", "preStop"):
        hook = dig(container, "lifecycle", key)
        if hook is not None:
            yield from exactly_one(hook, _HOOKS, f"{field}.lifecycle.{key}", "handler type")
