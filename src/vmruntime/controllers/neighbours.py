"""Rules about the machines beside which a machine may start, `podAffinity` and `podAntiAffinity` of a Pod: pure.

As the Kubernetes scheduler's plug-in InterPodAffinity has them, for one node: all machines that run are on it, and so
in one domain of every topology that its labels know. Labels are those of the VirtualMachines.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from kube.machinery.selectors import LabelSelector, label_selector_from_dict
from vmruntime.api.meta import Obj, dig, namespace_of

_TOGETHER = "podAffinity"
_APART = "podAntiAffinity"


@dataclass(frozen=True, slots=True)
class _Term:
    selector: LabelSelector
    namespaces: frozenset[str]
    topology: str

    def matches(self, vm: Obj) -> bool:
        return namespace_of(vm) in self.namespaces and self.selector.matches(dig(vm, "metadata", "labels"))


def refusal(vm: Obj, labels: Mapping[str, str], beside: Collection[Obj]) -> str:
    """Why not on the node of these labels, on which the machines `beside` run; nothing if it will do.

    Raises:
        ValueError: a label selector of the machine is none.
    """
    together, apart = _terms(vm, _TOGETHER), _terms(vm, _APART)
    if together:
        # The first of a group that wants to be together matches its own rules.
        met = any(all(term.matches(other) for term in together) for other in (*beside, vm))
        if not met or any(term.topology not in labels for term in together):
            return "didn't match pod affinity rules"
    if any(term.topology in labels and term.matches(other) for term in apart for other in beside):
        return "didn't match pod anti-affinity rules"
    if any(term.topology in labels and term.matches(vm) for other in beside for term in _terms_of_running(other)):
        return "didn't satisfy existing pods anti-affinity rules"
    return ""


def _terms(vm: Obj, rules: str) -> list[_Term]:
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    return [
        _Term(
            label_selector_from_dict(term.get("labelSelector")),
            frozenset(term.get("namespaces") or [namespace_of(vm)]),
            str(term.get("topologyKey", "")),
        )
        for term in dig(vm, "spec", "scheduling", "affinity", rules, required, default=[])
    ]


def _terms_of_running(vm: Obj) -> Iterable[_Term]:
    """What it wants to be apart from; nothing where somebody has edited that into nonsense since it was started."""
    try:
        return _terms(vm, _APART)
    except ValueError:
        return ()
