"""Admission of priorities: the number of a pod's class goes into the pod (kube-apiserver's plug-in Priority)."""

from __future__ import annotations

from typing import Any

from kube.machinery import errors
from solo.registry.objects import dig
from solo.registry.registry import Attributes
from solo.store import Key, Store

Obj = dict[str, Any]

_CLASSES = "priorityclasses.scheduling.k8s.io"


class PriorityAdmission:
    """Resolves the class of new pods, and refuses a second default class."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def mutate(self, attributes: Attributes) -> None:
        """Set priority and preemption policy of a new pod. Raises 403 for an unknown class or another number."""
        obj = attributes.obj
        if (
            attributes.operation != "CREATE"
            or attributes.subresource
            or attributes.kind.store_resource != "pods"
            or obj is None
        ):
            return
        spec = obj["spec"]
        name = spec.get("priorityClassName") or ""
        found = self._class(name) if name else self._default()
        if name and found is None:
            raise errors.forbidden("pods", attributes.shown_name, f"no PriorityClass with name {name} was found")
        value = found["value"] if found else 0
        if spec.get("priority", value) != value:
            text = (
                f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; priority "
                f"admission controller computed {value} from the given PriorityClass name"
            )
            raise errors.forbidden("pods", attributes.shown_name, text)
        policy = (found or {}).get("preemptionPolicy") or "PreemptLowerPriority"
        changed = {**spec, "priority": value, "preemptionPolicy": spec.get("preemptionPolicy") or policy}
        if found:
            changed["priorityClassName"] = found["metadata"]["name"]
        attributes.obj = {**obj, "spec": changed}

    async def admit(self, attributes: Attributes) -> None:
        """Raises 403 for a second class that is everybody's."""
        obj = attributes.obj
        if attributes.kind.store_resource != _CLASSES or obj is None or not obj.get("globalDefault"):
            return
        present = self._default()
        if present is not None and present["metadata"]["name"] != obj["metadata"]["name"]:
            text = (
                f"PriorityClass {present['metadata']['name']} is already marked as default. Only one default can exist"
            )
            raise errors.forbidden(_CLASSES, attributes.shown_name, text)

    def _class(self, name: str) -> Obj | None:
        stored = self._store.get(Key(_CLASSES, "", name))
        return stored.obj if stored else None

    def _default(self) -> Obj | None:
        """The class of pods that name none; of several the one with the lowest value."""
        classes = [stored.obj for stored in self._store.list(_CLASSES)[0] if stored.obj.get("globalDefault")]
        return min(classes, key=lambda each: int(dig(each, "value") or 0), default=None)
