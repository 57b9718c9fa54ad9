"""What the controllers of pods have in common: making pods from templates, judging them, writing status."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kube.client.aio import AsyncClient
from kube.client.events import EventRecorder
from kube.machinery.durations import parse_rfc3339
from kube.machinery.errors import StatusError
from kube.machinery.names import dns1123_label
from kube.machinery.resources import PODS, Resource
from solo.controllers.ownership import Place, controller_reference
from solo.controllers.watches import Obj

_FROM_TEMPLATE = ("labels", "annotations", "finalizers")


def pod_of(owner: Obj, resource: Resource, template: Obj) -> Obj:
    """A new pod of a template, managed by `owner`, named by the server. Its metadata may be added to."""
    meta = owner["metadata"]
    template_meta = template.get("metadata") or {}
    return {
        "apiVersion": PODS.api_version,
        "kind": PODS.kind,
        "metadata": {
            "generateName": f"{meta['name']}-",
            "namespace": meta["namespace"],
            **{key: template_meta[key] for key in _FROM_TEMPLATE if template_meta.get(key)},
            "ownerReferences": [controller_reference(owner, resource)],
        },
        "spec": template["spec"],
    }


def host_name(name: str) -> Obj:
    """The field `hostname` of a pod that is known by its name, where the name can be that of a host."""
    return {} if dns1123_label(name) else {"hostname": name}


async def create_pod(client: AsyncClient, events: EventRecorder, owner: Obj, pod: Obj) -> Obj | StatusError:
    """Create a pod and record that; a refusal is recorded and returned."""
    try:
        created = await client.create(PODS, pod)
    except StatusError as exc:
        await events.event(owner, "Warning", "FailedCreate", f"Error creating: {exc.message}")
        return exc
    await events.event(owner, "Normal", "SuccessfulCreate", f"Created pod: {created['metadata']['name']}")
    return created


async def delete_pod(client: AsyncClient, events: EventRecorder, owner: Obj, pod: Obj) -> None:
    """Delete a pod, if it still is that one, and record that."""
    meta = pod["metadata"]
    try:
        await client.delete(PODS, meta["name"], meta["namespace"], uid=meta["uid"])
    except StatusError as exc:
        if exc.code not in (404, 409):
            raise
    await events.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {meta['name']}")


async def update_status(client: AsyncClient, obj: Obj, status: Obj, resource: Resource) -> Obj:
    """Replace an object's status and return what it is then; an object that has gone meanwhile needs none."""
    try:
        return await client.update_status(resource, {**obj, "status": status})
    except StatusError as exc:
        if exc.code != 404:
            raise
    return obj


def place_of(obj: Mapping[str, Any]) -> Place:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def is_active(pod: Mapping[str, Any]) -> bool:
    """Neither ended nor ending."""
    phase = (pod.get("status") or {}).get("phase")
    return phase not in ("Succeeded", "Failed") and not pod["metadata"].get("deletionTimestamp")


def ready_seconds(pod: Mapping[str, Any], now: datetime) -> float | None:
    """For how long a pod has been ready, None when it is not."""
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Ready" and condition.get("status") == "True":
            since = condition.get("lastTransitionTime")
            return (now - parse_rfc3339(since)).total_seconds() if since else 0.0
    return None


async def read(client: AsyncClient, resource: Resource, place: Place) -> Obj | None:
    """An object as it is now, None when it is gone."""
    try:
        return await client.get(resource, place[1], place[0])
    except StatusError as exc:
        if exc.code == 404:
            return None
        raise
