"""Pod specs: defaults (core/v1 `SetDefaults_PodSpec` and friends) and the checks that keep nonsense out of the node.

Shared by pods and by every kind with a pod template.
"""

from __future__ import annotations

from typing import Any

from kube.machinery import names
from kube.machinery.errors import Cause, cause
from solo.registry.objects import child, quote
from solo.registry.rules.containerchecks import container_causes
from solo.registry.rules.podchecks import pod_causes, unsupported

Obj = dict[str, Any]

_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PROBE_DEFAULTS = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_FILE_MODE = 0o644
_RESTART_POLICIES = ("Always", "OnFailure", "Never")


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
    """What is wrong with a pod spec (core `ValidatePodSpec`)."""
    causes = []
    if not spec.get("containers"):
        causes.append(cause("FieldValueRequired", f"{field}.containers"))
    volumes = _volumes(spec, field, causes)
    seen: set[str] = set()
    for key in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(key) or []):
            causes += container_causes(container, f"{field}.{key}[{index}]", seen, volumes)
    if spec.get("restartPolicy") not in _RESTART_POLICIES:
        causes.append(unsupported(f"{field}.restartPolicy", spec.get("restartPolicy"), _RESTART_POLICIES))
    return causes + pod_causes(spec, field)


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
