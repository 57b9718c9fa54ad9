"""Pod specs: defaults (core/v1 `SetDefaults_PodSpec` and friends) and the checks that keep nonsense out of the node.

Shared by pods and by every kind with a pod template.
"""

from __future__ import annotations

from typing import Any

from kube.machinery import names
from kube.machinery.errors import Cause, cause
from kube.machinery.quantity import parse_quantity
from solo.registry.objects import child, quote

Obj = dict[str, Any]

_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PROBE_DEFAULTS = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_FILE_MODE = 0o644
_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")


def default_pod_spec(spec: Obj) -> None:
    """Fill in what every pod spec has, in a pod or in a template."""
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("securityContext", {})
    spec.setdefault("schedulerName", "default-scheduler")
    if spec.get("serviceAccount") and not spec.get("serviceAccountName"):
        spec["serviceAccountName"] = spec["serviceAccount"]
    if spec.get("serviceAccountName"):
        spec["serviceAccount"] = spec["serviceAccountName"]
    for key in ("initContainers", "containers"):
        for container in spec.get(key) or []:
            _default_container(container)
    for volume in spec.get("volumes") or []:
        _default_volume(volume)


def _default_container(container: Obj) -> None:
    image = container.get("image") or ""
    tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
    latest = "@" not in image and tag in ("", "latest")
    container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    resources = child(container, "resources")
    for name, limit in (resources.get("limits") or {}).items():
        child(resources, "requests").setdefault(name, limit)
    for port in container.get("ports") or []:
        port.setdefault("protocol", "TCP")
    for variable in container.get("env") or []:
        reference = (variable.get("valueFrom") or {}).get("fieldRef")
        if reference is not None:
            reference.setdefault("apiVersion", "v1")
    for key in _PROBES:
        if key in container:
            _default_probe(container[key])


def _default_probe(probe: Obj) -> None:
    for key, value in _PROBE_DEFAULTS.items():
        probe.setdefault(key, value)
    if "httpGet" in probe:
        probe["httpGet"].setdefault("path", "/")
        probe["httpGet"].setdefault("scheme", "HTTP")


def _default_volume(volume: Obj) -> None:
    if not set(volume) - {"name"}:
        volume["emptyDir"] = {}
    if "hostPath" in volume:
        volume["hostPath"].setdefault("type", "")
    for key in ("secret", "configMap", "downwardAPI", "projected"):
        if key in volume:
            volume[key].setdefault("defaultMode", _FILE_MODE)


def validate_pod_spec(spec: Obj, field: str) -> list[Cause]:
    """What is wrong with a pod spec (a subset of core `ValidatePodSpec`: what the node agent relies on)."""
    causes = []
    if not spec.get("containers"):
        causes.append(cause("FieldValueRequired", f"{field}.containers"))
    volumes = _volumes(spec, field, causes)
    seen: set[str] = set()
    for key in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(key) or []):
            causes += _container(container, f"{field}.{key}[{index}]", seen, volumes)
    if spec.get("restartPolicy") not in _RESTART_POLICIES:
        causes.append(_unsupported(f"{field}.restartPolicy", spec.get("restartPolicy"), _RESTART_POLICIES))
    for key in ("terminationGracePeriodSeconds", "activeDeadlineSeconds"):
        if int(spec.get(key) or 0) < 0:
            causes.append(
                cause("FieldValueInvalid", f"{field}.{key}", "must be greater than or equal to 0", str(spec[key]))
            )
    account = spec.get("serviceAccountName")
    if account:
        causes += [
            cause("FieldValueInvalid", f"{field}.serviceAccountName", text, quote(account))
            for text in names.dns1123_subdomain(account)
        ]
    return causes


def _volumes(spec: Obj, field: str, causes: list[Cause]) -> set[str]:
    found: set[str] = set()
    for index, volume in enumerate(spec.get("volumes") or []):
        place = f"{field}.volumes[{index}].name"
        name = volume.get("name") or ""
        if not name:
            causes.append(cause("FieldValueRequired", place))
        elif name in found:
            causes.append(cause("FieldValueDuplicate", place, value=quote(name)))
        else:
            causes += [cause("FieldValueInvalid", place, text, quote(name)) for text in names.dns1123_label(name)]
        found.add(name)
    return found


def _container(container: Obj, field: str, seen: set[str], volumes: set[str]) -> list[Cause]:
    causes = []
    name = container.get("name") or ""
    if not name:
        causes.append(cause("FieldValueRequired", f"{field}.name"))
    elif name in seen:
        causes.append(cause("FieldValueDuplicate", f"{field}.name", value=quote(name)))
    else:
        causes += [cause("FieldValueInvalid", f"{field}.name", text, quote(name)) for text in names.dns1123_label(name)]
    seen.add(name)
    if not container.get("image"):
        causes.append(cause("FieldValueRequired", f"{field}.image"))
    if container.get("imagePullPolicy") not in _PULL_POLICIES:
        causes.append(_unsupported(f"{field}.imagePullPolicy", container.get("imagePullPolicy"), _PULL_POLICIES))
    for index, variable in enumerate(container.get("env") or []):
        if not variable.get("name"):
            causes.append(cause("FieldValueRequired", f"{field}.env[{index}].name"))
    causes += _ports(container, field) + _mounts(container, field, volumes) + _resources(container, field)
    return causes


def _ports(container: Obj, field: str) -> list[Cause]:
    causes = []
    for index, port in enumerate(container.get("ports") or []):
        number = port.get("containerPort") or 0
        if not number:
            causes.append(cause("FieldValueRequired", f"{field}.ports[{index}].containerPort"))
        elif not 0 < number < 65536:
            causes.append(
                cause(
                    "FieldValueInvalid",
                    f"{field}.ports[{index}].containerPort",
                    "must be between 1 and 65535, inclusive",
                    str(number),
                )
            )
    return causes


def _mounts(container: Obj, field: str, volumes: set[str]) -> list[Cause]:
    causes = []
    for index, mount in enumerate(container.get("volumeMounts") or []):
        place = f"{field}.volumeMounts[{index}]"
        if not mount.get("name"):
            causes.append(cause("FieldValueRequired", f"{place}.name"))
        elif mount["name"] not in volumes:
            causes.append(cause("FieldValueNotFound", f"{place}.name", value=quote(mount["name"])))
        if not mount.get("mountPath"):
            causes.append(cause("FieldValueRequired", f"{place}.mountPath"))
    return causes


def _resources(container: Obj, field: str) -> list[Cause]:
    causes = []
    resources = container.get("resources") or {}
    parsed: dict[str, dict[str, Any]] = {"limits": {}, "requests": {}}
    for part in parsed:
        for name, value in (resources.get(part) or {}).items():
            try:
                parsed[part][name] = parse_quantity(value)
                wrong = "" if parsed[part][name] >= 0 else "must be greater than or equal to 0"
            except ValueError as problem:
                wrong = str(problem)
            if wrong:
                causes.append(cause("FieldValueInvalid", f"{field}.resources.{part}.{name}", wrong, quote(str(value))))
    for name, value in parsed["requests"].items():
        limit = parsed["limits"].get(name)
        if limit is not None and value > limit:
            causes.append(
                cause(
                    "FieldValueInvalid",
                    f"{field}.resources.requests",
                    f"must be less than or equal to {name} limit of {resources['limits'][name]}",
                    quote(str(resources["requests"][name])),
                )
            )
    return causes


def _unsupported(field: str, value: Any, allowed: tuple[str, ...]) -> Cause:
    listed = ", ".join(f'"{item}"' for item in sorted(allowed))
    return cause("FieldValueNotSupported", field, f"supported values: {listed}", quote(str(value or "")))
