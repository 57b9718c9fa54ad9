"""Admission of pods with a RuntimeClass: it has to be there, and says what a pod of it costs and where it may go.

Source: kube-apiserver's plug-in RuntimeClass.
"""

from __future__ import annotations

from typing import Any

from kube.machinery import errors
from kube.machinery.errors import StatusError
from solo.registry.objects import dig
from solo.registry.registry import Attributes
from solo.store import Key, Store

Obj = dict[str, Any]

_CLASSES = "runtimeclasses.node.k8s.io"


class RuntimeClassAdmission:
    """Completes new pods by their RuntimeClass."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def mutate(self, attributes: Attributes) -> None:
        """Raises 403 for a class that is not there, and where pod and class contradict each other."""
        obj = attributes.obj
        if (
            attributes.operation != "CREATE"
            or attributes.subresource
            or attributes.kind.store_resource != "pods"
            or obj is None
        ):
            return
        spec, name = obj["spec"], obj["spec"].get("runtimeClassName")
        if not name:
            if spec.get("overhead"):
                text = "Pod Overhead set without corresponding RuntimeClass defined Overhead"
                raise _rejected(attributes, text)
            return
        stored = self._store.get(Key(_CLASSES, "", name))
        if stored is None:
            raise _rejected(attributes, f'RuntimeClass "{name}" not found')
        attributes.obj = {**obj, "spec": _completed(attributes, spec, stored.obj)}


def _completed(attributes: Attributes, spec: Obj, runtime: Obj) -> Obj:
    completed = dict(spec)
    overhead = dig(runtime, "overhead", "podFixed") or {}
    if spec.get("overhead") and spec["overhead"] != overhead:
        raise _rejected(attributes, "Pod's Overhead doesn't match RuntimeClass's defined Overhead")
    if overhead:
        completed["overhead"] = overhead
    wanted = dig(runtime, "scheduling", "nodeSelector") or {}
    own = spec.get("nodeSelector") or {}
    for key in sorted(wanted.keys() & own.keys()):
        if wanted[key] != own[key]:
            text = f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted[key]}; pod has {own[key]}"
            raise _rejected(attributes, text)
    if wanted:
        completed["nodeSelector"] = {**own, **wanted}
    present = spec.get("tolerations") or []
    added = [item for item in dig(runtime, "scheduling", "tolerations") or [] if item not in present]
    if added:
        completed["tolerations"] = [*present, *added]
    return completed


def _rejected(attributes: Attributes, why: str) -> StatusError:
    return errors.forbidden("pods", attributes.shown_name, f"pod rejected: {why}")
