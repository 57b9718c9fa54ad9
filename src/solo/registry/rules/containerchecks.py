"""What is wrong with a container (core `validateContainers`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from kube.machinery import names
from kube.machinery.errors import Cause, cause
from solo.registry.objects import dig, quote
from solo.registry.rules.fieldchecks import invalid, one_of, path_below, port_name, port_number
from solo.registry.rules.podchecks import exactly_one
from solo.registry.rules.probechecks import forbidden_probes, probe_causes
from solo.registry.rules.resourcechecks import requirement_causes
from solo.registry.rules.securitychecks import container_security_causes

Obj = dict[str, Any]

_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
_PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")
_RESTART_POLICIES = ("Always", "Never", "OnFailure")
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
_FIELD = re.compile(
    r"metadata\.(name|namespace|uid)|metadata\.(labels|annotations)\['.+'\]|spec\.(nodeName|serviceAccountName)|"
    r"status\.(hostIP|hostIPs|podIP|podIPs)"
)


def containers_causes(spec: Obj, field: str, volumes: set[str]) -> Iterator[Cause]:
    """All of a pod spec's containers; `volumes` has the names of volumes that can be mounted."""
    grace = spec.get("terminationGracePeriodSeconds") or 0
    containers, place = spec.get("containers") or [], f"{field}.containers"
    if not containers:
        yield cause("FieldValueRequired", place)
    seen: set[str] = set()
    for index, container in enumerate(containers):
        yield from _container(container, f"{place}[{index}]", seen, volumes)
        yield from probe_causes(container, f"{place}[{index}]", grace)
    yield from _host_ports(containers, place)
    place = f"{field}.initContainers"
    for index, container in enumerate(spec.get("initContainers") or []):
        yield from _container(container, f"{place}[{index}]", seen, volumes)
        # They run one by one, each with all ports for itself; that the place is always the first one's is so there.
        yield from _host_ports([container], place)
        if container.get("restartPolicy") == "Always":
            yield from probe_causes(container, f"{place}[{index}]", grace)
        else:
            yield from forbidden_probes(container, f"{place}[{index}]")


def _container(container: Obj, field: str, seen: set[str], volumes: set[str]) -> Iterator[Cause]:
    """What is common to all. `seen` has the names of the containers before, and gets this one's."""
    yield from _name(container, field, seen)
    if not container.get("image"):
        yield cause("FieldValueRequired", f"{field}.image")
    if (container.get("terminationMessagePolicy") or "File") not in _MESSAGE_POLICIES:
        yield one_of(f"{field}.terminationMessagePolicy", container["terminationMessagePolicy"], _MESSAGE_POLICIES)
    yield from _ports(container, field)
    yield from _environment(container, field)
    yield from _mounts(container, field, volumes)
    for key, allowed in (("imagePullPolicy", _PULL_POLICIES), ("restartPolicy", _RESTART_POLICIES)):
        if container.get(key) and container[key] not in allowed:
            yield one_of(f"{field}.{key}", container[key], allowed)
    yield from requirement_causes(container.get("resources") or {}, f"{field}.resources")
    yield from container_security_causes(container.get("securityContext") or {}, f"{field}.securityContext")


def _name(container: Obj, field: str, seen: set[str]) -> Iterator[Cause]:
    name = container.get("name") or ""
    if not name:
        yield cause("FieldValueRequired", f"{field}.name")
        return
    for text in names.dns1123_label(name):
        yield invalid(f"{field}.name", name, text)
    if name in seen:
        yield cause("FieldValueDuplicate", f"{field}.name", value=quote(name))
    seen.add(name)


def _host_ports(containers: list[Obj], field: str) -> Iterator[Cause]:
    """No two have the same port of the host."""
    seen: set[str] = set()
    for number, container in enumerate(containers):
        for index, port in enumerate(container.get("ports") or []):
            if not port.get("hostPort"):
                continue
            key = f"{port.get('protocol')}/{port.get('hostIP') or ''}/{port['hostPort']}"
            if key in seen:
                yield cause("FieldValueDuplicate", f"{field}[{number}].ports[{index}].hostPort", value=quote(key))
            seen.add(key)


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
        if name:
            wrong = list(port_name(name))
            yield from (invalid(f"{place}.name", name, text) for text in wrong)
            if not wrong and name in seen:
                yield cause("FieldValueDuplicate", f"{place}.name", value=quote(name))
            seen.add(name)
        if not number:
            yield cause("FieldValueRequired", f"{place}.containerPort")
        for key in ("containerPort", "hostPort"):
            if port.get(key):
                yield from port_number(port[key], f"{place}.{key}")
        if port.get("protocol") not in _PROTOCOLS:
            yield one_of(f"{place}.protocol", port.get("protocol"), _PROTOCOLS)


def _mounts(container: Obj, field: str, volumes: set[str]) -> Iterator[Cause]:
    """Where a mount's index is missing from a field, it is missing there."""
    paths: set[str] = set()
    everywhere = f"{field}.volumeMounts"
    for index, mount in enumerate(container.get("volumeMounts") or []):
        place, name, path = f"{everywhere}[{index}]", mount.get("name") or "", mount.get("mountPath") or ""
        below, expression = mount.get("subPath") or "", mount.get("subPathExpr") or ""
        if not name:
            yield cause("FieldValueRequired", f"{place}.name")
        if name not in volumes:
            yield cause("FieldValueNotFound", f"{place}.name", value=quote(name))
        if not path:
            yield cause("FieldValueRequired", f"{place}.mountPath")
        if path in paths:
            yield invalid(f"{place}.mountPath", path, "must be unique")
        paths.add(path)
        yield from path_below(below, f"{everywhere}.subPath")
        if expression and below:
            yield invalid(f"{place}.subPathExpr", expression, "subPathExpr and subPath are mutually exclusive")
        yield from path_below(expression, f"{everywhere}.subPathExpr")
        yield from _propagation(mount, container, f"{everywhere}.mountPropagation")


def _propagation(mount: Obj, container: Obj, field: str) -> Iterator[Cause]:
    kind = mount.get("mountPropagation")
    if kind is not None and kind not in _PROPAGATIONS:
        yield one_of(field, kind, _PROPAGATIONS)
    if kind == "Bidirectional" and not dig(container, "securityContext", "privileged"):
        detail = "Bidirectional mount propagation is available only to privileged containers"
        yield cause("FieldValueForbidden", field, detail)
