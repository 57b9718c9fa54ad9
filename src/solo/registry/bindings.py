"""Binding of pods to nodes (core/v1 Binding): what a scheduler decides. Source: `registry/core/pod/storage`."""

from __future__ import annotations

from typing import Any

from kube.machinery import errors
from kube.machinery.durations import now_rfc3339
from kube.machinery.errors import cause
from solo.registry.context import RequestContext
from solo.registry.kinds import Kind
from solo.registry.objects import child, copy, dig, quote
from solo.registry.registry import Attributes, Registry

Obj = dict[str, Any]


async def bind(
    registry: Registry, kind: Kind, namespace: str, name: str, binding: Obj, context: RequestContext
) -> None:
    """Give a pod its node, if admission agrees.

    Raises 400, 404, 409 for a pod that has one, ends or must wait, and 422 for no node.
    """
    asked = Attributes("CREATE", kind, namespace, name, binding, None, "binding", context)
    binding = await registry.offer(asked, lambda given: _check(given, name))
    node = binding["target"]["name"]

    def change(pod: Obj) -> Obj:
        reason = _refusal(pod)
        if reason:
            raise errors.conflict("pods/binding", name, reason)
        bound: Obj = copy(pod)
        bound["spec"]["nodeName"] = node
        child(bound["metadata"], "annotations").update(dig(binding, "metadata", "annotations") or {})
        conditions = [each for each in dig(pod, "status", "conditions") or [] if each["type"] != "PodScheduled"]
        scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": now_rfc3339()}
        bound["status"]["conditions"] = [*conditions, scheduled]
        return bound

    past = registry.past_admission()
    await past.update(kind, namespace, name, change, context, subresource="binding")


def _check(binding: Obj, name: str) -> None:
    if dig(binding, "metadata", "name") != name:
        raise errors.bad_request("name in URL does not match name in Binding object")
    target = binding.get("target") or {}
    if target.get("kind") not in (None, "", "Node"):
        detail = 'supported values: "Node", "<empty>"'
        problem = cause("FieldValueNotSupported", "target.kind", detail, quote(target["kind"]))
        raise errors.invalid("", "Binding", name, [problem])
    if not target.get("name"):
        raise errors.invalid("", "Binding", name, [cause("FieldValueRequired", "target.name")])


def _refusal(pod: Obj) -> str:
    name = pod["metadata"]["name"]
    if dig(pod, "metadata", "deletionTimestamp"):
        return f"pod {name} is being deleted, cannot be assigned to a host"
    if dig(pod, "spec", "nodeName"):
        return f"pod {name} is already assigned to node {quote(pod['spec']['nodeName'])}"
    if dig(pod, "spec", "schedulingGates"):
        return f"pod {name} has non-empty .spec.schedulingGates"
    return ""
