"""Controller references: which object manages which, and taking in those that fit and have no manager."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kube.client.aio import AsyncClient
from kube.client.queue import WorkQueue
from kube.machinery.errors import StatusError
from kube.machinery.resources import Resource
from kube.machinery.selectors import LabelSelector, label_selector_from_dict

Obj = dict[str, Any]
Place = tuple[str, str]


def controller_reference(owner: Mapping[str, Any], resource: Resource) -> Obj:
    """The ownerReference by which `owner` manages an object."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controller_of(obj: Mapping[str, Any]) -> Obj | None:
    """The reference to the object's manager."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            found: Obj = reference
            return found
    return None


def adding_owner(queue: WorkQueue[Place], owner_resource: Resource) -> Callable[[str, Obj, Obj | None], None]:
    """A handler of changes that adds the present and the former manager of an object, if it is of this kind."""

    def changed(kind: str, obj: Obj, old: Obj | None) -> None:
        for version in (obj, old):
            reference = controller_of(version) if version is not None else None
            if reference is not None and reference.get("kind") == owner_resource.kind:
                queue.add((obj["metadata"]["namespace"], reference["name"]))

    return changed


async def claim(
    client: AsyncClient,
    owner: Obj,
    owner_resource: Resource,
    resource: Resource,
    marks: Mapping[str, str] | None = None,
) -> list[Obj]:
    """The objects of `resource` that `owner` manages, after adopting those that its selector matches and nobody does,
    and letting go of those that it does not match any more. What is adopted gets `marks` as annotations.

    Read from the API and not from a cache, so that a pass sees what the pass before it made.
    """
    meta = owner["metadata"]
    selector = _selector(owner)
    claimed = []
    for obj in (await client.list(resource, meta["namespace"]))["items"]:
        reference = controller_of(obj)
        if reference is not None:
            if reference.get("uid") == meta["uid"]:
                if selector.matches(obj["metadata"].get("labels")) or obj["metadata"].get("deletionTimestamp"):
                    claimed.append(obj)
                elif not meta.get("deletionTimestamp"):
                    await _release(client, obj, meta["uid"], resource)
            continue
        deleting = obj["metadata"].get("deletionTimestamp") or meta.get("deletionTimestamp")
        if not deleting and selector.matches(obj["metadata"].get("labels")):
            references = [*(obj["metadata"].get("ownerReferences") or []), controller_reference(owner, owner_resource)]
            change = {"ownerReferences": references, **({"annotations": marks} if marks else {})}
            adopted = await _adopt(client, obj, change, resource)
            if adopted is not None:
                claimed.append(adopted)
    return claimed


def _selector(owner: Obj) -> LabelSelector:
    """What an owner selects; a ReplicationController does by plain labels."""
    selector = owner["spec"].get("selector")
    plain = owner.get("kind") == "ReplicationController"
    return label_selector_from_dict({"matchLabels": selector} if plain else selector)


async def _release(client: AsyncClient, obj: Obj, uid: str, resource: Resource) -> None:
    meta = obj["metadata"]
    kept = [reference for reference in meta["ownerReferences"] if reference.get("uid") != uid]
    patch = {"metadata": {"uid": meta["uid"], "ownerReferences": kept, "resourceVersion": meta["resourceVersion"]}}
    try:
        await client.patch(resource, meta["name"], patch, meta["namespace"])
    except StatusError as exc:
        if exc.code != 404:
            raise


async def _adopt(client: AsyncClient, obj: Obj, change: Obj, resource: Resource) -> Obj | None:
    meta = obj["metadata"]
    patch = {"metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"], **change}}
    try:
        return await client.patch(resource, meta["name"], patch, meta["namespace"])
    except StatusError as exc:
        if exc.code == 404:
            return None
        raise
