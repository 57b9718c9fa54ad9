"""Whether a machine may start now, by rules about nodes and by memory: pure, and with the numbers in the answer.

Memory is promised, not lent: a machine starts only when its whole memory is there beside what those that run may
still come to use, so that none is ever killed for another's sake.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from kube.machinery.names import label_value, qualified_name
from kube.machinery.placement import node_selected, tolerated
from kube.machinery.quantity import quantity_to_int
from vmruntime.api import names, virtualmachine
from vmruntime.api.meta import Obj, dig, name_of
from vmruntime.controllers import neighbours
from vmruntime.controllers.machine_decide import Problem

_MIB = 1 << 20
UNSCHEDULABLE = "Unschedulable"
NO_MEMORY = "InsufficientMemory"

# What is kept free of machines for the node itself: this part of its memory, but at most so much.
_RESERVED_PART = 8
_RESERVED_LIMIT = 1024 * _MIB

_UNSCHEDULABLE_TAINT = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


def node_problem(vm: Obj, nodes: Collection[Obj], beside: Collection[Obj] = ()) -> Problem | None:
    """Why there is no node for the machine, in the words of the Kubernetes scheduler; None if there is one.

    `beside` are the other machines that run.
    """
    if text := _invalid_label(dig(vm, "spec", "scheduling", "nodeSelector", default={})):
        return Problem(virtualmachine.ERROR_CONFIGURATION, "InvalidSpec", f"spec.scheduling.nodeSelector{text}")
    try:
        reasons = [_refusal(vm, node, beside) for node in nodes]
    except ValueError as exc:
        return Problem(virtualmachine.ERROR_CONFIGURATION, "InvalidSpec", f"spec.scheduling.affinity: {exc}")
    if any(not reason for reason in reasons):
        return None
    counted = Counter(reasons)
    details = ", ".join(sorted(f"{count} node(s) {reason}" for reason, count in counted.items()))
    message = f"0/{len(nodes)} nodes are available" + (f": {details}" if details else "")
    return Problem(virtualmachine.PENDING, UNSCHEDULABLE, message)


def memory_problem(needed: int, in_use: Iterable[int], nodes: Iterable[Obj]) -> Problem | None:
    """Why the machine's memory isn't there; all in bytes, with what each machine needs beside its guest's memory."""
    total = sum(quantity_to_int(dig(node, "status", "allocatable", "memory", default=0)) for node in nodes)
    usable = total - min(total // _RESERVED_PART, _RESERVED_LIMIT)
    used = sum(in_use)
    if used + needed <= usable:
        return None
    message = (
        f"the machine needs {_mib(needed)} of memory, {_mib(max(0, usable - used))} are free: "
        f"machines can have {_mib(usable)} of the node's {_mib(total)}, and those that run have {_mib(used)}"
    )
    return Problem(virtualmachine.PENDING, NO_MEMORY, message)


def may_have_changed(node: Obj, old: Obj | None) -> bool:
    """Whether something that decides about starts differs; nodes report often that they are still there."""
    return old is None or any(
        dig(node, *path) != dig(old, *path)
        for path in (
            ("metadata", "labels"),
            ("spec", "taints"),
            ("spec", "unschedulable"),
            ("status", "allocatable"),
        )
    )


def _invalid_label(labels: Mapping[str, str]) -> str:
    """What is no label, which no node can have. The schema cannot say so: the rule would cost more than may be."""
    for key, value in sorted(labels.items()):
        if wrong := qualified_name(key):
            return f': "{key}": {"; ".join(wrong)}'
        if wrong := label_value(value):
            return f'["{key}"]: "{value}": {"; ".join(wrong)}'
    return ""


def _mib(count: int) -> str:
    return f"{count // _MIB} MiB"


def _refusal(vm: Obj, node: Obj, beside: Collection[Obj]) -> str:
    """Why not this node; nothing if it will do."""
    scheduling: Obj = dig(vm, "spec", "scheduling", default={})
    labels: Obj = dig(node, "metadata", "labels", default={})
    tolerations = scheduling.get("tolerations") or []
    if names.SKIP_NODE_LABEL in labels:
        return f"had the label {names.SKIP_NODE_LABEL}"
    if dig(node, "spec", "unschedulable") is True and not tolerated(_UNSCHEDULABLE_TAINT, tolerations):
        return "were unschedulable"
    if not node_selected(scheduling, labels, name_of(node)):
        return "didn't match the machine's node affinity/selector"
    for taint in dig(node, "spec", "taints", default=[]):
        if taint.get("effect") != "PreferNoSchedule" and not tolerated(taint, tolerations):
            value = f": {taint['value']}" if taint.get("value") else ": "
            return f"had untolerated taint {{{taint.get('key')}{value}}}"
    return neighbours.refusal(vm, labels, beside)
