"""The scale subresource (autoscaling/v1 Scale) of workloads and of custom resources that declare it."""

from __future__ import annotations

from typing import Any

from kube.machinery import errors
from kube.machinery.selectors import label_selector_from_dict
from solo.registry import meta
from solo.registry.context import RequestContext
from solo.registry.custom import CustomStrategy
from solo.registry.kinds import Kind
from solo.registry.objects import child, copy, dig
from solo.registry.scale_rules import path_keys
from solo.registry.spoken import SPOKEN

Obj = dict[str, Any]

_KEPT_META = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def read(kind: Kind, obj: Obj) -> Obj:
    """The Scale that an object shows."""
    spec_path, status_path = _paths(kind)
    metadata = obj["metadata"]
    shown: Obj = {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in _KEPT_META if key in metadata},
        "spec": {},
        "status": {"replicas": int(dig(obj, *status_path) or 0)},
    }
    replicas = dig(obj, *spec_path)
    if replicas:
        shown["spec"]["replicas"] = replicas
    selector = _selector(kind, obj)
    if selector:
        shown["status"]["selector"] = selector
    return shown


def check_readable(kind: Kind, obj: Obj) -> None:
    """Raises 500, as kube-apiserver answers, for a custom resource without replicas."""
    if kind.custom and dig(obj, *_paths(kind)[0]) is None:
        path = ".".join(("", *_paths(kind)[0]))
        raise errors.internal(f'the spec replicas field "{path}" does not exist')


def accept(kind: Kind, obj: Obj, wanted: Obj, context: RequestContext) -> None:
    """Take a Scale that is to change an object, in place. Raises 400, 409 for another object."""
    if wanted.get("kind", "Scale") != "Scale":
        raise errors.bad_request(f"expected a Scale, got {wanted.get('kind')}")
    context.report_unknown("Scale", "v1", SPOKEN["scale"].decode(wanted))
    metadata, present = child(wanted, "metadata"), obj["metadata"]
    name, uid = present["name"], metadata.get("uid")
    if not metadata.get("name"):
        text = f"the name of the object ({name} based on URL) was undeterminable: name must be provided"
        raise errors.bad_request(text)
    meta.check_identity(metadata, name, present.get("namespace") or "")
    if uid and uid != present.get("uid"):
        text = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {present.get('uid')}"
        subject = f"{kind.resource.plural}/scale"
        raise errors.conflict(f"{subject}.{kind.resource.group}" if kind.resource.group else subject, name, text)


def write(kind: Kind, obj: Obj, wanted: Obj) -> Obj:
    """The object with the replicas that a Scale asks for."""
    replicas = dig(wanted, "spec", "replicas") or 0
    changed: Obj = copy(obj)
    *parents, last = _paths(kind)[0]
    place = changed
    for key in parents:
        place = child(place, key)
    place[last] = replicas
    version = dig(wanted, "metadata", "resourceVersion")
    if version:
        changed["metadata"]["resourceVersion"] = version
    return changed


def _paths(kind: Kind) -> tuple[tuple[str, ...], tuple[str, ...]]:
    strategy = kind.strategy
    if isinstance(strategy, CustomStrategy) and strategy.scale:
        return path_keys(strategy.scale["specReplicasPath"]), path_keys(strategy.scale["statusReplicasPath"])
    return ("spec", "replicas"), ("status", "replicas")


def _selector(kind: Kind, obj: Obj) -> str:
    strategy = kind.strategy
    if isinstance(strategy, CustomStrategy):
        path = (strategy.scale or {}).get("labelSelectorPath")
        return str(dig(obj, *path_keys(path)) or "") if path else ""
    selector = dig(obj, "spec", "selector")
    if selector and kind.resource.kind == "ReplicationController":
        selector = {"matchLabels": selector}
    return str(label_selector_from_dict(selector)) if selector else ""
