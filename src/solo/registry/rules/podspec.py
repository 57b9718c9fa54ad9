"""Pod specs: defaults (core/v1 `SetDefaults_PodSpec` and friends) and the checks that keep nonsense out of the node.

Shared by pods and by every kind with a pod template.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from kube.machinery.errors import Cause
from solo.registry.objects import child
from solo.registry.rules.containerchecks import containers_causes
from solo.registry.rules.fieldchecks import one_of
from solo.registry.rules.placementchecks import affinity_causes, spread_causes, toleration_causes
from solo.registry.rules.podchecks import (
    class_causes,
    dns_config_causes,
    dns_policy_causes,
    gate_causes,
    host_port_causes,
    name_causes,
)
from solo.registry.rules.probechecks import PROBES
from solo.registry.rules.securitychecks import pod_security_causes
from solo.registry.rules.volumechecks import volume_causes

Obj = dict[str, Any]

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
    for key in PROBES:
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
    """What is wrong with a pod spec (core `ValidatePodSpec`, in its order)."""
    volumes, causes = volume_causes(spec.get("volumes") or [], f"{field}.volumes")
    causes += containers_causes(spec, field, volumes)
    causes += host_port_causes(spec, field)
    if spec.get("restartPolicy") not in _RESTART_POLICIES:
        causes.append(one_of(f"{field}.restartPolicy", spec.get("restartPolicy"), _RESTART_POLICIES))
    return causes + [found for check in _CHECKS for found in check(spec, field)]


_CHECKS: tuple[Callable[[Obj, str], Iterator[Cause]], ...] = (
    dns_policy_causes, pod_security_causes, affinity_causes, dns_config_causes, gate_causes, spread_causes, name_causes,
    toleration_causes, class_causes,
)  # fmt: skip
