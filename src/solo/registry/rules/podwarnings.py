"""What a client should know about a pod that is accepted (Kubernetes' `pkg/api/pod/warnings.go`), where it is likely
to surprise: names that are no host names, variables that hide others, ports that are declared twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from kube.machinery import names
from solo.registry.objects import quote

Obj = dict[str, Any]


def name_warnings(obj: Obj, used: str) -> list[str]:
    """Of a name that is no label although hosts are called by it; `used` says where it is found."""
    problems = names.dns1123_label(obj["metadata"].get("name") or "")
    surprise = "which can result in surprising behavior; a DNS label is recommended"
    return [f"metadata.name: this is used in {used}, {surprise}: [{' '.join(problems)}]"] if problems else []


def template_warnings(obj: Obj, old: Obj | None, template: Obj, field: str) -> list[str]:
    """The warnings of an object that makes pods of the template at `field`."""
    if old is not None and obj["spec"] == old["spec"]:
        return []
    named = name_warnings(obj, "Pod names and hostnames") if old is None else []
    return named + pod_warnings(template["spec"], f"{field}.spec")


def pod_warnings(spec: Obj, field: str) -> list[str]:
    """The warnings of a pod's spec that stands at `field`."""
    containers = [
        (f"{field}.{kind}[{index}]", each)
        for kind in ("initContainers", "containers")
        for index, each in enumerate(spec.get(kind) or ())
    ]
    hidden = [text for place, each in containers for text in _hidden_variables(each, place)]
    return hidden + list(_repeated_ports(containers))


def _hidden_variables(container: Obj, place: str) -> Iterator[str]:
    """A variable may be defined anew if it is made from itself; else a merge by name loses one of the two."""
    seen: set[str] = set()
    for index, variable in enumerate(container.get("env") or ()):
        name, value = variable["name"], variable.get("value") or ""
        reference = f"$({name})"
        extends = not variable.get("valueFrom") and value != reference and reference in value
        if name in seen and not extends:
            about = f"hides previous definition of {quote(name)}, which may be dropped when using apply"
            yield f"{place}.env[{index}]: {about}"
        seen.add(name)


def _repeated_ports(containers: list[tuple[str, Obj]]) -> Iterator[str]:
    earlier: defaultdict[tuple[int, str], list[tuple[str, Obj]]] = defaultdict(list)
    for place, container in containers:
        for index, port in enumerate(container.get("ports") or ()):
            here, known = f"{place}.ports[{index}]", earlier[port["containerPort"], port["protocol"]]
            for there, other in known:
                problem = _overlap(port, other)
                if problem:
                    yield f"{here}: {problem} port definition with {there}"
            known.append((here, port))


def _overlap(port: Obj, other: Obj) -> str:
    (ip, number), (other_ip, other_number) = (
        (each.get("hostIP") or "", each.get("hostPort") or 0) for each in (port, other)
    )
    if (ip, number) == (other_ip, other_number):
        return "duplicate"
    if not number or not other_number:
        return "overlapping"
    return "dangerously ambiguous" if number == other_number and bool(ip) != bool(other_ip) else ""
